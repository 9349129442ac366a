//! Owns the reading and writing of JPEGs: from bytes to a frame in a slot and back, by libjpeg-turbo.
//!
//! Knows no streams. Invariants: a header is looked at before anything is decoded or allocated for
//! it, and one of another extent than expected is all that is ever read of its image; no JPEG takes
//! more scans than honest ones have.

use resized_jpeg::{Decoder, Encoder, Pixels, image, packed};
use resized_protocol::coding::{Jpeg, Subsampling};
use resized_protocol::frame::{Extent, FrameLayout, PixelFormat, Plane, ROW_ALIGN};
use thiserror::Error;
use turbojpeg::{Colorspace, DecompressHeader, Subsamp, yuv_pixels_len};

use crate::lanes::Tools;

/// Most scans of a progressive JPEG. Usual are ten.
pub(crate) const SCANS: u32 = 64;

/// What lies in both directions of colour without any.
const NEUTRAL: u8 = 128;

/// Why a JPEG is not read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Jpeg(#[from] turbojpeg::Error),
    #[error("it has {0} x {1} pixels")]
    Extent(usize, usize),
    #[error("its colours are {0:?}, {1:?}, lossless: {2}")]
    Kind(Colorspace, Subsamp, bool),
}

/// Why no JPEG is written.
#[derive(Debug, Error)]
pub(crate) enum Unwritable {
    #[error(transparent)]
    Jpeg(#[from] turbojpeg::Error),
    #[error("{0:?} is no format of JPEGs")]
    Format(PixelFormat),
}

/// What reads and writes JPEGs, one after the other, and keeps its buffers for the next.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    encoder: Option<Encoder>,
    /// Planes as a JPEG has them, before they are halved.
    planes: Vec<u8>,
}

/// Longest buffer that is kept: planes of some ten megapixels.
const KEPT: usize = 16 << 20;

impl Tools for Codec {
    fn put_away(&mut self) {
        if self.planes.capacity() > KEPT {
            self.planes = Vec::new();
        }
        self.encoder.iter_mut().for_each(|encoder| encoder.trim(KEPT as u64));
    }
}

impl Codec {
    /// Decodes a JPEG of that extent, reduced to one in `reduction` in each direction, into a frame
    /// of that format and layout.
    pub(crate) fn decode(
        &mut self,
        jpeg: &[u8],
        extent: Extent,
        reduction: u32,
        format: PixelFormat,
        layout: &FrameLayout,
        frame: &mut [u8],
    ) -> Result<(), Unreadable> {
        let decoder = Decoder::new(jpeg, SCANS)?;
        let DecompressHeader { width, height, colorspace, subsamp, is_lossless, .. } =
            *decoder.header();
        if (width, height) != (extent.width as usize, extent.height as usize) {
            return Err(Unreadable::Extent(width, height));
        }
        let kind = Unreadable::Kind(colorspace, subsamp, is_lossless);
        if is_lossless {
            return Err(kind);
        }
        let planes = layout.planes();
        let target = match format {
            PixelFormat::I420 => match (colorspace, subsamp) {
                (Colorspace::Gray, _) => {
                    frame[planes[1].offset..layout.rows_len()].fill(NEUTRAL);
                    turbojpeg::PixelFormat::GRAY
                }
                (
                    Colorspace::YCbCr,
                    Subsamp::None | Subsamp::Sub2x1 | Subsamp::Sub1x2 | Subsamp::Sub2x2,
                ) => {
                    return Ok(decode_planes(decoder, reduction, planes, frame, &mut self.planes)?);
                }
                _ => return Err(kind),
            },
            format => packed(format).ok_or(kind)?,
        };
        Ok(decoder.decode(reduction, image(frame, &planes[0], target))?)
    }

    /// Encodes a frame of that format and layout, into a coded frame whose JPEG is no longer than
    /// `longest`.
    pub(crate) fn encode(
        &mut self,
        frame: &[u8],
        format: PixelFormat,
        layout: &FrameLayout,
        jpeg: Jpeg,
        longest: usize,
    ) -> Result<Vec<u8>, Unwritable> {
        let chroma = match jpeg.subsampling {
            Subsampling::Neither => Subsamp::None,
            Subsampling::Horizontal => Subsamp::Sub2x1,
            Subsampling::Both => Subsamp::Sub2x2,
        };
        let pixels = Pixels::of(format, layout, frame, chroma).ok_or(Unwritable::Format(format))?;
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new()?),
        };
        let jpeg = encoder.encode(&pixels, jpeg.quality, Some(longest))?;
        let len = u32::try_from(jpeg.len()).expect("no frame is that long").to_le_bytes();
        Ok([&len[..], jpeg].concat())
    }
}

/// So many bytes of a buffer, whatever lies in them.
fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Decodes to planes of luma and of chroma halved in both directions.
fn decode_planes(
    decoder: Decoder<'_>,
    reduction: u32,
    planes: &[Plane],
    frame: &mut [u8],
    room: &mut Vec<u8>,
) -> turbojpeg::Result<()> {
    let (width, height) = (planes[0].extent.width as usize, planes[0].rows());
    let subsamp = decoder.header().subsamp;
    // Then planes of the frame lie as they are decoded.
    if subsamp == Subsamp::Sub2x2 && height.is_multiple_of(2) {
        return decoder.decode_planes(reduction, frame, ROW_ALIGN);
    }
    let pixels = at_least(room, yuv_pixels_len(width, 1, height, subsamp)?);
    decoder.decode_planes(reduction, pixels, 1)?;
    let (across, down) = subsamp.size();
    let (stride, rows) = (width.next_multiple_of(across), height.next_multiple_of(down));
    let (luma, chroma) = pixels.split_at(stride * rows);
    let targets = frame[planes[0].offset..].chunks_mut(planes[0].stride);
    for (target, row) in targets.zip(luma.chunks(stride)).take(height) {
        target[..width].copy_from_slice(&row[..width]);
    }
    let (stride, rows) = (stride / across, rows / down);
    for (plane, chroma) in planes[1..].iter().zip(chroma.chunks(stride * rows)) {
        let target = &mut frame[plane.offset..][..plane.stride * plane.rows()];
        halve(chroma, stride, (across, down), plane, target);
    }
    Ok(())
}

/// Means of neighbours in the directions in which chroma is not subsampled yet.
fn halve(
    chroma: &[u8],
    stride: usize,
    (across, down): (usize, usize),
    plane: &Plane,
    target: &mut [u8],
) {
    let rows = chroma.len() / stride;
    let pair = |at: usize, factor: usize, len: usize| match factor {
        1 => [2 * at, (2 * at + 1).min(len - 1)],
        _ => [at, at],
    };
    for (y, target) in target.chunks_mut(plane.stride).enumerate() {
        let [upper, lower] = pair(y, down, rows).map(|row| &chroma[row * stride..][..stride]);
        for (x, target) in target[..plane.extent.width as usize].iter_mut().enumerate() {
            let sum = pair(x, across, stride)
                .into_iter()
                .map(|x| u16::from(upper[x]) + u16::from(lower[x]))
                .sum::<u16>();
            *target = ((sum + 2) / 4) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use resized_protocol::coding::Quality;
    use turbojpeg::{Compressor, Image};

    use super::*;

    const EXTENT: Extent = Extent::new(45, 34);

    fn jpeg(subsamp: Subsamp, progressive: bool) -> Vec<u8> {
        let (width, height) = (EXTENT.width as usize, EXTENT.height as usize);
        let pixels: Vec<u8> = (0..3 * width * height).map(|n| (n * n / 97) as u8).collect();
        let format = turbojpeg::PixelFormat::RGB;
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        compressor.set_quality(80).unwrap();
        compressor.set_subsamp(subsamp).unwrap();
        let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
        compressor.compress_to_vec(image).unwrap()
    }

    /// Whether it can be read, and where nothing but pixels may be written nothing else was.
    fn decoded(jpeg: &[u8], format: PixelFormat, reduction: u32) -> Result<(), Unreadable> {
        let Extent { width, height } = EXTENT;
        let reduced = Extent::new(width.div_ceil(reduction), height.div_ceil(reduction));
        let layout = FrameLayout::new(format, reduced).unwrap();
        let mut memory = vec![0xa5; layout.len()];
        let (frame, tail) = memory.split_at_mut(layout.rows_len());
        let mut codec = Codec::default();
        let result = codec.decode(jpeg, EXTENT, reduction, format, &layout, frame);
        assert!(tail.iter().all(|&byte| byte == 0xa5));
        result
    }

    const FORMATS: [PixelFormat; 3] = [PixelFormat::I420, PixelFormat::Gray8, PixelFormat::Bgra];
    const SUBSAMPS: [Subsamp; 5] =
        [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub1x2, Subsamp::Sub2x2, Subsamp::Gray];

    #[test]
    fn every_kind_is_read_at_every_reduction() {
        for subsamp in SUBSAMPS {
            for progressive in [false, true] {
                let jpeg = jpeg(subsamp, progressive);
                for format in FORMATS {
                    for reduction in [1, 2, 4, 8] {
                        decoded(&jpeg, format, reduction).unwrap();
                    }
                }
            }
        }
        // One whose planes have other factors is read as colours only.
        let thin = jpeg(Subsamp::Sub4x1, false);
        assert!(matches!(decoded(&thin, PixelFormat::I420, 1), Err(Unreadable::Kind(..))));
        decoded(&thin, PixelFormat::Bgra, 1).unwrap();
    }

    #[test]
    fn a_codec_makes_of_a_jpeg_what_a_new_one_makes() {
        let mut used = Codec::default();
        let quality = |quality| {
            let quality = Quality::new(quality).unwrap();
            Jpeg { quality, subsampling: Subsampling::Neither }
        };
        for subsamp in [Subsamp::None, Subsamp::Sub2x2, Subsamp::Gray, Subsamp::Sub2x1] {
            for (format, reduction) in FORMATS.into_iter().zip([1, 2, 4]).rev() {
                let Extent { width, height } = EXTENT;
                let extent = Extent::new(width.div_ceil(reduction), height.div_ceil(reduction));
                let layout = FrameLayout::new(format, extent).unwrap();
                let jpeg = jpeg(subsamp, reduction == 2);
                let made = |codec: &mut Codec| {
                    // A broken one in between.
                    let mut frame = vec![0; layout.rows_len()];
                    let broken = &jpeg[..jpeg.len() / 2];
                    let read = codec.decode(broken, EXTENT, reduction, format, &layout, &mut frame);
                    read.unwrap_err();
                    let mut frame = vec![0; layout.rows_len()];
                    codec.decode(&jpeg, EXTENT, reduction, format, &layout, &mut frame).unwrap();
                    let [fine, coarse] = [90, 20].map(|n| {
                        codec.encode(&frame, format, &layout, quality(n), 1 << 16).unwrap()
                    });
                    assert!(fine.len() > coarse.len());
                    let short = codec.encode(&frame, format, &layout, quality(90), 100);
                    short.unwrap_err();
                    (frame, fine, coarse)
                };
                assert!(made(&mut used) == made(&mut Codec::default()), "{subsamp:?} {format:?}");
            }
        }
    }

    #[test]
    fn scans_are_limited() {
        let jpeg = jpeg(Subsamp::Sub2x2, true);
        let last = jpeg.windows(2).rev().position(|marker| marker == [0xff, 0xda]).unwrap();
        let last = jpeg.len() - 2 - last;
        let (before, scan) = jpeg[..jpeg.len() - 2].split_at(last);
        let again = |times| [before, &scan.repeat(times), &[0xff, 0xd9]].concat();
        decoded(&again(1), PixelFormat::Bgra, 1).unwrap();
        let said = decoded(&again(SCANS as usize + 1), PixelFormat::Bgra, 1).unwrap_err();
        assert!(said.to_string().contains("scans"), "{said}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(
            subsamp in prop::sample::select(&SUBSAMPS[..]),
            progressive in any::<bool>(),
            format in prop::sample::select(&FORMATS[..]),
            reduction in prop::sample::select(&[1, 2, 4, 8][..]),
            wrong in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            end in any::<prop::sample::Index>(),
        ) {
            let mut jpeg = jpeg(subsamp, progressive);
            for (at, value) in wrong {
                let at = at.index(jpeg.len());
                jpeg[at] = value;
            }
            let _ = decoded(&jpeg, format, reduction);
            let _ = decoded(&jpeg[..end.index(jpeg.len())], format, reduction);
        }
    }
}
