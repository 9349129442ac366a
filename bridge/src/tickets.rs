//! Owns the tokens that were offered to clients: each lets one in, once, and soon.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring::default_provider;

use crate::lock::lock;

/// For which a ticket is good, at the most.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// Most that are good at the same time. Clients come within a fraction of a second, if they come.
const MOST: usize = 10_000;

/// Tickets that are good.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    ends: HashMap<Arc<str>, Instant>,
    /// Those and some that were taken, or are too old, the oldest first.
    order: VecDeque<Arc<str>>,
}

impl Tickets {
    /// A new one, in the place of the oldest where there are too many: whoever asks without end
    /// must not leave others without. None without randomness.
    pub(crate) fn issue(&self) -> Option<String> {
        let mut random = [0; 24];
        default_provider().secure_random.fill(&mut random).ok()?;
        let ticket: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut issued = self.issued();
        while issued.order.len() >= MOST
            && let Some(oldest) = issued.order.pop_front()
        {
            issued.ends.remove(&oldest);
        }
        let shared: Arc<str> = ticket.as_str().into();
        issued.order.push_back(Arc::clone(&shared));
        issued.ends.insert(shared, Instant::now() + GOOD_FOR);
        Some(ticket)
    }

    /// Whether it is good; it is not any more. Looked up by its hash, which nobody outside can
    /// compute, so that the time that takes tells nothing of others.
    pub(crate) fn take(&self, ticket: &str, now: Instant) -> bool {
        self.issued().ends.remove(ticket).is_some_and(|end| end > now)
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_once() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let [one, other] = [tickets.issue().unwrap(), tickets.issue().unwrap()];
        assert_ne!(one, other);
        assert!(tickets.take(&one, now));
        assert!(!tickets.take(&one, now));
        assert!(!tickets.take("", now));
        assert!(tickets.take(&other, now));
    }

    #[test]
    fn none_is_good_for_long() {
        let (tickets, before) = (Tickets::default(), Instant::now());
        let [in_time, late] = [tickets.issue().unwrap(), tickets.issue().unwrap()];
        assert!(tickets.take(&in_time, before + GOOD_FOR - Duration::from_nanos(1)));
        assert!(!tickets.take(&late, Instant::now() + GOOD_FOR));
    }

    #[test]
    fn the_oldest_goes_where_there_are_too_many() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let [oldest, second] = [tickets.issue().unwrap(), tickets.issue().unwrap()];
        assert!((2..MOST).all(|_| tickets.issue().is_some()));
        let newest = tickets.issue().unwrap();
        assert!(!tickets.take(&oldest, now));
        assert!(tickets.take(&second, now));
        assert!(tickets.take(&newest, now));
        let issued = tickets.issued();
        assert_eq!([issued.ends.len(), issued.order.len()], [MOST - 2, MOST]);
    }
}
