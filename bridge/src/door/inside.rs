//! Owns the places inside: how many there are, who has them, and who makes room for another.
//!
//! Knows of each where it comes from and what it has been granted, not what it says. Invariants: no
//! more have places than may; one that has a stream makes room for nobody; nor does one of a network
//! for another, unless that has fewer places yet when it has this one. So no network takes all places
//! by saying nothing (who has many networks takes one place from each), and no two take places from
//! each other in turns.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::line::network;
use crate::FAREWELL;
use crate::account::Account;
use crate::lock::lock;

/// How long one may take who makes room, with its last words.
const PATIENCE: Duration = FAREWELL.saturating_mul(2);

pub(super) struct Inside {
    places: Arc<Semaphore>,
    /// Who came first, first.
    guests: Mutex<Vec<Guest>>,
}

struct Guest {
    from: IpAddr,
    account: Arc<Account>,
    standing: Standing,
    /// To be told that it is to leave; `None`: it was.
    leave: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Has no place, nor will one for sure.
    Waits,
    /// Another was told to leave for it, and may not have left yet.
    Promised,
    /// Has a place.
    Inside,
}

/// A place inside.
pub(super) struct Place {
    inside: Arc<Inside>,
    account: Arc<Account>,
    permit: Option<OwnedSemaphorePermit>,
    /// Told when it is to be given up.
    leave: oneshot::Receiver<()>,
}

impl Inside {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(places)), guests: Mutex::default() })
    }

    /// Places that nobody has.
    pub(super) fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Waits until so many are free.
    pub(super) async fn await_free(&self, places: usize) {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(places).await;
    }

    /// A place for one that comes from there: a free one, or one that another gives up for it.
    pub(super) async fn enter(
        self: &Arc<Self>,
        from: IpAddr,
        account: &Arc<Account>,
    ) -> Option<Place> {
        let (from, account) = (network(from), Arc::clone(account));
        let (tell, leave) = oneshot::channel();
        self.guests().push(Guest {
            from,
            account: Arc::clone(&account),
            standing: Standing::Waits,
            leave: Some(tell),
        });
        let mut place = Place { inside: Arc::clone(self), account, permit: None, leave };
        place.permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if self.make_room(&place, from) => {
                let acquired = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
                Some(acquired.ok()?.ok()?)
            }
            Err(_) => return None,
        };
        let mut guests = self.guests();
        guests.iter_mut().find(|guest| place.is_of(guest))?.standing = Standing::Inside;
        drop(guests);
        Some(place)
    }

    /// Has one give up its place for another, who is a guest already: the first that has no stream, of
    /// those who come from where most do. Whether there is one.
    fn make_room(&self, place: &Place, from: IpAddr) -> bool {
        let mut guests = self.guests();
        let mut count = HashMap::<_, usize>::new();
        for guest in &*guests {
            // Those who are about to leave do not count, nor do those who may not get a place. Who was promised
            // one does: others ask before it has that.
            let counts = guest.standing != Standing::Waits && guest.leave.is_some();
            *count.entry(guest.from).or_default() += usize::from(counts);
        }
        // With this one.
        let fewer = count[&from] + 1;
        let may_leave = |guest: &Guest| {
            let inside = guest.standing == Standing::Inside && guest.leave.is_some();
            inside && !guest.account.has_streams() && count[&guest.from] > fewer
        };
        let may_leave = guests.iter_mut().filter(|guest| may_leave(guest));
        let first = may_leave.min_by_key(|guest| Reverse(count[&guest.from]));
        let Some(leave) = first.and_then(|guest| guest.leave.take()) else { return false };
        let promised = guests.iter_mut().find(|guest| place.is_of(guest));
        promised.into_iter().for_each(|guest| guest.standing = Standing::Promised);
        tracing::debug!("one inside makes room for another");
        leave.send(()).is_ok()
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Guest>> {
        lock(&self.guests)
    }
}

impl Place {
    /// Waits until it is to be given up.
    pub(super) async fn is_wanted(&mut self) {
        if (&mut self.leave).await.is_err() {
            std::future::pending().await
        }
    }

    fn is_of(&self, guest: &Guest) -> bool {
        Arc::ptr_eq(&guest.account, &self.account)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inside.guests().retain(|guest| !self.is_of(guest));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::account::{Memory, Takes};

    async fn enter(inside: &Arc<Inside>, from: &str) -> (Arc<Account>, Option<Place>) {
        let account = Account::new(100, Arc::new(Memory::new(100)));
        let place = inside.enter(from.parse().unwrap(), &account).await;
        (account, place)
    }

    /// Enters, while those who are told to leave do.
    async fn enter_beside(
        inside: &Arc<Inside>,
        from: &str,
        places: &mut Vec<(Arc<Account>, Option<Place>)>,
    ) -> (Option<Place>, Option<usize>) {
        let leaving = async {
            loop {
                let told = |(_, place): &mut (_, Option<Place>)| {
                    place.as_mut().is_some_and(|place| place.leave.try_recv().is_ok())
                };
                if let Some(first) = places.iter_mut().position(told) {
                    places.remove(first);
                    return first;
                }
                tokio::task::yield_now().await;
            }
        };
        let entering = enter(inside, from);
        tokio::pin!(leaving, entering);
        tokio::select! {
            biased;
            (_, place) = &mut entering => (place, None),
            left = &mut leaving => (entering.await.1, Some(left)),
        }
    }

    #[tokio::test]
    async fn those_of_where_most_come_from_make_room_and_of_one_network_none_does() {
        let inside = Inside::new(4);
        let mut places = Vec::new();
        for n in 0..4 {
            // One machine, with any number of addresses.
            places.push(enter(&inside, &format!("fd00::{n}")).await);
        }
        let streams = Takes { streams: 1, slots: 1, bytes: 1 };
        let stream = places[0].0.charge(streams).unwrap();
        assert!(enter(&inside, "fd00::9").await.1.is_none());
        // Who has a stream stays.
        let (second, left) = enter_beside(&inside, "10.0.0.1", &mut places).await;
        assert_eq!((second.is_some(), left), (true, Some(1)));
        let (third, left) = enter_beside(&inside, "10.0.0.1", &mut places).await;
        assert_eq!((third.is_some(), left), (true, Some(1)));
        // Nobody's part grows at the cost of who has no more.
        assert!(enter(&inside, "10.0.0.1").await.1.is_none());
        assert!(enter(&inside, "fd00::9").await.1.is_none());
        drop(stream);
        let (other, left) = enter_beside(&inside, "10.0.0.2", &mut places).await;
        assert_eq!((other.is_some(), left, inside.free()), (true, Some(0), 0));
        drop((second, third, other, places));
        inside.await_free(4).await;
        assert!(inside.guests().is_empty());
    }

    #[tokio::test]
    async fn those_who_ask_at_once_take_no_more_than_one_after_another() {
        let inside = Inside::new(4);
        let mut places = Vec::new();
        for n in 0..4 {
            places.push(enter(&inside, &format!("fd00::{n}")).await);
        }
        // Nobody has left for the first when the third asks.
        let (mut first, mut second, mut third) = (
            pin!(enter(&inside, "10.0.0.1")),
            pin!(enter(&inside, "10.0.0.1")),
            pin!(enter(&inside, "10.0.0.1")),
        );
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_some_and(|(_, place)| place.is_none()));
        places.retain_mut(|(_, place)| place.as_mut().unwrap().leave.try_recv().is_err());
        assert_eq!(places.len(), 2);
        let (first, second) = (first.await.1, second.await.1);
        assert!(first.is_some() && second.is_some() && inside.free() == 0);
    }
}
