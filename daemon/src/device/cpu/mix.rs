//! Owns the step from lines of resized channels to rows of another format: each channel of the
//! destination is a sum of weighted words, in single precision, as plain loops that every level compiles
//! anew with its own instructions.
//!
//! Knows lines of words and what the numbers of a row are; no planes and no colours. Invariant: the sums
//! are fused multiply-additions in one order, so all levels give the same bits.
#![allow(unsafe_code)]

use resized_protocol::frame::PixelFormat;
use resized_protocol::tensor::Element;

use crate::filter::{Blend, MAX_CHANNELS};

/// Pixels that are worked on at once.
const CHUNK: usize = 32;

/// Words behind a line of words that may be read.
pub(super) const SLACK: usize = CHUNK * MAX_CHANNELS;

/// Where a channel of the source lies among the lines of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of the line.
    pub(super) line: usize,
    /// The channel's first word.
    pub(super) first: usize,
    /// Words from one pixel to the next.
    pub(super) step: usize,
    /// Number of the channel.
    pub(super) channel: usize,
    /// Fraction bits of a word; it is centred on zero.
    pub(super) bits: u32,
}

/// What a number of the destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    U8,
    I8,
    F16,
    F32,
}

/// How rows of all destination planes of one size are made of lines of words.
pub(super) struct Mix {
    number: Number,
    places: Vec<Place>,
    /// Of each plane its channels.
    planes: Vec<Vec<Sum>>,
}

/// One channel of the destination.
struct Sum {
    /// For a word at each place.
    weights: Vec<f32>,
    bias: f32,
    low: f32,
    high: f32,
}

impl Mix {
    /// `blends` are the channels of each plane of the destination.
    pub(super) fn new(number: Number, places: Vec<Place>, blends: Vec<Vec<Blend>>) -> Self {
        let sum = |blend: Blend| {
            let weights = places.iter().map(|place| blend.weights[place.channel]);
            let scaled = places.iter().zip(weights.clone());
            Sum {
                weights: scaled.map(|(p, w)| (w / f64::from(1 << p.bits)) as f32).collect(),
                bias: (blend.bias + 128.0 * weights.sum::<f64>()) as f32,
                low: blend.low as f32,
                high: blend.high as f32,
            }
        };
        let plane = |plane: Vec<Blend>| plane.into_iter().map(sum).collect();
        let planes = blends.into_iter().map(plane).collect();
        Self { number, places, planes }
    }
}

impl Number {
    pub(super) const fn of(format: PixelFormat) -> Self {
        match format {
            PixelFormat::Tensor(tensor) => match tensor.element {
                Element::F32 => Self::F32,
                Element::F16 => Self::F16,
                Element::I8 => Self::I8,
            },
            _ => Self::U8,
        }
    }

    /// A number as it lies in memory.
    pub(super) fn bytes(self, value: f64) -> Vec<u8> {
        let value = value as f32;
        match self {
            Self::U8 => vec![u8::of(value)],
            Self::I8 => i8::of(value).to_le_bytes().to_vec(),
            Self::F16 => Half::of(value).0.to_le_bytes().to_vec(),
            Self::F32 => value.to_le_bytes().to_vec(),
        }
    }
}

/// A number of the destination as it lies in memory.
trait Stored: Copy {
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
        (value.clamp(-128.0, 127.0) + ROUNDING).to_bits() as i8
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
struct Half(u16);

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

type Values = [[f32; CHUNK]; MAX_CHANNELS];

/// [`Kernel::mix`](super::kernel::Kernel::mix).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn mix(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
    // SAFETY: the same contract; numbers are what they are stored as.
    unsafe {
        match mix.number {
            Number::U8 => mix_row::<u8>(mix, lines, targets, width),
            Number::I8 => mix_row::<i8>(mix, lines, targets, width),
            Number::F16 => mix_row::<Half>(mix, lines, targets, width),
            Number::F32 => mix_row::<f32>(mix, lines, targets, width),
        }
    }
}

#[inline(always)]
unsafe fn mix_row<N: Stored>(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
    for x in (0..width).step_by(CHUNK) {
        let mut words: Values = [[0.0; CHUNK]; MAX_CHANNELS];
        for (place, words) in mix.places.iter().zip(&mut words) {
            // SAFETY: the line is readable for the width and `SLACK` words more, so for the chunk.
            unsafe {
                let first = lines[place.line].add(x * place.step + place.first);
                match place.step {
                    1 => load::<1>(first, words),
                    2 => load::<2>(first, words),
                    3 => load::<3>(first, words),
                    _ => load::<4>(first, words),
                }
            }
        }
        for (plane, &target) in mix.planes.iter().zip(targets) {
            let mut values: Values = [[0.0; CHUNK]; MAX_CHANNELS];
            for (sum, values) in plane.iter().zip(&mut values) {
                *values = sum_up(sum, &words);
            }
            let pixels = CHUNK.min(width - x);
            // SAFETY: the target is writable for `width` pixels of the plane's channels.
            unsafe {
                let target = target.cast::<N>().add(x * plane.len());
                match plane.len() {
                    1 => store::<1, N>(&values, target, pixels),
                    2 => store::<2, N>(&values, target, pixels),
                    3 => store::<3, N>(&values, target, pixels),
                    _ => store::<4, N>(&values, target, pixels),
                }
            }
        }
    }
}

/// # Safety
///
/// `first` must be readable for [`CHUNK`] times `STEP` words.
#[inline(always)]
unsafe fn load<const STEP: usize>(first: *const i16, words: &mut [f32; CHUNK]) {
    for (x, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        *word = f32::from(unsafe { first.add(x * STEP).read() });
    }
}

#[inline(always)]
fn sum_up(sum: &Sum, words: &Values) -> [f32; CHUNK] {
    let mut values = [sum.bias; CHUNK];
    for (&weight, words) in sum.weights.iter().zip(words) {
        for (value, word) in values.iter_mut().zip(words) {
            *value = weight.mul_add(*word, *value);
        }
    }
    // As vectors do it: one instruction each.
    let least = values.map(|value| if value > sum.low { value } else { sum.low });
    least.map(|value| if value < sum.high { value } else { sum.high })
}

/// # Safety
///
/// `target` must be writable for `pixels` times `C` numbers; it need not be aligned.
#[inline(always)]
unsafe fn store<const C: usize, N: Stored>(values: &Values, target: *mut N, pixels: usize) {
    // A loop of known length becomes vectors.
    if pixels == CHUNK {
        // SAFETY: the caller's contract.
        (0..CHUNK).for_each(|x| unsafe { store_pixel::<C, N>(values, x, target) });
    } else {
        // SAFETY: the caller's contract.
        (0..pixels).for_each(|x| unsafe { store_pixel::<C, N>(values, x, target) });
    }
}

#[inline(always)]
unsafe fn store_pixel<const C: usize, N: Stored>(values: &Values, x: usize, target: *mut N) {
    for (c, values) in values[..C].iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe { target.add(x * C + c).write_unaligned(N::of(values[x])) };
    }
}

/// [`Kernel::words`](super::kernel::Kernel::words).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn words(samples: *const u8, len: usize, line: *mut i16) {
    for x in 0..len {
        // SAFETY: the caller's contract.
        unsafe { line.add(x).write((i16::from(samples.add(x).read()) - 128) << 6) };
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
