//! Frames of which it is known beforehand what they become: copies, flat ones, ends of ranges.

use resized::device::cpu::Level;
use resized_protocol::frame::{PixelFormat, Range, Siting};
use resized_protocol::message::{Alpha, Filter};
use resized_protocol::placement::Crop;

use crate::bits::assert_levels_agree;
use crate::frames::{Ring, noise, packed, spec};
use crate::gpu::assert_valid;
use crate::{devices, levels};

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
