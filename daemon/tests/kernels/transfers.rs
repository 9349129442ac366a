//! What only GPUs can get wrong: the ways by which frames reach them, frames under way at once, late
//! ones, and a GPU that fails.

use std::sync::Arc;

use resized::device::cpu::Level;
use resized::device::vulkan::{Settings, Transfer, Vulkan};
use resized::device::{Band, Device, DeviceError, Fault, Resizer, Scratch};
use resized_protocol::frame::{PixelFormat, Range};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{Region, RingLayout, SlotMemory, leases};
use resized_protocol::tensor::Normalisation;

use crate::frames::{Ring, SIZES, noise, packed, pictures, sources, spec, tensors};
use crate::gpu::{Own, TRANSFERS, all, assert_gpus_agree, assert_valid, is_alike};

#[test]
fn gpus_make_every_format_of_every_format() {
    for (i, from) in sources().enumerate() {
        for (j, to) in sources().chain(tensors()).enumerate() {
            let n = i * 31 + j;
            let filter = Filter::ALL[n % Filter::ALL.len()];
            let mut spec = spec(from, filter, (40, 30), [(35, 23), (17, 70), (41, 9)][n % 3]);
            spec.destination.format = to;
            (spec.crop, spec.framing) = pictures()[n % pictures().len()];
            spec.alpha = if n.is_multiple_of(2) { Alpha::Weighs } else { Alpha::Apart };
            let range = |n: usize| if n.is_multiple_of(2) { Range::Full } else { Range::Limited };
            (spec.source.range, spec.destination.range) = (range(n / 2), range(n / 3));
            let normalisation =
                Normalisation { mean: [123.7, 116.3, 103.5], scale: [0.017, 0.0175, -0.0174] };
            spec.normalisation = [Normalisation::default(), normalisation][n % 2];
            assert_gpus_agree(spec, n as u32);
        }
    }
}

#[test]
fn gpus_keep_to_the_order_of_the_passes_at_any_size() {
    for (i, (from, to)) in SIZES.into_iter().enumerate() {
        for (j, format) in sources().enumerate() {
            assert_gpus_agree(spec(format, Filter::ALL[(i + j) % Filter::ALL.len()], from, to), 3);
        }
    }
    for (from, to) in
        [((4100, 2), (5, 1)), ((5, 1), (4099, 2)), ((1, 4096), (1, 1)), ((64, 48), (8, 6))]
    {
        for format in [PixelFormat::Gray8, PixelFormat::Nv12, PixelFormat::Bgr24, PixelFormat::P010]
        {
            for filter in [Filter::Lanczos3, Filter::Area] {
                assert_gpus_agree(spec(format, filter, from, to), 5);
            }
        }
    }
}

/// Of the source's rows, where it is copied, and of a tensor that is all constants none.
#[test]
fn of_a_cropped_frame_a_gpu_is_brought_the_rows_that_it_sees() {
    let cropped = |format, (left, top)| StreamSpec {
        crop: Some(Crop { left, top, width: 32.0, height: 18.0 }),
        ..spec(format, Filter::Area, (160, 90), (16, 9))
    };
    let mut constants = cropped(PixelFormat::Rgb24, (0.0, 0.0));
    constants.destination.format = tensors()[0];
    constants.normalisation = Normalisation { mean: [1.0; 3], scale: [0.0; 3] };
    let mut grey = cropped(PixelFormat::I420, (100.0, 72.0));
    grey.destination.format = PixelFormat::Gray8;
    for (spec, input) in [
        (cropped(PixelFormat::Gray8, (0.0, 0.0)), 160 * 18),
        (cropped(PixelFormat::Rgba, (128.0, 72.0)), 4 * 160 * 18),
        (cropped(PixelFormat::Nv12, (64.0, 36.0)), 160 * 18 + 160 * 9),
        (cropped(PixelFormat::I420, (64.0, 36.0)), 160 * 18 + 2 * 80 * 9),
        (grey, 160 * 18),
        (constants, 0),
    ] {
        let oracle = Ring::new(spec).resized(Level::Scalar, 1, noise(3));
        let output = oracle.len() as u64;
        let settings = |transfer| Settings { transfer: Some(transfer), ..Settings::default() };
        for (transfer, copied) in [
            (Transfer::Copied, input),
            (Transfer::BothWays, input + output),
            (Transfer::Staged, 2 * input + output),
        ] {
            let Some(gpu) = Own::new(&settings(transfer)) else { return };
            if gpu.transfer().contains("staged") && transfer != Transfer::Staged {
                continue;
            }
            let ring = Ring::new(spec);
            let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
            resizer.attach(&ring.daemon).unwrap();
            let slot = SlotMemory::new(&ring.daemon, &ring.layout, 0).unwrap();
            resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
            assert_eq!(resizer.copied_bytes(), copied, "{transfer:?} {spec:?}");
            let found = Ring::new(spec).resized_on(&*gpu, 1, noise(3));
            assert!(is_alike(&spec, &oracle, &found), "{transfer:?} {spec:?}");
        }
    }
    assert_valid();
}

/// Its Cb is half a step above the least there is.
#[test]
fn yellow_is_within_a_step() {
    let mut spec = spec(PixelFormat::Rgb24, Filter::Nearest, (33, 19), (10, 23));
    (spec.source.range, spec.destination.range) = (Range::Full, Range::Full);
    spec.destination.format = PixelFormat::I420;
    let yellow = || [255, 255, 0].into_iter().cycle();
    let colours = || {
        let mut samples = yellow();
        move || samples.next().unwrap_or_default()
    };
    let oracle = Ring::new(spec).resized(Level::Scalar, 1, colours());
    for gpu in all().iter() {
        let found = Ring::new(spec).resized_on(gpu, 1, colours());
        assert!(is_alike(&spec, &oracle, &found), "{}", gpu.transfer());
    }
    assert_valid();
}

/// Every slot in turn and all at once, from more threads than frames may be under way.
#[test]
fn frames_under_way_at_once_do_not_meet() {
    let spec =
        StreamSpec { slots: 9, ..spec(PixelFormat::I420, Filter::Bicubic, (160, 90), (64, 36)) };
    for gpu in all().iter() {
        let layout = Arc::new(RingLayout::new(&spec).unwrap());
        let (daemon, descriptor) = Region::create(layout.len()).unwrap();
        let daemon = Arc::new(daemon);
        let mut leases = leases(Region::open(&descriptor, layout.len()).unwrap(), &layout).unwrap();
        let mut resizer = gpu.open(&spec, &layout).unwrap();
        resizer.attach(&daemon).unwrap();
        let resizer: &dyn Resizer = &*resizer;
        for round in 0..4 {
            for (n, lease) in leases.iter_mut().enumerate() {
                lease.input_mut().fill_with(noise(round * 9 + n as u32));
            }
            std::thread::scope(|scope| {
                for lane in 0..gpu.lanes() as u32 {
                    let (daemon, layout) = (&daemon, &layout);
                    scope.spawn(move || {
                        for slot in (lane..9).step_by(gpu.lanes()) {
                            let slot = SlotMemory::new(daemon, layout, slot).unwrap();
                            resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
                        }
                    });
                }
            });
            for (n, lease) in leases.iter().enumerate() {
                let spec = StreamSpec { slots: 3, ..spec };
                let seed = round * 9 + n as u32;
                let wanted = Ring::new(spec).resized(Level::Scalar, 1, noise(seed));
                assert!(packed(lease.output(), layout.output()) == wanted, "{}", gpu.transfer());
            }
        }
    }
    assert_valid();
}

#[test]
fn a_gpu_that_fails_says_so_and_comes_back() {
    for fault in [Fault::Lost, Fault::Driver, Fault::TimedOut, Fault::Memory, Fault::Refused] {
        fails_and_comes_back(fault);
    }
    assert_valid();
}

fn fails_and_comes_back(fault: Fault) {
    let settings = Settings { fault_every: Some((fault, 2)), ..Settings::default() };
    let Some(gpu) = Own::new(&settings) else { return };
    let spec = spec(PixelFormat::Nv12, Filter::Bicubic, (64, 36), (32, 18));
    let mut ring = Ring::new(spec);
    let oracle = ring.resized(Level::Scalar, 1, noise(1));
    let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
    resizer.attach(&ring.daemon).unwrap();
    let slot = SlotMemory::new(&ring.daemon, &ring.layout, 1).unwrap();
    let resize = || resizer.resize(slot, Band::WHOLE, &mut Scratch::default());
    let failed = |fault| Err(DeviceError::Failed { device: gpu.name().to_owned(), fault });
    resize().unwrap();
    assert_eq!(resize(), failed(fault));
    // Out of service until it is brought back, unless it was about the stream alone.
    if !fault.is_of_stream() {
        assert_eq!([resize(), resize()], [failed(Fault::Lost), failed(Fault::Lost)]);
        gpu.revive().unwrap();
    }
    resize().unwrap();
    assert_eq!(packed(ring.leases[1].output(), ring.layout.output()), oracle);
}

/// Larger than any GPU does in no time.
fn large() -> StreamSpec {
    spec(PixelFormat::I420, Filter::Lanczos3, (1920, 1080), (960, 540))
}

/// A GPU that nobody waits for, and a frame of it that is late.
fn impatient(transfer: Transfer, copies_apart: bool) -> Option<Own> {
    Own::new(&Settings {
        transfer: Some(transfer),
        copies_apart,
        patience: Some(std::time::Duration::ZERO),
        ..Settings::default()
    })
}

/// Has a frame of that slot be late, and `meanwhile` done before the GPU is asked for again: it is not opened
/// anew while it owes an answer. Where this thread slept for so long that none was owed any more, once again.
#[track_caller]
fn assert_late(
    gpu: &Vulkan,
    resizer: &dyn Resizer,
    slot: SlotMemory<'_>,
    meanwhile: impl Fn(&dyn Resizer),
) {
    let late = DeviceError::Failed { device: gpu.name().to_owned(), fault: Fault::TimedOut };
    let is_late = |_| {
        let outcome = resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).err();
        meanwhile(resizer);
        let found = [outcome, gpu.revive().err()];
        assert!(found.iter().flatten().all(|error| *error == late), "{found:?}");
        found.iter().all(Option::is_some)
    };
    assert!((0..20).any(is_late), "no frame was late");
}

/// Brings it back once what it owes, and nobody waits for, is over.
fn await_return(gpu: &Vulkan) {
    let owes = DeviceError::Failed { device: gpu.name().to_owned(), fault: Fault::TimedOut };
    while let Err(error) = gpu.revive() {
        assert_eq!(error, owes);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The stream, its ring and its buffers go while the GPU is still at the frame: not before it is over.
#[test]
fn what_an_unanswered_frame_uses_is_kept_until_it_is_over() {
    for (transfer, copies_apart) in TRANSFERS {
        let Some(gpu) = impatient(transfer, copies_apart) else { return };
        for _ in 0..3 {
            let ring = Ring::new(large());
            let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
            resizer.attach(&ring.daemon).unwrap();
            let slot = SlotMemory::new(&ring.daemon, &ring.layout, 1).unwrap();
            assert_late(&gpu, &*resizer, slot, |_| {});
            drop((resizer, ring));
            await_return(&gpu);
        }
    }
    assert_valid();
}

/// What the client may do with a slot that it got back: nobody writes it any more.
#[test]
fn a_slot_is_let_go_of_when_a_late_frame_is_over() {
    let spec = large();
    let oracle = Ring::new(spec).resized(Level::Scalar, 1, noise(7));
    for (transfer, copies_apart) in TRANSFERS {
        // Staged results are copied to the slot by whoever waited for them.
        if transfer == Transfer::Staged {
            continue;
        }
        let Some(gpu) = impatient(transfer, copies_apart) else { return };
        let mut ring = Ring::new(spec);
        let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
        resizer.attach(&ring.daemon).unwrap();
        for number in [0, 2, 1] {
            ring.leases[number].input_mut().fill_with(noise(7));
            let slot = SlotMemory::new(&ring.daemon, &ring.layout, number as u32).unwrap();
            // Another slot's: nothing to wait for.
            assert_late(&gpu, &*resizer, slot, |resizer| resizer.settle(number as u32 + 1));
            resizer.settle(number as u32);
            // All of it is there, so nothing of it is still to come.
            assert!(packed(ring.leases[number].output(), ring.layout.output()) == oracle);
            gpu.revive().unwrap();
        }
    }
    assert_valid();
}

/// It is another's at once: the GPU is at a copy of its own.
#[test]
fn a_slot_whose_frame_was_staged_is_not_waited_for() {
    let spec = large();
    let oracle = Ring::new(spec).resized(Level::Scalar, 1, noise(8));
    let Some(gpu) = impatient(Transfer::Staged, false) else { return };
    let mut ring = Ring::new(spec);
    let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
    resizer.attach(&ring.daemon).unwrap();
    ring.leases[1].input_mut().fill_with(noise(7));
    let slot = SlotMemory::new(&ring.daemon, &ring.layout, 1).unwrap();
    assert_late(&gpu, &*resizer, slot, |resizer| resizer.settle(1));
    assert!(ring.resized(Level::Scalar, 1, noise(8)) == oracle);
    await_return(&gpu);
    assert!(packed(ring.leases[1].output(), ring.layout.output()) == oracle);
    assert_valid();
}

/// As on a GPU beyond a bus: all ways are measured, one is kept, also for the next stream of the kind.
#[test]
fn the_faster_way_to_bring_frames_is_kept() {
    let settings = Settings { measure: true, ..Settings::default() };
    let Some(gpu) = Own::new(&settings) else { return };
    let spec = spec(PixelFormat::I420, Filter::Bicubic, (96, 54), (32, 18));
    let mut oracle = Ring::new(spec);
    let mut ring = Ring::new(spec);
    ring.leases.iter_mut().for_each(|lease| lease.input_mut().fill(99));
    let oracle = oracle.resized(Level::Scalar, 1, || 99);
    let mut copied = Vec::new();
    for _ in 0..2 {
        let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
        resizer.attach(&ring.daemon).unwrap();
        for slot in [0, 1, 2].into_iter().cycle().take(160) {
            let slot = SlotMemory::new(&ring.daemon, &ring.layout, slot).unwrap();
            resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
            copied.push(resizer.copied_bytes() > 0);
        }
    }
    assert!(ring.leases.iter().all(|l| packed(l.output(), ring.layout.output()) == oracle));
    // Two of three of those that are measured, and then all or none.
    let (measured, rest) = copied.split_at(144);
    assert_eq!(measured.iter().filter(|&&copied| copied).count(), 96);
    assert!(rest.iter().all(|copied| *copied == rest[0]), "{copied:?}");
    assert_valid();
}

#[test]
fn what_a_gpu_can_not_take_is_refused() {
    for gpu in all().iter() {
        let ring = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 10)));
        let other = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 11)));
        assert_eq!(gpu.open(&ring.spec, &other.layout).err(), Some(DeviceError::Layout));
        let mut resizer = gpu.open(&ring.spec, &ring.layout).unwrap();
        resizer.attach(&ring.daemon).unwrap();
        // Laid out alike, but in another ring.
        let another = Ring::new(ring.spec);
        for elsewhere in [&other, &another] {
            let slot = SlotMemory::new(&elsewhere.daemon, &elsewhere.layout, 0).unwrap();
            let refused = resizer.resize(slot, Band::WHOLE, &mut Scratch::default());
            assert_eq!(refused, Err(DeviceError::Layout));
        }
    }
    assert_valid();
}
