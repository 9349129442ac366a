//! Owns what a frame is: its pixel format, extent and colour, and where its planes lie in memory.
//!
//! Knows nothing of slots, sockets or devices. Invariant: a [`FrameLayout`] made by
//! [`FrameLayout::new`] has passed every check. Its sides are within [`MAX_SIDE`], no sum in it has
//! overflowed, and every row of every plane lies within `len` bytes, with [`TAIL`] bytes to spare
//! behind the last one. One that arrives in a message is only ever compared with one's own.

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::tensor::{Arrangement, Tensor};

/// Longest side of a frame, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// Every row starts on a multiple of this many bytes: one cache line, one AVX-512 register.
pub const ROW_ALIGN: usize = 64;

/// Bytes behind the last row that may be read (never written): a vector load that starts on the last
/// pixel of a frame stays inside the layout.
pub const TAIL: usize = 64;

/// Bytes of a coded frame beside as many as its samples take.
const CODED_HEADER: usize = 4096;

/// Width and height in pixels. Any numbers: checked when a [`FrameLayout`] is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Extent {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Extent {
    /// An extent of `width` x `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Number of pixels.
    pub const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// The extent of a plane subsampled by two in both directions, rounded up.
    pub const fn halved(self) -> Self {
        Self::new(self.width.div_ceil(2), self.height.div_ceil(2))
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How the samples of a frame are arranged. Eight bits a sample unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum PixelFormat {
    /// One plane of luma.
    Gray8,
    /// Planes Y, Cb, Cr; the chroma planes halved in both directions.
    I420,
    /// Planes Y and interleaved CbCr; the chroma plane halved in both directions.
    Nv12,
    /// One plane, R G B.
    Rgb24,
    /// One plane, B G R.
    Bgr24,
    /// One plane, R G B A; alpha is straight, not premultiplied.
    Rgba,
    /// One plane, B G R A; alpha is straight, not premultiplied.
    Bgra,
    /// As `I420`; ten bits a sample, in the lower bits of 16, little-endian. More is taken for the most
    /// that ten bits hold.
    I420P10,
    /// As `Nv12`; ten bits a sample, in the upper bits of 16, little-endian. The lower ones mean
    /// nothing.
    P010,
    /// Numbers for a neural network; as a destination only.
    Tensor(Tensor),
}

impl PixelFormat {
    /// Every format of eight bits a sample.
    pub const EIGHT_BIT: [Self; 7] =
        [Self::Gray8, Self::I420, Self::Nv12, Self::Rgb24, Self::Bgr24, Self::Rgba, Self::Bgra];

    /// Every format of ten bits a sample.
    pub const TEN_BIT: [Self; 2] = [Self::I420P10, Self::P010];

    /// What the samples of each plane are, plane by plane, in memory order.
    pub const fn components(self) -> &'static [&'static [Component]] {
        use Component::{Alpha, Chroma, Colour, Luma};
        match self {
            Self::Gray8 => &[&[Luma]],
            Self::I420 | Self::I420P10 => &[&[Luma], &[Chroma], &[Chroma]],
            Self::Nv12 | Self::P010 => &[&[Luma], &[Chroma, Chroma]],
            Self::Rgb24 | Self::Bgr24 => &[&[Colour, Colour, Colour]],
            Self::Rgba | Self::Bgra => &[&[Colour, Colour, Colour, Alpha]],
            Self::Tensor(Tensor { arrangement: Arrangement::Planar, .. }) => {
                &[&[Colour], &[Colour], &[Colour]]
            }
            Self::Tensor(Tensor { arrangement: Arrangement::Interleaved, .. }) => {
                &[&[Colour, Colour, Colour]]
            }
        }
    }

    /// Bytes of a sample.
    pub const fn sample_bytes(self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.element.bytes(),
            Self::I420P10 | Self::P010 => 2,
            _ => 1,
        }
    }

    /// Whether pixels have an opacity.
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::Rgba | Self::Bgra)
    }

    /// Whether chroma has half the resolution of luma.
    pub const fn is_subsampled(self) -> bool {
        matches!(self, Self::I420 | Self::Nv12 | Self::I420P10 | Self::P010)
    }

    /// Whether there is luma, which a matrix makes of colours.
    pub(crate) const fn has_luma(self) -> bool {
        matches!(self.components()[0][0], Component::Luma)
    }

    /// Multiple to which the bytes of a row are rounded up: tensors are dense.
    const fn row_align(self) -> usize {
        match self {
            Self::Tensor(_) => 1,
            _ => ROW_ALIGN,
        }
    }
}

/// What a sample measures: decides its nominal range and whether its plane is subsampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// Brightness: 16..=235 in limited range.
    Luma,
    /// Colour difference around 128: 16..=240 in limited range; subsampled.
    Chroma,
    /// Red, green or blue: 16..=235 in limited range.
    Colour,
    /// Opacity: always 0..=255.
    Alpha,
}

/// Nominal range of the samples (ITU-T H.273, `VideoFullRangeFlag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Range {
    /// Luma 16..=235, chroma 16..=240: nearly all video.
    Limited,
    /// 0..=255: JPEG, and pictures from a computer.
    Full,
}

/// Where chroma samples lie horizontally in subsampled formats (ITU-T H.273, `ChromaLocType`).
/// Vertically they lie midway between two rows of luma in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Siting {
    /// On the left one of two luma samples: MPEG-2, H.264, HEVC (type 0).
    Left,
    /// Midway between two luma samples: JPEG, MPEG-1 (type 1).
    Centre,
}

/// How luma and chroma are made of red, green and blue (ITU-T H.273, `MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Matrix {
    /// ITU-R BT.601: JPEG, and video of standard definition (types 5 and 6).
    Bt601,
    /// ITU-R BT.709: video of high definition (type 1).
    Bt709,
    /// ITU-R BT.2020, non-constant luminance: video of ultra-high definition (type 9).
    Bt2020,
}

/// Everything about a frame but its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FrameSpec {
    /// Arrangement of the samples.
    pub format: PixelFormat,
    /// Width and height in pixels.
    pub extent: Extent,
    /// Nominal range of the samples.
    pub range: Range,
    /// Place of the chroma samples; without meaning where nothing is subsampled.
    pub siting: Siting,
    /// What luma and chroma mean; without meaning where there are only colours.
    pub matrix: Matrix,
}

impl FrameSpec {
    /// A frame in the colour that is usual for its format: limited range and left-sited chroma
    /// where that is subsampled, full range elsewhere; BT.709 where it has more than 576 rows, else
    /// BT.601.
    pub const fn new(format: PixelFormat, extent: Extent) -> Self {
        let range = if format.is_subsampled() { Range::Limited } else { Range::Full };
        let matrix = if extent.height > 576 { Matrix::Bt709 } else { Matrix::Bt601 };
        Self { format, extent, range, siting: Siting::Left, matrix }
    }
}

/// Why a frame can't be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Encode, Decode)]
pub enum FrameError {
    /// A side is zero.
    #[error("{0} has no pixels")]
    Empty(Extent),
    /// A side is longer than [`MAX_SIDE`].
    #[error("{0} has a side longer than {MAX_SIDE}")]
    TooLong(Extent),
    /// The sum of the planes does not fit this machine's addresses.
    #[error("a frame of {0} does not fit this machine's addresses")]
    Overflow(Extent),
}

/// One plane of a frame: `extent.height` rows of `extent.width` pixels of `channels` samples each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Plane {
    /// Bytes from the start of the frame to the first row.
    pub offset: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Pixels of this plane, after subsampling.
    pub extent: Extent,
    /// Interleaved samples in a pixel.
    pub channels: usize,
    /// Bytes in a sample.
    pub sample_bytes: usize,
}

impl Plane {
    /// Bytes of a row that carry pixels; the rest, up to the stride, is padding.
    pub const fn row_bytes(&self) -> usize {
        self.extent.width as usize * self.channels * self.sample_bytes
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.extent.height as usize
    }
}

/// Where the planes of a frame lie, relative to its first byte.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FrameLayout {
    planes: Vec<Plane>,
    len: usize,
}

impl FrameLayout {
    /// Lays out a frame: planes one after the other, rows aligned to [`ROW_ALIGN`] but for tensors.
    pub fn new(format: PixelFormat, extent: Extent) -> Result<Self, FrameError> {
        if extent.width == 0 || extent.height == 0 {
            return Err(FrameError::Empty(extent));
        }
        if extent.width > MAX_SIDE || extent.height > MAX_SIDE {
            return Err(FrameError::TooLong(extent));
        }
        let overflow = FrameError::Overflow(extent);
        let mut planes = Vec::with_capacity(3);
        let mut offset = 0_usize;
        for components in format.components() {
            let extent = match components[0] {
                Component::Chroma => extent.halved(),
                _ => extent,
            };
            let (channels, sample_bytes) = (components.len(), format.sample_bytes());
            let row = extent.width as usize * channels * sample_bytes;
            let stride = row.next_multiple_of(format.row_align());
            planes.push(Plane { offset, stride, extent, channels, sample_bytes });
            offset = stride
                .checked_mul(extent.height as usize)
                .and_then(|bytes| offset.checked_add(bytes))
                .ok_or(overflow)?;
        }
        let len = offset.checked_add(TAIL).ok_or(overflow)?;
        Ok(Self { planes, len })
    }

    /// Lays out a frame of the same pixels that is [coded](crate::coding): it has no planes.
    pub fn coded(format: PixelFormat, extent: Extent) -> Result<Self, FrameError> {
        let samples = Self::new(format, extent)?.packed_len();
        let len = samples.checked_add(CODED_HEADER + TAIL).ok_or(FrameError::Overflow(extent))?;
        Ok(Self { planes: Vec::new(), len })
    }

    /// Whether the frame is coded, and has no planes.
    pub const fn is_coded(&self) -> bool {
        self.planes.is_empty()
    }

    /// The planes, in the order of [`PixelFormat::components`]; none if the frame is coded.
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// Bytes of the whole frame, padding and [`TAIL`] included.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes up to the end of the last row, its padding included; most that a coded frame takes.
    pub const fn rows_len(&self) -> usize {
        self.len - TAIL
    }

    /// Bytes of the frame without any padding: what a tightly packed copy of it takes.
    pub fn packed_len(&self) -> usize {
        self.planes.iter().map(|plane| plane.row_bytes() * plane.rows()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i420_halves_odd_sides_upwards() {
        let layout = FrameLayout::new(PixelFormat::I420, Extent::new(3, 7)).unwrap();
        let extents: Vec<_> = layout.planes().iter().map(|plane| plane.extent).collect();
        assert_eq!(extents, [Extent::new(3, 7), Extent::new(2, 4), Extent::new(2, 4)]);
        assert_eq!(layout.packed_len(), 21 + 8 + 8);
    }

    #[test]
    fn tensors_are_dense() {
        use crate::tensor::{ChannelOrder, Element};
        let tensor = |element, arrangement| {
            let order = ChannelOrder::Rgb;
            let format = PixelFormat::Tensor(Tensor { element, arrangement, order });
            FrameLayout::new(format, Extent::new(5, 3)).unwrap()
        };
        let planar = tensor(Element::F32, Arrangement::Planar);
        let planes: Vec<_> = planar.planes().iter().map(|p| (p.offset, p.stride)).collect();
        assert_eq!(planes, [(0, 20), (60, 20), (120, 20)]);
        assert_eq!((planar.packed_len(), planar.len()), (180, 180 + TAIL));
        let interleaved = tensor(Element::F16, Arrangement::Interleaved);
        assert_eq!(interleaved.planes()[0].row_bytes(), 30);
        assert_eq!(interleaved.packed_len(), 90);
    }

    #[test]
    fn refuses_what_has_no_pixels_or_too_many() {
        for (width, height) in [(0, 1), (1, 0), (0, 0)] {
            let extent = Extent::new(width, height);
            assert_eq!(FrameLayout::new(PixelFormat::Rgba, extent), Err(FrameError::Empty(extent)));
        }
        for (width, height) in [(MAX_SIDE + 1, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            let extent = Extent::new(width, height);
            assert_eq!(
                FrameLayout::new(PixelFormat::Rgba, extent),
                Err(FrameError::TooLong(extent))
            );
        }
    }

    #[test]
    fn planes_do_not_overlap_and_rows_are_aligned() {
        for format in PixelFormat::EIGHT_BIT {
            for extent in [Extent::new(1, 1), Extent::new(65, 33), Extent::new(MAX_SIDE, MAX_SIDE)]
            {
                let layout = FrameLayout::new(format, extent).unwrap();
                let mut end = 0;
                for plane in layout.planes() {
                    assert_eq!(plane.offset, end);
                    assert_eq!(plane.stride % ROW_ALIGN, 0);
                    assert!(plane.stride >= plane.row_bytes());
                    end = plane.offset + plane.stride * plane.rows();
                }
                assert_eq!(layout.len(), end + TAIL);
            }
        }
    }
}
