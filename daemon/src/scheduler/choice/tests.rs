use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use resized_protocol::message::Filter;

use super::super::fakes::{Several, Timed, id, jobs};

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

/// Two lanes of 40 ms would be done with three frames in 100 ms: hardly sooner than one of 105 with
/// one.
#[test]
fn a_frame_is_not_left_to_who_is_done_with_it_hardly_sooner() {
    let [slow, fast] = [105, 40].map(Duration::from_millis);
    let devices = [Timed::new("slow", slow), Timed::new("fast", fast)];
    let several = Several::new(&devices, None, Filter::Area);
    several.burst(12);
    let by_slow: usize = (0..5).map(|_| several.burst(3)[0]).sum();
    assert!(by_slow > 0, "{by_slow}");
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
        let before = several.ledger.0.lock().unwrap().len();
        fast.hangs.store(true, Ordering::SeqCst);
        // Who looks whether devices get on has seen for long that nothing waits, or has not.
        while rested && several.lanes.scheduler.queue.hold().lookout.is_none() {
            thread::yield_now();
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
