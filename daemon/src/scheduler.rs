//! Owns the threads of the devices' lanes, and the queue that they pull from.
//!
//! Knows nothing of sockets or messages; who is next is for [`fair`] to say. Devices pull: a lane that
//! is free takes the next frame, so fast and slow devices are all busy and nobody predicts. When more
//! lanes are idle than frames wait, a frame is cut into bands; a frame whose work is less than a lane
//! takes to wake does not wait for one. While all lanes have work and more waits, the thread that brings
//! jobs rests, and lanes bring them between two frames.
//!
//! Invariants: a job pushed is completed or withdrawn exactly once; lanes end only when asked to and
//! when nothing waits; a frame on which a device fails or panics is tried once more, elsewhere if there
//! is elsewhere, and if that fails too, nothing else does.

mod fair;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Status};
use resized_protocol::stats::DeviceStats;

use crate::device::{Band, Device, Scratch};
use crate::job::{Job, StreamId};
use crate::metrics::{DeviceMetrics, nanoseconds};
use fair::Fair;

/// How long the intake may wait while enough jobs do: lanes look after it between two frames.
const UNREAD: Duration = Duration::from_micros(500);

/// How long it may wait where frames take longer than that: then the thread whose task it is wakes.
const UNATTENDED: Duration = Duration::from_millis(2);

/// Where jobs come from.
pub(crate) trait Intake: Send + Sync {
    /// Brings what has arrived, without waiting for more, unless another thread is at it.
    fn turn(&self);
}

/// The fair queue and the devices behind it.
pub(crate) struct Scheduler {
    devices: Vec<Box<dyn Device>>,
    metrics: Vec<DeviceMetrics>,
    queue: Mutex<Queue>,
    /// Wakes idle lanes, for each device.
    wake: Vec<Condvar>,
    /// Wakes the thread of the intake.
    hungry: Condvar,
    /// For frames that are resized by the thread that submits them.
    scratch: Mutex<Scratch>,
}

/// What a device is at; see [`Scheduler::progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) at_work: bool,
    pub(crate) busy_ns: u64,
}

/// The threads of all lanes.
pub(crate) struct Lanes {
    scheduler: Arc<Scheduler>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    fair: Fair,
    /// Jobs on which a device failed once.
    again: VecDeque<Job>,
    /// In the order of the devices.
    lanes: Vec<DeviceLanes>,
    /// Lanes of all devices.
    lane_count: usize,
    /// The thread of the intake rests: lanes look after it.
    resting: bool,
    /// No lane did for so long that its thread stays awake until one takes a frame.
    overdue: bool,
    /// When one last did.
    attended: Option<Instant>,
    stopping: bool,
}

#[derive(Default)]
struct DeviceLanes {
    /// Lanes that sleep and were not called.
    idle: usize,
    /// Lanes that were called and have not yet woken.
    called: usize,
    /// Bands of frames that a lane of this device has begun.
    bands: VecDeque<Task>,
}

/// What a lane does next.
struct Task {
    frame: Arc<Started>,
    band: Band,
}

/// A frame that a device has taken.
struct Started {
    job: Job,
    device: usize,
    taken: Instant,
    /// Nobody wanted it any more when the device took it: it is not resized, and ends like this.
    given_up: Option<Status>,
    unfinished: AtomicU32,
    failed: AtomicBool,
}

impl Scheduler {
    pub(crate) fn new(devices: Vec<Box<dyn Device>>) -> Arc<Self> {
        let queue = Queue {
            lanes: devices.iter().map(|_| DeviceLanes::default()).collect(),
            lane_count: devices.iter().map(|device| device.lanes()).sum(),
            ..Queue::default()
        };
        Arc::new(Self {
            metrics: devices.iter().map(|_| DeviceMetrics::default()).collect(),
            wake: devices.iter().map(|_| Condvar::new()).collect(),
            hungry: Condvar::new(),
            queue: Mutex::new(queue),
            scratch: Mutex::default(),
            devices,
        })
    }

    pub(crate) fn devices(&self) -> &[Box<dyn Device>] {
        &self.devices
    }

    /// Figures of every device, in their order.
    pub(crate) fn stats(&self) -> Vec<DeviceStats> {
        let devices = self.devices.iter().zip(&self.metrics);
        devices.map(|(device, metrics)| metrics.read(device.name())).collect()
    }

    /// For each device whether lanes of it are at work, and how much work it has done in its life: what is
    /// at work and does not get done is stuck.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let queue = self.lock();
        let progress = |(device, lanes): (usize, &DeviceLanes)| Progress {
            at_work: lanes.idle + lanes.called < self.devices[device].lanes(),
            busy_ns: self.metrics[device].busy_ns(),
        };
        queue.lanes.iter().enumerate().map(progress).collect()
    }

    /// Jobs that wait for a device.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Queues jobs of one stream, in this order. Jobs too small for a lane are done before it returns,
    /// as long as nobody else's wait.
    pub(crate) fn push(&self, stream: StreamId, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut jobs = jobs.peekable();
        let device = jobs.peek().and_then(|job| self.immediate_device(job));
        if let Some(device) = device.filter(|_| self.waiting() == 0) {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            for job in jobs {
                let frame = Arc::new(Started::new(job, device, 1));
                self.work(&Task { frame, band: Band::WHOLE }, &mut scratch);
            }
            return;
        }
        let mut queue = self.lock();
        let mut wanted = jobs.len();
        queue.fair.push(stream, jobs);
        for device in 0..self.devices.len() {
            wanted -= self.call(&mut queue, device, wanted);
        }
    }

    /// A device for which the job is not worth waking a lane.
    fn immediate_device(&self, job: &Job) -> Option<usize> {
        (0..self.devices.len()).find(|&device| job.worth(device) == 0)
    }

    /// Whether every lane has work and as much again waits: then the intake's thread may
    /// [`rest`](Self::rest).
    pub(crate) fn is_sated(&self) -> bool {
        self.lock().is_sated()
    }

    /// Leaves the intake to the lanes: sleeps until one of them is idle, or all are at frames that take
    /// long. Until then each message would interrupt one of them, and could as well be read by it
    /// together with the next.
    pub(crate) fn rest(&self) {
        let mut queue = self.lock();
        queue.resting = queue.is_sated();
        queue.attended = Some(Instant::now());
        while queue.resting {
            let left = UNATTENDED.saturating_sub(queue.unattended());
            if left.is_zero() {
                (queue.resting, queue.overdue) = (false, true);
            } else {
                let woken = self.hungry.wait_timeout(queue, left);
                queue = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Takes back the waiting jobs of a stream that is over.
    pub(crate) fn withdraw(&self, stream: StreamId) -> VecDeque<Job> {
        let mut queue = self.lock();
        let mut withdrawn = queue.fair.withdraw(stream);
        let (failed, kept) =
            queue.again.drain(..).partition::<VecDeque<_>, _>(|job| job.stream() == stream);
        queue.again = kept;
        withdrawn.extend(failed);
        withdrawn
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes up to `wanted` idle lanes of a device; returns how many.
    fn call(&self, queue: &mut Queue, device: usize, wanted: usize) -> usize {
        let lanes = &mut queue.lanes[device];
        let called = wanted.min(lanes.idle);
        lanes.idle -= called;
        lanes.called += called;
        (0..called).for_each(|_| self.wake[device].notify_one());
        called
    }

    fn run_lane(&self, device: usize, intake: &dyn Intake) {
        let mut scratch = Scratch::default();
        while let Some(task) = self.pull(device, intake) {
            self.work(&task, &mut scratch);
        }
    }

    /// The next task for a lane of this device; sleeps until there is one. `None`: stop.
    fn pull(&self, device: usize, intake: &dyn Intake) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if let Some(task) = queue.lanes[device].bands.pop_front() {
                return Some(task);
            }
            if queue.resting && (queue.is_low() || queue.unattended() >= UNREAD) {
                // Noted first: one lane at a time is enough.
                queue.attended = Some(Instant::now());
                drop(queue);
                intake.turn();
                queue = self.lock();
            }
            if let Some(job) = queue.next(device) {
                queue.overdue = false;
                return Some(self.begin(&mut queue, job, device));
            }
            if queue.stopping {
                return None;
            }
            queue.lanes[device].idle += 1;
            if std::mem::take(&mut queue.resting) {
                self.hungry.notify_one();
            }
            while queue.lanes[device].called == 0 {
                queue = self.wake[device].wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.lanes[device].called -= 1;
        }
    }

    /// Begins a frame: cuts it into bands if lanes would be idle otherwise, and returns the first.
    fn begin(&self, queue: &mut Queue, job: Job, device: usize) -> Task {
        let idle_for_each = queue.lanes[device].idle / (queue.waiting() + 1);
        let count = job.worth(device).min(idle_for_each as u32 + 1).max(1);
        let frame = Arc::new(Started::new(job, device, count));
        if count > 1 {
            let task = |band| Task { frame: Arc::clone(&frame), band };
            queue.lanes[device].bands.extend(Band::cut(count).skip(1).map(task));
            self.call(queue, device, count as usize - 1);
        }
        Task { band: Band::cut(count).next().unwrap_or(Band::WHOLE), frame }
    }

    fn work(&self, task: &Task, scratch: &mut Scratch) {
        let Task { frame, band } = task;
        if frame.given_up.is_none() {
            self.resize(frame, *band, scratch);
        }
        // Acquire and release: whoever is last has seen the others' pixels and failures.
        if frame.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(frame);
        }
    }

    fn resize(&self, frame: &Started, band: Band, scratch: &mut Scratch) {
        let begun = Instant::now();
        let device = &*self.devices[frame.device];
        let resize = || frame.job.resize(device, frame.device, band, scratch);
        let outcome = catch_unwind(AssertUnwindSafe(resize));
        match &outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a frame failed"),
            Err(_) => {
                tracing::error!(device = self.devices[frame.device].name(), "a device panicked")
            }
        }
        if !matches!(outcome, Ok(Ok(()))) {
            frame.failed.store(true, Ordering::Relaxed);
        }
        self.metrics[frame.device].add_busy(begun.elapsed());
    }

    fn finish(&self, frame: &Started) {
        let Started { job, device, taken, failed, given_up, .. } = frame;
        let status = match (given_up, failed.load(Ordering::Relaxed)) {
            (Some(status), _) => *status,
            (None, true) => Status::Failed,
            (None, false) => Status::Done,
        };
        let completion = Completion {
            stream: job.stream().number,
            slot: job.slot(),
            status,
            device: *device as u16,
            queued_ns: nanoseconds(taken.saturating_duration_since(job.submitted())),
            worked_ns: nanoseconds(taken.elapsed()),
        };
        self.metrics[*device].add_attempt(job.pixels(), &completion);
        if status == Status::Failed
            && let Some(again) = job.again(*device)
        {
            return self.push_again(again);
        }
        let pressed = !self.lock().is_low();
        job.complete(completion, pressed);
    }

    /// Queues a job on which a device failed.
    fn push_again(&self, job: Job) {
        let mut queue = self.lock();
        let mut elsewhere =
            (0..self.devices.len()).filter(|&device| queue.may_try_again(&job, device));
        let idle = elsewhere.find(|&device| queue.lanes[device].idle > 0);
        queue.again.push_back(job);
        if let Some(device) = idle {
            self.call(&mut queue, device, 1);
        }
    }
}

impl Started {
    fn new(job: Job, device: usize, bands: u32) -> Self {
        let taken = Instant::now();
        Self {
            given_up: job.given_up(|| taken),
            job,
            device,
            taken,
            unfinished: AtomicU32::new(bands),
            failed: AtomicBool::new(false),
        }
    }
}

impl Queue {
    /// Whether every lane has work, none of it has taken long so far, and as much again waits.
    fn is_sated(&self) -> bool {
        let idle = self.lanes.iter().any(|lanes| lanes.idle > 0);
        !idle && !self.overdue && !self.stopping && self.waiting() >= self.lane_count
    }

    /// Whether lanes may soon find nothing to do.
    fn is_low(&self) -> bool {
        !self.is_sated() || self.waiting() <= 2 * self.lane_count
    }

    /// Time since somebody looked after the intake.
    fn unattended(&self) -> Duration {
        self.attended.map_or(Duration::MAX, |attended| attended.elapsed())
    }

    /// Jobs that wait.
    fn waiting(&self) -> usize {
        self.fair.waiting() + self.again.len()
    }

    /// The next job for a device.
    fn next(&mut self, device: usize) -> Option<Job> {
        let again = self.again.iter().position(|job| self.may_try_again(job, device));
        again.and_then(|index| self.again.remove(index)).or_else(|| self.fair.next())
    }

    /// Whether a device may try a job on which one has failed: another one, unless there is no other.
    fn may_try_again(&self, job: &Job, device: usize) -> bool {
        job.failed_on() != Some(device) || self.lanes.len() == 1 || self.stopping
    }
}

impl Lanes {
    /// Starts a thread for each lane of each device.
    pub(crate) fn start(
        scheduler: &Arc<Scheduler>,
        intake: &Arc<impl Intake + 'static>,
    ) -> std::io::Result<Self> {
        let mut lanes = Self { scheduler: Arc::clone(scheduler), threads: Vec::new() };
        for (index, device) in scheduler.devices.iter().enumerate() {
            for lane in 0..device.lanes() {
                let (scheduler, intake) = (Arc::clone(scheduler), Arc::clone(intake));
                let name = format!("{}-{lane}", device.name());
                let run = move || scheduler.run_lane(index, &*intake);
                lanes.threads.push(thread::Builder::new().name(name).spawn(run)?);
            }
        }
        Ok(lanes)
    }
}

impl Drop for Lanes {
    /// Lets the lanes finish what waits, and ends them.
    fn drop(&mut self) {
        let scheduler = &self.scheduler;
        let mut queue = scheduler.lock();
        queue.stopping = true;
        for device in 0..scheduler.devices.len() {
            let idle = queue.lanes[device].idle;
            scheduler.call(&mut queue, device, idle);
        }
        drop(queue);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
