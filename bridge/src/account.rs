//! Owns what each connection may have of streams, slots and memory, and what memory all together
//! may have.
//!
//! Knows no frames. Invariant: what was granted counts until it is dropped, wherever that is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use resized_protocol::message::{Refusal, Resource, Whose};

use crate::lock::lock;

/// Of one connection: a sixteenth of what a daemon grants the bridge's user unless told otherwise,
/// so that nobody takes all of it alone.
pub(crate) const STREAMS: u64 = 256;
pub(crate) const SLOTS: u64 = 4096;

/// What all connections may have together.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    taken: AtomicU64,
}

/// What a stream takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Takes {
    pub(crate) streams: u64,
    pub(crate) slots: u64,
    pub(crate) bytes: u64,
}

/// A connection's.
#[derive(Debug)]
pub(crate) struct Account {
    /// Bytes that it may have.
    limit: u64,
    taken: Mutex<Takes>,
    all: Arc<Memory>,
}

/// What was granted.
#[derive(Debug)]
pub(crate) struct Charge {
    takes: Takes,
    account: Arc<Account>,
}

impl Memory {
    /// So many bytes.
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    /// Of so many clients those that there is memory for, if each has an equal part of it. None where less
    /// than a sixteenth of it is left.
    pub(crate) fn room(&self, clients: u64) -> u64 {
        let left = self.limit - self.taken.load(Ordering::Relaxed);
        if left < self.limit / 16 {
            return 0;
        }
        let share = u128::from(clients) * u128::from(left);
        u64::try_from(share.div_ceil(self.limit.into())).unwrap_or(u64::MAX)
    }

    fn take(&self, asked: u64) -> Result<(), Refusal> {
        let add = |taken: u64| taken.checked_add(asked).filter(|&taken| taken <= self.limit);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let full = |taken| refusal(Whose::Bridge, Resource::RingBytes, asked, taken, self.limit);
        taken.map(drop).map_err(full)
    }
}

impl Account {
    /// An account of a connection that may have so many bytes.
    pub(crate) fn new(limit: u64, all: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), all })
    }

    /// Grants it, unless that is too much.
    pub(crate) fn charge(self: &Arc<Self>, takes: Takes) -> Result<Charge, Refusal> {
        let mut taken = self.taken();
        for (what, asked, taken, limit) in [
            (Resource::Streams, takes.streams, taken.streams, STREAMS),
            (Resource::Slots, takes.slots, taken.slots, SLOTS),
            (Resource::RingBytes, takes.bytes, taken.bytes, self.limit),
        ] {
            if asked > limit - taken {
                return Err(refusal(Whose::Connection, what, asked, taken, limit));
            }
        }
        self.all.take(takes.bytes)?;
        taken.streams += takes.streams;
        taken.slots += takes.slots;
        taken.bytes += takes.bytes;
        Ok(Charge { takes, account: Arc::clone(self) })
    }

    /// Whether it has a stream, or one that is being opened.
    pub(crate) fn has_streams(&self) -> bool {
        self.taken().streams > 0
    }

    fn taken(&self) -> MutexGuard<'_, Takes> {
        lock(&self.taken)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Takes { streams, slots, bytes } = self.takes;
        let mut taken = self.account.taken();
        taken.streams -= streams;
        taken.slots -= slots;
        taken.bytes -= bytes;
        self.account.all.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

const fn refusal(whose: Whose, what: Resource, asked: u64, taken: u64, limit: u64) -> Refusal {
    Refusal::Quota { whose, what, asked, left: limit - taken, limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_memory_is_left_for() {
        let memory = Memory::new(1600);
        let room_beside = |taken| {
            memory.taken.store(taken, Ordering::Relaxed);
            [0, 1, 100, u64::MAX].map(|clients| memory.room(clients))
        };
        assert_eq!(room_beside(0), [0, 1, 100, u64::MAX]);
        assert_eq!(room_beside(1200)[..3], [0, 1, 25]);
        assert_eq!(room_beside(1500)[..3], [0, 1, 7]);
        assert_eq!(room_beside(1501), [0; 4]);
    }

    #[test]
    fn what_is_dropped_can_be_had_again() {
        let memory = Arc::new(Memory::new(100));
        let [one, other] = [80, u64::MAX].map(|limit| Account::new(limit, Arc::clone(&memory)));
        let takes = |slots, bytes| Takes { streams: 1, slots, bytes };
        let refused = |whose, what, asked, left, limit| {
            Some(Refusal::Quota { whose, what, asked, left, limit })
        };
        let first = one.charge(takes(SLOTS - 1, 30)).unwrap();
        let large = one.charge(takes(1, 51)).err();
        assert_eq!(large, refused(Whose::Connection, Resource::RingBytes, 51, 50, 80));
        let many = one.charge(takes(2, 1)).err();
        assert_eq!(many, refused(Whose::Connection, Resource::Slots, 2, 1, SLOTS));
        let all = other.charge(takes(1, 71)).err();
        assert_eq!(all, refused(Whose::Bridge, Resource::RingBytes, 71, 70, 100));
        assert!(other.charge(takes(1, u64::MAX)).is_err());
        let second = other.charge(takes(1, 70)).unwrap();
        assert!(one.charge(takes(1, 1)).is_err());
        drop(second);
        let streams: Vec<_> = (1..STREAMS).map(|_| one.charge(takes(0, 0)).unwrap()).collect();
        let more = one.charge(takes(0, 0)).err();
        assert_eq!(more, refused(Whose::Connection, Resource::Streams, 1, 0, STREAMS));
        drop((first, streams));
        assert_eq!(*one.taken(), Takes::default());
        assert!(other.charge(takes(SLOTS, 100)).is_ok());
    }
}
