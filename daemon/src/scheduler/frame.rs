//! Owns a frame that a device has taken: each of its bands is resized by whoever has that task, and
//! the last of them ends the frame.
//!
//! Knows nothing of how tasks are come by. Invariants: a frame ends once, in a thread that has seen
//! what all others wrote and where they failed; a device that panics fails at that frame, and costs
//! nobody a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Status};

use super::Scheduler;
use crate::device::{Band, Device, DeviceError, Fault, Preparation, Scratch};
use crate::job::{Job, Pressure, StreamId};
use crate::metrics::nanoseconds;

/// A band of a frame that is to be resized.
pub(super) struct Task {
    pub(super) frame: Arc<Started>,
    pub(super) band: Band,
}

/// A frame that a device has taken.
pub(super) struct Started {
    pub(super) job: Job,
    pub(super) device: usize,
    pub(super) taken: Instant,
    /// It was over when the device took it: it is not resized, and ends like this.
    given_up: Option<Status>,
    /// Nanoseconds that lanes have been at it.
    worked: AtomicU64,
    failed: AtomicBool,
    /// Why it failed, where that is the device's fault.
    pub(super) fault: OnceLock<Fault>,
    /// The device had to prepare something first.
    prepared: AtomicBool,
}

impl Started {
    pub(super) fn new(job: Job, device: usize) -> Self {
        let taken = Instant::now();
        Self {
            given_up: job.given_up(|| taken),
            job,
            device,
            taken,
            worked: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            fault: OnceLock::new(),
            prepared: AtomicBool::new(false),
        }
    }

    /// Whether it is not resized.
    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }
}

impl Scheduler {
    /// Does a task, and ends its frame if that was the last.
    pub(super) fn work(&self, task: Task, scratch: &mut Scratch) {
        let Task { frame, band } = task;
        self.resize(&frame, band, scratch);
        // Whoever is last has seen the others' pixels and failures.
        if let Some(frame) = Arc::into_inner(frame) {
            self.finish(frame, scratch);
        }
    }

    /// Does a whole frame that was not cut into tasks.
    pub(super) fn work_alone(&self, frame: Started, scratch: &mut Scratch) {
        self.resize(&frame, Band::WHOLE, scratch);
        self.finish(frame, scratch);
    }

    /// Has the frame's own crop prepared.
    pub(super) fn prepare(&self, frame: &Started) {
        self.attempt(frame, |device| frame.job.prepare(device, frame.device));
    }

    /// Resizes a band, unless the frame is given up or has failed.
    fn resize(&self, frame: &Started, band: Band, scratch: &mut Scratch) {
        if frame.is_given_up() || frame.failed.load(Ordering::Relaxed) {
            return;
        }
        let resize = |device: &dyn Device| frame.job.resize(device, frame.device, band, scratch);
        if self.attempt(frame, resize) == Some(Preparation::Now) {
            frame.prepared.store(true, Ordering::Relaxed);
        }
    }

    /// Has the device do something for a frame, and notes with the frame how it went; `None`: badly.
    fn attempt<T>(
        &self,
        frame: &Started,
        work: impl FnOnce(&dyn Device) -> Result<T, DeviceError>,
    ) -> Option<T> {
        let begun = Instant::now();
        let device = &*self.devices[frame.device];
        let outcome = catch_unwind(AssertUnwindSafe(|| work(device)));
        match &outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "a frame failed");
                if let DeviceError::Failed { fault, .. } = error {
                    let _ = frame.fault.set(*fault);
                }
            }
            Err(_) => tracing::error!(device = device.name(), "a device panicked"),
        }
        let done = outcome.ok().and_then(Result::ok);
        if done.is_none() {
            frame.failed.store(true, Ordering::Relaxed);
        }
        let worked = begun.elapsed();
        frame.worked.fetch_add(nanoseconds(worked), Ordering::Relaxed);
        self.metrics[frame.device].add_busy(worked);
        done
    }

    /// Completes a frame, unless it failed and may be tried elsewhere.
    fn finish(&self, frame: Started, scratch: &mut Scratch) {
        let Started { job, device, taken, failed, given_up, .. } = &frame;
        let ended = Instant::now();
        // No device's doing, nor would another find more there.
        let lost = job.has_lost_memory();
        if lost && given_up.is_none() {
            // Told of each frame that a lane was at as that happened: what is taken later is given up.
            let StreamId { client, user: uid, number } = job.stream();
            tracing::warn!(client, uid, stream = number, "the memory of a ring is gone");
        }
        let status = match given_up {
            Some(status) => *status,
            None if lost || failed.load(Ordering::Relaxed) => Status::Failed,
            None => Status::Done,
        };
        let completion = Completion {
            stream: job.stream().number,
            slot: job.slot(),
            status,
            device: *device as u16,
            queued_ns: nanoseconds(taken.saturating_duration_since(job.submitted())),
            worked_ns: nanoseconds(ended.saturating_duration_since(*taken)),
        };
        if !lost {
            let copied = job.copied_bytes(*device);
            self.metrics[*device].add_attempt(job.pixels(), copied, &completion);
        }
        if let Some(&fault) = frame.fault.get() {
            // Whatever became of the frame's memory: the device may be at it still.
            self.note_fault(&frame, fault);
        }
        match status {
            Status::Failed if !lost => self.failed(frame, completion, scratch),
            Status::Done => {
                if !frame.prepared.load(Ordering::Relaxed) {
                    let worked = frame.worked.load(Ordering::Relaxed);
                    job.note_pace(*device, Duration::from_nanos(worked), ended);
                }
                self.complete(frame.job, completion);
            }
            Status::Failed | Status::Cancelled | Status::Late | Status::Unreadable => {
                self.complete(frame.job, completion);
            }
        }
    }

    /// Tells the client how its frame ended.
    pub(super) fn complete(&self, job: Job, completion: Completion) {
        let pressure = match self.queue.is_sated() {
            true => self.queue.hold().pressure(job.stream().user),
            false => Pressure::None,
        };
        job.complete(completion, pressure);
    }
}
