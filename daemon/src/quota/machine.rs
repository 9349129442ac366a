//! Owns what the machine has to give: how much memory rings may be made of.
//!
//! Knows no users. Invariants: bytes that were granted and are not yet allocated are granted to nobody else, though what
//! there is of memory still counts them; nor are those of a ring whose pages a client gave back to the system (fallocate(2)):
//! they are made again when its next frame touches them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use resized_service::memory;

use crate::lock;

/// Bytes of memory that no ring is made of: what the daemon, and all else, take beside rings. Less
/// where there is little.
const SPARED: u64 = 256 << 20;

/// Bytes of shared memory for the rings of a daemon that is not told how many: half of the
/// machine's, or of what the daemon's control group may have.
pub fn default_ring_bytes() -> u64 {
    memory::total().map_or(1 << 30, |total| total / 2)
}

/// What one user may have of so many bytes for rings, unless somebody says otherwise, where there are
/// several: so that no one has all.
pub const fn user_ring_bytes(all: u64) -> u64 {
    all / 4 * 3
}

/// See [`SPARED`].
fn spared() -> u64 {
    memory::total().map_or(0, |total| (total / 16).min(SPARED))
}

/// The machine's memory.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Bytes that were granted and are not yet allocated. Held while somebody looks at what there is, or what is allocated
    /// meanwhile would count neither here nor there.
    on_the_way: Mutex<u64>,
    /// Bytes of the rings that were allocated.
    allocated: AtomicU64,
}

/// Bytes that are about to be allocated, until this is dropped.
#[derive(Debug)]
pub(super) struct OnTheWay {
    machine: Arc<Machine>,
    bytes: u64,
}

/// Bytes of a ring, until this is dropped.
#[derive(Debug)]
pub(super) struct Allocated {
    machine: Arc<Machine>,
    bytes: u64,
}

impl Machine {
    /// Reserves so many bytes, until they are allocated. `Err`: what is left.
    pub(super) fn find(self: &Arc<Self>, asked: u64) -> Result<Option<OnTheWay>, u64> {
        let mut on_the_way = self.on_the_way();
        let Some(available) = memory::available() else { return Ok(None) };
        let available = available.saturating_sub(spared());
        let left = available.saturating_sub(self.owed(memory::shared()));
        self.reserve(&mut on_the_way, asked, left).map(Some)
    }

    /// Bytes of rings that have no pages now, and will have some again, where so many bytes that this process shares are there.
    /// All pages of a ring are among these from the start (`Region::populate`). Less than that is found where others of the
    /// process share memory too, its clients say.
    pub(super) fn owed(&self, shared: Option<u64>) -> u64 {
        let allocated = self.allocated.load(Ordering::Relaxed);
        shared.map_or(0, |shared| allocated.saturating_sub(shared))
    }

    /// Notes that a ring of so many bytes was allocated.
    pub(super) fn note(self: &Arc<Self>, bytes: u64) -> Allocated {
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
        Allocated { machine: Arc::clone(self), bytes }
    }

    fn reserve(
        self: &Arc<Self>,
        on_the_way: &mut u64,
        asked: u64,
        available: u64,
    ) -> Result<OnTheWay, u64> {
        let left = available.saturating_sub(*on_the_way);
        if asked > left {
            return Err(left);
        }
        *on_the_way += asked;
        Ok(OnTheWay { machine: Arc::clone(self), bytes: asked })
    }

    pub(super) fn on_the_way(&self) -> MutexGuard<'_, u64> {
        lock::wait(&self.on_the_way)
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        *self.machine.on_the_way() -= self.bytes;
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        self.machine.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_ask_at_once_do_not_get_the_same_memory() {
        let machine = Arc::<Machine>::default();
        let reserve = |asked| machine.reserve(&mut machine.on_the_way(), asked, 100);
        let first = reserve(60).unwrap();
        assert_eq!(reserve(41).unwrap_err(), 40);
        let second = reserve(40).unwrap();
        assert!(reserve(u64::MAX).is_err());
        drop(first);
        assert_eq!(reserve(61).unwrap_err(), 60);
        drop(second);
        assert_eq!(*machine.on_the_way(), 0);
    }

    #[test]
    fn what_a_client_gave_back_of_its_ring_is_granted_to_nobody_else() {
        let machine = Arc::<Machine>::default();
        let ring = machine.note(60);
        // Of 100 there are 40 while the ring has all its pages, and all again once it has none.
        for (shared, available) in [(Some(60), 40), (Some(45), 55), (Some(0), 100), (None, 40)] {
            let left = available - machine.owed(shared);
            let refused = machine.reserve(&mut machine.on_the_way(), 60, left).unwrap_err();
            assert_eq!((left, refused), (40, 40));
        }
        // Other shared memory than rings.
        assert_eq!(machine.owed(Some(70)), 0);
        drop(ring);
        assert_eq!(machine.owed(Some(0)), 0);
    }
}
