//! Owns JPEG files: their decoding into slots, at a fraction of their size where that is enough,
//! and what is written of them beside pixels.
//!
//! 4:2:0, what nearly all cameras and cutters write, goes as planes: here it is never made RGB.

use image::metadata::Orientation;
use resized_client::{Extent, FrameSpec, PixelFormat, ROW_ALIGN, Slot};
use resized_jpeg::{Decoder, Segments, image, is_decoded_whole};
use turbojpeg::{Colorspace, DecompressHeader, ScalingFactor, Subsamp};

use crate::error::PictureError;

/// How the decoder can shrink, by code that uses vectors.
const SHRINKS: [u32; 4] = [1, 2, 4, 8];

/// Begins the segments that hold a colour profile: ICC.1, annex B.4.
const PROFILE: &[u8] = b"ICC_PROFILE\0";

/// Begins the one that says how the camera was held: Exif 2.3, section 4.7.2.
pub(crate) const EXIF: &[u8] = b"Exif\0\0";

/// Bytes of a profile in one segment, whose length, in 16 bits, counts itself and what precedes.
const PROFILE_PART: usize = u16::MAX as usize - 2 - PROFILE.len() - 2;

/// A JPEG file whose header was read.
pub(crate) struct Jpeg<'a> {
    decoder: Decoder<'a>,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Vec<u8>>,
    /// All of it is held by the decoder before the first pixel is made.
    whole: bool,
}

impl<'a> Jpeg<'a> {
    /// Reads a file's header. Of files with more than so many scans no more will be read.
    pub(crate) fn new(file: &'a [u8], scans: u32) -> Result<Self, PictureError> {
        let decoder = Decoder::new(file, scans)?;
        if matches!(decoder.header().colorspace, Colorspace::CMYK | Colorspace::YCCK) {
            return Err(PictureError::Inks);
        }
        let Metadata { orientation, profile } = metadata(file);
        Ok(Self { decoder, orientation, profile, whole: is_decoded_whole(file) })
    }

    /// Decodes it into a slot of a stream of its [`spec`](Self::spec).
    pub(crate) fn decode(self, shrink: u32, slot: &mut Slot) -> Result<(), PictureError> {
        let format = match self.format() {
            // Whole blocks of 2x2 pixels lie in slots as they are decoded.
            PixelFormat::I420 => {
                return Ok(self.decoder.decode_planes(shrink, slot.input_mut(), ROW_ALIGN)?);
            }
            PixelFormat::Gray8 => turbojpeg::PixelFormat::GRAY,
            _ => turbojpeg::PixelFormat::RGB,
        };
        let plane = slot.layout().planes()[0];
        Ok(self.decoder.decode(shrink, image(slot.plane_mut(0), &plane, format))?)
    }

    /// Pixels as stored.
    pub(crate) fn extent(&self) -> Extent {
        let DecompressHeader { width, height, .. } = *self.decoder.header();
        // Of 16 bits in the file.
        Extent::new(width as u32, height as u32)
    }

    /// Most memory that decoding takes, however much it shrinks: two bytes for each coefficient of
    /// three components, and what is saved of the file.
    pub(crate) fn decoder_bytes(&self) -> u64 {
        let coefficients = if self.whole { 6 * self.extent().pixels() } else { 0 };
        coefficients + self.decoder.saved_bytes()
    }

    /// By how much the decoder can shrink it.
    pub(crate) const fn shrinks(&self) -> &'static [u32] {
        if self.decoder.header().is_lossless { &[1] } else { &SHRINKS }
    }

    /// What it is decoded to, `shrink` times smaller. 4:2:0 has whole blocks of 2x2 pixels: perhaps a
    /// column and a row that are not the picture's.
    pub(crate) fn spec(&self, shrink: u32) -> FrameSpec {
        let DecompressHeader { width, height, .. } =
            self.decoder.header().scaled(ScalingFactor::new(1, shrink as usize));
        let format = self.format();
        let whole = if format.is_subsampled() { 2 } else { 1 };
        let side = |side: usize| side.next_multiple_of(whole) as u32;
        FrameSpec::jpeg(format, Extent::new(side(width), side(height)))
    }

    fn format(&self) -> PixelFormat {
        let DecompressHeader { colorspace, subsamp, is_lossless, .. } = *self.decoder.header();
        match (colorspace, subsamp) {
            (Colorspace::Gray, _) => PixelFormat::Gray8,
            (Colorspace::YCbCr, Subsamp::Sub2x2) if !is_lossless => PixelFormat::I420,
            _ => PixelFormat::Rgb24,
        }
    }
}

/// What a file says before its first scan, beside what its decoder makes of it.
struct Metadata {
    orientation: Orientation,
    profile: Option<Vec<u8>>,
}

/// Orientation and colour profile that can't be understood are as if they were not there.
fn metadata(file: &[u8]) -> Metadata {
    let mut orientation = None;
    let mut parts: Vec<&[u8]> = Vec::new();
    for (marker, segment) in Segments::new(file) {
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
    let complete =
        parts.iter().zip(1..).all(|(part, n)| part[0] == n && usize::from(part[1]) == parts.len());
    let profile = (complete && !parts.is_empty())
        .then(|| parts.iter().flat_map(|part| &part[2..]).copied().collect());
    Metadata { orientation: orientation.unwrap_or(Orientation::NoTransforms), profile }
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

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, Image};

    use super::*;

    fn jpeg(progressive: bool) -> Vec<u8> {
        let pixels: Vec<u8> = (0..3 * 48 * 32).map(|n: usize| (n * n / 97) as u8).collect();
        let format = turbojpeg::PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width: 48, pitch: 3 * 48, height: 32, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    #[test]
    fn only_one_scan_of_everything_is_decoded_line_by_line() {
        let bytes = |file: &[u8]| {
            // Beside what is saved of it.
            Jpeg::new(file, 64).unwrap().decoder_bytes() - file.len() as u64
        };
        assert_eq!((bytes(&jpeg(false)), bytes(&jpeg(true))), (0, 6 * 48 * 32));
    }

    #[test]
    fn a_file_of_padding_is_read_as_any_other() {
        let plain = jpeg(false);
        let padded = [&plain[..2], &vec![0xFF; 1 << 20], &plain[2..]].concat();
        assert_eq!(Jpeg::new(&padded, 64).unwrap().extent(), Extent::new(48, 32));
    }

    #[test]
    fn a_profile_of_many_parts_is_kept_and_counted_and_one_of_too_many_refused() {
        let plain = jpeg(false);
        let profile: Vec<u8> = (0..3 * PROFILE_PART + 9).map(|n| (n * n / 97) as u8).collect();
        let coloured = with_profile(&plain, &profile);
        let read = Jpeg::new(&coloured, 64).unwrap();
        assert!(read.decoder_bytes() >= 3 * profile.len() as u64);
        assert!(read.profile.unwrap() == profile);
        let empty = [0xFF, 0xE2, 0, 2].repeat(100_000);
        let (picture, end) = plain.split_at(plain.len() - 2);
        for bomb in [[&plain[..2], &empty, &plain[2..]], [picture, &empty, end]] {
            let refused = Jpeg::new(&bomb.concat(), 64).err().unwrap();
            assert!(refused.to_string().starts_with("it has more than 255"), "{refused}");
        }
    }
}
