//! Devices against their definition: accuracy, flat areas, ranges, siting, bands, bounds, and every
//! level of the cores and every GPU against the scalar one, bit by bit.

mod bits;
mod exact;
mod extremes;
mod frames;
mod gpu;
mod letterbox;
mod mixes;
mod rewritten;
#[path = "../common/skip.rs"]
mod skip;

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, DeviceError, Scratch};
use resized_protocol::frame::{Matrix, PixelFormat, Range, Siting};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{RingLayout, SlotMemory};
use resized_protocol::tensor::{Element, Normalisation, Tensor};

use bits::assert_levels_agree;
use frames::{
    NORMALISATIONS, Ring, SIZES, edges, noise, numbers, packed, pictures, sources, spec, tensors,
};
use gpu::{assert_a_gpu_agrees, assert_valid};

/// The levels that this machine has.
fn levels() -> Vec<Level> {
    Level::ALL
        .iter()
        .copied()
        .filter(|&level| {
            let there = Cpu::with_level(1, level).is_some();
            if !there {
                eprintln!("SKIPPED: this CPU has no {level:?}");
            }
            there
        })
        .collect()
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
    let worst = wanted.zip(&mut found).map(|(w, f)| (f - w).abs()).fold(0.0, f64::max);
    assert_eq!(found.next(), None);
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
    }
}

/// Where the same format would be made in strips.
#[test]
fn long_rows_are_mixed_as_a_whole() {
    let resized = |from, to, size, target| {
        let mut spec = spec(from, Filter::Bicubic, size, target);
        spec.destination.format = to;
        assert_levels_agree(spec, 1);
        Ring::new(spec).resized(Level::Scalar, 1, noise(1))
    };
    let alike = |one: &[u8], other: &[u8]| one.iter().zip(other).all(|(a, b)| a.abs_diff(*b) <= 1);

    let (size, target) = ((3840, 24), (1920, 12));
    let planes = resized(PixelFormat::I420, PixelFormat::I420, size, target);
    let luma = resized(PixelFormat::I420, PixelFormat::Gray8, size, target);
    assert!(alike(&luma, &planes[..luma.len()]));

    let (size, target) = ((1920, 36), (640, 12));
    let copied = resized(PixelFormat::Rgba, PixelFormat::Rgba, size, target);
    let mut mixed = resized(PixelFormat::Rgba, PixelFormat::Bgra, size, target);
    mixed.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    assert!(alike(&copied, &mixed));
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
            }
        }
    }
}

/// What lies between the passes would be 268 million pixels, were the wrong one first.
#[test]
fn the_flattest_frame_becomes_the_most_upright_one() {
    for format in [PixelFormat::Gray8, PixelFormat::Rgba, PixelFormat::I420P10] {
        for (from, to) in [((16_384, 1), (1, 16_384)), ((1, 16_384), (16_384, 1))] {
            let output = {
                let mut ring = Ring::new(spec(format, Filter::Bicubic, from, to));
                ring.resized(*levels().last().unwrap(), 1, || 2)
            };
            // Ten bits are 0x202.
            assert!(output.iter().all(|&byte| byte == 2), "{format:?}");
        }
    }
}

#[test]
fn a_single_pixel_has_its_own_chroma() {
    let mut spec = spec(PixelFormat::I420, Filter::Bilinear, (1, 1), (4, 4));
    (spec.source.range, spec.destination.range) = (Range::Limited, Range::Full);
    let output = Ring::new(spec).resized(Level::Scalar, 1, || 128);
    assert_eq!(output[16..], [128; 8]);
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
            }
        }
    }
}

/// Opaque on the whole, with parts that are nearly transparent: errors grow as opacity falls.
#[test]
fn colours_weighed_by_opacity_are_exact() {
    for from in [PixelFormat::Rgba, PixelFormat::Bgra] {
        for to in sources() {
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
                    (spec.crop, spec.framing) = pictures()[i];
                    let (mut next, mut at) = (noise(i as u32), 0_u32);
                    let opaque = move || {
                        at += 1;
                        if at.is_multiple_of(4) { next() | 0x80 } else { next() }
                    };
                    let error = error(&mut Ring::new(spec), opaque);
                    let most = if PixelFormat::TEN_BIT.contains(&to) { 2.0 } else { 1.0 };
                    assert!(error < most, "{error}: {spec:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_transparent_does_not_bleed() {
    for device in devices().iter() {
        let mut spec = spec(PixelFormat::Rgba, Filter::Lanczos3, (64, 9), (21, 3));
        spec.alpha = Alpha::Weighs;
        let pixels = [[200, 100, 50, 255], [0, 255, 255, 0], [255, 0, 255, 0], [200, 100, 50, 255]];
        let mut bytes = (0_usize..).map(|i| pixels[i / 4 % 3 + i / 768 % 2][i % 4]);
        let output = Ring::new(spec).resized_on(device, 1, || bytes.next().unwrap());
        for pixel in output.as_chunks::<4>().0.iter().filter(|pixel| pixel[3] > 16) {
            assert!(
                [200, 100, 50].iter().zip(pixel).all(|(a, b)| b.abs_diff(*a) <= 4),
                "{pixel:?}"
            );
        }
    }
    assert_valid();
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
                // In steps of samples; beside that half a unit in the last place of numbers up to 256.
                let step = f64::from(normalisation.scale[0].max(normalisation.scale[2]));
                let last_place = match to {
                    PixelFormat::Tensor(Tensor { element: Element::I8, .. }) => 0.5,
                    PixelFormat::Tensor(Tensor { element: Element::F16, .. }) => step * 0.07,
                    _ => 0.0,
                };
                assert!(error < 0.5 * step + last_place, "{error}: {spec:?}");
                assert_levels_agree(spec, n as u32);
                assert_a_gpu_agrees(spec, n as u32);
            }
        }
    }
}

#[test]
fn what_is_cut_out_unchanged_is_copied() {
    for device in devices().iter() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                let mut spec = spec(format, filter, (43, 19), (22, 8));
                spec.crop = Some(Crop { left: 12.0, top: 4.0, width: 22.0, height: 8.0 });
                let mut ring = Ring::new(spec);
                let output = ring.resized_on(device, 2, noise(7));
                let mut wanted = Vec::new();
                for plane in ring.layout.input().planes() {
                    let step = (43_usize.div_ceil(plane.extent.width as usize)).min(2);
                    for row in 4 / step..12 / step {
                        let start = plane.offset + row * plane.stride + 12 / step * plane.channels;
                        let row = &ring.leases[1].input()[start..];
                        wanted.extend_from_slice(&row[..22 / step * plane.channels]);
                    }
                }
                assert_eq!(output, wanted, "{format:?} {filter:?}");
            }
        }
    }
    assert_valid();
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
    for device in devices().iter() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                for (from, to) in [((37, 11), (13, 5)), ((5, 3), (16, 7))] {
                    let mut ring = Ring::new(spec(format, filter, from, to));
                    for value in [0, 1, 16, 128, 254, 255] {
                        let output = ring.resized_on(device, 1, || value);
                        assert!(output.iter().all(|&sample| sample == value), "{:?}", ring.spec);
                    }
                }
            }
        }
    }
    assert_valid();
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
    for device in devices().iter() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                let mut ring = Ring::new(spec(format, filter, (43, 9), (43, 9)));
                let output = ring.resized_on(device, 2, noise(7));
                assert_eq!(output, packed(ring.leases[1].input(), ring.layout.input()));
            }
        }
    }
    assert_valid();
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
