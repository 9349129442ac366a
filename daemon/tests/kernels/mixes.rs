//! Mixes of planes whose horizontal pass comes second: beyond what the sums of the other order have
//! room for, and where the width grows too much. Overshoot has to reach the matrix uncut.

use resized_protocol::frame::{Matrix, PixelFormat};
use resized_protocol::message::Filter;

use crate::extremes::{assert_exact, worst};
use crate::frames::{Ring, sources, spec, tensors};

/// Extents that make the horizontal pass the second.
const SIZES: [((u32, u32), (u32, u32)); 4] =
    [((250, 150), (7, 4)), ((4, 90), (12, 3)), ((2, 120), (60, 11)), ((300, 9), (2, 3))];

#[test]
fn every_format_made_of_every_other_is_exact_where_it_shrinks_or_grows_much() {
    let matrices = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];
    let pairs = sources().flat_map(|from| sources().chain(tensors()).map(move |to| (from, to)));
    for (n, (from, to)) in pairs.enumerate() {
        let (source, destination) = SIZES[n % SIZES.len()];
        let mut spec = spec(from, Filter::ALL[n / 2 % Filter::ALL.len()], source, destination);
        spec.destination.format = to;
        (spec.source.matrix, spec.destination.matrix) = (matrices[n % 3], matrices[n / 3 % 3]);
        let ring = Ring::new(spec);
        // Alike, and one against the others: overshoot of one colour above, of the other below.
        for flipped in [0b0000, 0b1010, 0b0101] {
            assert_exact(spec, &worst(&spec, &ring, flipped), flipped == 0b1010);
        }
    }
}

/// Red and blue, on both sides of a corner.
#[test]
fn an_edge_between_two_colours_keeps_them_in_a_thumbnail() {
    for filter in [Filter::Bicubic, Filter::Lanczos3] {
        for (from, to) in [
            (PixelFormat::Rgb24, PixelFormat::I420),
            (PixelFormat::Rgb24, PixelFormat::P010),
            (PixelFormat::I420, PixelFormat::Rgb24),
            (PixelFormat::Nv12, PixelFormat::I420P10),
        ] {
            let mut spec = spec(from, filter, (480, 270), (15, 9));
            spec.destination.format = to;
            let ring = Ring::new(spec);
            let mut picture = vec![0; ring.layout.input().len()];
            let mut channel = 0;
            for plane in ring.layout.input().planes() {
                let (width, height) = (plane.extent.width as usize, plane.rows());
                for c in 0..plane.channels {
                    // Of a red pixel, and of a blue one.
                    let (red, blue) = match (from, channel) {
                        (PixelFormat::Rgb24, 0) => (255, 0),
                        (PixelFormat::Rgb24, 1) => (0, 0),
                        (PixelFormat::Rgb24, _) => (0, 255),
                        (_, 0) => (81, 41),
                        (_, 1) => (90, 240),
                        (_, _) => (240, 110),
                    };
                    channel += 1;
                    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                        let is_red = (x > width / 2 + 2) != (y > height / 2 + 1);
                        let at = plane.offset + y * plane.stride + x * plane.channels + c;
                        picture[at] = if is_red { red } else { blue };
                    }
                }
            }
            assert_exact(spec, &picture, true);
        }
    }
}
