//! Owns what a number of a destination is in memory, and how it is rounded to that: alike on every
//! device.
//!
//! Knows one number, not where it lies.

use resized_protocol::frame::PixelFormat;
use resized_protocol::tensor::Element;

/// What a number of the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) enum Number {
    U8,
    I8,
    F16,
    F32,
    LowTen,
    HighTen,
}

impl Number {
    pub(in crate::device) const fn of(format: PixelFormat) -> Self {
        match format {
            PixelFormat::Tensor(tensor) => match tensor.element {
                Element::F32 => Self::F32,
                Element::F16 => Self::F16,
                Element::I8 => Self::I8,
            },
            PixelFormat::I420P10 => Self::LowTen,
            PixelFormat::P010 => Self::HighTen,
            _ => Self::U8,
        }
    }

    /// A number as it lies in memory.
    pub(in crate::device) fn bytes(self, value: f64) -> Vec<u8> {
        let value = value as f32;
        match self {
            Self::U8 => vec![u8::of(value)],
            Self::I8 => i8::of(value).to_le_bytes().to_vec(),
            Self::F16 => Half::of(value).0.to_le_bytes().to_vec(),
            Self::F32 => value.to_le_bytes().to_vec(),
            Self::LowTen => LowTen::of(value).0.to_le_bytes().to_vec(),
            Self::HighTen => HighTen::of(value).0.to_le_bytes().to_vec(),
        }
    }
}

/// A number of the destination as it lies in memory.
pub(in crate::device) trait Stored: Copy {
    fn of(value: f32) -> Self;
}

/// What added to a number of less than 2^22 leaves it rounded, ties to even, in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

impl Stored for u8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        (value + ROUNDING).to_bits() as u8
    }
}

impl Stored for i8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        let least = if value > -128.0 { value } else { -128.0 };
        let most = if least < 127.0 { least } else { 127.0 };
        (most + ROUNDING).to_bits() as i8
    }
}

/// Ten bits in the lower ones of 16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::device) struct LowTen(u16);

impl Stored for LowTen {
    #[inline(always)]
    fn of(value: f32) -> Self {
        Self((value + ROUNDING).to_bits() as u16)
    }
}

/// Ten bits in the upper ones of 16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::device) struct HighTen(u16);

impl Stored for HighTen {
    #[inline(always)]
    fn of(value: f32) -> Self {
        Self(LowTen::of(value).0 << 6)
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }
}

/// A number in half precision (IEEE 754, binary16).
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::device) struct Half(u16);

impl Stored for Half {
    /// Rounds to nearest, ties to even; of a finite number.
    #[inline(always)]
    fn of(value: f32) -> Self {
        /// 2^16: this and more is infinite.
        const TOO_LARGE: u32 = 143 << 23;
        /// 2^-14: less is subnormal.
        const LEAST_NORMAL: u32 = 113 << 23;
        /// Adding 1/2 leaves a subnormal rounded in the lowest bits.
        const HALF: u32 = 126 << 23;
        let sign = (value.to_bits() >> 16) & 0x8000;
        let bits = value.to_bits() & 0x7fff_ffff;
        let subnormal = (f32::from_bits(bits) + f32::from_bits(HALF)).to_bits().wrapping_sub(HALF);
        // The exponent's bias is 112 less; half a unit, less one where the last bit is even.
        let odd = (bits >> 13) & 1;
        let normal = bits.wrapping_sub(112 << 23).wrapping_add(0xfff + odd) >> 13;
        let finite = if bits < LEAST_NORMAL { subnormal } else { normal };
        let half = if bits >= TOO_LARGE { 0x7c00 } else { finite };
        Self((half | sign) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a finite number in half precision.
    fn value(half: u16) -> f64 {
        let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
        let magnitude = match exponent {
            0 => fraction * (-24_f64).exp2(),
            _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
        };
        if half & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_half_is_itself_and_what_lies_between_is_rounded() {
        for half in (0..=0x7bff).chain(0x8000..=0xfbff) {
            assert_eq!(Half::of(value(half) as f32).0, half);
            if half & 0x7fff == 0x7bff {
                continue;
            }
            // Between this one and the next; both, and the point midway, are exact in single precision.
            let (here, next) = (value(half), value(half + 1));
            let even = half + (half & 1);
            assert_eq!(Half::of(((here + next) / 2.0) as f32).0, even);
            assert_eq!(Half::of((here * 0.51 + next * 0.49) as f32).0, half);
            assert_eq!(Half::of((here * 0.49 + next * 0.51) as f32).0, half + 1);
        }
        assert_eq!(Half::of(65_519.0).0, 0x7bff);
        assert_eq!([65_520.0, 70_000.0, f32::MAX].map(|large| Half::of(large).0), [0x7c00; 3]);
    }

    #[test]
    fn bytes_are_rounded_to_even_and_saturated() {
        assert_eq!([0.5, 1.5, 254.5, 255.0, 0.49].map(u8::of), [0, 2, 254, 255, 0]);
        assert_eq!([-0.5, -1.5, 300.0, -300.0, 126.6].map(i8::of), [0, -2, 127, -128, 127]);
    }
}
