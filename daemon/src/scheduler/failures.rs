//! Owns what becomes of a frame at which a device fails, and of the device: the frame goes to another,
//! the device is out of [service](super::service) for a while, and is then tried again.
//!
//! Invariants: a job on which a device failed returns to that device once at the most, and only if no
//! other can do it; one that no device is left for completes as failed, though none was ever at it;
//! a device that is out of service keeps no job waiting that another could do; a job goes on only
//! once the device that failed at it has let go of its slot, however late.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Status};

use super::Scheduler;
use super::frame::{Started, Task};
use super::held::Held;
use crate::device::{Band, DeviceError, Fault, Scratch};
use crate::job::{Job, StreamId};
use crate::metrics::nanoseconds;

impl Scheduler {
    /// A lane of a device that is out of service: waits, or tries to bring it back.
    pub(super) fn out_of_service<'a>(
        &'a self,
        mut queue: Held<'a>,
        device: usize,
        wait: Duration,
    ) -> Held<'a> {
        if !wait.is_zero() {
            // It counts as no idle lane: nobody calls it for a frame.
            return queue.sleep(wait);
        }
        queue.lanes[device].service.begin_to_revive();
        drop(queue);
        let call = self.devices.call(device);
        let revive = || self.devices[device].revive();
        let revived = catch_unwind(AssertUnwindSafe(revive));
        drop(call);
        let came_back = matches!(revived, Ok(Ok(())));
        let owes = matches!(revived, Ok(Err(DeviceError::Failed { fault: Fault::TimedOut, .. })));
        let name = self.devices[device].name();
        match revived {
            Ok(Ok(())) => tracing::info!(device = name, "back in service"),
            Ok(Err(error)) => tracing::warn!(%error, "still out of service"),
            Err(_) => tracing::error!(device = name, "panicked coming back"),
        }
        let mut queue = self.queue.hold();
        self.devices.owes(device, owes);
        queue.lanes[device].service.revived(came_back, Instant::now());
        // The lanes that wait look again.
        queue.wake_all(device);
        queue
    }

    /// A frame failed by its device's fault: that is out of service, unless the fault is of the stream.
    /// Where it may still be at the frame the lane waits until it is not: until then the slot is nobody
    /// else's.
    pub(super) fn note_fault(&self, frame: &Started, fault: Fault) {
        let device = frame.device;
        if !fault.is_of_stream() {
            let mut queue = self.queue.hold();
            let is_out = queue.lanes[device].service.fail(frame.taken, Instant::now());
            // Its lanes wait for its return, none of them as idle; all that waits may now be for
            // others.
            queue.call(device, usize::MAX);
            self.call_all(&mut queue);
            drop(queue);
            if is_out {
                tracing::error!(device = self.devices[device].name(), %fault, "out of service");
            }
        }
        if fault == Fault::TimedOut {
            frame.job.settle(device);
            // Perhaps not any more: it says so as it comes back. If it has meanwhile, it owes nothing.
            let queue = self.queue.hold();
            if !queue.lanes[device].service.is_in() {
                self.devices.owes(device, true);
            }
        }
    }

    /// A device failed at a frame: another does it or, if there is none, it once more.
    pub(super) fn failed(&self, frame: Started, completion: Completion, scratch: &mut Scratch) {
        let Started { mut job, device, fault, .. } = frame;
        let for_good = fault.get().is_some_and(|fault| fault.is_of_stream());
        let stream = job.stream();
        job.failed_on(device, for_good);
        let elsewhere = (0..self.devices.len()).find(|&other| job.fits(other));
        let left = elsewhere.or_else(|| job.try_again(device).then_some(device));
        let mut queue = self.queue.hold();
        match left {
            None => {
                drop(queue);
                self.complete(job, completion);
            }
            Some(other) if queue.stopping => {
                // Other lanes may have ended already.
                drop(queue);
                let frame = Arc::new(Started::new(job, other));
                self.work(Task { frame, band: Band::WHOLE }, scratch);
            }
            Some(_) => {
                let order = self.order(&queue, &job, queue.waiting() + 1);
                queue.again.push_back(job);
                self.call_in(&mut queue, order, 1);
                drop(queue);
            }
        }
        // Others of the stream may have waited for this device alone.
        if for_good {
            self.abandon(stream);
        }
    }

    /// Completes as failed what waits of a stream and no device is left for; all else goes on waiting.
    pub(super) fn abandon(&self, stream: StreamId) {
        let is_left = |job: &Job| (0..self.devices.len()).any(|device| job.fits(device));
        let mut queue = self.queue.hold();
        let abandoned = queue.withdraw(stream, |job| !is_left(job));
        // What is left of it may be for others now.
        self.call_all(&mut queue);
        drop(queue);
        for job in abandoned {
            let completion = Completion {
                stream: job.stream().number,
                slot: job.slot(),
                status: job.given_up(Instant::now).unwrap_or(Status::Failed),
                device: 0,
                queued_ns: nanoseconds(job.submitted().elapsed()),
                worked_ns: 0,
            };
            self.complete(job, completion);
        }
    }

    /// Has every idle lane look at what waits, as far as there is something for each.
    fn call_all(&self, queue: &mut Held<'_>) {
        for device in 0..self.devices.len() {
            let waiting = queue.waiting();
            queue.call(device, waiting);
        }
    }
}

#[cfg(test)]
mod tests;
