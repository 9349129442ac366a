//! Two devices of known pace beside what waits: which of them takes a frame, and which leaves it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use resized_protocol::message::Filter;

use super::super::fakes::{Ledger, SMALL, Several, Timed, id, jobs, stream};
use super::super::idle::Idle;
use super::*;
use crate::device::Device;
use crate::until::until;

/// Two devices without lanes' threads, which are known to take so long over frames, of which so
/// many wait.
fn known(devices: [Timed; 2], waiting: u32) -> Arc<Scheduler> {
    let boxed = |device: &Timed| Box::new(device.clone()) as Box<dyn Device>;
    let scheduler = Scheduler::new(devices.iter().map(boxed).collect(), None);
    let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
    let jobs = jobs(&stream, &Arc::<Ledger>::default(), waiting);
    for (number, device) in devices.iter().enumerate() {
        jobs[0].note_pace(number, device.takes, Instant::now());
    }
    scheduler.queue.hold().fair.push(id(0), jobs.into_iter());
    scheduler
}

/// Frames that a lane of the device would take of what waits, if no other took any.
fn taken(scheduler: &Scheduler, device: usize) -> usize {
    let mut queue = scheduler.queue.hold();
    std::iter::from_fn(|| scheduler.next(&mut queue, device)).count()
}

#[test]
fn a_slow_device_takes_what_would_wait_longer_for_a_fast_one_and_no_last_frames() {
    let [slow, fast] = [200, 4].map(Duration::from_millis);
    let scheduler = known([Timed::new("slow", slow), Timed::new("fast", fast)], 60);
    // Two lanes of 4 ms are done with 48 in 100 ms, half of what the slow one takes over one.
    assert_eq!([0, 1, 0].map(|device| taken(&scheduler, device)), [13, 47, 0]);
}

/// A GPU takes several times as long over what is small: to send it there costs more than to do it.
#[test]
fn small_frames_stay_on_the_cores() {
    let [gpu, cores] = [300, 20].map(Duration::from_micros);
    for waiting in [1, 4, 8] {
        let scheduler = known([Timed::new("gpu", gpu), Timed::new("cores", cores)], waiting);
        assert_eq!([0, 1].map(|device| taken(&scheduler, device)), [0, waiting as usize]);
    }
}

/// Two lanes of 40 ms would be done with three frames in 100 ms: hardly sooner than one of 105 with
/// one.
#[test]
fn a_frame_is_not_left_to_who_is_done_with_it_hardly_sooner() {
    for (slow, takes) in [(105, true), (199, true), (201, false)] {
        let [slow, fast] = [slow, 40].map(Duration::from_millis);
        let scheduler = known([Timed::new("slow", slow), Timed::new("fast", fast)], 3);
        assert_eq!(taken(&scheduler, 0) > 0, takes, "{slow:?}");
    }
}

/// Cut for two, it is done sooner than by the device that takes less over a whole one.
#[test]
fn idle_lanes_that_share_a_frame_do_not_leave_it_to_a_device_that_takes_longer_than_all_of_them() {
    let [whole, other] = [70, 40].map(Duration::from_millis);
    let cores = Timed { worth: 2, ..Timed::new("cores", whole) };
    let scheduler = known([cores, Timed::new("other", other)], 1);
    for (idle, first) in [(1, 1), (2, 0)] {
        let mut queue = scheduler.queue.hold();
        queue.lanes[0].idle = Idle::new(2, &[]);
        (0..idle).for_each(|lane| queue.lanes[0].idle.sleep(lane));
        let order = scheduler.order(&queue, queue.first().unwrap(), 1);
        let devices: Vec<_> =
            order.devices[..order.len].iter().map(|&(device, _)| device).collect();
        assert_eq!(devices, [first, 1 - first], "{idle} lanes idle");
    }
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

/// Frames that its lanes are at wait for it; those that would have come next do not, though nobody
/// brings more.
#[test]
fn what_waits_for_a_device_that_does_not_answer_is_done_by_another() {
    for (reserve, rested) in [(None, false), (None, true), (Some(1), true)] {
        let fast = Timed::new("fast", Duration::from_micros(100));
        let slow = Timed::new("slow", Duration::from_millis(2));
        let several = Several::new(&[fast.clone(), slow], reserve, Filter::Area);
        several.burst(20);
        let before = several.ledger.completed().len();
        fast.hangs.store(true, Ordering::SeqCst);
        // Who looks whether devices get on has seen for long that nothing waits, or has not.
        if rested {
            until("it rests", || several.lanes.scheduler.queue.hold().lookout.is_some());
        }
        let frames = jobs(&several.stream, &several.ledger, 8);
        several.lanes.scheduler.push(id(0), frames.into_iter());
        // All but one for each of its lanes.
        let done = several.ledger.await_completions(before + 6).split_off(before);
        assert!(done.iter().all(|done| done.device == 1), "{done:?}");
        fast.hangs.store(false, Ordering::SeqCst);
        several.ledger.await_completions(before + 8);
    }
}

/// The other device is at two of those for ever: no lane but of the first is left.
#[test]
fn a_frame_is_found_behind_very_many_that_the_device_can_not_do() {
    let picky = Timed { only: Some(Filter::Area), ..Timed::new("picky", Duration::ZERO) };
    let any = Timed::new("any", Duration::ZERO);
    any.hangs.store(true, Ordering::SeqCst);
    let several = Several::new(&[picky, any.clone()], None, Filter::Bilinear);
    let scheduler = &several.lanes.scheduler;
    let push = |number, filter| {
        let stream = Arc::new(stream(scheduler.devices(), number, filter, SMALL));
        scheduler.push(id(number), jobs(&stream, &several.ledger, 3).into_iter());
    };
    (1..200).for_each(|number| push(number, Filter::Bilinear));
    push(200, Filter::Area);
    let done = several.ledger.await_completions(3);
    assert!(done.iter().all(|done| (done.stream, done.device) == (200, 0)), "{done:?}");
    any.hangs.store(false, Ordering::SeqCst);
    several.ledger.await_completions(600);
}
