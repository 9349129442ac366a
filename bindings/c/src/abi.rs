//! Owns the types of the header: enums and structs of numbers, laid out as C lays them out.
//!
//! Knows no rules: what the numbers may be is decided where they become the protocol's types
//! (`spec`). Invariants: an enum's numbers are those of the protocol's, in the order of the wire (a
//! test compares); in structs enums are `u32`, since C may put any number there; nothing is ever
//! moved or removed, a struct that begins with its size may get more at its end.
#![allow(unsafe_code)]

use std::ptr;

use crate::memory::{Growing, Plain};

/// How the samples of a frame are arranged. Eight bits a sample unless it says otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One plane of luma.
    Gray8 = 0,
    /// Planes Y, Cb, Cr; the chroma planes halved in both directions, sides rounded up.
    I420 = 1,
    /// Planes Y and interleaved CbCr; the chroma plane halved in both directions.
    Nv12 = 2,
    /// One plane, R G B.
    Rgb24 = 3,
    /// One plane, B G R.
    Bgr24 = 4,
    /// One plane, R G B A; alpha is straight, not premultiplied.
    Rgba = 5,
    /// One plane, B G R A; alpha is straight, not premultiplied.
    Bgra = 6,
    /// As I420; ten bits a sample, in the lower bits of 16, little-endian.
    I420P10 = 7,
    /// As NV12; ten bits a sample, in the upper bits of 16, little-endian.
    P010 = 8,
    /// Numbers for a neural network, without padding; as a destination only. The stream's
    /// tensor_element, tensor_arrangement and tensor_order say which.
    Tensor = 9,
}

/// Nominal range of samples (ITU-T H.273, VideoFullRangeFlag).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240: nearly all video.
    Limited = 0,
    /// 0 to 255: JPEG, and pictures from a computer.
    Full = 1,
}

/// Where chroma samples lie horizontally where they are halved (ITU-T H.273, ChromaLocType).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Siting {
    /// On the left one of two luma samples: MPEG-2, H.264, HEVC (type 0).
    Left = 0,
    /// Midway between two luma samples: JPEG, MPEG-1 (type 1).
    Centre = 1,
}

/// How luma and chroma are made of red, green and blue (ITU-T H.273, MatrixCoefficients).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// JPEG, and video of standard definition (types 5 and 6).
    Bt601 = 0,
    /// Video of high definition (type 1).
    Bt709 = 1,
    /// Video of ultra-high definition, non-constant luminance (type 9).
    Bt2020 = 2,
}

/// Reconstruction filter. All but NEAREST widen with the ratio when shrinking, so that nothing
/// aliases.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The source sample whose centre is nearest; never antialiased.
    Nearest = 0,
    /// Triangle.
    Bilinear = 1,
    /// Catmull-Rom.
    Bicubic = 2,
    /// Sinc windowed by a sinc, three lobes.
    Lanczos3 = 3,
    /// Mean over the exact area that a destination pixel covers.
    Area = 4,
    /// Mitchell and Netravali's cubic: softer than Catmull-Rom, rings less.
    Mitchell = 5,
}

/// What opacity means to the colours of a source that has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpha {
    /// Nothing: it is resized like a colour. Faster.
    Apart = 0,
    /// Colours count by it, so that what is transparent does not bleed into what is not.
    Weighs = 1,
}

/// How a picture of one shape becomes a frame of another.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Fills the destination, each direction by its own ratio.
    Stretch = 0,
    /// As large as it can be at its own shape; the rest of the destination is padded (letterbox).
    Fit = 1,
    /// Fills the destination at its own shape; what is too much is cut off evenly at both ends.
    Fill = 2,
}

/// Where a picture lies along the side that is padded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left or upper end.
    Start = 0,
    /// In the middle.
    Centre = 1,
    /// At the right or lower end.
    End = 2,
}

/// A tensor's type of number; little-endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// Two's complement, saturated.
    I8 = 2,
}

/// Where a tensor's channels lie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Channel, row, column (CHW): three planes.
    Planar = 0,
    /// Row, column, channel (HWC): one plane.
    Interleaved = 1,
}

/// Which of a tensor's channels comes first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb = 0,
    /// Blue, green, red.
    Bgr = 1,
}

/// In which directions a JPEG's chroma is halved.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsampling {
    /// In none: 4:4:4.
    Neither = 0,
    /// In rows: 4:2:2.
    Horizontal = 1,
    /// In both: 4:2:0.
    Both = 2,
}

/// Everything about a frame but its pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameSpec {
    /// A resized_format.
    pub format: u32,
    /// Pixels in a row, 1 to 16384.
    pub width: u32,
    /// Rows, 1 to 16384.
    pub height: u32,
    /// A resized_range.
    pub range: u32,
    /// A resized_siting; without meaning where chroma is not halved.
    pub siting: u32,
    /// A resized_matrix; without meaning where there are only colours.
    pub matrix: u32,
}

/// A part of the source frame, in its pixels from the upper left corner; fractions are allowed. No
/// sample beyond the pixels that it touches is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Crop {
    /// From the left edge of the frame to that of the crop.
    pub left: f64,
    /// From the upper edge of the frame to that of the crop.
    pub top: f64,
    /// At least 1/256.
    pub width: f64,
    /// At least 1/256.
    pub height: f64,
}

/// What a stream resizes, fixed for its life. Have it filled by resized_stream_spec_init, then
/// change what should be otherwise. Later versions may have more at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamSpec {
    /// Bytes of this struct, as the program was compiled: resized_stream_spec_init sets it.
    pub size: usize,
    /// Frames that the program writes.
    pub source: FrameSpec,
    /// Frames that it gets, in any format and colour: resized_stream_spec_with_format sets both.
    pub destination: FrameSpec,
    /// A resized_filter.
    pub filter: u32,
    /// A resized_framing.
    pub framing: u32,
    /// A resized_align; for RESIZED_FRAMING_FIT.
    pub align: u32,
    /// A resized_alpha; without meaning for sources that have none.
    pub alpha: u32,
    /// The part of the source that is resized; all of it if all four are zero.
    pub crop: Crop,
    /// Frames that may be in flight at once, 1 to 256. Each has memory of its own.
    pub slots: u32,
    /// Its share of the daemon's time among its user's streams, while more waits than can be done:
    /// 1, as is usual, to 100. One of weight 2 gets twice as much as one of weight 1.
    pub weight: u32,
    /// Nanoseconds after its submission for which a frame is worth beginning; 0: for ever. One that
    /// no device has taken by then ends as RESIZED_STATUS_LATE.
    pub deadline_ns: u64,
    /// A resized_element, of RESIZED_FORMAT_TENSOR.
    pub tensor_element: u32,
    /// A resized_arrangement.
    pub tensor_arrangement: u32,
    /// A resized_channel_order.
    pub tensor_order: u32,
    /// A tensor's numbers are (sample - mean) * scale, for samples of 0 to 255, in its order of
    /// channels.
    pub mean: [f32; 3],
    /// See there.
    pub scale: [f32; 3],
    /// 1: source frames are JPEGs, of the source's extent; 0: planes of samples. Through a bridge
    /// only. The format is then gray, I420, RGB24, BGR24, RGBA or BGRA, and of RESIZED_RANGE_FULL;
    /// I420 also of RESIZED_SITING_CENTRE and RESIZED_MATRIX_BT601. resized_stream_spec_init sets
    /// what videos have instead.
    pub jpeg_in: u32,
    /// 1 to 100: results are JPEGs of that quality, as libjpeg counts it; 0: planes of samples.
    /// Through a bridge only. For formats and colours as for jpeg_in.
    pub jpeg_quality: u32,
    /// A resized_subsampling, of JPEGs that are results; for I420 RESIZED_SUBSAMPLING_BOTH.
    pub jpeg_subsampling: u32,
    /// Red, green and blue of the padding, full range; for RESIZED_FRAMING_FIT.
    pub pad: [u8; 3],
    /// Zeros.
    pub unused: [u8; 5],
}

/// A plane that is written: of a slot's source frame, or of a buffer for a result. Rows of
/// row_bytes that begin stride bytes apart.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// The first byte of the first row.
    pub data: *mut u8,
    /// Bytes from data to the end of the plane.
    pub len: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a row that carry pixels; what is behind them means nothing.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

/// A plane that is read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The first byte of the first row.
    pub data: *const u8,
    /// Bytes from data to the end of the plane.
    pub len: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a row that carry pixels; what is behind them means nothing.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

/// A part of the destination frame, in pixels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rectangle {
    /// Columns before it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns of it.
    pub width: u32,
    /// Rows of it.
    pub height: u32,
}

/// Which part of the source became which part of the destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placement {
    /// What is seen of the source.
    pub source: Crop,
    /// Where it is seen in the destination; around it is padding.
    pub destination: Rectangle,
}

/// How a frame was resized.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Nanoseconds from its submission until a device took it.
    pub queued_ns: u64,
    /// Nanoseconds from then until it was done.
    pub worked_ns: u64,
    /// Which device it was: see resized_device_name.
    pub device: u32,
    /// Zero.
    pub unused: u32,
}

impl Plane {
    pub(crate) const NONE: Self =
        Self { data: ptr::null_mut(), len: 0, stride: 0, row_bytes: 0, rows: 0 };

    /// A frame's plane, whose bytes these are.
    pub(crate) fn of(plane: &resized_client::Plane, bytes: &mut [u8]) -> Self {
        let View { len, stride, row_bytes, rows, .. } = View::of(plane, bytes);
        Self { data: bytes.as_mut_ptr(), len, stride, row_bytes, rows }
    }
}

impl View {
    pub(crate) const NONE: Self =
        Self { data: ptr::null(), len: 0, stride: 0, row_bytes: 0, rows: 0 };

    /// A frame's plane, whose bytes these are.
    pub(crate) fn of(plane: &resized_client::Plane, bytes: &[u8]) -> Self {
        let (stride, row_bytes, rows) = (plane.stride, plane.row_bytes(), plane.rows());
        Self { data: bytes.as_ptr(), len: bytes.len(), stride, row_bytes, rows }
    }
}

// SAFETY: a number.
unsafe impl Plain for f64 {}
// SAFETY: numbers, in C's layout.
unsafe impl Plain for Crop {}
// SAFETY: likewise.
unsafe impl Plain for Placement {}
// SAFETY: likewise.
unsafe impl Plain for StreamSpec {}
// SAFETY: the size comes first.
unsafe impl Growing for StreamSpec {
    // Of version 0.1.0. It stays that when the struct grows.
    const LEAST: usize = 176;
}
// SAFETY: numbers and an address, which may be any.
unsafe impl Plain for Plane {}
// SAFETY: likewise.
unsafe impl Plain for View {}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of};

    use super::*;

    /// What programs were compiled with. A change here breaks them: raise the number of the
    /// library's name, in build.rs.
    #[test]
    fn structs_lie_as_programs_were_compiled() {
        assert_eq!((size_of::<StreamSpec>(), align_of::<StreamSpec>()), (StreamSpec::LEAST, 8));
        assert_eq!(offset_of!(StreamSpec, destination), 32);
        assert_eq!(offset_of!(StreamSpec, filter), 56);
        assert_eq!(offset_of!(StreamSpec, crop), 72);
        assert_eq!(offset_of!(StreamSpec, deadline_ns), 112);
        assert_eq!(offset_of!(StreamSpec, mean), 132);
        assert_eq!(offset_of!(StreamSpec, pad), 168);
        assert_eq!((size_of::<FrameSpec>(), size_of::<Crop>()), (24, 32));
        assert_eq!((size_of::<Plane>(), size_of::<View>()), (40, 40));
        assert_eq!((size_of::<Placement>(), size_of::<Receipt>()), (48, 24));
    }
}
