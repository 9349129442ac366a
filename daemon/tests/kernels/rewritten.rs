//! Slots that their client writes while they are resized, as any client can: pixels are numbers that
//! no address depends on, however often they are read.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use resized::device::cpu::Level;
use resized::device::{Band, Device, Scratch};
use resized_protocol::frame::Range;
use resized_protocol::message::{Alpha, Filter};
use resized_protocol::shm::SlotMemory;

use crate::devices;
use crate::frames::{NORMALISATIONS, Ring, noise, pictures, sources, spec, tensors};
use crate::gpu::is_alike;

/// Resizes the ring's middle slot while a client fills it with one thing after the other: whole
/// rounds of it lie within. What comes out is anybody's guess, but nothing beside it is touched.
fn resize_what_changes(ring: &mut Ring, device: &dyn Device) {
    ring.fill_neighbours();
    let (rounds, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut resizer = device.open(&ring.spec, &ring.layout).unwrap();
    resizer.attach(&ring.daemon).unwrap();
    let slot = SlotMemory::new(&ring.daemon, &ring.layout, 1).unwrap();
    let input = ring.leases[1].input_mut();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = noise(7);
            // Not for ever: it is waited for where the resizing panics, too.
            for _ in (0..100_000).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                for value in [0, 255] {
                    input.fill(value);
                    // It is read elsewhere: nothing of it may be left out.
                    black_box(&mut *input);
                }
                input.fill_with(&mut random);
                black_box(&mut *input);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let begun = rounds.load(Ordering::Relaxed);
        while rounds.load(Ordering::Relaxed) < begun + 2 {
            for band in Band::cut(2) {
                resizer.resize(slot, band, &mut Scratch::default()).unwrap();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    ring.assert_kept_to();
}

#[test]
fn a_slot_that_changes_while_it_is_resized_harms_nobody() {
    let devices = devices();
    for (i, from) in sources().enumerate() {
        for (j, to) in sources().chain(tensors()).enumerate() {
            let n = i * 31 + j;
            let filter = Filter::ALL[n % Filter::ALL.len()];
            let mut spec = spec(from, filter, (40, 30), [(35, 23), (90, 70), (17, 9)][n % 3]);
            spec.destination.format = to;
            (spec.crop, spec.framing) = pictures()[n % pictures().len()];
            spec.source.range = if n.is_multiple_of(2) { Range::Full } else { Range::Limited };
            spec.alpha = if n.is_multiple_of(3) { Alpha::Apart } else { Alpha::Weighs };
            spec.normalisation = NORMALISATIONS[n % NORMALISATIONS.len()];
            let oracle = Ring::new(spec).resized(Level::Scalar, 1, noise(n as u32));
            let next = |device: &dyn Device| {
                let mut ring = Ring::new(spec);
                resize_what_changes(&mut ring, device);
                // The next one lies still.
                ring.resized_on(device, 1, noise(n as u32))
            };
            for cpu in &devices.cores {
                assert!(next(cpu) == oracle, "{cpu:?}: {spec:?}");
            }
            if let Some(gpu) = devices.gpus.get(n % devices.gpus.len().max(1)) {
                let found = next(gpu);
                assert!(is_alike(&spec, &oracle, &found), "{}: {spec:?}", gpu.transfer());
            }
        }
    }
}
