//! Owns the tokens that were offered to clients: each lets one in, once, and soon.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring::default_provider;

/// For which a ticket is good.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// Most that are good at the same time.
const MOST: usize = 10_000;

/// Tickets that are good.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    issued: Mutex<HashMap<String, Instant>>,
}

impl Tickets {
    /// A new one. None while there are too many, or no randomness.
    pub(crate) fn issue(&self) -> Option<String> {
        let now = Instant::now();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= MOST {
            issued.retain(|_, &mut end| end > now);
        }
        if issued.len() >= MOST {
            return None;
        }
        let mut random = [0; 24];
        default_provider().secure_random.fill(&mut random).ok()?;
        let ticket: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        issued.insert(ticket.clone(), now + GOOD_FOR);
        Some(ticket)
    }

    /// Whether it is good; it is not any more. Looked up by its hash, which nobody outside can compute, so
    /// that the time that takes tells nothing of others.
    pub(crate) fn take(&self, ticket: &str) -> bool {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.remove(ticket).is_some_and(|end| end > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_once() {
        let tickets = Tickets::default();
        let [one, other] = [tickets.issue().unwrap(), tickets.issue().unwrap()];
        assert_ne!(one, other);
        assert!(tickets.take(&one));
        assert!(!tickets.take(&one));
        assert!(!tickets.take(""));
        assert!(tickets.take(&other));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let tickets = Tickets::default();
        assert!((0..MOST).all(|_| tickets.issue().is_some()));
        assert!(tickets.issue().is_none());
    }
}
