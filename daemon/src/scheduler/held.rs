//! Owns the queue's lock, and how those sleep and wake who wait for what is in it.
//!
//! Knows no jobs. The queue is held for a microsecond or two, and to sleep until it is free and be woken takes thirty times as
//! long: who finds it held looks again for a while before it sleeps. (With a common lock the lanes of sixteen cores and a GPU slept
//! for it nearly four times as often as for want of frames.) Who is called while somebody holds the queue is woken when nobody
//! does, for the queue is what it wants first. Invariants: who was called is woken; nobody sleeps who has still to wake others.

use std::hint::spin_loop;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Queue;
use crate::device::Device;

/// Calls that are kept until the queue is let go. Of more at once the rest are woken while it is held.
const MOST: usize = 24;

/// How often it is looked whether the queue is free, and the most pauses between two looks: some ten microseconds in all.
const LOOKS: u32 = 12;
const PAUSES: u32 = 64;

/// The queue, and who sleeps until there is something in it.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// The threads of the lanes of each device.
    lanes: Vec<Box<[OnceLock<Thread>]>>,
    /// Wakes the thread of the intake.
    intake: Condvar,
}

/// The queue, held by this thread.
pub(super) struct Held<'a> {
    // First: it is let go before those wake who were called.
    queue: MutexGuard<'a, Queue>,
    calls: Calls<'a>,
}

/// Who is to be woken.
struct Calls<'a> {
    shared: &'a Shared,
    /// Devices, and lanes of theirs.
    lanes: [(usize, usize); MOST],
    count: usize,
    intake: bool,
}

impl Shared {
    pub(super) fn new(queue: Queue, devices: &[Box<dyn Device>]) -> Self {
        let lanes =
            devices.iter().map(|device| (0..device.lanes()).map(|_| OnceLock::new()).collect());
        let lanes = lanes.collect();
        Self { queue: Mutex::new(queue), lanes, intake: Condvar::new() }
    }

    /// The calling thread is that lane: it is the one to wake.
    pub(super) fn enter(&self, device: usize, lane: usize) {
        let _ = self.lanes[device][lane].set(thread::current());
    }

    pub(super) fn hold(&self) -> Held<'_> {
        let calls = Calls { shared: self, lanes: [(0, 0); MOST], count: 0, intake: false };
        Held { queue: self.free_soon().unwrap_or_else(|| self.await_free()), calls }
    }

    fn free_soon(&self) -> Option<MutexGuard<'_, Queue>> {
        for look in 0..LOOKS {
            match self.queue.try_lock() {
                Ok(queue) => return Some(queue),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            (0..PAUSES.min(1 << look)).for_each(|_| spin_loop());
        }
        None
    }

    fn await_free(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, device: usize, lane: usize) {
        if let Some(thread) = self.lanes[device][lane].get() {
            thread.unpark();
        }
    }
}

impl<'a> Held<'a> {
    /// Calls up to `wanted` idle lanes of a device; gives how many.
    pub(super) fn call(&mut self, device: usize, wanted: usize) -> usize {
        let Self { queue, calls } = self;
        let lanes = std::iter::from_fn(|| queue.lanes[device].idle.call());
        lanes.take(wanted).map(|lane| calls.add(device, lane)).count()
    }

    /// Has the lanes of a device that is out of service look at it again.
    pub(super) fn wake_all(&self, device: usize) {
        let shared = self.calls.shared;
        (0..shared.lanes[device].len()).for_each(|lane| shared.wake(device, lane));
    }

    /// Calls the thread of the intake, if it rests.
    pub(super) fn call_intake(&mut self) {
        self.calls.intake |= mem::take(&mut self.queue.resting);
    }

    /// Sleeps until this thread's lane, which is among the idle ones, is called.
    pub(super) fn await_call(self, device: usize, lane: usize) -> Self {
        let mut held = self;
        while !held.queue.lanes[device].idle.take_call(lane) {
            held = held.away(thread::park);
        }
        held
    }

    /// Sleeps until this thread's lane is woken, or so long, or less.
    pub(super) fn await_service(self, within: Duration) -> Self {
        self.away(|| thread::park_timeout(within))
    }

    /// Lets the queue go for as long as this takes.
    fn away(self, pass: impl FnOnce()) -> Held<'a> {
        let shared = self.calls.shared;
        drop(self);
        pass();
        shared.hold()
    }

    /// Sleeps until the thread of the intake is called, or so long, or less.
    pub(super) fn await_intake_call(self, within: Duration) -> Self {
        if self.calls.are_any() {
            // Meanwhile it may have been.
            return self.away(|| {});
        }
        let Self { queue, calls } = self;
        let woken = calls.shared.intake.wait_timeout(queue, within);
        Held { queue: woken.unwrap_or_else(PoisonError::into_inner).0, calls }
    }
}

impl Deref for Held<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

impl Calls<'_> {
    const fn are_any(&self) -> bool {
        self.count > 0 || self.intake
    }

    fn add(&mut self, device: usize, lane: usize) {
        match self.lanes.get_mut(self.count) {
            Some(place) => {
                *place = (device, lane);
                self.count += 1;
            }
            None => self.shared.wake(device, lane),
        }
    }
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        for &(device, lane) in &self.lanes[..self.count] {
            self.shared.wake(device, lane);
        }
        if self.intake {
            self.shared.intake.notify_one();
        }
    }
}
