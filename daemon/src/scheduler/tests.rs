//! Lanes over one queue, and devices that do as a test says ([`fakes`](super::fakes)).

use std::sync::atomic::{AtomicUsize, Ordering};

use resized_protocol::message::{Completion, Filter, Status};

use super::fakes::*;
use super::*;
use crate::device::Band;
use crate::until::until;

#[derive(Default)]
struct Turns(AtomicUsize);

impl Intake for Turns {
    fn turn(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
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

/// One lane prepares a crop that a frame brings. Others would only wait for it, and are free for
/// other frames instead.
#[test]
fn lanes_do_other_frames_while_a_crop_is_prepared() {
    let fake = Fake::default();
    let lanes = idle_lanes(&fake);
    let ledger = Arc::default();
    let [detector, other] =
        [0, 1].map(|n| Arc::new(stream(lanes.scheduler.devices(), n, Filter::Area, (100, 100))));
    let preparing = fake.crops.lock().unwrap();
    lanes.scheduler.push(id(0), [cropped(&detector, &ledger)].into_iter());
    until("a lane is at it", || lanes.scheduler.waiting() == 0);
    lanes.scheduler.push(id(1), jobs(&other, &ledger, 1).into_iter());
    let before = ledger.await_completions(1);
    drop(preparing);
    assert_eq!(before.iter().map(|done| done.stream).collect::<Vec<_>>(), [1]);
    ledger.await_completions(2);
}

#[test]
fn a_frame_whose_crop_is_prepared_is_cut_like_any_other() {
    let fake = Fake { together: 3, ..Fake::default() };
    let lanes = idle_lanes(&fake);
    let ledger = Arc::default();
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Area, (100, 100)));
    let job = cropped(&stream, &ledger);
    assert_eq!(job.worth(0), 1);
    job.prepare(&fake, 0).unwrap();
    assert_eq!(job.worth(0), 4);
    lanes.scheduler.push(id(0), [cropped(&stream, &ledger)].into_iter());
    ledger.await_completions(1);
    assert_eq!(fake.bands.lock().unwrap().len(), 3);
}

#[test]
fn a_frame_that_nobody_wants_any_more_wakes_nobody() {
    let scheduler = Scheduler::new(vec![Box::new(Fake::default())], None);
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, (100, 100)));
    stream.take(1);
    stream.cancel(1);
    for (job, called) in jobs(&stream, &Arc::default(), 2).into_iter().zip([2, 0]) {
        let mut queue = scheduler.queue.hold();
        queue.lanes[0].idle = idle::Idle::new(3, &[]);
        (0..2).for_each(|lane| queue.lanes[0].idle.sleep(lane));
        queue.lanes[0].bands.clear();
        let task = scheduler.begin(&mut queue, job, 0);
        let lanes = &queue.lanes[0];
        assert_eq!((lanes.bands.len(), lanes.idle.len()), (called, 2 - called));
        assert_eq!(task.band == Band::WHOLE, called == 0);
    }
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

/// Lanes that all are at a frame and have `more` waiting, and where those complete. They go on once
/// `resizing` is raised.
fn busy_lanes(fake: &Fake, intake: &Arc<impl Intake + 'static>, more: u32) -> (Lanes, Arc<Ledger>) {
    let lanes = lanes_of(fake, intake);
    let ledger = Arc::default();
    let stream = stream(lanes.scheduler.devices(), 0, Filter::Area, (100, 100));
    lanes.scheduler.push(id(0), jobs(&Arc::new(stream), &ledger, 3 + more).into_iter());
    until("all lanes are at a frame", || fake.resizing.load(Ordering::SeqCst) == 3);
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
    until("the rest is over", || !lanes.scheduler.queue.hold().resting);
    assert!(intake.0.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_device_that_is_stuck_can_be_told_from_one_that_is_busy_or_idle() {
    let fake = Fake { together: 4, ..Fake::default() };
    let (lanes, ledger) = busy_lanes(&fake, &Arc::new(Nothing), 0);
    let scheduler = &lanes.scheduler;
    let later = Instant::now() + Duration::from_secs(3600);
    assert_eq!(
        (scheduler.devices().stuck(Instant::now()), scheduler.devices().stuck(later)),
        (None, Some(0))
    );
    fake.resizing.fetch_add(1, Ordering::SeqCst);
    ledger.await_completions(3);
    until("it is not stuck", || scheduler.devices().stuck(later).is_none());
}

#[test]
fn a_frame_that_takes_long_has_its_time() {
    let lanes = idle_lanes(&Fake { together: 1, ..Fake::default() });
    let stream = Arc::new(stream(lanes.scheduler.devices(), 0, Filter::Bicubic, (9999, 1)));
    let job = &jobs(&stream, &Arc::default(), 1)[0];
    assert!(job.estimate() < Duration::from_millis(1));
    job.note_pace(0, Duration::from_secs(40), Instant::now());
    let estimate = job.estimate();
    assert!((Duration::from_secs(39)..Duration::from_secs(41)).contains(&estimate), "{estimate:?}");
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
