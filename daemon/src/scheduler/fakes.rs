//! Owns what the tests of the scheduler's files share: devices that take their time, fail or panic,
//! and somebody who keeps what was completed.

use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Backing, Completion, Filter, Status, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{RingLayout, SlotMemory};

use super::*;
use crate::device::{Band, DeviceError, Fault, Preparation, Resizer, Scratch};
use crate::job::{Invitation, Owner, Pressure, Sink, Stream};
use crate::metrics::{Gauge, Metrics};
use crate::quota::{Accounts, Limits};
use crate::until::{DEADLINE, until};

impl Scheduler {
    /// The same, before it has lanes, whose devices are stuck after this.
    pub(crate) fn with_patience(self: Arc<Self>, patience: Duration) -> Arc<Self> {
        let Some(mut scheduler) = Arc::into_inner(self) else { panic!("it is in use") };
        let Some(devices) = Arc::get_mut(&mut scheduler.devices) else { panic!("they are in use") };
        devices.patience = patience;
        Arc::new(scheduler)
    }
}

/// Keeps what was completed.
#[derive(Default)]
pub(super) struct Ledger {
    completed: Mutex<Vec<Completion>>,
    more: Condvar,
}

impl Sink for Ledger {
    fn completed(&self, completion: Completion, _: Pressure, _: &AtomicBool) {
        self.completed.lock().unwrap().push(completion);
        self.more.notify_all();
    }
}

impl Ledger {
    pub(super) fn completed(&self) -> Vec<Completion> {
        self.completed.lock().unwrap().clone()
    }

    #[track_caller]
    pub(super) fn await_completions(&self, count: usize) -> Vec<Completion> {
        let completed = self.completed.lock().unwrap();
        let too_few = |completed: &mut Vec<_>| completed.len() < count;
        let waited = self.more.wait_timeout_while(completed, DEADLINE, too_few);
        let completed = waited.unwrap().0.clone();
        assert!(completed.len() >= count, "{} of {count} completed", completed.len());
        completed
    }
}

/// A device whose every frame is worth four bands. It notes the bands, and panics on frames to be
/// resized by `Nearest`: on the second band of them, if they were cut.
#[derive(Clone, Default)]
pub(super) struct Fake {
    /// Frames that it panics on before it does as it should.
    pub(super) panics: Arc<AtomicUsize>,
    pub(super) bands: Arc<Mutex<Vec<Band>>>,
    pub(super) resizing: Arc<AtomicUsize>,
    /// Bands that must be worked on at the same time before any of them ends.
    pub(super) together: usize,
    /// Held by whoever keeps crops of frames from being prepared.
    pub(super) crops: Arc<Mutex<()>>,
}

pub(super) struct FakeResizer {
    pub(super) fake: Fake,
    pub(super) nearest: bool,
}

impl Device for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn lanes(&self) -> usize {
        3
    }

    fn open(&self, spec: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        if spec.crop.is_some() {
            drop(self.crops.lock());
        }
        Ok(Box::new(FakeResizer { fake: self.clone(), nearest: spec.filter == Filter::Nearest }))
    }
}

impl Resizer for FakeResizer {
    fn worth(&self) -> u32 {
        4
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        band: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        let Fake { panics, bands, resizing, together, .. } = &self.fake;
        bands.lock().unwrap().push(band);
        resizing.fetch_add(1, Ordering::SeqCst);
        until("so many are at it together", || resizing.load(Ordering::SeqCst) >= *together);
        let first_of_several = Band::cut(3).next() == Some(band);
        let spare = |left: usize| left.checked_sub(1);
        let poisoned = self.nearest && !first_of_several;
        if poisoned && panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spare).is_ok() {
            panic!("a frame that this device panics on");
        }
        Ok(Preparation::Before)
    }
}

pub(super) fn id(number: u32) -> StreamId {
    StreamId { user: 0, client: 1, number }
}

/// Frames so small that a stream may have many.
pub(super) const SMALL: (u32, u32) = (9, 9);

pub(super) fn stream(
    devices: &Arc<Fleet>,
    number: u32,
    filter: Filter,
    from: (u32, u32),
) -> Stream {
    open(devices, number, filter, from, false).0
}

/// One whose ring is in a named segment, and the name.
pub(super) fn named_stream(devices: &Arc<Fleet>) -> (Stream, String) {
    let (stream, invitation) = open(devices, 0, Filter::Area, SMALL, true);
    let Backing::Named(name) = invitation.backing else { panic!("it has no name") };
    (stream, name)
}

fn open(
    devices: &Arc<Fleet>,
    number: u32,
    filter: Filter,
    from: (u32, u32),
    named: bool,
) -> (Stream, Invitation) {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(from.0, from.1));
    let slots = if from == SMALL { 200 } else { StreamSpec::SLOTS };
    let spec = StreamSpec { filter, slots, ..StreamSpec::new(source, Extent::new(1, 1)) };
    let (id, gauge) = (id(number), Gauge::default());
    let client = Metrics::default().connect(id.client, id.user);
    let account = Accounts::new(Limits::default(), 1, u64::MAX, []).of(id.user);
    let owner = Owner { account: &account, client: &client, counted: gauge.count() };
    let opened = Stream::open(id, &spec, named, devices, owner);
    opened.unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Jobs of one stream, for slots 0, 1, 2...
pub(super) fn jobs(stream: &Arc<Stream>, ledger: &Arc<Ledger>, count: u32) -> Vec<Job> {
    let job = |slot| {
        let sink: Arc<dyn Sink> = Arc::<Ledger>::clone(ledger);
        Job::new(Arc::clone(stream), slot, None, Instant::now(), sink)
    };
    (0..count).map(job).collect()
}

/// A job for slot 0 with a crop of its own.
pub(super) fn cropped(stream: &Arc<Stream>, ledger: &Arc<Ledger>) -> Job {
    let crop = Crop { left: 0.0, top: 0.0, width: 5.0, height: 5.0 };
    let sink: Arc<dyn Sink> = Arc::<Ledger>::clone(ledger);
    Job::new(Arc::clone(stream), 0, Some(crop), Instant::now(), sink)
}

/// Jobs come from the test alone.
pub(super) struct Nothing;

impl Intake for Nothing {
    fn turn(&self) {}
}

/// Lanes of the fake device, all asleep.
pub(super) fn idle_lanes(fake: &Fake) -> Lanes {
    lanes_of(fake, &Arc::new(Nothing))
}

pub(super) fn lanes_of(fake: &Fake, intake: &Arc<impl Intake + 'static>) -> Lanes {
    let scheduler = Scheduler::new(vec![Box::new(fake.clone())], None);
    let lanes = Lanes::start(&scheduler, intake).unwrap();
    until("all lanes sleep", || scheduler.queue.hold().lanes[0].idle.len() == 3);
    lanes
}

/// Two devices that differ in nothing but their names and what they panic on.
pub(super) fn two(first: &Fake, second: &Fake) -> Lanes {
    let scheduler = Scheduler::new(vec![Box::new(first.clone()), Box::new(second.clone())], None);
    Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap()
}

#[derive(Clone)]
pub(super) struct Timed {
    pub(super) name: &'static str,
    pub(super) takes: Duration,
    /// Into how many bands a frame may be cut.
    pub(super) worth: u32,
    /// How often it fails before it works.
    pub(super) failures: Arc<AtomicUsize>,
    pub(super) fault: Fault,
    /// Nothing but this filter's streams.
    pub(super) only: Option<Filter>,
    /// It does not answer.
    pub(super) hangs: Arc<AtomicBool>,
    /// Threads that are no lanes may resize as well.
    pub(super) anybodys: bool,
}

impl Timed {
    pub(super) fn new(name: &'static str, takes: Duration) -> Self {
        Self {
            name,
            takes,
            worth: 1,
            failures: Arc::default(),
            fault: Fault::Lost,
            only: None,
            hangs: Arc::default(),
            anybodys: false,
        }
    }
}

impl Device for Timed {
    fn name(&self) -> &str {
        self.name
    }

    fn lanes(&self) -> usize {
        2
    }

    fn is_anybodys(&self) -> bool {
        self.anybodys
    }

    fn open(&self, spec: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        match self.only {
            Some(only) if only != spec.filter => {
                Err(DeviceError::Unsupported { device: self.name.into(), reason: "a test" })
            }
            _ => Ok(Box::new(self.clone())),
        }
    }
}

impl Resizer for Timed {
    fn worth(&self) -> u32 {
        self.worth
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        band: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        thread::sleep(self.takes * band.rows(64).len() as u32 / 64);
        until("it goes on", || !self.hangs.load(Ordering::SeqCst));
        let left = |failures: usize| failures.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            Ok(_) => Err(DeviceError::Failed { device: self.name.into(), fault: self.fault }),
            Err(_) => Ok(Preparation::Before),
        }
    }
}

/// Lanes of several devices; what waits goes through them, as many frames at once as there are slots.
pub(super) struct Several {
    pub(super) lanes: Lanes,
    pub(super) ledger: Arc<Ledger>,
    pub(super) stream: Arc<Stream>,
}

impl Several {
    pub(super) fn new(devices: &[Timed], reserve: Option<usize>, filter: Filter) -> Self {
        let boxed = |device: &Timed| Box::new(device.clone()) as Box<dyn Device>;
        let scheduler = Scheduler::new(devices.iter().map(boxed).collect(), reserve);
        let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
        let stream = Arc::new(stream(scheduler.devices(), 0, filter, SMALL));
        Self { lanes, ledger: Arc::default(), stream }
    }

    /// Frames that each device did of so many that were pushed together.
    pub(super) fn burst(&self, frames: u32) -> [usize; 2] {
        let before = self.ledger.completed().len();
        self.lanes.scheduler.push(id(0), jobs(&self.stream, &self.ledger, frames).into_iter());
        let completed = self.ledger.await_completions(before + frames as usize);
        assert!(completed.iter().all(|completion| completion.status == Status::Done));
        let count = |device| {
            completed[before..].iter().filter(|completion| completion.device == device).count()
        };
        [count(0), count(1)]
    }
}
