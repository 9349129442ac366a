//! Owns the threads of the devices' lanes, and the queue that they pull from.
//!
//! Knows nothing of sockets or messages; [`fair`] says which frame is next. Devices pull: a lane
//! that is free takes the next frame, so fast and slow devices are all busy and nobody predicts.
//! When more lanes are idle than frames wait, a frame is cut into bands; a frame with less work
//! than a lane takes to wake does not wait for one. While all lanes have work and more waits, the
//! thread that brings jobs rests, and lanes bring them between two frames.
//!
//! Devices of several kinds pull from the same queue. A lane leaves a frame to the others where
//! those would be done with all that waits in half the time that it takes for this one (`choice`).
//! A frame on which a device fails goes back to the queue, for the others; a device that fails is
//! out of service for a while (`service`).
//!
//! Invariants: a job pushed is completed or withdrawn exactly once; lanes end only when asked to
//! and when nothing waits; a frame on which a device fails or panics is tried elsewhere or, where
//! there is no elsewhere, once more, and if that fails too, it alone has failed; a frame that all
//! leave to others is taken by the fastest.

mod choice;
mod fair;
mod held;
mod idle;
mod service;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Status};
use resized_protocol::stats::DeviceStats;

use crate::cores::Cores;
use crate::device::fleet::Fleet;
use crate::device::{Band, Device, DeviceError, Fault, Scratch};
use crate::job::{Job, Pressure, StreamId};
use crate::lock;
use crate::metrics::{DeviceMetrics, nanoseconds};
use fair::Fair;
use held::{Held, Shared};
use idle::Idle;
use service::Service;

/// How long the intake may wait while enough jobs do: lanes look after it between two frames.
const UNREAD: Duration = Duration::from_micros(500);

/// How long it may wait where frames take longer than that: then the thread whose task it is wakes.
const UNATTENDED: Duration = Duration::from_millis(5);

/// How long the thread that brings jobs does small ones itself: for what is left lanes have woken
/// by then.
const AT_ONCE: Duration = Duration::from_micros(100);

/// Where jobs come from.
pub(crate) trait Intake: Send + Sync {
    /// Brings what has arrived, without waiting for more, unless another thread is at it.
    fn turn(&self);
}

/// The fair queue and the devices behind it.
pub(crate) struct Scheduler {
    devices: Fleet,
    /// A device that takes only what no other can.
    reserve: Option<usize>,
    metrics: Vec<DeviceMetrics>,
    queue: Shared,
    /// For frames that are resized by the thread that submits them.
    scratch: Mutex<Scratch>,
}

/// The threads of all lanes, and one that looks after them where there are several devices.
pub(crate) struct Lanes {
    scheduler: Arc<Scheduler>,
    threads: Vec<JoinHandle<()>>,
    /// The one that looks whether frames wait for a device that does not get on.
    lookout: Option<Thread>,
}

#[derive(Default)]
struct Queue {
    fair: Fair,
    /// Jobs on which devices failed.
    again: VecDeque<Job>,
    /// In the order of the devices.
    lanes: Vec<DeviceLanes>,
    /// Lanes of all devices.
    lane_count: usize,
    /// The thread of the intake rests: lanes look after it.
    resting: bool,
    /// That thread.
    intake: Option<Thread>,
    /// No lane did for so long that its thread stays awake until one takes a frame.
    overdue: bool,
    /// When one last did.
    attended: Option<Instant>,
    stopping: bool,
}

struct DeviceLanes {
    idle: Idle,
    /// They would leave what waits to others, as things were when one of them last looked or a job
    /// was last pushed: that job's, where streams differ.
    leaves: bool,
    /// Bands of frames that a lane of this device has begun.
    bands: VecDeque<Task>,
    service: Service,
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
    /// Nanoseconds that lanes have been at it.
    worked: AtomicU64,
    failed: AtomicBool,
    /// The device had to prepare something first.
    prepared: AtomicBool,
    /// Why, where it is the device's fault.
    fault: OnceLock<Fault>,
}

impl Scheduler {
    /// `reserve` is the number of the device, if any, that takes only what no other can.
    pub(crate) fn new(devices: Vec<Box<dyn Device>>, reserve: Option<usize>) -> Arc<Self> {
        lock::count_cores();
        let queue = Queue {
            lanes: devices.iter().map(|device| DeviceLanes::new(&**device)).collect(),
            lane_count: devices.iter().map(|device| device.lanes()).sum(),
            ..Queue::default()
        };
        Arc::new(Self {
            metrics: devices.iter().map(|_| DeviceMetrics::default()).collect(),
            queue: Shared::new(queue, &devices),
            scratch: Mutex::default(),
            devices: Fleet::new(devices),
            reserve,
        })
    }

    pub(crate) const fn devices(&self) -> &Fleet {
        &self.devices
    }

    /// Figures of every device, in their order.
    pub(crate) fn stats(&self) -> Vec<DeviceStats> {
        let devices = self.devices.iter().zip(&self.metrics);
        devices.map(|(device, metrics)| metrics.read(device.name())).collect()
    }

    /// Jobs that wait for a device.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.hold().waiting()
    }

    /// Queues jobs of one stream, in this order. Jobs too small for a lane are done before it returns,
    /// as long as nobody else's wait and there are not too many.
    pub(crate) fn push(&self, stream: StreamId, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut jobs = jobs.peekable();
        let device = jobs.peek().and_then(|job| self.immediate_device(job));
        if let Some(device) = device.filter(|_| self.waiting() == 0) {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = Instant::now();
            while let Some(job) = jobs.next_if(|job| self.immediate_device(job) == Some(device)) {
                let frame = Arc::new(Started::new(job, device));
                self.work(Task { frame, band: Band::WHOLE }, &mut scratch);
                if begun.elapsed() > AT_ONCE {
                    break;
                }
            }
            if jobs.len() == 0 {
                return;
            }
        }
        let mut queue = self.queue.hold();
        let wanted = jobs.len();
        let waiting = queue.waiting() + wanted;
        let order = jobs.peek().map(|job| self.order(&queue, job, waiting));
        queue.fair.push(stream, jobs);
        match order {
            Some(order) if order.is_empty() => {
                drop(queue);
                self.abandon(stream);
            }
            Some(order) => self.call_in(&mut queue, order, wanted),
            None => {}
        }
    }

    /// A device for which the job is not worth waking a lane.
    fn immediate_device(&self, job: &Job) -> Option<usize> {
        (0..self.devices.len()).find(|&device| {
            job.fits(device) && job.worth(device) == 0 && self.reserve != Some(device)
        })
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
        self.queue.hold().withdraw(stream)
    }

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
            self.devices.take(device, lane, task.frame.job.takes());
            self.work(task, &mut scratch);
            // Not where it panics: a lane that died is stuck as well.
            self.devices.done(device, lane);
        }
    }

    /// Looks from time to time, until lanes end.
    fn look_out(&self) {
        while !self.queue.hold().stopping {
            thread::park_timeout(choice::LOOK);
            self.look();
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

    /// Begins a frame: cuts it into bands if lanes would be idle otherwise, and returns the first.
    fn begin(&self, queue: &mut Held<'_>, job: Job, device: usize) -> Task {
        let idle_for_each = queue.lanes[device].idle.len() / (queue.waiting() + 1);
        let count = job.worth(device).min(idle_for_each as u32 + 1).max(1);
        let frame = Arc::new(Started::new(job, device));
        if count > 1 {
            let task = |band| Task { frame: Arc::clone(&frame), band };
            queue.lanes[device].bands.extend(Band::cut(count).skip(1).map(task));
            queue.call(device, count as usize - 1);
        }
        Task { band: Band::cut(count).next().unwrap_or(Band::WHOLE), frame }
    }

    fn work(&self, task: Task, scratch: &mut Scratch) {
        let Task { frame, band } = task;
        if frame.given_up.is_none() {
            self.resize(&frame, band, scratch);
        }
        // Whoever is last has seen the others' pixels and failures.
        if let Some(frame) = Arc::into_inner(frame) {
            self.finish(frame, scratch);
        }
    }

    fn resize(&self, frame: &Started, band: Band, scratch: &mut Scratch) {
        let begun = Instant::now();
        let device = &*self.devices[frame.device];
        let resize = || frame.job.resize(device, frame.device, band, &mut *scratch);
        let outcome = catch_unwind(AssertUnwindSafe(resize));
        match &outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "a frame failed");
                if let DeviceError::Failed { fault, .. } = error {
                    let _ = frame.fault.set(*fault);
                }
            }
            Err(_) => tracing::error!(device = device.name(), "a device panicked"),
        }
        if !matches!(outcome, Ok(Ok(()))) {
            frame.failed.store(true, Ordering::Relaxed);
        }
        if scratch.take_preparation() {
            frame.prepared.store(true, Ordering::Relaxed);
        }
        let worked = begun.elapsed();
        frame.worked.fetch_add(nanoseconds(worked), Ordering::Relaxed);
        self.metrics[frame.device].add_busy(worked);
    }

    fn finish(&self, frame: Started, scratch: &mut Scratch) {
        let Started { job, device, taken, failed, given_up, .. } = &frame;
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
        let copied = job.copied_bytes(*device);
        self.metrics[*device].add_attempt(job.pixels(), copied, &completion);
        match status {
            Status::Failed => self.failed(frame, completion, scratch),
            Status::Done => {
                if !frame.prepared.load(Ordering::Relaxed) {
                    let worked = frame.worked.load(Ordering::Relaxed);
                    job.note_pace(*device, Duration::from_nanos(worked));
                }
                self.complete(frame.job, completion);
            }
            Status::Cancelled | Status::Late | Status::Unreadable => {
                self.complete(frame.job, completion);
            }
        }
    }

    fn complete(&self, job: Job, completion: Completion) {
        let pressure = match self.queue.is_sated() {
            true => self.queue.hold().pressure(job.stream().user),
            false => Pressure::None,
        };
        job.complete(completion, pressure);
    }
}

impl Started {
    fn new(job: Job, device: usize) -> Self {
        let taken = Instant::now();
        Self {
            given_up: job.given_up(|| taken),
            job,
            device,
            taken,
            worked: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            prepared: AtomicBool::new(false),
            fault: OnceLock::new(),
        }
    }
}

impl DeviceLanes {
    fn new(device: &dyn Device) -> Self {
        Self {
            idle: Idle::new(device.lanes(), device.cores()),
            leaves: false,
            bands: VecDeque::new(),
            service: Service::default(),
        }
    }
}

impl Queue {
    /// Whether every lane has work, none of it has taken long so far, and as much again waits.
    fn is_sated(&self) -> bool {
        let idle = self.lanes.iter().any(|lanes| lanes.idle.len() > 0 && !lanes.leaves);
        !idle && !self.overdue && !self.stopping && self.waiting() >= self.lane_count
    }

    /// What waits when a frame of this user's is done.
    fn pressure(&self, user: u32) -> Pressure {
        if !self.is_sated() {
            Pressure::None
        } else if self.fair.is_in_company(user) {
            Pressure::InCompany
        } else {
            Pressure::Sated
        }
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

    /// Takes back the jobs of a stream.
    fn withdraw(&mut self, stream: StreamId) -> VecDeque<Job> {
        let mut withdrawn = self.fair.withdraw(stream);
        let (failed, kept) =
            self.again.drain(..).partition::<VecDeque<_>, _>(|job| job.stream() == stream);
        self.again = kept;
        withdrawn.extend(failed);
        withdrawn
    }

    /// The next job of those that are wanted: first those on which devices failed.
    fn next(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<Job> {
        let again = self.again.iter().position(wanted);
        again.and_then(|index| self.again.remove(index)).or_else(|| self.fair.next(wanted))
    }

    /// The job whose turn it is.
    fn first(&self) -> Option<&Job> {
        self.again.front().or_else(|| self.fair.first())
    }
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
            // Those of a device that is out of service.
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

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;
