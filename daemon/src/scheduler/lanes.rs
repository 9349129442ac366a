//! Owns the lanes' threads, and what a lane does: takes what is next, resizes it, and sleeps when
//! there is nothing for it.
//!
//! Knows nothing of which frame is whose: that is said by [`choice`](super::choice). Invariants:
//! lanes end only when they are asked to and nothing waits; a lane that sleeps is among the idle
//! ones, unless its device is out of service.

use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::frame::{Started, Task};
use super::held::Held;
use super::{Intake, Scheduler};
use crate::cores::Cores;
use crate::device::{Band, Scratch};
use crate::job::Job;

/// How long the intake may wait while enough jobs do: lanes look after it between two frames.
const UNREAD: Duration = Duration::from_micros(500);

/// The threads of all lanes, and one that looks after them where there are several devices.
pub(crate) struct Lanes {
    pub(super) scheduler: Arc<Scheduler>,
    threads: Vec<JoinHandle<()>>,
    /// The one that looks whether frames wait for a device that does not get on.
    lookout: Option<Thread>,
}

impl Lanes {
    /// Starts a thread for each lane of each device.
    pub(crate) fn start(
        scheduler: &Arc<Scheduler>,
        intake: &Arc<impl Intake + 'static>,
    ) -> std::io::Result<Self> {
        let mut lanes =
            Self { scheduler: Arc::clone(scheduler), threads: Vec::new(), lookout: None };
        for (index, device) in scheduler.devices.iter().enumerate() {
            for lane in 0..device.lanes() {
                let (scheduler, intake) = (Arc::clone(scheduler), Arc::clone(intake));
                let name = format!("{}-{lane}", device.name());
                let run = move || scheduler.run_lane(index, lane, &*intake);
                lanes.threads.push(thread::Builder::new().name(name).spawn(run)?);
            }
        }
        if scheduler.devices.len() > 1 {
            let scheduler = Arc::clone(scheduler);
            let run = move || scheduler.look_out();
            let lookout = thread::Builder::new().name("lookout".into()).spawn(run)?;
            lanes.lookout = Some(lookout.thread().clone());
            lanes.threads.push(lookout);
        }
        Ok(lanes)
    }
}

impl Drop for Lanes {
    /// Lets the lanes finish what waits, and ends them.
    fn drop(&mut self) {
        let scheduler = &self.scheduler;
        let mut queue = scheduler.queue.hold();
        queue.stopping = true;
        for device in 0..scheduler.devices.len() {
            queue.call(device, usize::MAX);
            // Lanes of a device that is out of service count as no idle ones.
            queue.wake_all(device);
        }
        drop(queue);
        self.lookout.iter().for_each(Thread::unpark);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane panicked");
            }
        }
    }
}

impl Scheduler {
    fn run_lane(&self, device: usize, lane: usize, intake: &dyn Intake) {
        self.queue.enter(device, lane);
        self.devices[device].enter();
        if let Some(&core) = self.devices[device].cores().get(lane)
            && let Err(error) = Cores::only(core).and_then(|only| only.bind())
        {
            tracing::warn!(core, %error, "a lane is not bound to its core");
        }
        let mut scratch = Scratch::default();
        while let Some(task) = self.pull(device, lane, intake) {
            self.devices.take(device, lane, task.frame.job.estimate());
            let task = self.prepared(task);
            self.work(task, &mut scratch);
            // Not where it panics: a lane that died is stuck as well.
            self.devices.done(device, lane);
        }
    }

    /// The next task for a lane of this device; sleeps until there is one. `None`: stop.
    fn pull(&self, device: usize, lane: usize, intake: &dyn Intake) -> Option<Task> {
        let mut queue = self.queue.hold();
        loop {
            if let Some(task) = queue.lanes[device].bands.pop_front() {
                return Some(task);
            }
            if queue.resting && (queue.is_low() || queue.unattended() >= UNREAD) {
                // Noted first: one lane at a time is enough.
                queue.attended = Some(Instant::now());
                drop(queue);
                intake.turn();
                queue = self.queue.hold();
            }
            if let Some(wait) = queue.lanes[device].service.wait(queue.stopping) {
                queue = self.out_of_service(queue, device, wait);
                continue;
            }
            if let Some(job) = self.next(&mut queue, device) {
                queue.overdue = false;
                queue.lanes[device].leaves = false;
                return Some(self.begin(&mut queue, job, device));
            }
            if queue.stopping {
                return None;
            }
            let abstains = queue.waiting() > 0;
            queue.lanes[device].idle.sleep(lane);
            if abstains {
                queue.lanes[device].leaves = true;
                self.call_fastest(&mut queue, device);
            } else {
                queue.call_intake();
            }
            queue = queue.await_call(device, lane);
        }
    }

    /// Begins a frame: cuts it if lanes would be idle otherwise. Not one that is not resized; nor yet
    /// one whose crop has to be prepared first, which other lanes would only wait for.
    pub(super) fn begin(&self, queue: &mut Held<'_>, job: Job, device: usize) -> Task {
        let frame = Arc::new(Started::new(job, device));
        if frame.is_given_up() || frame.job.is_unprepared() {
            return Task { frame, band: Band::WHOLE };
        }
        Self::cut(queue, frame)
    }

    /// Has the crop prepared that a frame brought, by this lane alone, and cuts the frame then.
    fn prepared(&self, task: Task) -> Task {
        let frame = &task.frame;
        if frame.is_given_up() || !frame.job.is_unprepared() {
            return task;
        }
        self.prepare(frame);
        match frame.job.worth(frame.device) {
            ..=1 => task,
            _ => Self::cut(&mut self.queue.hold(), task.frame),
        }
    }

    /// Cuts a frame into a band for each lane that would be idle otherwise, and returns the first.
    fn cut(queue: &mut Held<'_>, frame: Arc<Started>) -> Task {
        let device = frame.device;
        let idle_for_each = queue.lanes[device].idle.len() / (queue.waiting() + 1);
        let count = frame.job.worth(device).min(idle_for_each as u32 + 1).max(1);
        if count > 1 {
            let task = |band| Task { frame: Arc::clone(&frame), band };
            queue.lanes[device].bands.extend(Band::cut(count).skip(1).map(task));
            queue.call(device, count as usize - 1);
        }
        Task { band: Band::cut(count).next().unwrap_or(Band::WHOLE), frame }
    }
}
