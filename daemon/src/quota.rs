//! Owns the limits of what clients may take, and the accounts of what they have taken.
//!
//! Invariant: bytes are charged before they are allocated, and the charge goes with the allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resized_protocol::message::Refusal;

/// Most streams of one connection.
pub(crate) const MAX_STREAMS: u32 = 256;

/// Where Linux says how much memory there is; see proc(5).
const MEMINFO: &str = "/proc/meminfo";

/// The daemon's memory for rings.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

/// Bytes taken from a budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes, or of half the machine's memory.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let limit = limit.or_else(|| Some(meminfo("MemTotal:")? / 2)).unwrap_or(1 << 30);
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Bytes taken.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, unless that is beyond the limit or beyond what the system has to give: it would
    /// not refuse the pages, it would kill someone for them.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, Refusal> {
        let available = meminfo("MemAvailable:").unwrap_or(u64::MAX);
        let take = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit);
        let taken = match available {
            available if bytes > available => Err(self.used()),
            _ => self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take),
        };
        match taken {
            Ok(_) => Ok(Charge { budget: Arc::clone(self), bytes }),
            Err(used) => Err(Refusal::Memory {
                asked: bytes,
                left: self.limit.saturating_sub(used).min(available),
                limit: self.limit,
            }),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One of the system's figures of memory, in bytes.
fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(MEMINFO).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_add_up_and_come_back() {
        let budget = Arc::new(Budget::new(Some(100)));
        let first = budget.charge(60).unwrap();
        let refused = budget.charge(41).unwrap_err();
        assert_eq!(refused, Refusal::Memory { asked: 41, left: 40, limit: 100 });
        let second = budget.charge(40).unwrap();
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn more_than_the_system_has_is_refused_whatever_the_limit() {
        let budget = Arc::new(Budget::new(Some(u64::MAX)));
        for bytes in [1 << 60, u64::MAX] {
            assert!(matches!(budget.charge(bytes), Err(Refusal::Memory { .. })));
        }
        assert_eq!(budget.used(), 0);
    }
}
