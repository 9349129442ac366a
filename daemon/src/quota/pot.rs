//! Owns the counting of what is taken.
//!
//! Knows neither what is counted nor for whom. Invariant: no more is taken than the limit was when it
//! was.

use std::sync::atomic::{AtomicU64, Ordering};

/// So much, of which some is taken.
#[derive(Debug)]
pub(super) struct Pot {
    limit: AtomicU64,
    taken: AtomicU64,
}

impl Pot {
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), taken: AtomicU64::new(0) }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Below what is taken: then nothing more is, until enough has come back.
    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes so much, unless that were beyond the limit. `Err`: what is left instead.
    pub(super) fn take(&self, amount: u64) -> Result<(), u64> {
        let limit = self.limit();
        let more = |taken: u64| taken.checked_add(amount).filter(|&taken| taken <= limit);
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.map(drop).map_err(|taken| limit.saturating_sub(taken))
    }

    pub(super) fn give_back(&self, amount: u64) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}
