//! Owns the way from a frame to a JPEG: its pixels are compressed from where they lie.

use resized_protocol::coding::Quality;
use resized_protocol::frame::{FrameLayout, PixelFormat};
use turbojpeg::{
    Compressor, Image, OutputBuf, Result, Subsamp, YuvPlanesImage, compressed_buf_len,
};

use crate::{image, packed};

/// Compresses one image after the other, and keeps its buffers for the next.
#[derive(Debug)]
pub struct Encoder {
    compressor: Compressor,
    jpeg: Vec<u8>,
    /// Luma that can't be compressed as it lies.
    even: Vec<u8>,
}

/// What is to be compressed.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// A frame of I420, and how it is laid out.
    I420(&'a FrameLayout, &'a [u8]),
    /// One plane, of gray or of colours, whose chroma is to be subsampled so.
    Plane(Image<&'a [u8]>, Subsamp),
}

impl<'a> Pixels<'a> {
    /// A frame of that format and layout; none if its format is one that no JPEG is made of. Chroma
    /// that is not subsampled yet will be so.
    pub fn of(
        format: PixelFormat,
        layout: &'a FrameLayout,
        frame: &'a [u8],
        chroma: Subsamp,
    ) -> Option<Self> {
        if format == PixelFormat::I420 {
            return Some(Self::I420(layout, frame));
        }
        let plane = &layout.planes()[0];
        Some(Self::Plane(image(&frame[plane.offset..], plane, packed(format)?), chroma))
    }
}

impl Encoder {
    /// One without buffers yet.
    pub fn new() -> Result<Self> {
        Ok(Self { compressor: Compressor::new()?, jpeg: Vec::new(), even: Vec::new() })
    }

    /// The JPEG. Fails if it would be longer than `longest` bytes; without that, it may be as long as it
    /// takes.
    pub fn encode(
        &mut self,
        pixels: &Pixels<'_>,
        quality: Quality,
        longest: Option<usize>,
    ) -> Result<&[u8]> {
        let Self { compressor, jpeg, even } = self;
        let (width, height, subsamp) = match pixels {
            Pixels::I420(layout, _) => {
                let luma = &layout.planes()[0];
                (luma.row_bytes(), luma.rows(), Subsamp::Sub2x2)
            }
            Pixels::Plane(image, chroma) => {
                let gray = image.format == turbojpeg::PixelFormat::GRAY;
                (image.width, image.height, if gray { Subsamp::Gray } else { *chroma })
            }
        };
        let longest = longest.map_or_else(|| compressed_buf_len(width, height, subsamp), Ok)?;
        if jpeg.len() < longest {
            jpeg.resize(longest, 0);
        }
        compressor.set_quality(u8::from(quality).into())?;
        compressor.set_subsamp(subsamp)?;
        let mut output = OutputBuf::borrowed(&mut jpeg[..longest]);
        match pixels {
            Pixels::I420(layout, frame) => {
                compressor.compress_yuv_planes(&planes(layout, frame, even), &mut output)?;
            }
            Pixels::Plane(image, _) => compressor.compress(*image, &mut output)?,
        }
        let len = output.len();
        drop(output);
        Ok(&jpeg[..len])
    }

    /// Gives buffers of more than so many bytes back.
    pub fn trim(&mut self, bytes: u64) {
        for buffer in [&mut self.jpeg, &mut self.even] {
            if buffer.capacity() as u64 > bytes {
                *buffer = Vec::new();
            }
        }
    }
}

/// The planes of an I420 frame, to be compressed as they lie. `even` is for luma with an odd side:
/// libjpeg-turbo reads whole blocks of 2 x 2 pixels, so its last column and row are repeated there.
fn planes<'a>(
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
    use resized_protocol::frame::Extent;

    use super::*;

    const FINE: Quality = Quality::new(90).unwrap();

    #[test]
    fn an_encoder_makes_of_an_image_what_a_new_one_makes() {
        let mut used = Encoder::new().unwrap();
        for format in [PixelFormat::I420, PixelFormat::Bgra, PixelFormat::Gray8] {
            for (side, chroma) in [(33, Subsamp::None), (70, Subsamp::Sub2x1), (1, Subsamp::Gray)] {
                let layout = FrameLayout::new(format, Extent::new(side, side)).unwrap();
                let frame: Vec<u8> = (0..layout.len()).map(|n| (n * n / 97) as u8).collect();
                let pixels = Pixels::of(format, &layout, &frame, chroma).unwrap();
                let made = |encoder: &mut Encoder| {
                    let short = encoder.encode(&pixels, FINE, Some(100)).map(<[u8]>::len);
                    assert!(short.is_err(), "{format:?} {side}");
                    let whole = encoder.encode(&pixels, FINE, None).unwrap().to_vec();
                    let limited = encoder.encode(&pixels, FINE, Some(whole.len() + 1000)).unwrap();
                    assert!(limited == whole, "{format:?} {side}");
                    whole
                };
                let jpeg = made(&mut used);
                assert!(jpeg == made(&mut Encoder::new().unwrap()), "{format:?} {side}");
                let header = turbojpeg::read_header(&jpeg).unwrap();
                assert_eq!((header.width, header.height), (side as usize, side as usize));
                let subsamp = match format {
                    PixelFormat::I420 => Subsamp::Sub2x2,
                    PixelFormat::Gray8 => Subsamp::Gray,
                    _ => chroma,
                };
                assert_eq!(header.subsamp, subsamp, "{format:?} {side}");
                used.trim(if side == 70 { 0 } else { u64::MAX });
            }
        }
        let layout = FrameLayout::new(PixelFormat::Nv12, Extent::new(2, 2)).unwrap();
        assert!(Pixels::of(PixelFormat::Nv12, &layout, &[0; 999], Subsamp::None).is_none());
    }

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
