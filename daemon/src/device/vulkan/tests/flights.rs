//! Frames under way: how they are submitted, and what they leave behind on a GPU that fails.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use super::super::stream::Failure;
use super::*;
use crate::device::Preparation;

#[test]
fn what_a_driver_says_tells_what_is_lost() {
    let faults = |error| [fault(&Validated::Error(error)), of_stream(&Validated::Error(error))];
    assert_eq!(faults(VulkanError::DeviceLost), [Fault::Lost; 2]);
    assert_eq!(faults(VulkanError::Timeout), [Fault::TimedOut; 2]);
    assert_eq!(faults(VulkanError::OutOfHostMemory), [Fault::Memory; 2]);
    assert_eq!(faults(VulkanError::TooManyObjects), [Fault::Memory; 2]);
    assert_eq!(faults(VulkanError::InitializationFailed), [Fault::Driver, Fault::Refused]);
}

/// As many as there are lanes, each of a client's stream of its own.
#[test]
fn frames_that_come_together_are_submitted_at_once_by_commands_recorded_once() {
    let settings = Settings { transfer: Some(Transfer::Direct), ..Settings::default() };
    let Some(vulkan) = open_importing(&settings) else { return };
    let gpu = vulkan.shared.gpu().unwrap();
    let prepare = |n| {
        let (spec, ring, region) = ring(n);
        let mut resizer = vulkan.open(&spec, &ring).unwrap();
        resizer.attach(&region).unwrap();
        (resizer, ring, region)
    };
    let streams: Vec<_> = (0..LANES).map(prepare).collect();
    // Whether commands were recorded for a stream's frame.
    let records = &|n: usize| {
        let (resizer, ring, region) = &streams[n];
        let mut scratch = Scratch::default();
        let slot = SlotMemory::new(region, ring, 1).unwrap();
        resizer.resize(slot, Band::WHOLE, &mut scratch) == Ok(Preparation::Now)
    };
    // Each lane in turn is the only one that is free.
    let mut taken: VecDeque<_> = (0..LANES).map(|_| gpu.take_lane().unwrap()).collect();
    for _ in 0..LANES {
        drop(taken.pop_front());
        assert_eq!([0, 0, 1, 1, 2, 2, 3, 3].map(records), [true, false].repeat(LANES)[..]);
        taken.push_back(gpu.take_lane().unwrap());
    }
    drop(taken);
    let computing = &gpu.lanes[0].computing;
    let (calls, allocated) = (computing.calls(), gpu.device.allocation_count());
    for round in 1..=20 {
        thread::scope(|scope| {
            let frames =
                computing.together(LANES, || [0, 1, 2, 3].map(|n| scope.spawn(move || records(n))));
            assert_eq!(frames.map(|frame| frame.join().unwrap()), [false; LANES]);
        });
        assert_eq!(computing.calls(), calls + round);
    }
    assert_eq!(gpu.device.allocation_count(), allocated);
    assert_eq!(validation_messages(), [""; 0]);
}

/// Its streams, though no client of theirs submits anything.
#[test]
fn a_gpu_that_was_lost_is_kept_by_none_of_its_streams() {
    let Some(vulkan) = open(&Settings::default()) else { return };
    let purse = Purse::new(u64::MAX);
    let open = |n| {
        let (spec, ring, region) = ring(n);
        let mut resizer = vulkan.open(&spec, &ring).unwrap();
        resizer.allow(Arc::<Purse>::clone(&purse));
        resizer.attach(&region).unwrap();
        (resizer, ring, region)
    };
    let streams: Vec<_> = (0..3).map(open).collect();
    let before = resized(&*streams[0].0, &streams[0].1, &streams[0].2);
    let lost = vulkan.shared.gpu().unwrap();
    vulkan.shared.retire(&lost);
    let lost = {
        let device = Arc::downgrade(&lost.device);
        drop(lost);
        device
    };
    vulkan.revive().unwrap();
    assert_eq!((lost.strong_count(), purse.taken()), (0, 0));
    let (resizer, ring, region) = &streams[0];
    assert!(resized(&**resizer, ring, region) == before);
    // A GPU that is in service is kept by them.
    let taken = purse.taken();
    vulkan.revive().unwrap();
    assert_eq!(purse.taken(), taken);
    drop(streams);
    assert_eq!(
        lock::wait(&vulkan.shared.ways).iter().filter(|ways| ways.strong_count() > 0).count(),
        0
    );
    assert_eq!(validation_messages(), [""; 0]);
}

/// Though nobody has lost patience yet.
#[test]
fn a_gpu_that_a_frame_is_in_is_not_opened_anew() {
    let Some(vulkan) = open(&Settings::default()) else { return };
    let gpu = vulkan.shared.gpu().unwrap();
    let lane = gpu.take_lane().unwrap();
    vulkan.shared.retire(&gpu);
    assert_eq!(vulkan.revive(), Err(vulkan.shared.failed(Fault::TimedOut)));
    drop(lane);
    vulkan.revive().unwrap();
    assert!(!Arc::ptr_eq(&gpu, &vulkan.shared.gpu().unwrap()));
}

/// Whichever of a frame's queues takes no more: what the others took is over before its memory is
/// anybody else's, and what none took is not waited for.
#[test]
fn a_queue_that_takes_no_more_leaves_nothing_under_way() {
    type Refuse = fn(&gpu::Lane);
    let computing: Refuse = |lane| lane.computing.refuse();
    let copying: Refuse = |lane| lane.copying.iter().for_each(|queue| queue.refuse());
    let there: Refuse = |lane| lane.there_and_back.iter().for_each(|[there, _]| there.refuse());
    let back: Refuse = |lane| lane.there_and_back.iter().for_each(|[_, back]| back.refuse());
    for (transfer, copies_apart, refuse) in [
        (Transfer::Copied, false, computing),
        (Transfer::Copied, true, copying),
        (Transfer::Copied, true, computing),
        (Transfer::BothWays, true, there),
        (Transfer::BothWays, true, computing),
        (Transfer::BothWays, true, back),
    ] {
        let settings = Settings { transfer: Some(transfer), copies_apart, ..Settings::default() };
        let Some(vulkan) = open_importing(&settings) else { return };
        let gpu = vulkan.shared.gpu().unwrap();
        let (spec, ring, region) = ring(0);
        let mut resizer = vulkan.open(&spec, &ring).unwrap();
        resizer.attach(&region).unwrap();
        let before = resized(&*resizer, &ring, &region);
        let prepared = Prepared::new(
            &gpu,
            &Program::new(&spec, &spec.placement().unwrap(), &ring).unwrap(),
            &ring,
            Some(Arc::new(Import::new(&gpu, &region).unwrap())),
            transfer,
            None,
        );
        let prepared = Arc::new(prepared.unwrap());
        gpu.lanes.iter().for_each(refuse);
        for _ in 0..2 * LANES {
            let slot = SlotMemory::new(&region, &ring, 1).unwrap();
            let begun = Instant::now();
            assert!(matches!(prepared.resize(slot), Err(Failure::Over(Fault::Lost))));
            assert!(begun.elapsed() < Duration::from_secs(10), "it waited for what never comes");
            assert!(!gpu.owes());
        }
        drop(prepared);
        let slot = SlotMemory::new(&region, &ring, 1).unwrap();
        let outcome = resizer.resize(slot, Band::WHOLE, &mut Scratch::default());
        assert_eq!(outcome, Err(vulkan.shared.failed(Fault::Lost)));
        // Another device is opened, and all is well.
        vulkan.revive().unwrap();
        assert!(resized(&*resizer, &ring, &region) == before);
    }
    assert_eq!(validation_messages(), [""; 0]);
}
