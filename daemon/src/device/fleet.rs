//! Owns all devices of a daemon, and what is waited for of each: when each lane took what it is at,
//! by when a call of a device must be back, and by when it must have answered what no lane waits for.
//!
//! Knows neither frames nor streams. A driver that hangs can't be called back: it can only be
//! noticed from outside. Invariants: a lane's thread alone notes what the lane is at, without a
//! lock; one that panics over a frame stays noted, for that lane is gone.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Device;
use crate::lock;
use crate::metrics::nanoseconds;

/// Most devices that a daemon has: as many as there are bits where devices are noted by theirs.
pub(crate) const MAX_DEVICES: usize = u16::BITS as usize;

/// How long a lane may be at a frame at the least, and how often as long as the frame is thought to
/// take; after that it is stuck. The longest frames take minutes where there are no vectors. Whatever
/// else a device is called for has as long.
const PATIENCE: Duration = Duration::from_secs(30);
const DOUBTS: u32 = 64;

/// When a lane that is at nothing took it, and must be done; when who owes nothing must have answered.
const NEVER: u64 = u64::MAX;

/// The devices, in the order of their numbers.
pub(crate) struct Fleet {
    devices: Vec<Box<dyn Device>>,
    watches: Vec<Watch>,
    begun: Instant,
    /// [`PATIENCE`], but for tests.
    pub(crate) patience: Duration,
}

/// Who waits for a device. In nanoseconds since the fleet was made.
struct Watch {
    lanes: Box<[Lane]>,
    /// When those must be back who have it prepare a stream, let go of one, or come back into service.
    calls: Mutex<Vec<u64>>,
    /// When it must have answered what it still owes.
    owed: AtomicU64,
}

/// On a cache line of its own: its lane writes it for each frame.
#[repr(align(64))]
struct Lane {
    taken: AtomicU64,
    due: AtomicU64,
}

impl Default for Lane {
    fn default() -> Self {
        Self { taken: NEVER.into(), due: NEVER.into() }
    }
}

/// A call of a device, until this is dropped.
pub(crate) struct Call<'a> {
    watch: &'a Watch,
    due: u64,
}

impl Fleet {
    /// Of [`MAX_DEVICES`] at the most.
    pub(crate) fn new(devices: Vec<Box<dyn Device>>) -> Self {
        assert!(devices.len() <= MAX_DEVICES, "{} devices", devices.len());
        let watch = |lanes: usize| Watch {
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            calls: Mutex::default(),
            owed: NEVER.into(),
        };
        let watches = devices.iter().map(|device| watch(device.lanes())).collect();
        Self { devices, watches, begun: Instant::now(), patience: PATIENCE }
    }

    fn at(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.begun))
    }

    /// A lane takes a frame, or a part of one, that is thought to take so long.
    pub(crate) fn take(&self, device: usize, lane: usize, takes: Duration) {
        let Lane { taken, due } = &self.watches[device].lanes[lane];
        let now = self.begun.elapsed();
        let patience = self.patience.saturating_add(takes.saturating_mul(DOUBTS));
        taken.store(nanoseconds(now), Ordering::Relaxed);
        due.store(nanoseconds(now.saturating_add(patience)), Ordering::Relaxed);
    }

    /// The lane is done with it.
    pub(crate) fn done(&self, device: usize, lane: usize) {
        let Lane { taken, due } = &self.watches[device].lanes[lane];
        taken.store(NEVER, Ordering::Relaxed);
        due.store(NEVER, Ordering::Relaxed);
    }

    /// The caller has the device do something else than a frame.
    pub(crate) fn call(&self, device: usize) -> Call<'_> {
        let watch = &self.watches[device];
        let due = nanoseconds(self.begun.elapsed().saturating_add(self.patience));
        watch.calls().push(due);
        Call { watch, due }
    }

    /// Whether the device owes an answer to a frame that no lane waits for, as far as one knows: it is to be
    /// asked to come back. It has as long for it as for a call, from the first time that it does.
    pub(crate) fn owes(&self, device: usize, owes: bool) {
        let owed = &self.watches[device].owed;
        if !owes {
            owed.store(NEVER, Ordering::Relaxed);
        } else if owed.load(Ordering::Relaxed) == NEVER {
            let due = self.begun.elapsed().saturating_add(self.patience);
            owed.store(nanoseconds(due), Ordering::Relaxed);
        }
    }

    /// Whether a device owes an answer that no lane waits for.
    pub(crate) fn is_owed(&self) -> bool {
        self.watches.iter().any(|watch| watch.owed.load(Ordering::Relaxed) != NEVER)
    }

    /// Whether a lane of the device is at nothing, or has been at what it took for no longer than that.
    pub(crate) fn gets_on(&self, device: usize, within: Duration, now: Instant) -> bool {
        let since = self.at(now).saturating_sub(nanoseconds(within));
        self.watches[device].lanes.iter().any(|lane| lane.taken.load(Ordering::Relaxed) >= since)
    }

    /// A device that somebody waits for who should have been done with it by then, or that should have
    /// answered what it owes.
    pub(crate) fn stuck(&self, by: Instant) -> Option<usize> {
        let by = self.at(by);
        let is_late = |watch: &Watch| {
            watch.lanes.iter().any(|lane| lane.due.load(Ordering::Relaxed) < by)
                || watch.calls().iter().any(|&due| due < by)
                || watch.owed.load(Ordering::Relaxed) < by
        };
        self.watches.iter().position(is_late)
    }
}

impl Deref for Fleet {
    type Target = [Box<dyn Device>];

    fn deref(&self) -> &[Box<dyn Device>] {
        &self.devices
    }
}

impl Watch {
    fn calls(&self) -> MutexGuard<'_, Vec<u64>> {
        lock::wait(&self.calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.watch.calls();
        if let Some(index) = calls.iter().position(|&due| due == self.due) {
            calls.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::Cpu;
    use super::*;

    fn fleet() -> Fleet {
        Fleet::new(vec![Box::new(Cpu::new(3)), Box::new(Cpu::new(2))])
    }

    #[test]
    fn one_stuck_lane_is_seen_whatever_the_others_do() {
        let fleet = fleet();
        let later = Instant::now() + 2 * PATIENCE;
        let lanes = fleet[1].lanes();
        assert_eq!(fleet.stuck(later), None);
        fleet.take(1, lanes - 1, Duration::ZERO);
        assert_eq!((fleet.stuck(Instant::now()), fleet.stuck(later)), (None, Some(1)));
        fleet.done(1, lanes - 1);
        assert_eq!(fleet.stuck(later), None);
        fleet.take(0, 0, 2 * PATIENCE / DOUBTS);
        assert_eq!((fleet.stuck(later), fleet.stuck(later + 2 * PATIENCE)), (None, Some(0)));
    }

    #[test]
    fn a_device_gets_on_while_one_lane_does() {
        let fleet = fleet();
        let (lanes, within) = (fleet[0].lanes(), Duration::from_secs(5));
        let later = Instant::now() + 2 * within;
        (1..lanes).for_each(|lane| fleet.take(0, lane, Duration::ZERO));
        assert!(fleet.gets_on(0, within, later));
        fleet.take(0, 0, Duration::ZERO);
        assert!(fleet.gets_on(0, within, Instant::now()) && !fleet.gets_on(0, within, later));
        assert!(fleet.gets_on(1, within, later));
        fleet.done(0, lanes - 1);
        assert!(fleet.gets_on(0, within, later));
    }

    #[test]
    fn who_calls_a_device_is_looked_at_too() {
        let fleet = fleet();
        let later = Instant::now() + 2 * PATIENCE;
        let (one, other) = (fleet.call(1), fleet.call(1));
        assert_eq!((fleet.stuck(Instant::now()), fleet.stuck(later)), (None, Some(1)));
        drop(one);
        assert_eq!(fleet.stuck(later), Some(1));
        drop(other);
        assert_eq!(fleet.stuck(later), None);
    }

    #[test]
    fn what_a_device_owes_is_due_from_when_it_first_did() {
        let mut fleet = fleet();
        let later = Instant::now() + 2 * PATIENCE;
        fleet.owes(1, true);
        assert_eq!((fleet.stuck(Instant::now()), fleet.stuck(later)), (None, Some(1)));
        assert!(fleet.is_owed());
        fleet.patience *= 10;
        fleet.owes(1, true);
        assert_eq!(fleet.stuck(later), Some(1));
        fleet.owes(1, false);
        assert!(fleet.stuck(later).is_none() && !fleet.is_owed());
    }
}
