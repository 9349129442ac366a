//! What only the inside of the device shows: what it holds of a GPU, and of what it is allowed.
//!
//! Every test opens a GPU of its own, and has all others wait meanwhile: the validation layer keeps
//! what it knows of all devices in one table that it locks nowhere (as of 1.3.239; issue 4391 of
//! KhronosGroup/Vulkan-ValidationLayers), and crashes where one thread opens or closes a device
//! while another uses one.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::Filter;
use resized_protocol::shm::SlotMemory;

use super::import::ImportError;
use super::stream::{Failure, Prepared};
use super::*;
use crate::device::cpu::{Cpu, Level};
use crate::device::{Allowance, Band, Charge, Memory, Scratch};
use crate::skip::skip;

/// Counts what is taken, up to a limit.
struct Purse {
    limit: u64,
    taken: Arc<AtomicU64>,
}

impl Purse {
    fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: Arc::default() })
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Allowance for Purse {
    fn take(&self, memory: Memory) -> Option<Charge> {
        struct Taken(u64, Arc<AtomicU64>);
        impl Drop for Taken {
            fn drop(&mut self) {
                self.1.fetch_sub(self.0, Ordering::Relaxed);
            }
        }
        let bytes = memory.device + memory.system;
        if self.taken() + bytes > self.limit {
            return None;
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Some(Box::new(Taken(bytes, Arc::clone(&self.taken))))
    }
}

/// A GPU, while nobody else has one. To be made before what is opened on it, so that it goes last.
struct Own {
    // First: it goes while nobody else has one.
    gpu: Vulkan,
    _alone: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Own {
    type Target = Vulkan;

    fn deref(&self) -> &Vulkan {
        &self.gpu
    }
}

fn open(settings: &Settings) -> Option<Own> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = lock(&ALONE);
    let settings = Settings { validation: true, ..settings.clone() };
    let found = survey(&Wanted::All, &settings, None);
    let mut gpus = found.into_iter().filter_map(|found| found.outcome.ok()).collect::<Vec<_>>();
    match gpus[..] {
        [] => skip("vulkan", "there is no GPU"),
        _ if !is_validating() => skip("validation", "there is no validation layer"),
        _ => {}
    }
    // One that imports rings, if there is one.
    gpus.sort_by_key(|gpu| gpu.shared.staged.is_some());
    gpus.into_iter().next().map(|gpu| Own { gpu, _alone: alone })
}

/// The same of one that imports rings.
fn open_importing(settings: &Settings) -> Option<Own> {
    let gpu = open(settings)?;
    let imports = gpu.shared.staged.is_none();
    if !imports {
        skip("import", "no GPU imports rings");
    }
    imports.then_some(gpu)
}

/// Two slots of a stream; of the second an input frame that is all of that.
fn ring(n: usize) -> (StreamSpec, RingLayout, Arc<Region>) {
    let format = PixelFormat::EIGHT_BIT[n % 7];
    let (from, to) = [((64, 36), (24, 14)), ((33, 17), (21, 40)), ((80, 60), (80, 60))][n % 3];
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    let filter = Filter::ALL[n % Filter::ALL.len()];
    let spec = StreamSpec { filter, slots: 2, ..StreamSpec::new(source, Extent::new(to.0, to.1)) };
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _) = Region::create(ring.len()).unwrap();
    let slot = SlotMemory::new(&region, &ring, 1).unwrap();
    for i in 0..ring.input().len() {
        // SAFETY: within the input frame of a slot that nobody else knows of.
        unsafe { slot.input().cast_mut().add(i).write((i * n % 251) as u8) };
    }
    (spec, ring, Arc::new(region))
}

fn resized(resizer: &dyn Resizer, ring: &RingLayout, region: &Region) -> Vec<u8> {
    let slot = SlotMemory::new(region, ring, 1).unwrap();
    resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
    // SAFETY: within the output frame; the device is done with it.
    (0..ring.output().len()).map(|i| unsafe { slot.output().add(i).read() }).collect()
}

#[test]
fn a_thousand_streams_leave_nothing_on_a_gpu() {
    let transfers = [Transfer::Direct, Transfer::Copied, Transfer::BothWays, Transfer::Staged];
    for transfer in transfers {
        let copies_apart = transfer == Transfer::Copied;
        let settings = Settings { transfer: Some(transfer), copies_apart, ..Settings::default() };
        let Some(vulkan) = open(&settings) else { return };
        let gpu = vulkan.shared.gpu().unwrap();
        let held = || (gpu.imports.load(Ordering::Relaxed), gpu.device.allocation_count());
        let purse = Purse::new(u64::MAX);
        let turn = |n: usize| {
            let (spec, ring, region) = ring(n);
            let mut resizer = vulkan.open(&spec, &ring).unwrap();
            resizer.allow(Arc::<Purse>::clone(&purse));
            resizer.attach(&region).unwrap();
            assert!(purse.taken() > 0);
            assert_eq!(held().0, u32::from(transfer != Transfer::Staged));
            resized(&*resizer, &ring, &region);
        };
        // Until there is a block of each kind of memory.
        (0..21).for_each(turn);
        let before = held();
        assert_eq!((before.0, purse.taken()), (0, 0));
        (21..1000 / transfers.len() + 1).for_each(turn);
        assert_eq!((held(), purse.taken()), (before, 0));
        // Whatever was made and not destroyed, the validation layer names when the device goes.
        let device = Arc::downgrade(&gpu.device);
        let Own { gpu: vulkan, _alone } = vulkan;
        drop((gpu, vulkan));
        assert_eq!(device.strong_count(), 0);
    }
    assert_eq!(validation_messages(), [""; 0]);
}

#[test]
fn a_stream_that_memory_is_not_allowed_for_is_for_others() {
    let Some(vulkan) = open(&Settings::default()) else { return };
    let purse = Purse::new(400_000);
    let prepare = |n| {
        let (spec, ring, region) = ring(n);
        let mut resizer = vulkan.open(&spec, &ring).unwrap();
        resizer.allow(Arc::<Purse>::clone(&purse));
        resizer.attach(&region).map(|()| (resizer, ring, region))
    };
    let mut streams = Vec::new();
    let refused = loop {
        match prepare(0) {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, vulkan.shared.failed(Fault::Memory));
    assert!(!streams.is_empty() && purse.taken() <= 400_000);
    // Those that are there go on, and when one goes there is room again.
    for (resizer, ring, region) in &streams {
        resized(&**resizer, ring, region);
    }
    streams.pop();
    assert!(prepare(0).is_ok());
    drop(streams);
    assert_eq!(purse.taken(), 0);
}

#[test]
fn beyond_the_drivers_limit_rings_are_staged() {
    let Some(vulkan) = open_importing(&Settings::default()) else { return };
    let gpu = vulkan.shared.gpu().unwrap();
    gpu.imports.store(u32::MAX / 2, Ordering::Relaxed);
    let (spec, ring, region) = ring(1);
    let mut resizer = vulkan.open(&spec, &ring).unwrap();
    resizer.attach(&region).unwrap();
    let found = resized(&*resizer, &ring, &region);
    assert!(resizer.copied_bytes() > 0);
    assert_eq!(gpu.imports.load(Ordering::Relaxed), u32::MAX / 2);
    let cores = Cpu::with_level(1, Level::Scalar).unwrap().open(&spec, &ring).unwrap();
    assert!(found == resized(&*cores, &ring, &region));
}

#[test]
fn where_a_driver_imports_nothing_frames_are_staged_and_it_is_said_why() {
    let settings = Settings { imports_nothing: true, ..Settings::default() };
    let Some(vulkan) = open(&settings) else { return };
    assert_eq!(
        vulkan.transfer(),
        "frames are staged: the driver has no VK_EXT_external_memory_host"
    );
    let (spec, ring, region) = ring(1);
    let mut resizer = vulkan.open(&spec, &ring).unwrap();
    resizer.attach(&region).unwrap();
    let found = resized(&*resizer, &ring, &region);
    assert!(resizer.copied_bytes() > 0);
    let cores = Cpu::with_level(1, Level::Scalar).unwrap().open(&spec, &ring).unwrap();
    assert!(found == resized(&*cores, &ring, &region));
    assert_eq!(validation_messages(), [""; 0]);
}

#[test]
fn what_is_not_aligned_is_not_imported() {
    let Some(vulkan) = open_importing(&Settings::default()) else { return };
    let gpu = vulkan.shared.gpu().unwrap();
    let (region, _) = Region::create(NonZeroUsize::new(1001).unwrap()).unwrap();
    let refused = Import::new(&gpu, &Arc::new(region)).err();
    assert!(matches!(refused, Some(ImportError::Alignment(2..))), "{refused:?}");
    assert_eq!(gpu.imports.load(Ordering::Relaxed), 0);
    assert_eq!(validation_messages(), [""; 0]);
}

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
        resizer.resize(slot, Band::WHOLE, &mut scratch).unwrap();
        scratch.take_preparation()
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

/// What is recorded for each slot in each flight, or for each flight alone where frames are staged.
#[test]
fn commands_are_charged_by_slots() {
    let (spec, ..) = ring(0);
    let system = |slots: u32, transfer| {
        let spec = StreamSpec { slots, ..spec };
        let ring = RingLayout::new(&spec).unwrap();
        let program = Program::new(&spec, &spec.placement().unwrap(), &ring).unwrap();
        Prepared::memory(&program, &ring, transfer).system
    };
    for transfer in [Transfer::Direct, Transfer::Copied, Transfer::BothWays] {
        assert!(system(1, transfer) > 0);
        assert_eq!(system(200, transfer), 200 * system(1, transfer));
    }
    assert_eq!(system(200, Transfer::Staged), system(1, Transfer::Staged));
}

/// Where the ring is imported. Where it is not there is nothing smaller than staging.
#[test]
fn a_stream_with_no_room_for_the_fastest_way_has_the_one_that_takes_least() {
    let Some(vulkan) = open_importing(&Settings::default()) else { return };
    let (spec, ring, region) = ring(0);
    let placement = spec.placement().unwrap();
    let program = Program::new(&spec, &placement, &ring).unwrap();
    let geometry = (spec.source, spec.destination, spec.filter, spec.source.extent);
    lock(&vulkan.shared.measured).insert(geometry, Transfer::BothWays);
    let takes = |transfer| {
        let Memory { device, system } = Prepared::memory(&program, &ring, transfer);
        device + system
    };
    let attach = |limit: u64| {
        let mut resizer = vulkan.open(&spec, &ring).unwrap();
        resizer.allow(Purse::new(limit));
        resizer.attach(&region).map(|()| resizer)
    };
    let found = resized(&*attach(takes(Transfer::Direct)).unwrap(), &ring, &region);
    let cores = Cpu::with_level(1, Level::Scalar).unwrap().open(&spec, &ring).unwrap();
    assert!(found == resized(&*cores, &ring, &region));
    vulkan.shared.gpu().unwrap().imports.store(u32::MAX / 2, Ordering::Relaxed);
    assert_eq!(
        attach(takes(Transfer::Staged) - 1).err(),
        Some(vulkan.shared.failed(Fault::Memory))
    );
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
    assert_eq!(lock(&vulkan.shared.ways).iter().filter(|ways| ways.strong_count() > 0).count(), 0);
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
