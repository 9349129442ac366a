//! Owns the queue's lock, and how threads sleep and wake that wait for what is in the queue.
//!
//! Knows no jobs. A thread that is called while somebody holds the queue is woken once nobody does,
//! for the queue is what it wants first; of very many called at once the rest are woken before.
//! Whenever the queue is let go, it is written down how many jobs wait and whether lanes have more than
//! enough to do, for those who ask for no more than that, and the lookout is called if it rests while something waits.
//! Invariants: whoever was called is woken; nobody sleeps who has still to wake others.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::queue::Queue;
use crate::device::Device;
use crate::lock;

/// Calls that are kept until the queue is let go. Of more at once the rest are woken while it is held.
pub(super) const MOST: usize = 24;

/// The queue behind its lock, and who sleeps until there is something in it.
pub(super) struct Guarded {
    queue: Mutex<Queue>,
    /// The threads of the lanes of each device.
    lanes: Vec<Box<[OnceLock<Thread>]>>,
    /// What [`is_sated`](Self::is_sated) gives.
    sated: AtomicBool,
    /// What [`waiting`](Self::waiting) gives.
    waiting: AtomicUsize,
}

/// The queue, held by this thread.
pub(super) struct Held<'a> {
    // First: it is let go before those wake who were called.
    queue: MutexGuard<'a, Queue>,
    calls: Calls<'a>,
}

/// Who is to be woken.
struct Calls<'a> {
    queue: &'a Guarded,
    /// Devices, and lanes of theirs.
    lanes: [(usize, usize); MOST],
    count: usize,
    intake: Option<Thread>,
    lookout: Option<Thread>,
}

impl Guarded {
    pub(super) fn new(queue: Queue, devices: &[Box<dyn Device>]) -> Self {
        let lanes =
            devices.iter().map(|device| (0..device.lanes()).map(|_| OnceLock::new()).collect());
        let lanes = lanes.collect();
        let queue = Mutex::new(queue);
        Self { queue, lanes, sated: AtomicBool::new(false), waiting: AtomicUsize::new(0) }
    }

    /// The calling thread is that lane: it is the one to wake.
    pub(super) fn enter(&self, device: usize, lane: usize) {
        let _ = self.lanes[device][lane].set(thread::current());
    }

    pub(super) fn hold(&self) -> Held<'_> {
        let lanes = [(0, 0); MOST];
        let calls = Calls { queue: self, lanes, count: 0, intake: None, lookout: None };
        Held { queue: lock::take(&self.queue), calls }
    }

    /// [`Queue::is_sated`], as whoever held the queue last left it.
    pub(super) fn is_sated(&self) -> bool {
        self.sated.load(Ordering::Relaxed)
    }

    /// [`Queue::waiting`], likewise.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
    pub(super) fn wake_all(&mut self, device: usize) {
        let lanes = 0..self.calls.queue.lanes[device].len();
        lanes.for_each(|lane| self.calls.add(device, lane));
    }

    /// Calls the thread of the intake, if it rests.
    pub(super) fn call_intake(&mut self) {
        if mem::take(&mut self.queue.resting) {
            self.calls.intake = self.queue.intake.take();
        }
    }

    /// Sleeps until this thread's lane, which is among the idle ones, is called.
    pub(super) fn await_call(mut self, device: usize, lane: usize) -> Self {
        while !self.queue.lanes[device].idle.take_call(lane) {
            self = self.away(thread::park);
        }
        self
    }

    /// Sleeps until something waits, or lanes are to end. For the thread that looks out.
    pub(super) fn await_jobs(mut self) -> Self {
        self.queue.lookout = Some(thread::current());
        while self.queue.lookout.is_some() && !self.queue.stopping {
            self = self.away(thread::park);
        }
        self
    }

    /// Sleeps until this thread is woken, or so long, or less.
    pub(super) fn sleep(self, within: Duration) -> Self {
        self.away(|| thread::park_timeout(within))
    }

    /// Lets the queue go for as long as this takes.
    fn away(self, pass: impl FnOnce()) -> Self {
        let queue = self.calls.queue;
        drop(self);
        pass();
        queue.hold()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Self { queue, calls } = self;
        let waiting = queue.waiting();
        calls.queue.sated.store(queue.is_sated(), Ordering::Relaxed);
        calls.queue.waiting.store(waiting, Ordering::Relaxed);
        if queue.lookout.is_some() && waiting > 0 {
            calls.lookout = queue.lookout.take();
        }
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
    fn add(&mut self, device: usize, lane: usize) {
        match self.lanes.get_mut(self.count) {
            Some(place) => {
                *place = (device, lane);
                self.count += 1;
            }
            None => self.queue.wake(device, lane),
        }
    }
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        for &(device, lane) in &self.lanes[..self.count] {
            self.queue.wake(device, lane);
        }
        for thread in [&self.intake, &self.lookout].into_iter().flatten() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resized_protocol::message::StreamSpec;
    use resized_protocol::shm::RingLayout;

    use super::super::fakes::Nothing;
    use super::super::{Lanes, Scheduler};
    use super::*;
    use crate::device::{Device, DeviceError, Resizer};
    use crate::until::until;

    /// A device of more lanes than are called at once.
    struct Many;

    impl Device for Many {
        fn name(&self) -> &str {
            "many"
        }

        fn lanes(&self) -> usize {
            2 * MOST
        }

        fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
            unreachable!()
        }
    }

    #[test]
    fn all_who_are_called_wake_however_many_they_are() {
        let scheduler = Scheduler::new(vec![Box::new(Many)], None);
        let _lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
        let idle = || scheduler.queue.hold().lanes[0].idle.len();
        let await_sleep = || until("all sleep", || idle() == Many.lanes());
        await_sleep();
        assert_eq!(scheduler.queue.hold().call(0, usize::MAX), Many.lanes());
        // Only who has woken sleeps again.
        await_sleep();
    }

    #[test]
    fn the_thread_that_rests_is_woken_when_it_is_called() {
        let scheduler = Scheduler::new(Vec::new(), None);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut queue = scheduler.queue.hold();
                (queue.resting, queue.intake) = (true, Some(thread::current()));
                while queue.resting {
                    queue = queue.sleep(Duration::from_secs(3600));
                }
            });
            until("it rests", || scheduler.queue.hold().intake.is_some());
            scheduler.queue.hold().call_intake();
        });
    }
}
