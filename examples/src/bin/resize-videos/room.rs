//! Owns the waiting for room at the daemon: who is refused what others have asks again, until one
//! of them has let go of it.
//!
//! Knows nothing of videos. Invariant: a refusal is passed on where all who run wait, so nobody
//! waits for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use resized_client::Error as ClientError;

use crate::stop::Stop;

/// From one time of asking to the next.
const AGAIN: Duration = Duration::from_millis(100);

/// Refusals in a row that are believed while nobody has anything to let go of: what was let go of
/// takes a moment to reach the daemon.
const BELIEVED: u32 = 10;

/// What all instances of a run share.
pub(crate) struct Room<'a> {
    stop: &'a Stop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Instances that run.
    running: usize,
    /// Those of them that wait.
    waiting: usize,
    /// Counts who ended, who need not wait any more, and who waits and was seen to get on.
    changes: u64,
    /// Those who wait that were refused since: another may be about to get what all are refused.
    refused: usize,
}

impl State {
    const fn change(&mut self, times: u64) {
        if times > 0 {
            self.changes += times;
            self.refused = 0;
        }
    }
}

/// One that runs, until it is dropped: when it has let go of all it had.
pub(crate) struct Inside<'a>(&'a Room<'a>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.change(1);
    }
}

impl<'a> Room<'a> {
    pub(crate) fn new(stop: &'a Stop) -> Self {
        Self { stop, state: Mutex::default() }
    }

    /// An instance is about to run.
    pub(crate) fn enter(&'a self) -> Inside<'a> {
        self.state().running += 1;
        Inside(self)
    }

    /// Instances that run.
    pub(crate) fn running(&self) -> usize {
        self.state().running
    }

    /// What an instance asks the daemon for, as soon as there is room for it; none if the run ends
    /// before. `written` counts its pictures: while those become more it has still to let go of
    /// what it had.
    pub(crate) fn wait_for<T>(
        &self,
        written: impl Fn() -> u64,
        ask: impl Fn() -> Result<T>,
    ) -> Result<Option<T>> {
        match ask() {
            Err(error) if is_for_want_of_room(&error) => {}
            other => return other.map(Some),
        }
        self.state().waiting += 1;
        let granted = self.ask_again(written, ask);
        let mut state = self.state();
        state.waiting -= 1;
        state.change(1);
        granted
    }

    fn ask_again<T>(
        &self,
        written: impl Fn() -> u64,
        ask: impl Fn() -> Result<T>,
    ) -> Result<Option<T>> {
        let (mut before, mut seen, mut refusals) = (written(), None, 0);
        loop {
            self.stop.sleep_until(Instant::now() + AGAIN);
            if self.stop.is_set() {
                return Ok(None);
            }
            let error = match ask() {
                Err(error) if is_for_want_of_room(&error) => error,
                other => return other.map(Some),
            };
            let mut state = self.state();
            let now = written();
            state.change(now - before);
            before = now;
            let again = seen == Some(state.changes);
            if !again {
                state.refused += 1;
                seen = Some(state.changes);
            }
            let all_wait = state.waiting == state.running && state.refused == state.waiting;
            refusals = if again && all_wait { refusals + 1 } else { 0 };
            if refusals == BELIEVED {
                return Err(error);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether others may have what was asked for.
pub(crate) fn is_for_want_of_room(error: &Error) -> bool {
    error.downcast_ref().is_some_and(ClientError::is_shortage)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use resized_client::{Refusal, Resource, Whose};

    use super::*;

    fn refused<T>() -> Result<T> {
        let (whose, what) = (Whose::User, Resource::Streams);
        let refusal = Refusal::Quota { whose, what, asked: 1, left: 0, limit: 1 };
        Err(ClientError::Refused(refusal).into())
    }

    /// The daemon may take its time over what it grants, and refuses others what it is about to grant.
    #[test]
    fn who_is_refused_while_another_is_being_answered_asks_again() {
        let stop = Stop::on_signals().unwrap();
        let room = Room::new(&stop);
        let (asked, granted) = (AtomicU32::new(0), channel());
        let granted_to = std::sync::Mutex::new(granted.1);
        let insides = [room.enter(), room.enter()];
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                room.wait_for(
                    || 0,
                    || match asked.fetch_add(1, Ordering::Relaxed) {
                        0 => refused(),
                        _ => Ok(granted_to.lock().unwrap().recv()?),
                    },
                )
            });
            let refusals = AtomicU32::new(0);
            let other = room.wait_for(
                || 0,
                || match refusals.fetch_add(1, Ordering::Relaxed) {
                    refusals if refusals < 3 * BELIEVED => refused(),
                    _ => Ok(granted.0.send(())?),
                },
            );
            assert!(other.unwrap().is_some() && slow.join().unwrap().unwrap().is_some());
        });
        drop(insides);
    }

    #[test]
    fn who_is_refused_where_all_wait_is_told() {
        let stop = Stop::on_signals().unwrap();
        let room = Room::new(&stop);
        let insides = [room.enter(), room.enter()];
        thread::scope(|scope| {
            let told = insides.map(|inside| {
                let room = &room;
                scope.spawn(move || {
                    let told = room.wait_for::<()>(|| 0, refused).is_err();
                    drop(inside);
                    told
                })
            });
            assert_eq!(told.map(|told| told.join().unwrap()), [true; 2]);
        });
    }
}
