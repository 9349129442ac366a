//! Devices that fail, panic, hang and come back, with lanes of their own: every frame completes, and once.

use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use resized_protocol::message::{Filter, Status, StreamSpec};
use resized_protocol::shm::{Region, RingLayout, SlotMemory, guard_regions};

use super::super::Lanes;
use super::super::fakes::{
    Fake, Ledger, Nothing, SMALL, Several, Timed, id, idle_lanes, jobs, named_stream, stream, two,
};
use super::*;
use crate::device::null::Null;
use crate::device::{Device, Preparation, Resizer};
use crate::until::until;

#[test]
fn lanes_that_wait_for_the_return_of_their_device_end_when_asked_to() {
    let scheduler = Scheduler::new(vec![Box::new(Null)], None);
    let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let out = Instant::now() + Duration::from_secs(1000);
    scheduler.queue.hold().lanes[0].service.fail(out, out);
    // Has it look, if it slept already.
    scheduler.queue.hold().call(0, usize::MAX);
    thread::sleep(Duration::from_millis(50));
    drop(lanes);
    assert!(Instant::now() < out, "it waited for the device");
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

#[test]
fn a_frame_that_one_device_panics_on_is_done_by_the_other() {
    let bad = Fake { panics: Arc::new(usize::MAX.into()), ..Fake::default() };
    let lanes = two(&bad, &Fake::default());
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Nearest, (100, 100)));
    let ledger = Arc::default();
    let mut pushed = 0;
    // The other may be done with all of them before the first device's lanes are awake.
    until("the first device had a frame", || {
        lanes.scheduler.push(id(0), jobs(&stream, &ledger, 4).into_iter());
        pushed += 4;
        ledger.await_completions(pushed);
        lanes.scheduler.stats()[0].failed > 0
    });
    let scheduler = Arc::clone(&lanes.scheduler);
    drop(lanes);
    let completed = ledger.await_completions(pushed);
    assert_eq!(completed.len(), pushed);
    assert!(completed.iter().all(|done| (done.status, done.device) == (Status::Done, 1)));
    let stats = scheduler.stats();
    assert_eq!((stats[0].frames, stats[1].frames, stats[1].failed), (0, pushed as u64, 0));
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

#[derive(Clone, Default)]
struct Hanging {
    /// The slot of that frame, once there is one.
    at: Arc<OnceLock<u32>>,
    /// Somebody waits for it.
    awaited: Arc<AtomicBool>,
    goes_on: Arc<AtomicBool>,
    /// It is at a copy of that frame, which nobody waits for.
    copies: bool,
    /// Of one of its streams.
    region: Option<Arc<Region>>,
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
    fn attach(&mut self, region: &Arc<Region>) -> Result<(), DeviceError> {
        self.region = Some(Arc::clone(region));
        Ok(())
    }

    fn worth(&self) -> u32 {
        1
    }

    fn resize(
        &self,
        slot: SlotMemory<'_>,
        _: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        // Touches it.
        self.region.iter().for_each(|region| region.populate());
        if self.at.set(slot.slot()).is_ok() { Err(self.fault()) } else { Ok(Preparation::Before) }
    }

    fn settle(&self, slot: u32) {
        assert_eq!(self.at.get(), Some(&slot));
        self.awaited.store(true, Ordering::SeqCst);
        until("it goes on", || self.copies || self.goes_on.load(Ordering::SeqCst));
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
    until("it is waited for", || hanging.awaited.load(Ordering::SeqCst));
    let held = *hanging.at.get().unwrap();
    // All others are done.
    let completed = ledger.await_completions(pushed - 1);
    assert!(completed.iter().all(|done| done.status == Status::Done && done.slot != held));
    assert_eq!(completed.len(), pushed - 1);
    assert!(!scheduler.queue.hold().lanes[0].service.is_in());
    // Who watches over the lanes sees it.
    let later = Instant::now() + Duration::from_secs(3600);
    assert_eq!(scheduler.devices().stuck(later), Some(0));
    hanging.goes_on.store(true, Ordering::SeqCst);
    let last = ledger.await_completions(pushed)[pushed - 1];
    assert_eq!((last.slot, last.status), (held, Status::Done));
    drop(lanes);
    assert_eq!(ledger.await_completions(pushed).len(), pushed);
}

#[test]
fn a_slot_whose_memory_is_lost_is_not_given_back_either_while_a_device_is_at_it() {
    guard_regions().unwrap();
    let hanging = Hanging::default();
    let scheduler = Scheduler::new(vec![Box::new(hanging.clone())], None);
    let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let (stream, name) = named_stream(scheduler.devices());
    let segment = Path::new("/dev/shm").join(name.trim_start_matches('/'));
    File::options().write(true).open(segment).unwrap().set_len(0).unwrap();
    let ledger = Arc::<Ledger>::default();
    scheduler.push(id(0), jobs(&Arc::new(stream), &ledger, 1).into_iter());
    until("it is waited for", || hanging.awaited.load(Ordering::SeqCst));
    assert!(ledger.completed().is_empty());
    assert!(!scheduler.queue.hold().lanes[0].service.is_in());
    hanging.goes_on.store(true, Ordering::SeqCst);
    assert_eq!(ledger.await_completions(1)[0].status, Status::Failed);
    drop(lanes);
}

#[test]
fn a_device_that_never_answers_is_seen_though_no_lane_waits_for_it() {
    let hanging = Hanging { copies: true, ..Hanging::default() };
    let scheduler = Scheduler::new(vec![Box::new(hanging.clone())], None);
    let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
    let ledger = Arc::<Ledger>::default();
    scheduler.push(id(0), jobs(&stream, &ledger, 1).into_iter());
    until("it is out of service", || !scheduler.queue.hold().lanes[0].service.is_in());
    let later = Instant::now() + Duration::from_secs(3600);
    let is_stuck = || scheduler.devices().stuck(later) == Some(0);
    // For longer than it is asked whether it is back.
    let stays_stuck = || (0..20).all(|_| (thread::sleep(Duration::from_millis(1)), is_stuck()).1);
    until("it is stuck", stays_stuck);
    assert_eq!(scheduler.devices().stuck(Instant::now()), None);
    hanging.goes_on.store(true, Ordering::SeqCst);
    ledger.await_completions(1);
    until("it is not stuck", || !is_stuck());
    drop(lanes);
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
fn a_frame_on_which_a_device_failed_is_no_reason_to_keep_a_stream_that_is_over() {
    let devices = ["full", "other"].map(|name| Timed::new(name, Duration::ZERO));
    let scheduler = Scheduler::new(devices.map(|device| Box::new(device) as _).into(), None);
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
    let mut jobs = jobs(&stream, &Arc::default(), 4).into_iter();
    let frame = Started::new(jobs.next().unwrap(), 0);
    frame.fault.set(Fault::Memory).unwrap();
    let completion = Completion {
        stream: 0,
        slot: 0,
        status: Status::Failed,
        device: 0,
        queued_ns: 0,
        worked_ns: 0,
    };
    scheduler.push(id(0), jobs);
    assert_eq!(scheduler.withdraw(id(0)).len(), 3);
    scheduler.failed(frame, completion, &mut Scratch::default());
    let mut queue = scheduler.queue.hold();
    assert_eq!((queue.fair.waiting(), queue.again.len()), (0, 1));
    assert!(queue.next(&|job| job.fits(1)).is_some());
    drop(queue);
}

#[test]
fn a_device_that_failed_is_tried_again() {
    let once = Timed::new("once", Duration::ZERO);
    once.failures.store(1, Ordering::SeqCst);
    let slow = Timed::new("slow", Duration::from_millis(20));
    let several = Several::new(&[once, slow], None, Filter::Area);
    several.burst(10);
    until("it is back", || {
        several.burst(2);
        several.lanes.scheduler.queue.hold().lanes[0].service.is_in()
    });
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

/// A driver that hangs over whatever is not a frame, until it is told to go on.
#[derive(Clone, Default)]
struct Stubborn {
    opens: Arc<AtomicBool>,
    attaches: Arc<AtomicBool>,
    /// It was called to come back.
    reviving: Arc<AtomicBool>,
    revives: Arc<AtomicBool>,
    /// A stream is let go of.
    closes: Arc<AtomicBool>,
}

impl Stubborn {
    fn wait(goes_on: &AtomicBool) {
        until("it goes on", || goes_on.load(Ordering::SeqCst));
    }
}

impl Device for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        Self::wait(&self.opens);
        Ok(Box::new(StubbornResizer(self.clone())))
    }

    fn revive(&self) -> Result<(), DeviceError> {
        self.reviving.store(true, Ordering::SeqCst);
        Self::wait(&self.revives);
        Ok(())
    }
}

struct StubbornResizer(Stubborn);

impl Drop for StubbornResizer {
    fn drop(&mut self) {
        Stubborn::wait(&self.0.closes);
    }
}

impl Resizer for StubbornResizer {
    fn attach(&mut self, _: &Arc<Region>) -> Result<(), DeviceError> {
        Stubborn::wait(&self.0.attaches);
        Ok(())
    }

    fn worth(&self) -> u32 {
        1
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        _: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        let (device, fault) = (self.0.name().to_owned(), Fault::Lost);
        Err(DeviceError::Failed { device, fault })
    }
}

#[test]
fn a_driver_that_hangs_over_a_stream_or_its_return_is_seen() {
    let stubborn = Stubborn::default();
    let scheduler = Scheduler::new(vec![Box::new(stubborn.clone())], None);
    let lanes = Lanes::start(&scheduler, &Arc::new(Nothing)).unwrap();
    let devices = scheduler.devices();
    let later = Instant::now() + Duration::from_secs(3600);
    assert_eq!(devices.stuck(later), None);
    let stream = thread::scope(|scope| {
        let opening = scope.spawn(|| stream(devices, 0, Filter::Area, SMALL));
        until("it is stuck", || devices.stuck(later).is_some());
        stubborn.opens.store(true, Ordering::SeqCst);
        // Still, over its ring.
        assert_eq!(devices.stuck(later), Some(0));
        stubborn.attaches.store(true, Ordering::SeqCst);
        opening.join().unwrap()
    });
    assert_eq!(devices.stuck(later), None);
    let ledger = Arc::<Ledger>::default();
    let stream = Arc::new(stream);
    scheduler.push(id(0), jobs(&stream, &ledger, 1).into_iter());
    Stubborn::wait(&stubborn.reviving);
    assert_eq!(devices.stuck(later), Some(0));
    stubborn.revives.store(true, Ordering::SeqCst);
    ledger.await_completions(1);
    drop(lanes);
    assert_eq!(devices.stuck(later), None);
    thread::scope(|scope| {
        scope.spawn(|| drop(stream));
        until("it is stuck", || devices.stuck(later) == Some(0));
        stubborn.closes.store(true, Ordering::SeqCst);
    });
    assert_eq!(devices.stuck(later), None);
}

#[test]
fn frames_of_a_stream_that_every_device_gave_up_fail_and_wait_for_nothing() {
    let full = |name| {
        let full = Timed { fault: Fault::Memory, ..Timed::new(name, Duration::from_millis(5)) };
        full.failures.store(usize::MAX, Ordering::SeqCst);
        full
    };
    let several = Several::new(&[full("one"), full("other")], None, Filter::Area);
    let scheduler = &several.lanes.scheduler;
    // Those that waited meanwhile, and those that come later.
    for turn in 1..=2 {
        let frames = jobs(&several.stream, &several.ledger, 40);
        scheduler.push(id(0), frames.into_iter());
        let completed = several.ledger.await_completions(40 * turn);
        assert!(completed.iter().all(|completion| completion.status == Status::Failed));
        assert_eq!((completed.len(), scheduler.waiting()), (40 * turn, 0));
    }
    // None of them is any device's fault but the first.
    let failed: u64 = scheduler.stats().iter().map(|stats| stats.failed).sum();
    assert!(failed <= 8, "{failed}");
}
