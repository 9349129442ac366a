//! What streams take of a GPU and of the system, and what becomes of those that get none.

use vulkano::memory::MemoryPropertyFlags;

use super::super::import::{ImportError, memory_type};
use super::*;

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
fn memory_that_would_have_to_be_flushed_is_not_imported() {
    let Some(vulkan) = open(&Settings::default()) else { return };
    let gpu = vulkan.shared.gpu().unwrap();
    let types = &gpu.device.physical_device().memory_properties().memory_types;
    let coherent = MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::HOST_COHERENT;
    let suits = |index: &u32| {
        let kind = types.get(*index as usize);
        kind.is_some_and(|kind| kind.property_flags.contains(coherent))
    };
    let (suited, others): (Vec<u32>, Vec<u32>) = (0..u32::BITS).partition(suits);
    let allowed = |indices: &[u32]| indices.iter().fold(0, |bits, index| bits | 1 << index);
    // Also of what there is not.
    for none in [0, allowed(&others)] {
        let refused = memory_type(&gpu.device, none);
        assert!(matches!(refused, Err(ImportError::MemoryType)), "{refused:?}");
    }
    // Vulkan has one of these everywhere.
    let found = memory_type(&gpu.device, u32::MAX).unwrap();
    assert!(suited.contains(&found));
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
    lock::wait(&vulkan.shared.measured).insert(geometry, Transfer::BothWays);
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
