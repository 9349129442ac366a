//! Devices against their definition: accuracy, flat areas, ranges, siting, bands, bounds, and every
//! level of the cores and every GPU against the scalar one, bit by bit.

mod accuracy;
mod bits;
mod exact;
mod extremes;
mod frames;
mod gpu;
mod known;
mod letterbox;
#[path = "../common/levels.rs"]
mod levels;
mod mixes;
mod rewritten;
#[path = "../common/skip.rs"]
mod skip;
#[path = "../common/specs.rs"]
mod specs;
mod transfers;

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, DeviceError, Scratch};
use resized_protocol::frame::PixelFormat;
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{RingLayout, SlotMemory};

use frames::{Ring, numbers, spec, tensors};
use levels::if_there;

/// The levels that this machine has.
fn levels() -> Vec<Level> {
    let is_there = |level: &Level| if_there(level.name(), Cpu::with_level(1, *level)).is_some();
    Level::ALL.iter().copied().filter(is_there).collect()
}

/// All levels, and all GPUs.
struct Devices {
    cores: Vec<Cpu>,
    gpus: gpu::Open,
}

impl Devices {
    fn iter(&self) -> impl Iterator<Item = &dyn Device> {
        let cores = self.cores.iter().map(|cpu| cpu as &dyn Device);
        cores.chain(self.gpus.iter().map(|gpu| gpu as &dyn Device))
    }
}

fn devices() -> Devices {
    let cores = levels().into_iter().filter_map(|level| Cpu::with_level(1, level)).collect();
    Devices { cores, gpus: gpu::all() }
}

/// Largest distance of the device's samples from the exact ones.
fn error(ring: &mut Ring, sample: impl FnMut() -> u8) -> f64 {
    let found = ring.resized(Level::Scalar, 1, sample);
    let (spec, input) = (ring.spec, ring.leases[1].input());
    let mut found = numbers(spec.destination.format, &found).into_iter();
    let planes = 0..ring.layout.output().planes().len();
    let wanted = planes.flat_map(|index| exact::plane(&spec, &ring.layout, input, index));
    let worst = furthest(wanted.zip(&mut found));
    assert_eq!(found.next(), None);
    worst
}

/// The largest distance between two numbers; what is no number is infinitely far.
fn furthest(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let distance = |(one, other): (f64, f64)| (one - other).abs();
    let finite = |distance: f64| if distance.is_nan() { f64::INFINITY } else { distance };
    pairs.map(distance).map(finite).fold(0.0, f64::max)
}

#[test]
fn what_is_no_number_is_not_near_one() {
    assert_eq!(furthest([(1.0, 1.5), (2.0, f64::NAN), (3.0, 3.25)].into_iter()), f64::INFINITY);
    assert_eq!(furthest([(1.0, 1.5), (2.0, 2.0), (3.0, 3.25)].into_iter()), 0.5);
}

#[test]
fn what_is_laid_out_otherwise_is_refused() {
    let ring = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 10)));
    let other = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 11)));
    let cpu = Cpu::new(1);
    let resizer = cpu.open(&ring.spec, &ring.layout).unwrap();
    let slot = SlotMemory::new(&other.daemon, &other.layout, 0).unwrap();
    let refused = resizer.resize(slot, Band::WHOLE, &mut Scratch::default());
    assert_eq!(refused, Err(DeviceError::Layout));
    assert_eq!(cpu.open(&ring.spec, &other.layout).err(), Some(DeviceError::Layout));
    let mut tensor = ring.spec;
    tensor.source.format = tensors()[0];
    let layout = RingLayout::new(&tensor).unwrap();
    let refused = cpu.open(&tensor, &layout).err();
    assert!(matches!(refused, Some(DeviceError::Unsupported { .. })), "{refused:?}");
    let crop = Some(Crop { left: 1.0, ..Crop::whole(ring.spec.source.extent) });
    let refused = cpu.open(&StreamSpec { crop, ..ring.spec }, &ring.layout).err();
    assert!(matches!(refused, Some(DeviceError::Unsupported { .. })), "{refused:?}");
}

#[test]
fn only_frames_worth_it_are_cut_or_wake_a_lane() {
    let worth = |from, to| {
        let ring = Ring::new(spec(PixelFormat::Gray8, Filter::Area, from, to));
        Cpu::new(4).open(&ring.spec, &ring.layout).unwrap().worth()
    };
    assert_eq!(worth((64, 64), (32, 32)), 0);
    assert_eq!(worth((320, 180), (64, 36)), 1);
    assert_eq!(worth((1920, 1080), (640, 360)), 17);
    assert_eq!(worth((16_384, 64), (1000, 2)), 2);
}
