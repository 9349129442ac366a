//! Owns how frames are written where they are not planes of samples: as JPEGs, in slots and on the
//! way to and from a bridge. A daemon takes none: it parses no pictures.
//!
//! Knows no JPEG. A coded frame is the number of its bytes (`u32`, little-endian) and these bytes;
//! whatever lies behind them in a slot means nothing. Invariant: no coded frame is longer than
//! [`FrameLayout::coded`] of its stream's frames says.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use thiserror::Error;

use crate::frame::{FrameLayout, FrameSpec, Matrix, PixelFormat, Range, Siting};

/// Bytes of the number in front of a coded frame.
pub const PREFIX: usize = size_of::<u32>();

/// How a stream's frames are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Coding {
    /// Source frames are JPEGs, of the source's extent and of any subsampling; made into the
    /// source's format, and reduced as they are decoded where the stream shrinks them a lot.
    pub jpeg_in: bool,
    /// What the results are made into, if they are to be JPEGs.
    pub jpeg_out: Option<Jpeg>,
}

/// What a JPEG should be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Jpeg {
    /// How much of the picture is kept.
    pub quality: Quality,
    /// How much less chroma there is than luma; without meaning where there is no chroma. Frames whose
    /// format is subsampled are so in both directions.
    pub subsampling: Subsampling,
}

/// How much of a picture a JPEG keeps, 1 to 100, as libjpeg counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Quality(u8);

/// The text is no quality.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no quality of a JPEG: write a number from 1 to 100")]
pub struct UnknownQuality(String);

impl Quality {
    /// Good enough to look at.
    pub const DEFAULT: Self = Self(85);

    /// None unless it is 1 to 100.
    pub const fn new(quality: u8) -> Option<Self> {
        if matches!(quality, 1..=100) { Some(Self(quality)) } else { None }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<Quality> for u8 {
    fn from(Quality(quality): Quality) -> Self {
        quality
    }
}

impl TryFrom<u8> for Quality {
    type Error = CodingError;

    fn try_from(quality: u8) -> Result<Self, CodingError> {
        Self::new(quality).ok_or(CodingError::Quality(quality))
    }
}

impl FromStr for Quality {
    type Err = UnknownQuality;

    fn from_str(text: &str) -> Result<Self, UnknownQuality> {
        let quality = text.parse().ok().and_then(Self::new);
        quality.ok_or_else(|| UnknownQuality(text.to_owned()))
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<Context> Decode<Context> for Quality {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::new(u8::decode(decoder)?).ok_or(DecodeError::Other("no quality of a JPEG"))
    }
}

bincode::impl_borrow_decode!(Quality);

/// In which directions a JPEG's chroma is halved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Subsampling {
    /// In none: 4:4:4.
    Neither,
    /// In rows: 4:2:2.
    Horizontal,
    /// In both: 4:2:0.
    Both,
}

/// Why frames can't be written down so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Encode, Decode)]
pub enum CodingError {
    /// There are no JPEGs of that format.
    #[error("no JPEG is made of, or into, frames of {0:?}")]
    Format(PixelFormat),
    /// JPEGs have one colour only.
    #[error("a JPEG's colour is full range, BT.601, chroma in the centre")]
    Colour,
    /// No quality.
    #[error("a JPEG's quality is 1 to 100, not {0}")]
    Quality(u8),
    /// The format has less chroma than the JPEG should have.
    #[error("I420 makes JPEGs whose chroma is halved in both directions")]
    Subsampling,
    /// Frames that are JPEGs have more pixels than the bridge reads or writes.
    #[error("JPEGs of {pixels} pixels: the bridge takes {limit}")]
    Large {
        /// As asked for.
        pixels: u64,
        /// The bridge's limit.
        limit: u64,
    },
}

impl Coding {
    /// Planes of samples, both ways.
    pub const RAW: Self = Self { jpeg_in: false, jpeg_out: None };

    /// Whether both ways are planes of samples.
    pub const fn is_raw(self) -> bool {
        !self.jpeg_in && self.jpeg_out.is_none()
    }

    /// Whether frames like these can be written down so.
    pub fn check(self, source: &FrameSpec, destination: &FrameSpec) -> Result<(), CodingError> {
        if self.jpeg_in {
            can_be_jpeg(source)?;
        }
        let Some(Jpeg { subsampling, .. }) = self.jpeg_out else { return Ok(()) };
        can_be_jpeg(destination)?;
        if destination.format.is_subsampled() && subsampling != Subsampling::Both {
            return Err(CodingError::Subsampling);
        }
        Ok(())
    }
}

fn can_be_jpeg(frame: &FrameSpec) -> Result<(), CodingError> {
    use PixelFormat::{Bgr24, Bgra, Gray8, I420, Rgb24, Rgba};
    let FrameSpec { format, range, siting, matrix, .. } = *frame;
    if !matches!(format, Gray8 | I420 | Rgb24 | Bgr24 | Rgba | Bgra) {
        return Err(CodingError::Format(format));
    }
    let subsampled = !format.is_subsampled() || siting == Siting::Centre;
    let luma = format != I420 || matrix == Matrix::Bt601;
    if range == Range::Full && subsampled && luma { Ok(()) } else { Err(CodingError::Colour) }
}

impl FrameSpec {
    /// A frame in the colour of JPEGs (JFIF, ITU-T T.871): full range, BT.601, chroma in the centre.
    pub const fn jpeg(format: PixelFormat, extent: crate::frame::Extent) -> Self {
        let (range, siting, matrix) = (Range::Full, Siting::Centre, Matrix::Bt601);
        Self { format, extent, range, siting, matrix }
    }
}

/// The bytes of the coded frame in a slot, the number in front of them included. None if the number
/// lies.
pub fn whole(frame: &[u8]) -> Option<&[u8]> {
    let (prefix, _) = frame.split_first_chunk::<PREFIX>()?;
    let len = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    frame.get(..PREFIX.checked_add(len)?)
}

/// Writes a coded frame into a slot. False: it is too long.
pub fn put(bytes: &[u8], frame: &mut [u8]) -> bool {
    let Some((prefix, rest)) = frame.split_first_chunk_mut::<PREFIX>() else { return false };
    let (Some(rest), Ok(len)) = (rest.get_mut(..bytes.len()), u32::try_from(bytes.len())) else {
        return false;
    };
    *prefix = len.to_le_bytes();
    rest.copy_from_slice(bytes);
    true
}

impl FrameLayout {
    /// Longest coded frame of such frames, without the number in front: as many bytes as their samples
    /// take, and what a header takes. Only noise at the highest quality needs more.
    pub const fn longest_coded(&self) -> usize {
        self.rows_len() - PREFIX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Extent;

    const EXTENT: Extent = Extent::new(16, 8);

    #[test]
    fn a_quality_is_one_to_a_hundred() {
        for number in 0..=u8::MAX {
            let (quality, text) = (Quality::new(number), number.to_string());
            assert_eq!(quality.is_some(), (1..=100).contains(&number));
            assert_eq!(text.parse().ok(), quality);
            assert_eq!(Quality::try_from(number), quality.ok_or(CodingError::Quality(number)));
            let config = bincode::config::standard();
            let decoded = bincode::decode_from_slice(&[number], config.with_fixed_int_encoding());
            assert_eq!(decoded.ok(), quality.map(|quality| (quality, 1)));
            assert!(quality.is_none_or(|quality| quality.to_string() == text));
        }
        for text in ["", "85 ", "-1", "85.0", "high"] {
            assert_eq!(text.parse::<Quality>(), Err(UnknownQuality(text.to_owned())));
        }
    }

    #[test]
    fn frames_that_are_no_jpegs_are_refused() {
        let jpeg = Jpeg { quality: Quality::DEFAULT, subsampling: Subsampling::Both };
        let both = Coding { jpeg_in: true, jpeg_out: Some(jpeg) };
        let good = FrameSpec::jpeg(PixelFormat::I420, EXTENT);
        assert_eq!(both.check(&good, &good), Ok(()));
        let video = FrameSpec::new(PixelFormat::I420, EXTENT);
        assert_eq!(both.check(&video, &good), Err(CodingError::Colour));
        assert_eq!(both.check(&good, &video), Err(CodingError::Colour));
        assert_eq!(Coding::RAW.check(&video, &video), Ok(()));
        let nv12 = FrameSpec::jpeg(PixelFormat::Nv12, EXTENT);
        assert_eq!(both.check(&nv12, &good), Err(CodingError::Format(PixelFormat::Nv12)));
        // One that shows nothing of what it can't be.
        assert_eq!(Coding { jpeg_out: None, ..both }.check(&good, &nv12), Ok(()));
        let fine = Jpeg { subsampling: Subsampling::Neither, ..jpeg };
        let both = Coding { jpeg_out: Some(fine), ..both };
        assert_eq!(both.check(&good, &good), Err(CodingError::Subsampling));
        assert_eq!(both.check(&good, &FrameSpec::jpeg(PixelFormat::Bgra, EXTENT)), Ok(()));
    }

    #[test]
    fn coded_frames_are_as_long_as_they_say() {
        let layout = FrameLayout::coded(PixelFormat::Gray8, EXTENT).unwrap();
        let mut frame = vec![0xff; layout.len()];
        assert_eq!(whole(&frame), None);
        assert!(put(b"abc", &mut frame));
        assert_eq!(whole(&frame), Some(&b"\x03\0\0\0abc"[..]));
        let longest = vec![7; layout.longest_coded()];
        assert!(put(&longest, &mut frame[..layout.rows_len()]));
        assert!(!put(&[0; 4], &mut frame[..7]));
        assert!(!put(&[], &mut frame[..3]));
        assert_eq!(whole(&[4, 0, 0, 0, 1, 2, 3]), None);
        assert_eq!(whole(&[1, 0, 0]), None);
    }
}
