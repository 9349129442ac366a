//! Owns the step from lines of resized channels to rows of another format: each channel of the
//! destination is a sum of weighted words, in single precision, as plain loops that every level
//! compiles anew with its own instructions.
//!
//! Knows lines of words and what the numbers of a row are; no planes and no colours. Invariant: the
//! sums are fused multiply-additions in one order, so all levels give the same bits.
#![allow(unsafe_code)]

pub(super) use crate::device::plan::Mix;
use crate::device::plan::{Half, HighTen, LowTen, Number, Stored, Sum};
use crate::filter::MAX_CHANNELS;

/// Pixels that are worked on at once.
const CHUNK: usize = 64;

/// Words behind a line of words that may be read.
pub(super) const SLACK: usize = CHUNK * MAX_CHANNELS;

/// One number of each of the pixels that are worked on at once.
type Numbers = [f32; CHUNK];

/// How numbers go to memory.
trait Store: Stored {
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

impl Store for u8 {
    #[inline(always)]
    unsafe fn store<const C: usize>(values: &[Numbers; C], target: *mut Self) {
        // SAFETY: the same contract.
        unsafe { store_bytes(values, Self::of, target) };
    }
}

impl Store for i8 {
    #[inline(always)]
    unsafe fn store<const C: usize>(values: &[Numbers; C], target: *mut Self) {
        // SAFETY: the same contract.
        unsafe { store_bytes(values, |value| Self::of(value) as u8, target.cast()) };
    }
}

impl Store for LowTen {}
impl Store for HighTen {}
impl Store for f32 {}
impl Store for Half {}

/// A pixel of bytes at a time, made of whole vectors of each channel.
///
/// # Safety
///
/// As for [`Store::store`].
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
unsafe fn mix_row<N: Store>(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
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
unsafe fn mix_chunk<const C: usize, N: Store>(
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
