//! Owns JPEG files: their decoding into slots, at a fraction of their size where that is enough, and the writing
//! of resized frames.
//!
//! 4:2:0, what nearly all cameras and cutters write, goes as planes: it is never made RGB.

use image::metadata::Orientation;
use resized_client::{Extent, Frame, FrameSpec, PixelFormat, ROW_ALIGN, Slot};
use resized_jpeg::planes;
use turbojpeg::{
    Colorspace, Compressor, DecompressHeader, Decompressor, Image, OutputBuf, ScalingFactor,
    Subsamp, YuvImage, compressed_buf_len,
};

use crate::error::PictureError;

/// How the decoder can shrink, by code that uses vectors.
const SHRINKS: [u32; 4] = [1, 2, 4, 8];

/// Begins the segments that hold a colour profile: ICC.1, annex B.4.
const PROFILE: &[u8] = b"ICC_PROFILE\0";

/// Begins the one that says how the camera was held: Exif 2.3, section 4.7.2.
const EXIF: &[u8] = b"Exif\0\0";

/// Bytes of a profile in one segment, whose length, in 16 bits, counts itself and what precedes.
const PROFILE_PART: usize = u16::MAX as usize - 2 - PROFILE.len() - 2;

/// A JPEG file's header.
pub(crate) struct Header {
    header: DecompressHeader,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Vec<u8>>,
}

/// The decoder of one thread.
pub(crate) struct Decoder(Decompressor);

impl Decoder {
    /// Of files with so many scans at the most.
    pub(crate) fn new(scans: u32) -> Result<Self, PictureError> {
        let mut decompressor = Decompressor::new()?;
        decompressor.set_scan_limit(scans)?;
        Ok(Self(decompressor))
    }

    /// Reads a file's header.
    pub(crate) fn header(&mut self, file: &[u8]) -> Result<Header, PictureError> {
        let header = self.0.read_header(file)?;
        if matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK) {
            return Err(PictureError::Inks);
        }
        let (orientation, profile) = metadata(file);
        Ok(Header { header, orientation, profile })
    }

    /// Decodes the file whose header that is into a slot of a stream of [`Header::spec`].
    pub(crate) fn decode(
        &mut self,
        file: &[u8],
        header: &Header,
        shrink: u32,
        slot: &mut Slot,
    ) -> Result<(), PictureError> {
        let scale = ScalingFactor::new(1, shrink as usize);
        self.0.set_scaling_factor(scale)?;
        let DecompressHeader { width, height, subsamp, .. } = header.header.scaled(scale);
        let plane = slot.layout().planes()[0];
        let format = match header.format() {
            PixelFormat::I420 => {
                // Laid out as TurboJPEG does: planes in order, whole blocks of 2x2 pixels, rows aligned.
                let pixels = slot.input_mut();
                let image = YuvImage { pixels, width, align: ROW_ALIGN, height, subsamp };
                return sound(self.0.decompress_to_yuv(file, image));
            }
            PixelFormat::Gray8 => turbojpeg::PixelFormat::GRAY,
            _ => turbojpeg::PixelFormat::RGB,
        };
        let image = Image { pixels: slot.plane_mut(0), width, pitch: plane.stride, height, format };
        sound(self.0.decompress(file, image))
    }
}

/// What is only odd is no error: bytes before a marker that mean nothing, which some cameras write and all
/// pixels are decoded in spite of.
fn sound(outcome: turbojpeg::Result<()>) -> Result<(), PictureError> {
    match outcome {
        Err(turbojpeg::Error::TurboJpegError(text)) if text.contains("extraneous bytes before") => {
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}

impl Header {
    /// Pixels as stored.
    pub(crate) fn extent(&self) -> Extent {
        // Of 16 bits in the file.
        Extent::new(self.header.width as u32, self.header.height as u32)
    }

    /// By how much the decoder can shrink it.
    pub(crate) const fn shrinks(&self) -> &'static [u32] {
        if self.header.is_lossless { &[1] } else { &SHRINKS }
    }

    /// What it is decoded to, `shrink` times smaller. 4:2:0 has whole blocks of 2x2 pixels: perhaps a column and
    /// a row that are not the picture's.
    pub(crate) fn spec(&self, shrink: u32) -> FrameSpec {
        let DecompressHeader { width, height, .. } =
            self.header.scaled(ScalingFactor::new(1, shrink as usize));
        let format = self.format();
        let whole = if format.is_subsampled() { 2 } else { 1 };
        let side = |side: usize| side.next_multiple_of(whole) as u32;
        FrameSpec::jpeg(format, Extent::new(side(width), side(height)))
    }

    fn format(&self) -> PixelFormat {
        match (self.header.colorspace, self.header.subsamp) {
            (Colorspace::Gray, _) => PixelFormat::Gray8,
            (Colorspace::YCbCr, Subsamp::Sub2x2) if !self.header.is_lossless => PixelFormat::I420,
            _ => PixelFormat::Rgb24,
        }
    }
}

/// Orientation and colour profile of a file. What can't be understood of them is as if it were not there.
fn metadata(file: &[u8]) -> (Orientation, Option<Vec<u8>>) {
    let mut orientation = None;
    let mut parts: Vec<&[u8]> = Vec::new();
    for (marker, segment) in Segments(file.get(2..).unwrap_or_default()) {
        match marker {
            0xE1 if orientation.is_none() => {
                orientation = segment.strip_prefix(EXIF).and_then(Orientation::from_exif_chunk);
            }
            0xE2 => parts.extend(segment.strip_prefix(PROFILE).filter(|part| part.len() > 2)),
            _ => {}
        }
    }
    // Number and count precede each part.
    parts.sort_by_key(|part| part[0]);
    let whole =
        parts.iter().zip(1..).all(|(part, n)| part[0] == n && usize::from(part[1]) == parts.len());
    let profile = (whole && !parts.is_empty())
        .then(|| parts.iter().flat_map(|part| &part[2..]).copied().collect());
    (orientation.unwrap_or(Orientation::NoTransforms), profile)
}

/// The segments of a file between its first marker and the first scan: ITU-T T.81, annex B.1.
struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [0xFF, marker, rest @ ..] = self.0 else { return None };
        match marker {
            // Padding before a marker.
            0xFF => {
                self.0 = &self.0[1..];
                self.next()
            }
            0xD8..=0xDA => None,
            _ => {
                let len = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
                let segment = rest.get(2..len)?;
                self.0 = &rest[len..];
                Some((*marker, segment))
            }
        }
    }
}

/// The compressor of one thread, and its buffers.
pub(crate) struct Encoder {
    compressor: Compressor,
    jpeg: Vec<u8>,
    /// Luma that can't be compressed from its slot as it is.
    even: Vec<u8>,
}

/// Pixels to be compressed.
pub(crate) enum Pixels<'a> {
    /// `Gray8` or `I420`, as it was resized.
    Frame(&'a Frame),
    /// `Gray8` or `Rgb24`, tightly packed.
    Packed(PixelFormat, Extent, &'a [u8]),
}

impl Encoder {
    pub(crate) fn new() -> Result<Self, PictureError> {
        Ok(Self { compressor: Compressor::new()?, jpeg: Vec::new(), even: Vec::new() })
    }

    /// The file, without a colour profile.
    pub(crate) fn encode(
        &mut self,
        quality: i32,
        pixels: &Pixels<'_>,
    ) -> Result<&[u8], PictureError> {
        let (format, extent) = match pixels {
            Pixels::Frame(frame) => {
                let planes = frame.layout().planes();
                (
                    if planes.len() == 1 { PixelFormat::Gray8 } else { PixelFormat::I420 },
                    planes[0].extent,
                )
            }
            Pixels::Packed(format, extent, _) => (*format, *extent),
        };
        let subsamp = if format == PixelFormat::Gray8 { Subsamp::Gray } else { Subsamp::Sub2x2 };
        let (width, height) = (extent.width as usize, extent.height as usize);
        let longest = compressed_buf_len(width, height, subsamp)?;
        if self.jpeg.len() < longest {
            self.jpeg.resize(longest, 0);
        }
        self.compressor.set_quality(quality)?;
        self.compressor.set_subsamp(subsamp)?;
        let mut output = OutputBuf::borrowed(&mut self.jpeg);
        match pixels {
            Pixels::Frame(frame) if format == PixelFormat::I420 => {
                let image = planes(frame.layout(), frame.output(), &mut self.even);
                self.compressor.compress_yuv_planes(&image, &mut output)?;
            }
            Pixels::Frame(frame) => {
                let (pixels, pitch) = (frame.plane(0), frame.layout().planes()[0].stride);
                let format = turbojpeg::PixelFormat::GRAY;
                self.compressor
                    .compress(Image { pixels, width, pitch, height, format }, &mut output)?;
            }
            Pixels::Packed(_, _, pixels) => {
                let (format, bytes) = match format {
                    PixelFormat::Gray8 => (turbojpeg::PixelFormat::GRAY, 1),
                    _ => (turbojpeg::PixelFormat::RGB, 3),
                };
                let pitch = width * bytes;
                self.compressor
                    .compress(Image { pixels, width, pitch, height, format }, &mut output)?;
            }
        }
        let len = output.len();
        drop(output);
        Ok(&self.jpeg[..len])
    }
}

/// The file with a colour profile behind its first segment, which must stay the first.
pub(crate) fn with_profile(jpeg: &[u8], profile: &[u8]) -> Vec<u8> {
    let first = jpeg.get(4..6).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let (head, tail) = jpeg.split_at((4 + first).min(jpeg.len()));
    let parts = profile.chunks(PROFILE_PART);
    // Numbers of parts are bytes. A profile of 16 MB is none.
    let Ok(count) = u8::try_from(parts.len()) else { return jpeg.to_vec() };
    let mut whole = head.to_vec();
    for (part, number) in parts.zip(1..=count) {
        let len = (2 + PROFILE.len() + 2 + part.len()) as u16;
        whole.extend_from_slice(&[0xFF, 0xE2]);
        whole.extend_from_slice(&len.to_be_bytes());
        whole.extend_from_slice(PROFILE);
        whole.extend_from_slice(&[number, count]);
        whole.extend_from_slice(part);
    }
    whole.extend_from_slice(tail);
    whole
}
