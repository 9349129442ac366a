//! Pictures that are made in strips, or copied, where they fill a part of their plane or are cut out of
//! one.

use resized::device::cpu::Level;
use resized_protocol::frame::{PixelFormat, Plane, Range};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::placement::{Align, Crop, Framing};

use crate::frames::{Ring, edges, noise, packed, sources, spec};
use crate::gpu::assert_a_gpu_agrees;
use crate::{devices, error, levels};

const BLACK: Framing = Framing::Fit { align: Align::End, pad: [0; 3] };

#[test]
fn strips_end_where_the_picture_does() {
    let cases = [
        // The picture fills the plane, leaves room beside it, and above.
        ((6000, 40), (3000, 20), 0.0, BLACK),
        ((6000, 40), (3000, 20), 701.0, BLACK),
        ((6000, 40), (3000, 29), 701.0, BLACK),
        ((6000, 40), (3000, 20), 701.0, Framing::Stretch),
        ((1100, 60), (1100, 11), 0.0, BLACK),
        ((1100, 60), (1100, 11), 701.0, BLACK),
        // Nothing changes along rows.
        ((1801, 60), (1100, 11), 701.0, Framing::Stretch),
    ];
    for (from, to, left, framing) in cases {
        for format in [PixelFormat::Gray8, PixelFormat::Nv12, PixelFormat::Rgba] {
            let mut spec = spec(format, Filter::Bicubic, from, to);
            let (width, height) = (f64::from(from.0), f64::from(from.1));
            spec.crop = Some(Crop { left, width: width - left, top: 0.0, height });
            spec.framing = framing;
            let mut ring = Ring::new(spec);
            let oracle = ring.resized(Level::Scalar, 1, edges(3));
            for level in levels() {
                for bands in [1, 2, 5] {
                    let found = ring.resized(level, bands, edges(3));
                    assert!(found == oracle, "{level:?} in {bands} bands: {spec:?}");
                }
            }
            assert_a_gpu_agrees(spec, (from.1 + to.1) + left as u32);
        }
    }
}

/// Smaller or as wide as before.
#[test]
fn strips_of_a_part_of_a_plane_are_exact() {
    for (from, to, framing) in
        [((5000, 6), (2500, 3), BLACK), ((1801, 60), (1100, 11), Framing::Stretch)]
    {
        let mut spec = spec(PixelFormat::Gray8, Filter::Bicubic, from, to);
        let (width, height) = (f64::from(from.0) - 701.0, f64::from(from.1));
        spec.crop = Some(Crop { left: 701.0, top: 0.0, width, height });
        spec.framing = framing;
        let error = error(&mut Ring::new(spec), noise(1));
        assert!(error < 0.6, "{error}: {spec:?}");
    }
}

/// As it is by hand: black, and rows of the source in their place.
#[test]
fn what_is_unchanged_is_copied_into_its_place() {
    let devices = devices();
    for format in sources() {
        for ((width, height), (left, top)) in [((40, 8), (18, 0)), ((22, 20), (0, 12))] {
            let mut spec = spec(format, Filter::Lanczos3, (43, 19), (width, height));
            spec.crop = Some(Crop { left: 12.0, top: 4.0, width: 22.0, height: 8.0 });
            spec.framing = BLACK;
            let mut ring = Ring::new(spec);
            for device in devices.iter() {
                for bands in [1, 3] {
                    let output = ring.resized_on(device, bands, noise(7));
                    let wanted = copied(&ring, (left, top));
                    assert!(output == wanted, "{format:?} {width} x {height}");
                }
            }
        }
    }
}

/// The crop of 22 x 8 pixels at 12, 4.
fn copied(ring: &Ring, (left, top): (usize, usize)) -> Vec<u8> {
    let (input, layout) = (ring.leases[1].input(), ring.layout.output());
    let mut frame = vec![0; layout.len()];
    let planes = ring.layout.input().planes().iter().zip(layout.planes()).zip(black(&ring.spec));
    for ((from, to), black) in planes {
        let step = if from.extent.width < 43 { 2 } else { 1 };
        let place = |plane: &Plane, x: usize, y: usize| {
            plane.offset + y / step * plane.stride + x / step * plane.channels * plane.sample_bytes
        };
        for y in 0..to.rows() {
            let row = &mut frame[place(to, 0, y * step)..][..to.row_bytes()];
            row.chunks_exact_mut(black.len()).for_each(|pixel| pixel.copy_from_slice(&black));
        }
        for y in (0..8).step_by(step) {
            let (start, end) = (place(from, 12, 4 + y), place(from, 34, 4 + y));
            let row = &mut frame[place(to, left, top + y)..][..end - start];
            row.copy_from_slice(&input[start..end]);
            // What is not of the ten bits does not count.
            for sample in row.as_chunks_mut::<2>().0 {
                let all = u16::from_le_bytes(*sample);
                match ring.spec.source.format {
                    PixelFormat::I420P10 => *sample = all.min(1023).to_le_bytes(),
                    PixelFormat::P010 => *sample = (all & 0xffc0).to_le_bytes(),
                    _ => {}
                }
            }
        }
    }
    packed(&frame, layout)
}

/// A black pixel of each plane.
fn black(spec: &StreamSpec) -> Vec<Vec<u8>> {
    let luma = if spec.destination.range == Range::Limited { 16 } else { 0 };
    let ten = |value: u16, shift: u16| (value << shift).to_le_bytes().to_vec();
    match spec.destination.format {
        PixelFormat::Gray8 => vec![vec![luma]],
        PixelFormat::I420 => vec![vec![luma], vec![128], vec![128]],
        PixelFormat::Nv12 => vec![vec![luma], vec![128; 2]],
        PixelFormat::I420P10 => vec![ten(64, 0), ten(512, 0), ten(512, 0)],
        PixelFormat::P010 => vec![ten(64, 6), ten(512, 6).repeat(2)],
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => vec![vec![0; 3]],
        _ => vec![vec![0, 0, 0, 255]],
    }
}
