//! The CPU device against its definition: accuracy, flat areas, ranges, siting, bands, bounds, and every
//! level against the scalar one, bit by bit.

mod exact;

use std::sync::Arc;

use proptest::prelude::*;
use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, DeviceError, Scratch};
use resized_protocol::frame::{Extent, FrameLayout, FrameSpec, PixelFormat, Range, Siting, TAIL};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::shm::{Lease, Region, RingLayout, SlotMemory, leases};

/// Both ends of a ring of three slots; the middle one is resized, the others must stay as they are.
struct Ring {
    spec: StreamSpec,
    layout: Arc<RingLayout>,
    daemon: Region,
    leases: Vec<Lease>,
}

impl Ring {
    fn new(spec: StreamSpec) -> Self {
        let spec = StreamSpec { slots: 3, ..spec };
        let layout = Arc::new(RingLayout::new(&spec).unwrap());
        let (daemon, descriptor) = Region::create(layout.len()).unwrap();
        let client = Region::open(&descriptor, layout.len()).unwrap();
        let leases = leases(client, &layout).unwrap();
        Self { spec, layout, daemon, leases }
    }

    /// Gives every byte of the input, padding too, the value of `sample`, then resizes it in `bands`.
    /// Gives the output's pixels, packed.
    fn resized(&mut self, level: Level, bands: u32, sample: impl FnMut() -> u8) -> Vec<u8> {
        self.leases[1].input_mut().fill_with(sample);
        for neighbour in [0, 2] {
            self.leases[neighbour].input_mut().fill(0xa5);
        }
        let before = self.leases[1].input().to_vec();
        let cpu = Cpu::with_level(1, level).unwrap();
        let resizer = cpu.open(&self.spec, &self.layout).unwrap();
        let slot = SlotMemory::new(&self.daemon, &self.layout, 1).unwrap();
        for band in Band::cut(bands) {
            resizer.resize(slot, band, &mut Scratch::default()).unwrap();
        }
        assert_eq!(self.leases[1].input(), before, "the input was written");
        for neighbour in [0, 2] {
            assert!(self.leases[neighbour].input().iter().all(|&byte| byte == 0xa5));
            assert!(self.leases[neighbour].output().iter().all(|&byte| byte == 0));
        }
        let output = self.leases[1].output();
        assert_eq!(output[output.len() - TAIL..], [0; TAIL], "bytes behind the frame were written");
        packed(output, self.layout.output())
    }
}

fn packed(frame: &[u8], layout: &FrameLayout) -> Vec<u8> {
    let rows = |plane: &resized_protocol::frame::Plane| {
        let (start, stride, bytes) = (plane.offset, plane.stride, plane.row_bytes());
        (0..plane.rows()).map(move |row| start + row * stride..start + row * stride + bytes)
    };
    layout.planes().iter().flat_map(rows).flat_map(|row| &frame[row]).copied().collect()
}

fn spec(format: PixelFormat, filter: Filter, from: (u32, u32), to: (u32, u32)) -> StreamSpec {
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    StreamSpec { filter, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
}

/// The levels that this machine has.
fn levels() -> Vec<Level> {
    [Level::Scalar, Level::Avx2, Level::Avx512]
        .into_iter()
        .filter(|&level| {
            let there = Cpu::with_level(1, level).is_some();
            if !there {
                eprintln!("SKIPPED: this CPU has no {level:?}");
            }
            there
        })
        .collect()
}

/// Noise of any value (xorshift, Marsaglia 2003).
fn noise(seed: u32) -> impl FnMut() -> u8 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    }
}

/// Noise of black and white only, in runs: hard edges.
fn edges(seed: u32) -> impl FnMut() -> u8 {
    let (mut noise, mut value) = (noise(seed), 0);
    move || {
        if noise() < 80 {
            value = !value;
        }
        value
    }
}

const SIZES: [((u32, u32), (u32, u32)); 9] = [
    ((96, 54), (32, 18)),
    ((96, 45), (20, 9)),
    ((48, 37), (17, 13)),
    ((31, 20), (64, 45)),
    ((33, 17), (33, 17)),
    ((1, 1), (5, 3)),
    ((3, 7), (1, 1)),
    ((210, 3), (7, 5)),
    ((2, 150), (3, 4)),
];

/// Largest distance of the device's samples from the exact ones.
fn error(ring: &mut Ring, sample: impl FnMut() -> u8) -> f64 {
    let found = ring.resized(Level::Scalar, 1, sample);
    let (spec, input) = (ring.spec, ring.leases[1].input());
    let (mut worst, mut start) = (0.0_f64, 0);
    for (p, plane) in ring.layout.output().planes().iter().enumerate() {
        for c in 0..plane.channels {
            let wanted = exact::channel(&spec, &ring.layout, input, (p, c));
            let found = found[start..][..plane.row_bytes() * plane.rows()].iter();
            for (found, wanted) in found.skip(c).step_by(plane.channels).zip(wanted) {
                worst = worst.max((f64::from(*found) - wanted.clamp(0.0, 255.0)).abs());
            }
        }
        start += plane.row_bytes() * plane.rows();
    }
    worst
}

#[test]
fn no_sample_is_further_than_one_from_exact() {
    for filter in Filter::ALL {
        for (seed, (from, to)) in SIZES.into_iter().enumerate() {
            for format in [PixelFormat::Gray8, PixelFormat::I420, PixelFormat::Rgb24] {
                let mut ring = Ring::new(spec(format, filter, from, to));
                let noise = error(&mut ring, noise(seed as u32));
                let edges = error(&mut ring, edges(seed as u32));
                assert!(
                    noise.max(edges) < 0.75,
                    "{:?}: {noise} on noise, {edges} on edges",
                    ring.spec
                );
            }
        }
    }
}

/// Rows so long that the horizontal pass comes first although 7:1 is much, with some forty taps.
#[test]
fn long_rows_are_exact_and_alike_too() {
    let spec = spec(PixelFormat::Gray8, Filter::Lanczos3, (2100, 28), (300, 4));
    let mut ring = Ring::new(spec);
    let error = error(&mut ring, noise(1)).max(error(&mut ring, edges(1)));
    assert!(error < 0.75, "{error}");
    assert_levels_agree(spec, 1);
}

#[test]
fn range_and_siting_are_exact_too() {
    let colours = [
        (Range::Limited, Siting::Left),
        (Range::Full, Siting::Centre),
        (Range::Full, Siting::Left),
        (Range::Limited, Siting::Centre),
    ];
    for filter in Filter::ALL {
        for (from, to) in [((40, 21), (17, 9)), ((9, 6), (31, 11)), ((15, 15), (15, 15))] {
            for format in [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgba] {
                for (source, destination) in
                    colours.into_iter().flat_map(|a| colours.map(move |b| (a, b)))
                {
                    let mut spec = spec(format, filter, from, to);
                    (spec.source.range, spec.source.siting) = source;
                    (spec.destination.range, spec.destination.siting) = destination;
                    let error = error(&mut Ring::new(spec), noise(1));
                    assert!(error < 0.75, "{error}: {spec:?}");
                }
            }
        }
    }
}

#[test]
fn chroma_moves_a_quarter_sample_between_sitings() {
    let mut spec = spec(PixelFormat::Nv12, Filter::Bilinear, (16, 2), (16, 2));
    (spec.source.siting, spec.destination.siting) = (Siting::Left, Siting::Centre);
    let mut ring = Ring::new(spec);
    let mut next = (0..).map(|i: u32| (i % 64 / 2 * 8) as u8);
    let output = ring.resized(Level::Scalar, 1, || next.next().unwrap());
    let row: Vec<_> = output[32..].iter().step_by(2).copied().collect();
    assert_eq!(row, [2, 10, 18, 26, 34, 42, 50, 56]);
}

#[test]
fn flat_stays_flat_in_every_format_filter_and_range() {
    for level in levels() {
        for format in PixelFormat::ALL {
            for filter in Filter::ALL {
                for (from, to) in [((37, 11), (13, 5)), ((5, 3), (16, 7))] {
                    let mut ring = Ring::new(spec(format, filter, from, to));
                    for value in [0, 1, 16, 128, 254, 255] {
                        let output = ring.resized(level, 1, || value);
                        assert!(output.iter().all(|&sample| sample == value), "{:?}", ring.spec);
                    }
                }
            }
        }
    }
}

#[test]
fn ranges_convert_at_their_ends_and_alpha_does_not() {
    let pixel = |format, from, to, value| {
        let mut spec = spec(format, Filter::Lanczos3, (7, 7), (3, 4));
        (spec.source.range, spec.destination.range) = (from, to);
        Ring::new(spec).resized(Level::Scalar, 1, || value)
    };
    use PixelFormat::{Gray8, I420, Nv12, Rgba};
    use Range::{Full, Limited};
    assert_eq!(pixel(Gray8, Limited, Full, 16), [0; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 235), [255; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 3), [0; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 250), [255; 12]);
    assert_eq!(pixel(Gray8, Full, Limited, 0), [16; 12]);
    assert_eq!(pixel(Gray8, Full, Limited, 255), [235; 12]);
    for format in [I420, Nv12] {
        assert_eq!(pixel(format, Limited, Full, 128)[12..], [128; 8]);
        assert_eq!(pixel(format, Full, Limited, 128)[12..], [128; 8]);
        assert_eq!(pixel(format, Full, Limited, 0)[12..], [16; 8]);
        assert_eq!(pixel(format, Limited, Full, 240)[12..], [255; 8]);
    }
    assert_eq!(pixel(Rgba, Limited, Full, 16)[..8], [0, 0, 0, 16, 0, 0, 0, 16]);
}

#[test]
fn equal_sizes_copy() {
    for level in levels() {
        for format in PixelFormat::ALL {
            for filter in Filter::ALL {
                let mut ring = Ring::new(spec(format, filter, (43, 9), (43, 9)));
                let output = ring.resized(level, 2, noise(7));
                assert_eq!(output, packed(ring.leases[1].input(), ring.layout.input()));
            }
        }
    }
}

fn assert_levels_agree(spec: StreamSpec, seed: u32) {
    let mut ring = Ring::new(spec);
    let oracle = ring.resized(Level::Scalar, 1, noise(seed));
    for level in levels() {
        assert!(ring.resized(level, 1, noise(seed)) == oracle, "{level:?} differs: {spec:?}");
    }
}

#[test]
fn every_level_gives_the_same_bits_at_every_width() {
    for width in 1..=300_u32 {
        for (i, format) in PixelFormat::ALL.into_iter().enumerate() {
            let filter = Filter::ALL[(width as usize + i) % Filter::ALL.len()];
            let other = (width * 37 + i as u32 * 101) % 300 + 1;
            let (from, to) = if (width + i as u32).is_multiple_of(2) { (5, 3) } else { (1, 3) };
            assert_levels_agree(spec(format, filter, (width, from), (other, to)), width);
        }
    }
}

#[test]
fn every_level_gives_the_same_bits_at_the_extremes() {
    for filter in Filter::ALL {
        for (from, to) in [
            ((16_384, 1), (1, 1)),
            ((16_383, 2), (5, 1)),
            ((5, 1), (16_383, 2)),
            ((1, 16_384), (1, 1)),
            ((3, 1), (3, 1000)),
            ((1, 1), (1, 1)),
            ((700, 9), (2100, 13)),
            // Wide enough for strips.
            ((6000, 40), (3000, 20)),
        ] {
            for format in [PixelFormat::Gray8, PixelFormat::Nv12] {
                assert_levels_agree(spec(format, filter, from, to), 3);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_level_gives_the_same_bits_in_any_spec_however_it_is_cut(
        format in proptest::sample::select(PixelFormat::ALL.to_vec()),
        filter in proptest::sample::select(Filter::ALL.to_vec()),
        from in (1_u32..150, 1_u32..40),
        to in (1_u32..150, 1_u32..40),
        full in any::<(bool, bool)>(),
        centre in any::<(bool, bool)>(),
        seed in any::<u32>(),
    ) {
        let range = |full| if full { Range::Full } else { Range::Limited };
        let siting = |centre| if centre { Siting::Centre } else { Siting::Left };
        let mut spec = spec(format, filter, from, to);
        (spec.source.range, spec.destination.range) = (range(full.0), range(full.1));
        (spec.source.siting, spec.destination.siting) = (siting(centre.0), siting(centre.1));
        let mut ring = Ring::new(spec);
        let oracle = ring.resized(Level::Scalar, 1, edges(seed));
        for level in levels() {
            for bands in [1, 2, 3, 7] {
                let found = ring.resized(level, bands, edges(seed));
                prop_assert!(found == oracle, "{:?} in {} bands", level, bands);
            }
        }
    }
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
    let mut mixed = ring.spec;
    mixed.destination.format = PixelFormat::Nv12;
    let layout = RingLayout::new(&mixed).unwrap();
    let refused = cpu.open(&mixed, &layout).err();
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
