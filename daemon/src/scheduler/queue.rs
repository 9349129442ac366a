//! Owns what the scheduler's lock guards: the jobs that wait, which lanes sleep, which devices are in
//! service, and whether the intake rests.
//!
//! Knows devices by their numbers, and wakes nobody. Invariant: a job that waits is in one place,
//! in the fair queue or among those on which devices failed, until it is taken or withdrawn.

use std::collections::VecDeque;
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::fair::Fair;
use super::frame::Task;
use super::idle::Idle;
use super::service::Service;
use crate::device::Device;
use crate::job::{Job, Pressure, StreamId};

/// What waits, and who waits for it.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) fair: Fair,
    /// Jobs on which devices failed.
    pub(super) again: VecDeque<Job>,
    /// In the order of the devices.
    pub(super) lanes: Vec<DeviceLanes>,
    /// Lanes of all devices.
    lane_count: usize,
    /// The thread of the intake rests: lanes look after it.
    pub(super) resting: bool,
    /// The intake's thread, for who ends its rest.
    pub(super) intake: Option<Thread>,
    /// No lane did for so long that its thread stays awake until one takes a frame.
    pub(super) overdue: bool,
    /// When one last did.
    pub(super) attended: Option<Instant>,
    /// The thread that looks whether devices get on, while it rests since nothing waits.
    pub(super) lookout: Option<Thread>,
    /// Nothing more will be pushed: lanes end when nothing waits.
    pub(super) stopping: bool,
}

/// The lanes of a device.
pub(super) struct DeviceLanes {
    pub(super) idle: Idle,
    /// They would leave what waits to others, as things were when one of them last looked or a job
    /// was last pushed: that job's, where streams differ.
    pub(super) leaves: bool,
    /// Bands of frames that a lane of this device has begun.
    pub(super) bands: VecDeque<Task>,
    pub(super) service: Service,
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
    pub(super) fn new(devices: &[Box<dyn Device>]) -> Self {
        Self {
            lanes: devices.iter().map(|device| DeviceLanes::new(&**device)).collect(),
            lane_count: devices.iter().map(|device| device.lanes()).sum(),
            ..Self::default()
        }
    }

    /// Whether every lane has work, none of it has taken long so far, and as much again waits.
    pub(super) fn is_sated(&self) -> bool {
        let idle = self.lanes.iter().any(|lanes| lanes.idle.len() > 0 && !lanes.leaves);
        !idle && !self.overdue && !self.stopping && self.waiting() >= self.lane_count
    }

    /// What waits when a frame of this user's is done.
    pub(super) fn pressure(&self, user: u32) -> Pressure {
        if !self.is_sated() {
            Pressure::None
        } else if self.fair.is_in_company(user) {
            Pressure::InCompany
        } else {
            Pressure::Sated
        }
    }

    /// Whether lanes may soon find nothing to do.
    pub(super) fn is_low(&self) -> bool {
        !self.is_sated() || self.waiting() <= 2 * self.lane_count
    }

    /// Time since somebody looked after the intake.
    pub(super) fn unattended(&self) -> Duration {
        self.attended.map_or(Duration::MAX, |attended| attended.elapsed())
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.fair.waiting() + self.again.len()
    }

    /// Takes back those jobs of a stream that are `meant`. The others stay where they were: one on which a
    /// device failed may be of a stream that is over, which the fair queue would not forget again.
    pub(super) fn withdraw(
        &mut self,
        stream: StreamId,
        meant: impl Fn(&Job) -> bool,
    ) -> VecDeque<Job> {
        let waiting = self.fair.withdraw(stream).into_iter();
        let (mut withdrawn, kept) = waiting.partition::<VecDeque<_>, _>(&meant);
        self.fair.push(stream, kept.into_iter());
        let is_meant = |job: &Job| job.stream() == stream && meant(job);
        let (failed, kept) = self.again.drain(..).partition::<VecDeque<_>, _>(is_meant);
        self.again = kept;
        withdrawn.extend(failed);
        withdrawn
    }

    /// The next job of those that are wanted: first those on which devices failed.
    pub(super) fn next(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<Job> {
        let again = self.again.iter().position(wanted);
        again.and_then(|index| self.again.remove(index)).or_else(|| self.fair.next(wanted))
    }

    /// The job whose turn it is.
    pub(super) fn first(&self) -> Option<&Job> {
        self.again.front().or_else(|| self.fair.first())
    }
}
