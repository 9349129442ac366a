//! Owns the queue's lock, and how those sleep and wake who wait for what is in it.
//!
//! Knows no jobs. Who is called while somebody holds the queue wakes when nobody does: to wake a thread on another core takes
//! its time, and the first that it wants is the queue. Invariants: who was called is woken; nobody sleeps who has still to wake
//! others.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Queue;
use crate::device::Device;

/// Calls that are kept until the queue is let go. Of more at once the rest are woken while it is held.
const MOST: usize = 24;

/// The queue, and who sleeps until there is something in it.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Wakes lanes: one for each of each device.
    lanes: Vec<Box<[Condvar]>>,
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
            devices.iter().map(|device| (0..device.lanes()).map(|_| Condvar::new()).collect());
        let lanes = lanes.collect();
        Self { queue: Mutex::new(queue), lanes, intake: Condvar::new() }
    }

    pub(super) fn hold(&self) -> Held<'_> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = Calls { shared: self, lanes: [(0, 0); MOST], count: 0, intake: false };
        Held { queue, calls }
    }
}

impl Held<'_> {
    /// Calls up to `wanted` idle lanes of a device; gives how many.
    pub(super) fn call(&mut self, device: usize, wanted: usize) -> usize {
        let Self { queue, calls } = self;
        let lanes = std::iter::from_fn(|| queue.lanes[device].idle.call());
        lanes.take(wanted).map(|lane| calls.add(device, lane)).count()
    }

    /// Has the lanes of a device that is out of service look at it again.
    pub(super) fn wake_all(&self, device: usize) {
        self.calls.shared.lanes[device].iter().for_each(Condvar::notify_one);
    }

    /// Calls the thread of the intake, if it rests.
    pub(super) fn call_intake(&mut self) {
        self.calls.intake |= mem::take(&mut self.queue.resting);
    }

    /// Sleeps until this lane, which is among the idle ones, is called.
    pub(super) fn await_call(self, device: usize, lane: usize) -> Self {
        let mut held = self.uncalled();
        while !held.queue.lanes[device].idle.take_call(lane) {
            let woken = held.calls.shared.lanes[device][lane].wait(held.queue);
            held.queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
        held
    }

    /// Sleeps until this lane is woken, or so long, or less.
    pub(super) fn await_service(self, device: usize, lane: usize, within: Duration) -> Self {
        let condvar = &self.calls.shared.lanes[device][lane];
        self.await_within(condvar, within)
    }

    /// Sleeps until the thread of the intake is called, or so long, or less.
    pub(super) fn await_intake_call(self, within: Duration) -> Self {
        let condvar = &self.calls.shared.intake;
        self.await_within(condvar, within)
    }

    fn await_within(mut self, condvar: &Condvar, within: Duration) -> Self {
        if self.calls.are_any() {
            // Meanwhile what is waited for may have come.
            return self.uncalled();
        }
        let woken = condvar.wait_timeout(self.queue, within);
        self.queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        self
    }

    /// Without calls: where there are some the queue is let go for a moment.
    fn uncalled(self) -> Self {
        if !self.calls.are_any() {
            return self;
        }
        let shared = self.calls.shared;
        drop(self);
        shared.hold()
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
            None => self.shared.lanes[device][lane].notify_one(),
        }
    }
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        for &(device, lane) in &self.lanes[..self.count] {
            self.shared.lanes[device][lane].notify_one();
        }
        if self.intake {
            self.shared.intake.notify_one();
        }
    }
}
