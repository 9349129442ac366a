//! Owns what a tensor is: the destination of a stream that feeds a neural network.
//!
//! Knows no planes. A tensor is dense: no padding between its rows and planes.

use bincode::{Decode, Encode};

/// How a tensor's numbers are arranged. Three channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Tensor {
    /// What each number is.
    pub element: Element,
    /// Whether channels lie one behind the other.
    pub arrangement: Arrangement,
    /// Which channel comes first.
    pub order: ChannelOrder,
}

impl Default for Tensor {
    /// What most networks take: `F32`, planar, red first.
    fn default() -> Self {
        Self { element: Element::F32, arrangement: Arrangement::Planar, order: ChannelOrder::Rgb }
    }
}

/// A tensor's type of number; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16; rounded to nearest, ties to even.
    F16,
    /// Two's complement; rounded to nearest, ties to even, and saturated.
    I8,
}

impl Element {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }
}

/// Where a tensor's channels lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Arrangement {
    /// Channel, row, column (CHW): one plane after the other.
    Planar,
    /// Row, column, channel (HWC).
    Interleaved,
}

/// Which of a tensor's channels comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// What becomes of a colour sample of 0..=255 in a tensor: `(sample - mean) * scale`, for each channel
/// in the tensor's order.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct Normalisation {
    /// In steps of samples.
    pub mean: [f32; 3],
    /// Numbers for each step.
    pub scale: [f32; 3],
}

impl Normalisation {
    /// Whether all numbers are finite.
    pub fn is_finite(&self) -> bool {
        self.mean.iter().chain(&self.scale).all(|number| number.is_finite())
    }
}

impl Default for Normalisation {
    /// From 0 to 1.
    fn default() -> Self {
        Self { mean: [0.0; 3], scale: [1.0 / 255.0; 3] }
    }
}
