//! Every level of the cores and every GPU against the scalar code, bit by bit.

use proptest::prelude::*;
use resized::device::cpu::Level;
use resized_protocol::frame::{Matrix, PixelFormat, Range, Siting};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::Crop;

use crate::frames::{
    MATRICES, NORMALISATIONS, Ring, either, noise, pictures, sources, spec, tensors,
};
use crate::{gpu, levels};

pub(crate) fn assert_levels_agree(spec: StreamSpec, seed: u32) {
    let mut ring = Ring::new(spec);
    let oracle = ring.resized(Level::Scalar, 1, noise(seed));
    for level in levels() {
        assert!(ring.resized(level, 1, noise(seed)) == oracle, "{level:?} differs: {spec:?}");
    }
}

#[test]
fn every_level_gives_the_same_bits_at_every_width() {
    for width in 1..=300_u32 {
        for (i, format) in sources().enumerate() {
            let filter = Filter::ALL[(width as usize + i) % Filter::ALL.len()];
            let other = (width * 37 + i as u32 * 101) % 300 + 1;
            let (from, to) = if (width + i as u32).is_multiple_of(2) { (5, 3) } else { (1, 3) };
            assert_levels_agree(spec(format, filter, (width, from), (other, to)), width);
        }
    }
}

#[test]
fn every_device_gives_the_same_bits_at_the_extremes() {
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
            for format in [PixelFormat::Gray8, PixelFormat::Nv12, PixelFormat::P010] {
                let spec = spec(format, filter, from, to);
                assert_levels_agree(spec, 3);
                gpu::assert_a_gpu_agrees(spec, from.0 + to.1);
            }
        }
    }
}

fn colours() -> impl Strategy<Value = (Range, Siting, Matrix)> {
    use proptest::sample::select;
    let range = select(vec![Range::Limited, Range::Full]);
    (range, select(vec![Siting::Left, Siting::Centre]), select(&MATRICES[..]))
}

/// Sides that are mostly below `usual`.
fn side(usual: u32, most: u32) -> impl Strategy<Value = u32> {
    prop_oneof![7 => 1..usual, 1 => usual..most]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_level_gives_the_same_bits_in_any_spec_however_it_is_cut(
        format in proptest::sample::select(sources().collect::<Vec<_>>()),
        filter in proptest::sample::select(Filter::ALL.to_vec()),
        from in (side(150, 1000), side(40, 200)),
        to in (side(150, 1000), side(40, 200)),
        source in colours(),
        destination in colours(),
        other in proptest::option::of(0_usize..9 + 12),
        normalisation in proptest::sample::select(&NORMALISATIONS[..]),
        framing in 0_usize..4,
        weighs in any::<bool>(),
        crop in proptest::option::of((0.0..0.5, 0.0..0.5, 0.1..0.5, 0.1..0.5)),
        // Of the width, or of the height, of what is seen.
        unchanged in 0_usize..16,
        seed in any::<u32>(),
    ) {
        let mut spec = spec(format, filter, from, to);
        for (frame, colours) in [(&mut spec.source, source), (&mut spec.destination, destination)] {
            (frame.range, frame.siting, frame.matrix) = colours;
        }
        spec.normalisation = normalisation;
        if let Some(other) = other {
            let mut all = sources().chain(tensors());
            spec.destination.format = all.nth(other).unwrap();
        }
        let (width, height) = (f64::from(from.0), f64::from(from.1));
        spec.crop = crop.map(|(left, top, w, h)| Crop {
            left: left * width,
            top: top * height,
            width: w * width,
            height: h * height,
        });
        if unchanged < 2 {
            let crop = spec.crop.get_or_insert(Crop::whole(spec.source.extent));
            let (extent, start, len) = match unchanged {
                0 => (&mut spec.destination.extent.width, &mut crop.left, &mut crop.width),
                _ => (&mut spec.destination.extent.height, &mut crop.top, &mut crop.height),
            };
            (*start, *len) = (start.floor(), len.floor().max(1.0));
            *extent = *len as u32;
        }
        spec.framing = pictures()[framing].1;
        spec.alpha = if weighs { Alpha::Weighs } else { Alpha::Apart };
        let mut ring = Ring::new(spec);
        let oracle = ring.resized(Level::Scalar, 1, either(seed));
        for level in levels() {
            for bands in [1, 2, 3, 7] {
                let found = ring.resized(level, bands, either(seed));
                prop_assert!(found == oracle, "{:?} in {} bands", level, bands);
            }
        }
        for gpu in gpu::all().iter() {
            let found = Ring::new(spec).resized_on(gpu, 1, either(seed));
            prop_assert!(gpu::is_alike(&spec, &oracle, &found), "{}", gpu.transfer());
        }
        gpu::assert_valid();
    }
}
