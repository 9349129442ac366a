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
const CHUNK: usize = 64;

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
    LowTen,
    HighTen,
}

/// How rows of all destination planes of one size are made of lines of words.
pub(super) struct Mix {
    number: Number,
    places: Vec<Place>,
    /// Number of the place whose words are the opacity by which those of the others are weighed.
    weight: Option<usize>,
    /// Of each plane its channels.
    planes: Vec<Vec<Sum>>,
}

/// One channel of the destination.
struct Sum {
    /// For a word at each place, and none at the others.
    weights: [f32; MAX_CHANNELS],
    /// What the words' centres add.
    middle: f32,
    bias: f32,
    /// Its words are weighed by opacity: their sum is divided by that before the bias is added.
    weighed: bool,
    low: f32,
    high: f32,
}

impl Mix {
    /// `blends` are the channels of each plane of the destination. With `weighed`, words of the last place
    /// are the opacity by which the others are weighed.
    pub(super) fn new(
        number: Number,
        places: Vec<Place>,
        weighed: bool,
        blends: Vec<Vec<Blend>>,
    ) -> Self {
        let weight = places.len().checked_sub(1).filter(|_| weighed);
        let sum = |blend: Blend| {
            let (mut weights, mut middle) = ([0.0; MAX_CHANNELS], 0.0);
            for (weight, place) in weights.iter_mut().zip(&places) {
                let share = blend.weights[place.channel];
                *weight = (share / f64::from(1 << place.bits)) as f32;
                middle += 128.0 * share;
            }
            let weighed = weight.is_some_and(|alpha| weights[alpha] == 0.0);
            let (middle, bias) = match weighed {
                true => (middle, blend.bias),
                false => (middle + blend.bias, 0.0),
            };
            Sum {
                weights,
                middle: middle as f32,
                bias: bias as f32,
                weighed,
                low: blend.low as f32,
                high: blend.high as f32,
            }
        };
        let plane = |plane: Vec<Blend>| plane.into_iter().map(sum).collect();
        let planes = blends.into_iter().map(plane).collect();
        Self { number, places, weight, planes }
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
            PixelFormat::I420P10 => Self::LowTen,
            PixelFormat::P010 => Self::HighTen,
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
            Self::LowTen => LowTen::of(value).0.to_le_bytes().to_vec(),
            Self::HighTen => HighTen::of(value).0.to_le_bytes().to_vec(),
        }
    }
}

/// One number of each of the pixels that are worked on at once.
type Numbers = [f32; CHUNK];

/// A number of the destination as it lies in memory.
trait Stored: Copy {
    fn of(value: f32) -> Self;

    /// Stores [`CHUNK`] pixels, channel by channel.
    ///
    /// # Safety
    ///
    /// `target` must be writable for them; it need not be aligned.
    #[inline(always)]
    unsafe fn store<const C: usize>(values: &[Numbers; C], target: *mut Self) {
        for x in 0..CHUNK {
            for (c, values) in values.iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { target.add(x * C + c).write_unaligned(Self::of(values[x])) };
            }
        }
    }
}

/// What added to a number of less than 2^22 leaves it rounded, ties to even, in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

impl Stored for u8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        (value + ROUNDING).to_bits() as u8
    }

    #[inline(always)]
    unsafe fn store<const C: usize>(values: &[Numbers; C], target: *mut Self) {
        // SAFETY: the same contract.
        unsafe { store_bytes(values, Self::of, target) };
    }
}

impl Stored for i8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        let least = if value > -128.0 { value } else { -128.0 };
        let most = if least < 127.0 { least } else { 127.0 };
        (most + ROUNDING).to_bits() as i8
    }

    #[inline(always)]
    unsafe fn store<const C: usize>(values: &[Numbers; C], target: *mut Self) {
        // SAFETY: the same contract.
        unsafe { store_bytes(values, |value| Self::of(value) as u8, target.cast()) };
    }
}

/// A pixel of bytes at a time, made of whole vectors of each channel.
///
/// # Safety
///
/// As for [`Stored::store`].
#[inline(always)]
unsafe fn store_bytes<const C: usize>(
    values: &[Numbers; C],
    byte: impl Fn(f32) -> u8,
    target: *mut u8,
) {
    let mut pixels = [0_u32; CHUNK];
    for (c, values) in values.iter().enumerate() {
        for (pixel, value) in pixels.iter_mut().zip(values) {
            *pixel |= u32::from(byte(*value)) << (8 * c);
        }
    }
    // SAFETY: the caller's contract. Three bytes are stored as four where another pixel follows.
    unsafe {
        match C {
            1 => {
                for (x, &pixel) in pixels.iter().enumerate() {
                    target.add(x).write(pixel as u8);
                }
            }
            2 => {
                for (x, &pixel) in pixels.iter().enumerate() {
                    target.cast::<u16>().add(x).write_unaligned(pixel as u16);
                }
            }
            3 => {
                for (x, pixel) in pixels[..CHUNK - 1].iter().enumerate() {
                    target.add(3 * x).cast::<u32>().write_unaligned(*pixel);
                }
                let [first, second, third, _] = pixels[CHUNK - 1].to_le_bytes();
                let last = target.add(3 * (CHUNK - 1));
                last.cast::<[u8; 3]>().write([first, second, third]);
            }
            _ => target.cast::<[u32; CHUNK]>().write_unaligned(pixels),
        }
    }
}

/// Ten bits in the lower ones of 16.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct LowTen(u16);

impl Stored for LowTen {
    #[inline(always)]
    fn of(value: f32) -> Self {
        Self((value + ROUNDING).to_bits() as u16)
    }
}

/// Ten bits in the upper ones of 16.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct HighTen(u16);

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
            Number::LowTen => mix_row::<LowTen>(mix, lines, targets, width),
            Number::HighTen => mix_row::<HighTen>(mix, lines, targets, width),
        }
    }
}

#[inline(always)]
unsafe fn mix_row<N: Stored>(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
    let mut words = [[0.0; CHUNK]; MAX_CHANNELS];
    let mut share = [0.0; CHUNK];
    for x in (0..width).step_by(CHUNK) {
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
        if let Some(weight) = mix.weight {
            shares(&words[weight], mix.places[weight].bits, &mut share);
        }
        let pixels = CHUNK.min(width - x);
        for (plane, &target) in mix.planes.iter().zip(targets) {
            // SAFETY: the target is writable for `width` pixels of the plane's channels.
            unsafe {
                let target = target.cast::<N>().add(x * plane.len());
                match plane.len() {
                    1 => mix_chunk::<1, N>(plane, &words, &share, target, pixels),
                    2 => mix_chunk::<2, N>(plane, &words, &share, target, pixels),
                    3 => mix_chunk::<3, N>(plane, &words, &share, target, pixels),
                    _ => mix_chunk::<4, N>(plane, &words, &share, target, pixels),
                }
            }
        }
    }
}

/// # Safety
///
/// `first` must be readable for [`CHUNK`] times `STEP` words.
#[inline(always)]
unsafe fn load<const STEP: usize>(first: *const i16, words: &mut Numbers) {
    // SAFETY: the caller's contract.
    let pixels = unsafe { first.cast::<[[i16; STEP]; CHUNK]>().read_unaligned() };
    for (word, pixel) in words.iter_mut().zip(&pixels) {
        *word = f32::from(pixel[0]);
    }
}

/// What colours that were weighed by an opacity are to be multiplied with: nothing, where it rounds to
/// none.
#[inline(always)]
fn shares(words: &Numbers, bits: u32, shares: &mut Numbers) {
    let step = 1.0 / (1 << bits) as f32;
    for (share, word) in shares.iter_mut().zip(words) {
        let alpha = step.mul_add(*word, 128.0);
        *share = if alpha >= 0.5 { 255.0 / alpha } else { 0.0 };
    }
}

/// # Safety
///
/// `target` must be writable for `pixels`, at most [`CHUNK`], of `C` numbers each.
#[inline(always)]
unsafe fn mix_chunk<const C: usize, N: Stored>(
    plane: &[Sum],
    words: &[Numbers; MAX_CHANNELS],
    share: &Numbers,
    target: *mut N,
    pixels: usize,
) {
    let mut values = [[0.0; CHUNK]; C];
    for (sum, values) in plane.iter().zip(&mut values) {
        for (x, value) in values.iter_mut().enumerate() {
            let mut total = sum.middle;
            for (weight, words) in sum.weights.iter().zip(words) {
                total = weight.mul_add(words[x], total);
            }
            if sum.weighed {
                total = total.mul_add(share[x], sum.bias);
            }
            // As vectors do it: one instruction each.
            let least = if total > sum.low { total } else { sum.low };
            *value = if least < sum.high { least } else { sum.high };
        }
    }
    // SAFETY: the caller's contract.
    unsafe {
        if pixels == CHUNK {
            N::store(&values, target);
        } else {
            let mut aside = [[N::of(0.0); C]; CHUNK];
            N::store(&values, aside.as_mut_ptr().cast());
            target.copy_from_nonoverlapping(aside.as_ptr().cast(), pixels * C);
        }
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
