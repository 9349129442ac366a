//! Owns the fair queue, and the threads of the devices' lanes that pull from it.
//!
//! Knows nothing of sockets or messages. Devices pull: a lane that is free takes the next frame, so
//! fast and slow devices are all busy and nobody predicts. The queue is deficit round robin over
//! clients, cost in pixels (Shreedhar and Varghese, "Efficient Fair Queueing using Deficit Round
//! Robin", SIGCOMM 1995). When more lanes are idle than frames wait, a frame is cut into bands; a frame
//! whose work is less than a lane takes to wake does not wait for one. While all lanes have work and
//! more waits, the thread that brings jobs rests, and lanes bring them between two frames.
//!
//! Devices of several kinds pull from the same queue. A lane leaves a frame to the others where those would
//! be done with all that waits before it were done with this one (`choice`). A frame on which a device fails
//! goes back to the queue, for the others; a device that fails is out of service for a while (`service`).
//!
//! Invariants: a job pushed is completed or withdrawn exactly once; lanes end only when asked to and
//! when nothing waits; a panic in a device fails its frame there and nothing else; a frame that all leave to
//! others is taken by the fastest.

mod choice;
mod service;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, DeviceStats, Status};

use crate::device::{Band, Device, DeviceError, Fault, Scratch};
use crate::job::Job;
use crate::metrics::{DeviceMetrics, nanoseconds};
use service::Service;

/// Pixels a client may have resized before the next one's turn: about half a 1080p frame.
const QUANTUM: u64 = 1 << 20;

/// How long the intake may wait while enough jobs do: lanes look after it between two frames.
const UNREAD: Duration = Duration::from_micros(500);

/// How long it may wait where frames take longer than that: then the thread whose task it is wakes.
const UNATTENDED: Duration = Duration::from_millis(2);

/// Identifies a client in the queue; never used again in the life of a daemon.
pub(crate) type ClientId = u64;

/// Where jobs come from.
pub(crate) trait Intake: Send + Sync {
    /// Brings what has arrived, without waiting for more, unless another thread is at it.
    fn turn(&self);
}

/// The fair queue and the devices behind it.
pub(crate) struct Scheduler {
    devices: Vec<Box<dyn Device>>,
    /// A device that takes only what no other can.
    reserve: Option<usize>,
    metrics: Vec<DeviceMetrics>,
    queue: Mutex<Queue>,
    /// Wakes idle lanes, for each device.
    wake: Vec<Condvar>,
    /// Wakes the thread of the intake.
    hungry: Condvar,
    /// For frames that are resized by the thread that submits them.
    scratch: Mutex<Scratch>,
}

/// The threads of all lanes.
pub(crate) struct Lanes {
    scheduler: Arc<Scheduler>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    clients: HashMap<ClientId, Waiting>,
    /// Clients with jobs waiting, the next one first.
    turns: VecDeque<ClientId>,
    /// Jobs waiting, of all clients.
    waiting: usize,
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

/// One client's part of the queue.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Pixels it may still have resized in its turn.
    deficit: u64,
}

#[derive(Default)]
struct DeviceLanes {
    /// Lanes that sleep and were not called.
    idle: usize,
    /// Those of them that left what waited to others.
    abstaining: usize,
    /// Lanes that were called and have not yet woken.
    called: usize,
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
    client: ClientId,
    job: Job,
    device: usize,
    taken: Instant,
    /// Nobody wanted it any more when the device took it: it is not resized.
    cancelled: bool,
    /// Nanoseconds that lanes have been at it.
    worked: AtomicU64,
    failed: AtomicBool,
    /// Why, where it is the device's fault.
    fault: OnceLock<Fault>,
}

impl Scheduler {
    /// `reserve` is the number of the device, if any, that takes only what no other can.
    pub(crate) fn new(devices: Vec<Box<dyn Device>>, reserve: Option<usize>) -> Arc<Self> {
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
            reserve,
        })
    }

    pub(crate) fn devices(&self) -> &[Box<dyn Device>] {
        &self.devices
    }

    /// Figures of every device, in their order.
    pub(crate) fn stats(&self) -> Vec<DeviceStats> {
        let devices = self.devices.iter().zip(&self.metrics);
        devices.map(|(device, metrics)| metrics.read(&**device)).collect()
    }

    /// Jobs that wait for a device.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Queues jobs of one stream of a client, in this order. Jobs too small for a lane are done before
    /// it returns, as long as nobody else's wait.
    pub(crate) fn push(&self, client: ClientId, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut jobs = jobs.peekable();
        let device = jobs.peek().and_then(|job| self.immediate_device(job));
        if let Some(device) = device.filter(|_| self.waiting() == 0) {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            for job in jobs {
                let frame = Arc::new(Started::new(client, job, device));
                self.work(Task { frame, band: Band::WHOLE }, &mut scratch);
            }
            return;
        }
        let mut queue = self.lock();
        let wanted = jobs.len();
        let order = jobs.peek().map(|job| self.order(&queue, job));
        queue.push(client, jobs);
        if let Some(order) = order {
            self.call_in(&mut queue, order, wanted);
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

    /// Takes back the waiting jobs of a client that match.
    pub(crate) fn withdraw(
        &self,
        client: ClientId,
        matches: impl Fn(&Job) -> bool,
    ) -> VecDeque<Job> {
        self.lock().withdraw(client, matches)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes up to `wanted` idle lanes of a device; returns how many.
    fn call(&self, queue: &mut Queue, device: usize, wanted: usize) -> usize {
        let lanes = &mut queue.lanes[device];
        let called = wanted.min(lanes.idle);
        lanes.idle -= called;
        lanes.abstaining = lanes.abstaining.min(lanes.idle);
        lanes.called += called;
        (0..called).for_each(|_| self.wake[device].notify_one());
        called
    }

    fn run_lane(&self, device: usize, intake: &dyn Intake) {
        let mut scratch = Scratch::default();
        while let Some(task) = self.pull(device, intake) {
            self.work(task, &mut scratch);
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
            if let Some(wait) = queue.lanes[device].service.wait(queue.stopping) {
                queue = self.out_of_service(queue, device, wait);
                continue;
            }
            if let Some((client, job)) = self.next(&mut queue, device) {
                queue.overdue = false;
                return Some(self.begin(&mut queue, client, job, device));
            }
            if queue.stopping {
                return None;
            }
            let abstains = queue.waiting > 0;
            queue.lanes[device].idle += 1;
            queue.lanes[device].abstaining += usize::from(abstains);
            if abstains {
                self.call_fastest(&mut queue, device);
            } else if std::mem::take(&mut queue.resting) {
                self.hungry.notify_one();
            }
            while queue.lanes[device].called == 0 {
                queue = self.wake[device].wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.lanes[device].called -= 1;
        }
    }

    /// Begins a frame: cuts it into bands if lanes would be idle otherwise, and returns the first.
    fn begin(&self, queue: &mut Queue, client: ClientId, job: Job, device: usize) -> Task {
        let idle_for_each = queue.lanes[device].idle / (queue.waiting + 1);
        let count = job.worth(device).min(idle_for_each as u32 + 1).max(1);
        let frame = Arc::new(Started::new(client, job, device));
        if count > 1 {
            let task = |band| Task { frame: Arc::clone(&frame), band };
            queue.lanes[device].bands.extend(Band::cut(count).skip(1).map(task));
            self.call(queue, device, count as usize - 1);
        }
        Task { band: Band::cut(count).next().unwrap_or(Band::WHOLE), frame }
    }

    fn work(&self, task: Task, scratch: &mut Scratch) {
        let Task { frame, band } = task;
        if !frame.cancelled {
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
        let resize = || frame.job.resize(device, frame.device, band, scratch);
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
        let worked = begun.elapsed();
        frame.worked.fetch_add(nanoseconds(worked), Ordering::Relaxed);
        self.metrics[frame.device].add_busy(worked);
    }

    fn finish(&self, frame: Started, scratch: &mut Scratch) {
        let device = frame.device;
        let status = match (frame.cancelled, frame.failed.load(Ordering::Relaxed)) {
            (true, _) => Status::Cancelled,
            (false, true) => Status::Failed,
            (false, false) => Status::Done,
        };
        self.metrics[device].add_frame(frame.job.cost(), status);
        if status == Status::Failed {
            return self.failed(frame, scratch);
        }
        if status == Status::Done {
            let worked = Duration::from_nanos(frame.worked.load(Ordering::Relaxed));
            frame.job.note_pace(device, worked);
        }
        self.complete(&frame, status);
    }

    fn complete(&self, frame: &Started, status: Status) {
        let Started { job, device, taken, .. } = frame;
        let completion = Completion {
            stream: job.stream(),
            slot: job.slot(),
            status,
            device: *device as u16,
            queued_ns: nanoseconds(taken.saturating_duration_since(job.submitted())),
            worked_ns: nanoseconds(taken.elapsed()),
        };
        let pressed = !self.lock().is_low();
        job.complete(completion, pressed);
    }
}

impl Started {
    fn new(client: ClientId, job: Job, device: usize) -> Self {
        Self {
            client,
            cancelled: job.is_cancelled(),
            job,
            device,
            taken: Instant::now(),
            worked: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            fault: OnceLock::new(),
        }
    }
}

impl Queue {
    /// Whether every lane has work, none of it has taken long so far, and as much again waits.
    fn is_sated(&self) -> bool {
        // Those that left it to others would do so again.
        let idle = self.lanes.iter().any(|lanes| lanes.idle > lanes.abstaining);
        !idle && !self.overdue && !self.stopping && self.waiting >= self.lane_count
    }

    /// Whether lanes may soon find nothing to do.
    fn is_low(&self) -> bool {
        !self.is_sated() || self.waiting <= 2 * self.lane_count
    }

    /// Time since somebody looked after the intake.
    fn unattended(&self) -> Duration {
        self.attended.map_or(Duration::MAX, |attended| attended.elapsed())
    }

    fn push(&mut self, client: ClientId, jobs: impl ExactSizeIterator<Item = Job>) {
        self.waiting += jobs.len();
        let waiting = self.clients.entry(client).or_default();
        if waiting.jobs.is_empty() && jobs.len() > 0 {
            self.turns.push_back(client);
            // For its first turn; those after it get theirs when the one before is over.
            waiting.deficit = QUANTUM;
        }
        waiting.jobs.extend(jobs);
    }

    /// Takes the next job by deficit round robin, of those clients whose first job is `taken`. The others
    /// keep their places.
    fn next(&mut self, taken: impl Fn(&Job) -> bool) -> Option<(ClientId, Job)> {
        let (mut place, mut dear) = (0, false);
        loop {
            let Some(&client) = self.turns.get(place) else {
                if !std::mem::take(&mut dear) {
                    return None;
                }
                place = 0;
                continue;
            };
            let waiting = self.clients.entry(client).or_default();
            match waiting.jobs.front() {
                None => self.end_turns(client),
                Some(job) if !taken(job) => place += 1,
                Some(job) if job.cost() > waiting.deficit => {
                    waiting.deficit += QUANTUM;
                    self.turns.remove(place);
                    self.turns.push_back(client);
                    dear = true;
                }
                Some(job) => {
                    waiting.deficit -= job.cost();
                    let job = waiting.jobs.pop_front();
                    if waiting.jobs.is_empty() {
                        self.end_turns(client);
                    }
                    self.waiting -= 1;
                    return job.map(|job| (client, job));
                }
            }
        }
    }

    /// The first job of the client whose turn is next.
    fn first(&self) -> Option<&Job> {
        self.clients.get(self.turns.front()?)?.jobs.front()
    }

    /// Puts a job back that was taken: it is its client's next one, and was paid for.
    fn push_back(&mut self, client: ClientId, job: Job) {
        let cost = job.cost();
        self.waiting += 1;
        let waiting = self.clients.entry(client).or_default();
        if waiting.jobs.is_empty() {
            self.turns.push_front(client);
        }
        waiting.deficit += cost;
        waiting.jobs.push_front(job);
    }

    fn withdraw(&mut self, client: ClientId, matches: impl Fn(&Job) -> bool) -> VecDeque<Job> {
        let Some(waiting) = self.clients.get_mut(&client) else {
            return VecDeque::new();
        };
        let (withdrawn, kept): (VecDeque<_>, _) = waiting.jobs.drain(..).partition(matches);
        waiting.jobs = kept;
        self.waiting -= withdrawn.len();
        if self.clients.get(&client).is_some_and(|waiting| waiting.jobs.is_empty()) {
            self.end_turns(client);
        }
        withdrawn
    }

    /// Forgets a client that has nothing waiting, and with it what it has saved up.
    fn end_turns(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.turns.retain(|&other| other != client);
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
            // Those of a device that is out of service.
            scheduler.wake[device].notify_all();
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
