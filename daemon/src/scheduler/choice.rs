//! Owns which device a frame is for: which lanes are called for it, and when a lane leaves it to
//! others.
//!
//! Knows what frames of a stream take each device, as measured, and that idle lanes share a frame;
//! nothing is predicted beyond that. A lane takes a frame unless the others would be done with all
//! that waits in half the time that it takes for the one. So all devices are busy as long as enough
//! waits, and a burst ends about twice as late as it could at the worst. Small frames stay on the
//! cores by the same rule: a GPU takes several times as long over them.
//!
//! Nobody counts on a device whose lanes have all been at what they took for far longer than a
//! frame of the stream takes there: it may hang, or be busy with others' long frames. That comes
//! about while nobody looks, so a thread looks from time to time ([`look_out`]).
//!
//! Invariants: of the devices that can do a frame the fastest never leaves it to others; one that
//! is out of service, or does not get on, is no reason to leave a frame.
//!
//! [`look_out`]: Scheduler::look_out

use std::thread;
use std::time::{Duration, Instant};

use super::Scheduler;
use super::held::Held;
use super::queue::Queue;
use crate::device::fleet::MAX_DEVICES;
use crate::job::Job;

/// A frame is left to others who are done this many times as soon. Not to those who hardly are: a
/// lane that leaves a frame sleeps and has to be called again, and clients bring the next frames
/// while it does. Sixteen cores beside a GPU that took half as long over a 1080p frame resized
/// 20,400 and 22,400 a second together when they left it whatever was sooner there, and 29,500 and
/// 36,700 when they left it none (1 and 16 clients). Between the two no other number was tried.
const TIMES_AS_SOON: f64 = 2.0;

/// A device gets on as long as a lane of it is free, or took what it is at no longer ago than so many
/// times what it takes over a frame of the stream: then one is about to be. But lanes may be kept
/// from their cores as long as this.
const TIMES_AS_LONG: u32 = 4;
const KEPT: Duration = Duration::from_millis(2);

/// The reserve takes the frames of a device that does not get on no sooner: it was not asked for.
const RESERVED: Duration = Duration::from_secs(1);

/// How often somebody looks whether frames wait for a device that does not get on.
const LOOK: Duration = Duration::from_millis(100);

/// After so many looks in a row that found nothing waiting, nobody looks until something does.
const QUIET: u32 = 10;

impl Scheduler {
    /// The next job that a lane of this device takes.
    pub(super) fn next(&self, queue: &mut Queue, device: usize) -> Option<Job> {
        // Lanes of other devices may have ended.
        if queue.stopping || self.devices.len() == 1 {
            return queue.next(&|job| job.fits(device));
        }
        // As it is now: others' lanes go on meanwhile. The lane that asks is idle too, though it is not
        // counted.
        let mut view = self.view(queue, queue.waiting());
        view.idle[device] += 1;
        queue.next(&|job| self.takes(job, device, &view))
    }

    /// How things are, while so many wait.
    fn view(&self, queue: &Queue, waiting: usize) -> View {
        let mut view = View { serving: 0, idle: [0; MAX_DEVICES], waiting, now: Instant::now() };
        for (device, lanes) in queue.lanes.iter().enumerate() {
            view.serving |= u16::from(lanes.service.is_in()) << device;
            view.idle[device] = lanes.idle.len();
        }
        view
    }

    /// Whether a lane of this device takes the job, the first of its stream's.
    fn takes(&self, job: &Job, device: usize, view: &View) -> bool {
        if !job.fits(device) || self.devices.len() == 1 {
            return job.fits(device);
        }
        let own = view.one(job, device);
        let kept = match self.reserve == Some(device) {
            true => RESERVED,
            // Nor sooner than it would be done with the frame: it is twice as late then at the most.
            false => KEPT.max(own.unwrap_or_default()),
        };
        let others = (0..self.devices.len())
            .filter(|&other| other != device && job.fits(other))
            .filter(|&other| self.gets_on(job, other, view, kept));
        if self.reserve == Some(device) {
            return others.count() == 0;
        }
        // To learn it.
        let Some(own) = own else { return true };
        let (mut rate, mut fastest) = (0.0, Duration::MAX);
        for other in others.filter(|&other| self.reserve != Some(other)) {
            if let (Some(pace), Some(one)) = (job.pace(other, view.now), view.one(job, other)) {
                rate += self.devices[other].lanes() as f64 / pace.as_secs_f64();
                fastest = fastest.min(one);
            }
        }
        // The others clear the queue, and are done with what they are at.
        let cleared = view.waiting as f64 / rate + fastest.as_secs_f64();
        rate == 0.0 || own.as_secs_f64() <= TIMES_AS_SOON * cleared
    }

    /// The devices that would take the job, it being one of so many that wait, the one that would
    /// be done with it first, as things are, first. The reserve is the last.
    pub(super) fn order(&self, queue: &Queue, job: &Job, waiting: usize) -> Order {
        let (mut order, view) = (Order::default(), self.view(queue, waiting));
        for device in 0..self.devices.len() {
            // None takes what does not fit it.
            if !self.takes(job, device, &view) {
                order.leaving |= 1 << device;
                continue;
            }
            let takes = match view.one(job, device) {
                _ if self.reserve == Some(device) || !self.gets_on(job, device, &view, KEPT) => {
                    Duration::MAX
                }
                one => one.unwrap_or_default(),
            };
            order.insert(device, takes);
        }
        order
    }

    /// Whether a lane of the device is free for such a frame or, as far as one knows, soon will be,
    /// though it may have been kept from its core for so long.
    fn gets_on(&self, job: &Job, device: usize, view: &View, kept: Duration) -> bool {
        let takes = job.pace(device, view.now).unwrap_or_else(|| job.estimate());
        let within = takes.saturating_mul(TIMES_AS_LONG).max(kept);
        view.is_serving(device) && self.devices.gets_on(device, within, view.now)
    }

    /// Looks from time to time, until lanes end: not while nothing is pushed.
    pub(super) fn look_out(&self) {
        let mut quiet = 0;
        loop {
            thread::park_timeout(LOOK);
            let mut queue = self.queue.hold();
            if queue.stopping {
                return;
            }
            self.look(&mut queue);
            quiet = if queue.waiting() == 0 { quiet + 1 } else { 0 };
            if quiet == QUIET {
                queue = queue.await_jobs();
                if queue.stopping {
                    return;
                }
                quiet = 0;
            }
        }
    }

    /// Has idle lanes take what waits for a device that no longer gets on.
    fn look(&self, queue: &mut Held<'_>) {
        let waiting = queue.waiting();
        if let Some(order) = queue.first().map(|job| self.order(queue, job, waiting)) {
            self.call_in(queue, order, waiting);
        }
    }

    /// Calls idle lanes for as many frames, those of the first device first. Lanes that would leave
    /// them to others sleep on.
    pub(super) fn call_in(&self, queue: &mut Held<'_>, order: Order, mut wanted: usize) {
        for (device, lanes) in queue.lanes.iter_mut().enumerate() {
            lanes.leaves = order.leaving >> device & 1 == 1;
        }
        for &(device, _) in &order.devices[..order.len] {
            wanted -= queue.call(device, wanted);
        }
    }

    /// A lane of this device leaves what waits to others: sees to it that one of the fastest is awake.
    pub(super) fn call_fastest(&self, queue: &mut Held<'_>, device: usize) {
        let Some(job) = queue.first() else { return };
        let order = self.order(queue, job, queue.waiting());
        let others = order.devices[..order.len].iter().map(|&(other, _)| other);
        if let Some(other) = others.into_iter().find(|&other| other != device) {
            queue.call(other, 1);
        }
    }
}

/// How things are when somebody asks whose a frame is.
struct View {
    /// A bit for each device that is in service.
    serving: u16,
    /// Idle lanes of each.
    idle: [usize; MAX_DEVICES],
    /// Frames that wait.
    waiting: usize,
    now: Instant,
}

impl View {
    const fn is_serving(&self, device: usize) -> bool {
        self.serving >> device & 1 == 1
    }

    /// What the device would take for one of the frames, cut for its idle lanes; `None`: nobody knows.
    fn one(&self, job: &Job, device: usize) -> Option<Duration> {
        let idle = self.idle[device] / self.waiting.max(1);
        let bands = job.worth(device).min(idle as u32).max(1);
        job.pace(device, self.now).map(|pace| pace / bands)
    }
}

/// Devices, and how soon they would be done.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// A bit for each of those that would leave the frame to others.
    leaving: u16,
    devices: [(usize, Duration); MAX_DEVICES],
    len: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self { leaving: 0, devices: [(0, Duration::ZERO); MAX_DEVICES], len: 0 }
    }
}

impl Order {
    /// Whether no device does the job, now or later.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn insert(&mut self, device: usize, takes: Duration) {
        let before = |&(_, other): &(usize, Duration)| other <= takes;
        let place = self.devices[..self.len].iter().take_while(|other| before(other)).count();
        self.devices.copy_within(place..self.len, place + 1);
        self.devices[place] = (device, takes);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests;
