//! Owns the devices, and the queue that their lanes pull from.
//!
//! Knows nothing of sockets or messages. A job comes in by [`push`](Scheduler::push), waits in
//! `queue` for its turn, which `fair` gives it, is pulled by a lane (`lanes`), resized, and
//! completed (`frame`). Devices pull: a lane that is free takes the next frame, so fast and slow
//! devices are all busy and nobody predicts. When more lanes are idle than frames wait, a frame is
//! cut into bands; a frame with less work than a lane takes to wake does not wait for one (`at_once`).
//! While all lanes have work and more waits, the thread that brings jobs rests, and lanes bring them
//! between two frames. All share one lock (`held`), and a lane that is not called sleeps (`idle`).
//!
//! Devices of several kinds pull from the same queue. A lane leaves a frame to the others where
//! those would be done with all that waits in half the time that it takes for this one (`choice`).
//! A frame on which a device fails goes back to the queue, for the others (`failures`); a device that
//! fails is out of service for a while (`service`).
//!
//! Invariants: a job pushed is completed or withdrawn exactly once; a frame on which a device fails
//! or panics is tried by each other that can do it or, where there is none, once more, and if all
//! fail, it alone has failed; a frame that all leave to others is taken by the fastest.

mod at_once;
mod choice;
mod failures;
mod fair;
mod frame;
mod held;
mod idle;
mod lanes;
mod queue;
mod service;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resized_protocol::stats::DeviceStats;

use crate::device::fleet::Fleet;
use crate::device::{Device, Scratch};
use crate::job::{Job, StreamId};
use crate::lock;
use crate::metrics::DeviceMetrics;
use at_once::Found;
use held::Guarded;
pub(crate) use lanes::Lanes;
use queue::Queue;

/// How long the intake may be left to the lanes, all of them being at frames that take long: then the
/// thread whose task it is wakes.
const UNATTENDED: Duration = Duration::from_millis(5);

/// Where jobs come from.
pub(crate) trait Intake: Send + Sync {
    /// Brings what has arrived, without waiting for more, unless another thread is at it.
    fn turn(&self);
}

/// The fair queue and the devices behind it.
pub(crate) struct Scheduler {
    devices: Arc<Fleet>,
    /// A device that takes only what no other can.
    reserve: Option<usize>,
    metrics: Vec<DeviceMetrics>,
    queue: Guarded,
    /// For frames that are resized by the thread that brings them.
    scratch: Mutex<Scratch>,
    /// What the thread that brings jobs has found.
    found: Found,
}

impl Scheduler {
    /// `reserve` is the number of the device, if any, that takes only what no other can.
    pub(crate) fn new(devices: Vec<Box<dyn Device>>, reserve: Option<usize>) -> Arc<Self> {
        lock::count_cores();
        Arc::new(Self {
            metrics: devices.iter().map(|_| DeviceMetrics::default()).collect(),
            queue: Guarded::new(Queue::new(&devices), &devices),
            scratch: Mutex::default(),
            found: Found::default(),
            devices: Arc::new(Fleet::new(devices)),
            reserve,
        })
    }

    pub(crate) const fn devices(&self) -> &Arc<Fleet> {
        &self.devices
    }

    /// Figures of every device, in their order.
    pub(crate) fn stats(&self) -> Vec<DeviceStats> {
        let devices = self.devices.iter().zip(&self.metrics);
        devices.map(|(device, metrics)| metrics.read(device.name())).collect()
    }

    /// Jobs that wait for a device.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Queues jobs of one stream, in this order. Jobs for which no lane is worth waking are done before
    /// it returns, as long as nobody else's wait and there are not too many.
    pub(crate) fn push(&self, stream: StreamId, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut jobs = jobs.peekable();
        self.resize_at_once(&mut jobs);
        let wanted = jobs.len();
        let Some(first) = jobs.peek() else { return };
        let mut queue = self.queue.hold();
        let order = self.order(&queue, first, queue.waiting() + wanted);
        queue.fair.push(stream, jobs);
        if order.is_empty() {
            drop(queue);
            self.abandon(stream);
        } else {
            self.call_in(&mut queue, order, wanted);
        }
    }

    /// The thread that brings jobs has brought all that it found, and looks for more.
    pub(crate) fn note_look(&self) {
        self.found.note_look();
    }

    /// Whether every lane has work and as much again waits: then the intake's thread may
    /// [`rest`](Self::rest).
    pub(crate) fn is_sated(&self) -> bool {
        self.queue.is_sated()
    }

    /// Leaves the intake to the lanes: sleeps until one of them is idle, or all are at frames that take
    /// long. Until then each message would interrupt one of them, and could as well be read by it
    /// together with the next.
    pub(crate) fn rest(&self) {
        let mut queue = self.queue.hold();
        queue.resting = queue.is_sated();
        (queue.intake, queue.attended) = (Some(thread::current()), Some(Instant::now()));
        while queue.resting {
            let left = UNATTENDED.saturating_sub(queue.unattended());
            if left.is_zero() {
                (queue.resting, queue.overdue) = (false, true);
            } else {
                queue = queue.sleep(left);
            }
        }
    }

    /// Takes back the waiting jobs of a stream that is over.
    pub(crate) fn withdraw(&self, stream: StreamId) -> VecDeque<Job> {
        self.queue.hold().withdraw(stream, |_| true)
    }
}

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;
