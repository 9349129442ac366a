use std::sync::atomic::AtomicUsize;

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{RingLayout, SlotMemory};

use super::*;
use crate::device::null::Null;
use crate::device::{DeviceError, Resizer};
use crate::job::{Pressure, Sink, Stream};
use crate::metrics::{Gauge, Metrics};
use crate::quota::{Accounts, Limits};

/// Keeps what was completed.
#[derive(Default)]
struct Ledger(Mutex<Vec<Completion>>);

impl Sink for Ledger {
    fn completed(&self, completion: Completion, _: Pressure, _: &AtomicBool) {
        self.0.lock().unwrap().push(completion);
    }
}

impl Ledger {
    fn await_completions(&self, count: usize) -> Vec<Completion> {
        loop {
            let completed = self.0.lock().unwrap().clone();
            if completed.len() >= count {
                return completed;
            }
            thread::yield_now();
        }
    }
}

/// A device whose every frame is worth four bands. It notes the bands, and panics on frames to be
/// resized by `Nearest`: on the second band of them, if they were cut.
#[derive(Clone, Default)]
struct Fake {
    /// Frames that it panics on before it does as it should.
    panics: Arc<AtomicUsize>,
    bands: Arc<Mutex<Vec<Band>>>,
    resizing: Arc<AtomicUsize>,
    /// Bands that must be worked on at the same time before any of them ends.
    together: usize,
}

struct FakeResizer {
    fake: Fake,
    nearest: bool,
}

impl Device for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn lanes(&self) -> usize {
        3
    }

    fn open(&self, spec: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        Ok(Box::new(FakeResizer { fake: self.clone(), nearest: spec.filter == Filter::Nearest }))
    }
}

impl Resizer for FakeResizer {
    fn worth(&self) -> u32 {
        4
    }

    fn resize(&self, _: SlotMemory<'_>, band: Band, _: &mut Scratch) -> Result<(), DeviceError> {
        let Fake { panics, bands, resizing, together } = &self.fake;
        bands.lock().unwrap().push(band);
        resizing.fetch_add(1, Ordering::SeqCst);
        while resizing.load(Ordering::SeqCst) < *together {
            thread::yield_now();
        }
        let first_of_several = Band::cut(3).next() == Some(band);
        let spare = |left: usize| left.checked_sub(1);
        let poisoned = self.nearest && !first_of_several;
        if poisoned && panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spare).is_ok() {
            panic!("a frame that this device panics on");
        }
        Ok(())
    }
}

fn id(number: u32) -> StreamId {
    StreamId { user: 0, client: 1, number }
}

/// Frames so small that a stream may have many.
const SMALL: (u32, u32) = (9, 9);

fn stream(devices: &[Box<dyn Device>], number: u32, filter: Filter, from: (u32, u32)) -> Stream {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(from.0, from.1));
    let slots = if from == SMALL { 200 } else { StreamSpec::SLOTS };
    let spec = StreamSpec { filter, slots, ..StreamSpec::new(source, Extent::new(1, 1)) };
    let (id, gauge) = (id(number), Gauge::default());
    let client = Metrics::default().connect(id.client, id.user);
    let account = Accounts::new(Limits::default(), 1, u64::MAX, []).of(id.user);
    let opened = Stream::open(id, &spec, false, devices, &account, &client, gauge.count());
    opened.unwrap_or_else(|refusal| panic!("{refusal}")).0
}

/// Jobs of one stream, for slots 0, 1, 2...
fn jobs(stream: &Arc<Stream>, ledger: &Arc<Ledger>, count: u32) -> Vec<Job> {
    let job = |slot| {
        let sink: Arc<dyn Sink> = Arc::<Ledger>::clone(ledger);
        Job::new(Arc::clone(stream), slot, None, Instant::now(), sink)
    };
    (0..count).map(job).collect()
}

/// Jobs come from the test alone.
struct Nothing;

impl Intake for Nothing {
    fn turn(&self) {}
}

/// Notes how often it was looked after.
#[derive(Default)]
struct Turns(AtomicUsize);

impl Intake for Turns {
    fn turn(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Lanes of the fake device, all asleep.
fn idle_lanes(fake: &Fake) -> Lanes {
    lanes_of(fake, &Arc::new(Nothing))
}

fn lanes_of(fake: &Fake, intake: &Arc<impl Intake + 'static>) -> Lanes {
    let scheduler = Scheduler::new(vec![Box::new(fake.clone())], None);
    let lanes = Lanes::start(&scheduler, intake).unwrap();
    while scheduler.queue.hold().lanes[0].idle.len() < 3 {
        thread::yield_now();
    }
    lanes
}

#[test]
fn a_frame_alone_is_cut_for_all_idle_lanes_and_completes_once() {
    let fake = Fake { together: 3, ..Fake::default() };
    let lanes = idle_lanes(&fake);
    let ledger = Arc::default();
    let stream = Arc::new(stream(lanes.scheduler.devices(), 5, Filter::Area, (100, 100)));
    lanes.scheduler.push(id(5), jobs(&stream, &ledger, 1).into_iter());
    ledger.await_completions(1);
    let scheduler = Arc::clone(&lanes.scheduler);
    // The lanes end here: nothing more can come.
    drop(lanes);
    let completed = ledger.await_completions(1);
    let [Completion { stream: 5, slot: 0, status: Status::Done, device: 0, .. }] = completed[..]
    else {
        panic!("{completed:?}");
    };
    let mut bands = fake.bands.lock().unwrap().clone();
    bands.sort_by_key(|band| band.rows(300).start);
    assert!(bands.into_iter().eq(Band::cut(3)));
    assert_eq!(scheduler.stats()[0].frames, 1);
}

#[test]
fn many_frames_are_not_cut_more_than_lanes_are_idle() {
    let fake = Fake::default();
    let lanes = idle_lanes(&fake);
    let ledger = Arc::default();
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Area, (100, 100)));
    for _ in 0..20 {
        lanes.scheduler.push(id(0), jobs(&stream, &ledger, 4).into_iter());
    }
    drop(lanes);
    let completed = ledger.await_completions(80);
    assert_eq!(completed.len(), 80);
    assert!(completed.iter().all(|completion| completion.status == Status::Done));
    let bands = fake.bands.lock().unwrap();
    let whole: f64 = bands.iter().map(|band| band.rows(3000).len() as f64 / 3000.0).sum();
    assert!((whole - 80.0).abs() < 1e-6, "{whole} frames' worth of bands");
}

#[test]
fn a_frame_that_a_device_panics_on_twice_fails_and_nothing_else_does() {
    let fake = Fake { panics: Arc::new(usize::MAX.into()), ..Fake::default() };
    let lanes = idle_lanes(&fake);
    let devices = lanes.scheduler.devices();
    let bad = Arc::new(stream(devices, 0, Filter::Nearest, (100, 100)));
    let good = Arc::new(stream(devices, 1, Filter::Area, (100, 100)));
    let ledger = Arc::default();
    for turn in 1..=5 {
        lanes.scheduler.push(id(0), jobs(&bad, &ledger, 2).into_iter());
        lanes.scheduler.push(id(1), jobs(&good, &ledger, 2).into_iter());
        ledger.await_completions(4 * turn);
    }
    let scheduler = Arc::clone(&lanes.scheduler);
    drop(lanes);
    let completed = ledger.await_completions(20);
    assert_eq!(completed.len(), 20);
    for completion in completed {
        let wanted = if completion.stream == 0 { Status::Failed } else { Status::Done };
        assert_eq!(completion.status, wanted);
    }
    let stats = &scheduler.stats()[0];
    assert_eq!((stats.frames, stats.failed), (10, 20));
}

/// Two devices that differ in nothing but their names and what they panic on.
fn two(first: &Fake, second: &Fake) -> Lanes {
    let scheduler = Scheduler::new(vec![Box::new(first.clone()), Box::new(second.clone())], None);
    Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap()
}

#[test]
fn a_frame_that_one_device_panics_on_is_done_by_the_other() {
    let bad = Fake { panics: Arc::new(usize::MAX.into()), ..Fake::default() };
    let lanes = two(&bad, &Fake::default());
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Nearest, (100, 100)));
    let ledger = Arc::default();
    for turn in 1..=25 {
        lanes.scheduler.push(id(0), jobs(&stream, &ledger, 4).into_iter());
        ledger.await_completions(4 * turn);
    }
    let scheduler = Arc::clone(&lanes.scheduler);
    drop(lanes);
    let completed = ledger.await_completions(100);
    assert_eq!(completed.len(), 100);
    assert!(completed.iter().all(|done| (done.status, done.device) == (Status::Done, 1)));
    let stats = scheduler.stats();
    assert_eq!((stats[0].frames, stats[1].frames, stats[1].failed), (0, 100, 0));
    assert!(stats[0].failed > 0, "the first device had no frame");
}

#[test]
fn a_device_alone_tries_again_itself() {
    let fake = Fake { panics: Arc::new(1.into()), ..Fake::default() };
    let lanes = idle_lanes(&fake);
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Nearest, (100, 100)));
    let ledger = Arc::default();
    lanes.scheduler.push(id(0), jobs(&stream, &ledger, 1).into_iter());
    assert_eq!(ledger.await_completions(1)[0].status, Status::Done);
}

#[test]
fn a_frame_that_fails_while_lanes_end_is_not_forgotten() {
    let bad = Fake { panics: Arc::new(usize::MAX.into()), ..Fake::default() };
    for _ in 0..20 {
        let lanes = two(&bad, &bad);
        let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Nearest, (100, 100)));
        let ledger = Arc::default();
        lanes.scheduler.push(id(0), jobs(&stream, &ledger, 4).into_iter());
        drop(lanes);
        let completed = ledger.await_completions(4);
        assert!(completed.iter().all(|done| done.status == Status::Failed));
    }
}

/// Lanes that all are at a frame and have `more` waiting, and where those complete. They go on once
/// `resizing` is raised.
fn busy_lanes(fake: &Fake, intake: &Arc<impl Intake + 'static>, more: u32) -> (Lanes, Arc<Ledger>) {
    let lanes = lanes_of(fake, intake);
    let ledger = Arc::default();
    let stream = stream(lanes.scheduler.devices(), 0, Filter::Area, (100, 100));
    lanes.scheduler.push(id(0), jobs(&Arc::new(stream), &ledger, 3 + more).into_iter());
    while fake.resizing.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    (lanes, ledger)
}

#[test]
fn lanes_look_after_the_intake_while_its_thread_rests() {
    let fake = Fake { together: 4, ..Fake::default() };
    let intake = Arc::new(Turns::default());
    let (lanes, ledger) = busy_lanes(&fake, &intake, 3);
    assert!(lanes.scheduler.is_sated());
    // As `rest` would have it, but without an end of its own.
    {
        let mut queue = lanes.scheduler.queue.hold();
        (queue.resting, queue.attended) = (true, Some(Instant::now()));
    }
    fake.resizing.fetch_add(1, Ordering::SeqCst);
    ledger.await_completions(6);
    // A lane that finds nothing more to do ends the rest.
    while lanes.scheduler.queue.hold().resting {
        thread::yield_now();
    }
    assert!(intake.0.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_device_that_is_stuck_can_be_told_from_one_that_is_busy_or_idle() {
    let fake = Fake { together: 4, ..Fake::default() };
    let (lanes, ledger) = busy_lanes(&fake, &Arc::new(Nothing), 0);
    let scheduler = &lanes.scheduler;
    let later = Instant::now() + 2 * PATIENCE;
    assert_eq!((scheduler.stuck(Instant::now()), scheduler.stuck(later)), (None, Some(0)));
    fake.resizing.fetch_add(1, Ordering::SeqCst);
    ledger.await_completions(3);
    while scheduler.stuck(later).is_some() {
        thread::yield_now();
    }
}

#[test]
fn one_stuck_lane_is_seen_whatever_the_others_do() {
    let lanes = idle_lanes(&Fake::default());
    let scheduler = &lanes.scheduler;
    let due = |lane: usize, at: u64| scheduler.due[0][lane].store(at, Ordering::Relaxed);
    let now = nanoseconds(scheduler.begun.elapsed());
    // Lanes that sleep leave it as it is.
    due(0, NEVER - 1);
    due(1, now);
    let later = scheduler.begun + Duration::from_nanos(now + 1);
    assert_eq!(scheduler.stuck(later), Some(0));
    due(1, NEVER);
    assert_eq!(scheduler.stuck(later), None);
}

#[test]
fn a_frame_that_takes_long_has_its_time() {
    let lanes = idle_lanes(&Fake { together: 1, ..Fake::default() });
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Bicubic, (9999, 1)));
    let job = &jobs(&stream, &Arc::default(), 1)[0];
    assert!(job.takes() < Duration::from_millis(1));
    job.note_pace(0, Duration::from_secs(40));
    let takes = job.takes();
    assert!((Duration::from_secs(39)..Duration::from_secs(41)).contains(&takes), "{takes:?}");
}

#[test]
fn a_rest_ends_while_frames_take_long_and_none_begins() {
    let fake = Fake { together: 4, ..Fake::default() };
    let intake = Arc::new(Turns::default());
    let (lanes, ledger) = busy_lanes(&fake, &intake, 3);
    let begun = Instant::now();
    lanes.scheduler.rest();
    assert!(begun.elapsed() >= UNATTENDED, "it did not rest");
    // Not again before a lane takes a frame.
    assert!(!lanes.scheduler.is_sated());
    fake.resizing.fetch_add(1, Ordering::SeqCst);
    ledger.await_completions(6);
    assert!(!lanes.scheduler.queue.hold().overdue);
    assert_eq!(intake.0.load(Ordering::SeqCst), 0);
}

/// A device that takes so long over a frame.
#[derive(Clone)]
struct Timed {
    name: &'static str,
    takes: Duration,
    /// Into how many bands a frame may be cut.
    worth: u32,
    /// How often it fails before it works.
    failures: Arc<AtomicUsize>,
    fault: Fault,
    /// Nothing but this filter's streams.
    only: Option<Filter>,
}

impl Timed {
    fn new(name: &'static str, takes: Duration) -> Self {
        Self { name, takes, worth: 1, failures: Arc::default(), fault: Fault::Lost, only: None }
    }
}

impl Device for Timed {
    fn name(&self) -> &str {
        self.name
    }

    fn lanes(&self) -> usize {
        2
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

    fn resize(&self, _: SlotMemory<'_>, band: Band, _: &mut Scratch) -> Result<(), DeviceError> {
        thread::sleep(self.takes * band.rows(64).len() as u32 / 64);
        let left = |failures: usize| failures.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            Ok(_) => Err(DeviceError::Failed { device: self.name.into(), fault: self.fault }),
            Err(_) => Ok(()),
        }
    }
}

/// Lanes of several devices; what waits goes through them, as many frames at once as there are slots.
struct Several {
    lanes: Lanes,
    ledger: Arc<Ledger>,
    stream: Arc<Stream>,
}

impl Several {
    fn new(devices: &[Timed], reserve: Option<usize>, filter: Filter) -> Self {
        let boxed = |device: &Timed| Box::new(device.clone()) as Box<dyn Device>;
        let scheduler = Scheduler::new(devices.iter().map(boxed).collect(), reserve);
        let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
        let stream = Arc::new(stream(scheduler.devices(), 0, filter, SMALL));
        Self { lanes, ledger: Arc::default(), stream }
    }

    /// Frames that each device did of so many that were pushed together.
    fn burst(&self, frames: u32) -> [usize; 2] {
        let before = self.ledger.0.lock().unwrap().len();
        self.lanes.scheduler.push(id(0), jobs(&self.stream, &self.ledger, frames).into_iter());
        let completed = self.ledger.await_completions(before + frames as usize);
        assert!(completed.iter().all(|completion| completion.status == Status::Done));
        let count = |device| {
            completed[before..].iter().filter(|completion| completion.device == device).count()
        };
        [count(0), count(1)]
    }
}

#[test]
fn a_slow_device_takes_what_would_wait_longer_for_a_fast_one_and_no_last_frames() {
    let (slow, fast) = (Duration::from_millis(200), Duration::from_millis(4));
    let several =
        Several::new(&[Timed::new("slow", slow), Timed::new("fast", fast)], None, Filter::Area);
    // Until both are known.
    several.burst(20);
    // Two lanes of 4 ms are done with these before one of 200 ms is done with one.
    assert_eq!(several.burst(8), [0, 8]);
    assert_eq!(several.burst(1), [0, 1]);
    let [slow, fast] = several.burst(200);
    assert!(slow > 0 && fast > 10 * slow, "{slow} {fast}");
}

/// Two lanes of 40 ms would be done with three frames in 100 ms: hardly sooner than one of 105 with one.
#[test]
fn a_frame_is_not_left_to_who_is_done_with_it_hardly_sooner() {
    let [slow, fast] = [105, 40].map(Duration::from_millis);
    let devices = [Timed::new("slow", slow), Timed::new("fast", fast)];
    let several = Several::new(&devices, None, Filter::Area);
    several.burst(12);
    let by_slow: usize = (0..5).map(|_| several.burst(3)[0]).sum();
    assert!(by_slow > 0, "{by_slow}");
}

/// A device of more lanes than are called at once.
struct Many;

impl Device for Many {
    fn name(&self) -> &str {
        "many"
    }

    fn lanes(&self) -> usize {
        2 * held::MOST
    }

    fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        unreachable!()
    }
}

#[test]
fn all_who_are_called_wake_however_many_they_are() {
    let scheduler = Scheduler::new(vec![Box::new(Many)], None);
    let _lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let await_sleep = || {
        while scheduler.queue.hold().lanes[0].idle.len() < Many.lanes() {
            thread::yield_now();
        }
    };
    await_sleep();
    assert_eq!(scheduler.queue.hold().call(0, usize::MAX), Many.lanes());
    // Only who has woken sleeps again.
    await_sleep();
}

#[test]
fn the_thread_that_rests_is_woken_when_it_is_called() {
    let scheduler = Scheduler::new(Vec::new(), None);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut queue = scheduler.queue.hold();
            (queue.resting, queue.intake) = (true, Some(thread::current()));
            while queue.resting {
                queue = queue.sleep(Duration::from_secs(3600));
            }
        });
        while scheduler.queue.hold().intake.is_none() {
            thread::yield_now();
        }
        scheduler.queue.hold().call_intake();
    });
}

/// Cut for two, it is done sooner than by the device that takes less over a whole one.
#[test]
fn idle_lanes_that_share_a_frame_do_not_leave_it_to_a_device_that_takes_longer_than_all_of_them() {
    let (whole, other) = (Duration::from_millis(70), Duration::from_millis(40));
    let cores = Timed { worth: 2, ..Timed::new("cores", whole) };
    let several = Several::new(&[cores, Timed::new("other", other)], None, Filter::Area);
    several.burst(12);
    let by_cores: usize = (0..10).map(|_| several.burst(1)[0]).sum();
    assert!(by_cores > 5, "{by_cores}");
}

#[test]
fn a_frame_that_a_device_fails_at_goes_elsewhere_and_the_device_is_left_alone() {
    let bad = Timed::new("bad", Duration::from_micros(100));
    bad.failures.store(usize::MAX, Ordering::SeqCst);
    let good = Timed::new("good", Duration::from_millis(1));
    let several = Several::new(&[bad, good], None, Filter::Area);
    for _ in 0..5 {
        assert_eq!(several.burst(10), [0, 10]);
    }
    // Both lanes may have been at a frame when the first failed.
    let stats = several.lanes.scheduler.stats();
    assert!((1..=2).contains(&stats[0].failed), "{}", stats[0].failed);
    assert_eq!((stats[0].frames, stats[1].frames, stats[1].failed), (0, 50, 0));
    assert!(!several.lanes.scheduler.queue.hold().lanes[0].service.is_in());
}

/// A device that does not answer for its first frame, and is at it until it is let go on.
#[derive(Clone, Default)]
struct Hanging {
    /// The slot of that frame, once there is one.
    at: Arc<OnceLock<u32>>,
    /// Somebody waits for it.
    awaited: Arc<AtomicBool>,
    goes_on: Arc<AtomicBool>,
}

impl Device for Hanging {
    fn name(&self) -> &str {
        "hanging"
    }

    fn lanes(&self) -> usize {
        2
    }

    fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        Ok(Box::new(self.clone()))
    }

    fn revive(&self) -> Result<(), DeviceError> {
        if self.goes_on.load(Ordering::SeqCst) { Ok(()) } else { Err(self.fault()) }
    }
}

impl Hanging {
    fn fault(&self) -> DeviceError {
        DeviceError::Failed { device: self.name().to_owned(), fault: Fault::TimedOut }
    }
}

impl Resizer for Hanging {
    fn worth(&self) -> u32 {
        1
    }

    fn resize(&self, slot: SlotMemory<'_>, _: Band, _: &mut Scratch) -> Result<(), DeviceError> {
        if self.at.set(slot.slot()).is_ok() { Err(self.fault()) } else { Ok(()) }
    }

    fn settle(&self, slot: u32) {
        assert_eq!(self.at.get(), Some(&slot));
        self.awaited.store(true, Ordering::SeqCst);
        while !self.goes_on.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }
}

#[test]
fn a_slot_that_a_device_may_still_write_is_nobodys_until_it_is_done_with_it() {
    let hanging = Hanging::default();
    let other = Timed::new("other", Duration::from_micros(100));
    let devices: Vec<Box<dyn Device>> = vec![Box::new(hanging.clone()), Box::new(other)];
    let scheduler = Scheduler::new(devices, None);
    let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
    let ledger = Arc::<Ledger>::default();
    let mut pushed = 0;
    while !hanging.awaited.load(Ordering::SeqCst) && pushed < 200 {
        let job = jobs(&stream, &ledger, pushed + 1).split_off(pushed as usize);
        scheduler.push(id(0), job.into_iter());
        ledger.await_completions(pushed.saturating_sub(1) as usize);
        pushed += 1;
    }
    let pushed = pushed as usize;
    while !hanging.awaited.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    let held = *hanging.at.get().unwrap();
    // All others are done.
    let completed = ledger.await_completions(pushed - 1);
    assert!(completed.iter().all(|done| done.status == Status::Done && done.slot != held));
    assert_eq!(completed.len(), pushed - 1);
    assert!(!scheduler.queue.hold().lanes[0].service.is_in());
    // Who watches over the lanes sees it.
    let later = Instant::now() + Duration::from_secs(3600);
    assert_eq!(scheduler.stuck(later), Some(0));
    hanging.goes_on.store(true, Ordering::SeqCst);
    let last = ledger.await_completions(pushed)[pushed - 1];
    assert_eq!((last.slot, last.status), (held, Status::Done));
    drop(lanes);
    assert_eq!(ledger.await_completions(pushed).len(), pushed);
}

#[test]
fn a_device_that_has_no_room_for_a_stream_stays_in_service_for_others() {
    for fault in [Fault::Memory, Fault::Refused] {
        let full = Timed { fault, ..Timed::new("full", Duration::from_micros(100)) };
        full.failures.store(usize::MAX, Ordering::SeqCst);
        let other = Timed::new("other", Duration::from_millis(1));
        let several = Several::new(&[full, other], None, Filter::Area);
        for _ in 0..3 {
            assert_eq!(several.burst(10), [0, 10]);
        }
        let scheduler = &several.lanes.scheduler;
        assert!((1..=2).contains(&scheduler.stats()[0].failed));
        assert!(scheduler.queue.hold().lanes[0].service.is_in());
    }
}

#[test]
fn a_device_that_failed_is_tried_again() {
    let once = Timed::new("once", Duration::ZERO);
    once.failures.store(1, Ordering::SeqCst);
    let slow = Timed::new("slow", Duration::from_millis(20));
    let several = Several::new(&[once, slow], None, Filter::Area);
    several.burst(10);
    while !several.lanes.scheduler.queue.hold().lanes[0].service.is_in() {
        several.burst(2);
    }
    assert!(several.burst(40)[0] > 0);
}

#[test]
fn a_frame_that_no_device_is_left_for_fails_alone() {
    let bad = Timed::new("bad", Duration::ZERO);
    // It tries once more, a second later.
    bad.failures.store(2, Ordering::SeqCst);
    let several = Several::new(&[bad], None, Filter::Area);
    let scheduler = &several.lanes.scheduler;
    scheduler.push(id(0), jobs(&several.stream, &several.ledger, 1).into_iter());
    assert_eq!(several.ledger.await_completions(1)[0].status, Status::Failed);
    scheduler.push(id(0), jobs(&several.stream, &several.ledger, 1).into_iter());
    // Also if it is still out of service when the lanes end.
    drop(several.lanes);
    assert_eq!(several.ledger.await_completions(2)[1].status, Status::Done);
}

#[test]
fn what_a_device_can_not_do_is_not_offered_to_it() {
    let picky = Timed { only: Some(Filter::Area), ..Timed::new("picky", Duration::ZERO) };
    let any = Timed::new("any", Duration::from_millis(1));
    let several = Several::new(&[picky.clone(), any.clone()], None, Filter::Bilinear);
    assert_eq!(several.burst(30), [0, 30]);
    let several = Several::new(&[picky, any], None, Filter::Area);
    assert!(several.burst(30)[0] > 0);
}

#[test]
fn the_reserve_takes_only_what_no_other_can() {
    let reserve = Timed::new("reserve", Duration::ZERO);
    let slow = Timed { only: Some(Filter::Area), ..Timed::new("slow", Duration::from_millis(2)) };
    let several = Several::new(&[reserve.clone(), slow.clone()], Some(0), Filter::Area);
    assert_eq!(several.burst(20), [0, 20]);
    slow.failures.store(1, Ordering::SeqCst);
    let [reserve_did, _] = several.burst(20);
    assert!(reserve_did > 0);
    let several = Several::new(&[reserve, slow], Some(0), Filter::Bilinear);
    assert_eq!(several.burst(20), [20, 0]);
}

#[test]
fn who_brings_jobs_does_the_small_ones_alone() {
    let scheduler = Scheduler::new(vec![Box::new(Null)], None);
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
    let ledger = Arc::<Ledger>::default();
    let cropped = |slot| {
        let crop = Crop { left: 0.0, top: 0.0, width: 5.0, height: 5.0 };
        let sink: Arc<dyn Sink> = Arc::<Ledger>::clone(&ledger);
        Job::new(Arc::clone(&stream), slot, Some(crop), Instant::now(), sink)
    };
    // The third is small again, but not before the second.
    let mut all = jobs(&stream, &ledger, 3);
    all[1] = cropped(1);
    scheduler.push(id(0), all.into_iter());
    assert_eq!((ledger.await_completions(1).len(), scheduler.waiting()), (1, 2));
}
