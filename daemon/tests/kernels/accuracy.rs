//! No sample is further than a step from exact arithmetic, whatever the format, filter and geometry, and
//! every level and GPU makes the same of it.

use resized_protocol::frame::{Matrix, PixelFormat, Range, Siting};
use resized_protocol::message::{Alpha, Filter};
use resized_protocol::tensor::{Element, Normalisation, Tensor};

use crate::bits::assert_levels_agree;
use crate::error;
use crate::frames::{NORMALISATIONS, Ring, SIZES, edges, noise, pictures, sources, spec, tensors};
use crate::gpu::{assert_a_gpu_agrees, assert_gpus_agree};

#[test]
fn no_sample_is_further_than_one_from_exact() {
    for filter in Filter::ALL {
        for (seed, (from, to)) in SIZES.into_iter().enumerate() {
            for format in [PixelFormat::Gray8, PixelFormat::I420, PixelFormat::Rgb24] {
                let mut ring = Ring::new(spec(format, filter, from, to));
                let noise = error(&mut ring, noise(seed as u32));
                let edges = error(&mut ring, edges(seed as u32));
                assert!(
                    noise.max(edges) < 0.6,
                    "{:?}: {noise} on noise, {edges} on edges",
                    ring.spec
                );
            }
        }
    }
}

/// Rows so long that the horizontal pass comes first although 7:1 is much, with some forty taps;
/// and such as are worked on in pieces, where it comes second or changes nothing.
#[test]
fn long_rows_are_exact_and_alike_too() {
    for (from, to) in [((2100, 28), (300, 4)), ((1100, 60), (70, 4)), ((1100, 40), (1100, 11))] {
        let spec = spec(PixelFormat::Gray8, Filter::Lanczos3, from, to);
        let mut ring = Ring::new(spec);
        let error = error(&mut ring, noise(1)).max(error(&mut ring, edges(1)));
        assert!(error < 0.6, "{from:?} to {to:?}: {error}");
        assert_levels_agree(spec, 1);
        assert_gpus_agree(spec, 1);
    }
}

/// Where one direction shrinks and the other grows, so much that only one order of the passes will do.
#[test]
fn what_is_turned_from_flat_to_upright_is_exact() {
    for (i, filter) in Filter::ALL.into_iter().enumerate() {
        for (j, format) in sources().enumerate() {
            for (from, to) in [((300, 1), (1, 90)), ((1, 300), (90, 1)), ((90, 2), (3, 40))] {
                let mut spec = spec(format, filter, from, to);
                if (i + j).is_multiple_of(2) {
                    (spec.source.range, spec.destination.range) = (Range::Limited, Range::Full);
                }
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(3)).max(error(&mut ring, edges(5)));
                // Hundreds of weights of 14 bits: what rounding them costs adds up to more than a
                // step of ten bits.
                let most = if PixelFormat::TEN_BIT.contains(&format) { 1.5 } else { 1.0 };
                assert!(error < most, "{error}: {spec:?}");
                assert_levels_agree(spec, 7);
                assert_a_gpu_agrees(spec, (i + j) as u32);
            }
        }
    }
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
                    assert!(error < 0.6, "{error}: {spec:?}");
                }
            }
        }
    }
}

#[test]
fn crops_and_shapes_are_exact() {
    for (i, (crop, framing)) in pictures().into_iter().enumerate() {
        for (j, format) in sources().enumerate() {
            for to in [(17, 23), (31, 9), (90, 70), (20, 10)] {
                let filter = Filter::ALL[(i + j) % Filter::ALL.len()];
                let mut spec = spec(format, filter, (40, 30), to);
                (spec.crop, spec.framing) = (crop, framing);
                let error = error(&mut Ring::new(spec), noise(1));
                // In steps of ten bits where those are.
                let most = if PixelFormat::TEN_BIT.contains(&format) { 1.0 } else { 0.6 };
                assert!(error < most, "{error}: {spec:?}");
            }
        }
    }
}

#[test]
fn ten_bits_are_exact_at_any_ratio() {
    for format in PixelFormat::TEN_BIT {
        for filter in Filter::ALL {
            for (from, to) in
                [((700, 40), (7, 1)), ((40, 700), (3, 2)), ((9, 500), (9, 3)), ((33, 20), (33, 20))]
            {
                let spec = spec(format, filter, from, to);
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(5)).max(error(&mut ring, edges(7)));
                assert!(error < 1.0, "{error}: {spec:?}");
                assert_levels_agree(spec, 9);
                assert_a_gpu_agrees(spec, from.0 + to.0);
            }
        }
    }
}

/// Opaque on the whole, with parts that are nearly transparent: errors grow as opacity falls.
#[test]
fn colours_weighed_by_opacity_are_exact() {
    for from in [PixelFormat::Rgba, PixelFormat::Bgra] {
        for (n, to) in sources().chain(tensors()).enumerate() {
            for (i, filter) in Filter::ALL.into_iter().enumerate() {
                // With the vertical pass first, too.
                for (source, size) in [
                    ((40, 30), (17, 23)),
                    ((40, 30), (61, 47)),
                    ((40, 30), (2, 1)),
                    ((250, 150), (7, 4)),
                ] {
                    let mut spec = spec(from, filter, source, size);
                    (spec.alpha, spec.destination.format) = (Alpha::Weighs, to);
                    spec.normalisation = NORMALISATIONS[(n + i) % NORMALISATIONS.len()];
                    (spec.crop, spec.framing) = pictures()[i];
                    let (mut next, mut at) = (noise(i as u32), 0_u32);
                    let opaque = move || {
                        at += 1;
                        if at.is_multiple_of(4) { next() | 0x80 } else { next() }
                    };
                    let error = error(&mut Ring::new(spec), opaque);
                    let most = match to {
                        PixelFormat::Tensor(tensor) => within(1.0, tensor, &spec.normalisation),
                        _ if PixelFormat::TEN_BIT.contains(&to) => 2.0,
                        _ => 1.0,
                    };
                    assert!(error < most, "{error}: {spec:?}");
                }
            }
        }
    }
}

/// So many steps of samples, as far apart as numbers of a tensor; beside that half a unit in the last
/// place of numbers up to 256.
fn within(steps: f64, tensor: Tensor, normalisation: &Normalisation) -> f64 {
    let step = f64::from(normalisation.scale[0].max(normalisation.scale[2]));
    let last_place = match tensor.element {
        Element::I8 => 0.5,
        Element::F16 => step * 0.07,
        Element::F32 => 0.0,
    };
    steps * step + last_place
}

#[test]
fn conversions_are_exact() {
    let colours = [
        (Range::Limited, Siting::Left, Matrix::Bt601),
        (Range::Full, Siting::Centre, Matrix::Bt709),
        (Range::Limited, Siting::Centre, Matrix::Bt2020),
    ];
    let mut n = 0;
    for from in sources() {
        for to in sources() {
            for (source, destination) in
                colours.into_iter().flat_map(|a| colours.map(move |b| (a, b)))
            {
                n += 1;
                let filter = Filter::ALL[n % Filter::ALL.len()];
                let size = [(17, 23), (61, 47), (40, 30)][n % 3];
                let mut spec = spec(from, filter, (40, 30), size);
                spec.destination.format = to;
                (spec.crop, spec.framing) = pictures()[n % pictures().len()];
                (spec.source.range, spec.source.siting, spec.source.matrix) = source;
                let colour = &mut spec.destination;
                (colour.range, colour.siting, colour.matrix) = destination;
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(n as u32)).max(error(&mut ring, edges(7)));
                assert!(error < 1.0, "{error}: {spec:?}");
                assert_levels_agree(spec, n as u32);
                assert_a_gpu_agrees(spec, n as u32);
            }
        }
    }
}

#[test]
fn tensors_are_exact() {
    assert_eq!(NORMALISATIONS[0], Normalisation::default());
    let mut n = 0;
    for from in sources() {
        for to in tensors() {
            for normalisation in NORMALISATIONS {
                n += 1;
                let filter = Filter::ALL[n % Filter::ALL.len()];
                let mut spec = spec(from, filter, (40, 30), [(35, 23), (17, 70)][n % 2]);
                spec.destination.format = to;
                spec.normalisation = normalisation;
                (spec.crop, spec.framing) = pictures()[n % pictures().len()];
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(n as u32)).max(error(&mut ring, edges(7)));
                let PixelFormat::Tensor(tensor) = to else { unreachable!("a tensor") };
                assert!(error < within(0.5, tensor, &normalisation), "{error}: {spec:?}");
                assert_levels_agree(spec, n as u32);
                assert_a_gpu_agrees(spec, n as u32);
            }
        }
    }
}
