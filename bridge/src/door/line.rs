//! Owns who is at the door, in the order in which they came, and who has to go when there are too
//! many.
//!
//! Knows where each comes from, and what to end. Invariant: one that comes from where nobody else
//! does goes only when as many other places wait as may.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use tokio::task::AbortHandle;

/// Connections that have not shown yet what is asked for, or are being told that it was not that.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    /// How many are there, by where they come from.
    from: HashMap<IpAddr, usize>,
    /// Who have come so far.
    came: u64,
}

struct Waiting {
    number: u64,
    from: IpAddr,
    task: AbortHandle,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of who comes next.
    pub(super) const fn next(&self) -> u64 {
        self.came
    }

    /// One more. Of too many the first has to go of those who come from where the most do: whoever
    /// connects without end is in the way of nobody else.
    pub(super) fn enter(&mut self, from: IpAddr, task: AbortHandle) {
        let (number, from) = (self.came, network(from));
        self.came += 1;
        self.waiting.push_back(Waiting { number, from, task });
        *self.from.entry(from).or_default() += 1;
        if self.waiting.len() > MOST {
            let most = self.from.values().max().copied();
            let goes = |waiting: &Waiting| self.from.get(&waiting.from).copied() == most;
            if let Some(place) = self.waiting.iter().position(goes)
                && let Some(first) = self.remove(place)
            {
                tracing::debug!("one at the door makes room for another");
                first.task.abort();
            }
        }
    }

    /// Whether it was still there.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        let place = self.waiting.binary_search_by_key(&number, |waiting| waiting.number);
        place.is_ok_and(|place| self.remove(place).is_some())
    }

    fn remove(&mut self, place: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(place)?;
        if let Some(count) = self.from.get_mut(&waiting.from) {
            *count -= 1;
            if *count == 0 {
                self.from.remove(&waiting.from);
            }
        }
        Some(waiting)
    }
}

/// What one machine may have at once: of IPv6 all addresses whose first half it is.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(line: &mut Line, from: &str) -> u64 {
        let number = line.next();
        line.enter(
            from.parse().unwrap(),
            tokio::spawn(std::future::pending::<()>()).abort_handle(),
        );
        number
    }

    #[tokio::test]
    async fn who_comes_without_end_is_in_nobody_elses_way() {
        let mut line = Line::default();
        let first = enter(&mut line, "10.0.0.7");
        let honest = enter(&mut line, "10.0.0.8");
        for n in 0..2 * MOST {
            // One machine, with any number of addresses.
            enter(&mut line, &format!("fd00::{n:x}"));
        }
        assert_eq!(line.waiting.len(), MOST);
        assert!(line.leave(honest) && !line.leave(honest));
        let latest = enter(&mut line, "10.0.0.9");
        assert!(line.leave(latest) && line.leave(first));
        assert_eq!(line.from.len(), 1);
    }

    #[tokio::test]
    async fn of_one_place_the_first_goes() {
        let mut line = Line::default();
        let numbers: Vec<_> = (0..=MOST).map(|_| enter(&mut line, "::ffff:10.0.0.7")).collect();
        assert!(!line.leave(numbers[0]));
        assert!(numbers[1..].iter().all(|&number| line.leave(number)));
        assert!(line.is_empty() && line.from.is_empty());
    }
}
