//! Owns the way from the planes of a frame to a JPEG: they are compressed from where they lie.
//!
//! Knows no slots and no files.

use resized_protocol::frame::FrameLayout;
use turbojpeg::{Subsamp, YuvPlanesImage};

/// The planes of an I420 frame, to be compressed as they lie. `even` is for luma with an odd side: libjpeg-turbo
/// reads whole blocks of 2 x 2 pixels, so its last column and row are repeated there.
///
/// # Panics
///
/// If the layout is not that of I420, or the frame shorter than it.
pub fn planes<'a>(
    layout: &FrameLayout,
    frame: &'a [u8],
    even: &'a mut Vec<u8>,
) -> YuvPlanesImage<&'a [u8]> {
    let [luma, cb, cr] = layout.planes() else { panic!("I420 has three planes") };
    let [y, u, v] =
        [luma, cb, cr].map(|plane| &frame[plane.offset..][..plane.stride * plane.rows()]);
    let (width, height) = (luma.row_bytes(), luma.rows());
    let (y_plane, y_stride) = if width.is_multiple_of(2) && height.is_multiple_of(2) {
        (y, luma.stride)
    } else {
        even.clear();
        for row in 0..height.next_multiple_of(2) {
            let row = &y[row.min(height - 1) * luma.stride..][..width];
            even.extend_from_slice(row);
            even.extend_from_slice(&row[width - width % 2..]);
        }
        (even.as_slice(), width.next_multiple_of(2))
    };
    YuvPlanesImage {
        y_plane,
        u_plane: u,
        v_plane: v,
        width,
        height,
        y_stride,
        u_stride: cb.stride,
        v_stride: cr.stride,
        subsamp: Subsamp::Sub2x2,
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, PixelFormat};

    use super::*;

    #[test]
    fn even_frames_are_not_copied_and_odd_ones_end_as_they_did() {
        for (width, height) in [(4, 2), (3, 2), (4, 3), (3, 3), (1, 1)] {
            let layout = FrameLayout::new(PixelFormat::I420, Extent::new(width, height)).unwrap();
            let mut frame = vec![0xEE; layout.len()];
            let luma = layout.planes()[0];
            let (width, height) = (luma.row_bytes(), luma.rows());
            let value = |x: usize, y: usize| (10 * y + x) as u8;
            for y in 0..height {
                (0..width).for_each(|x| frame[y * luma.stride + x] = value(x, y));
            }
            let mut even = vec![1, 2, 3];
            let image = planes(&layout, &frame, &mut even);
            assert_eq!(image.y_plane.as_ptr() == frame.as_ptr(), width % 2 + height % 2 == 0);
            for y in 0..height.next_multiple_of(2) {
                for x in 0..width.next_multiple_of(2) {
                    let expected = value(x.min(width - 1), y.min(height - 1));
                    assert_eq!(image.y_plane[y * image.y_stride + x], expected, "{x} {y}");
                }
            }
        }
    }
}
