//! Owns the passes in AVX2 with the horizontal one first.
//!
//! The horizontal pass gathers samples in the cheaper of two ways, [`quads`] or [`pairs`]; both
//! give the same words. Invariant: a line holds its words in the order of the outputs.
#![allow(unsafe_code)]

mod pairs;
mod quads;

use std::arch::x86_64::*;

use self::pairs::Pairs;
use self::quads::Quads;
use crate::device::cpu::gather::Gather;
use crate::device::cpu::kernel::{RowTaps, Rows};
use crate::filter::Taps;

/// Thirty-two bytes as they lie in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(32))]
struct Vector([u8; 32]);

impl AsRef<[u8]> for Vector {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Vector {
    fn of_words(words: [i16; 16]) -> Self {
        let mut bytes = words.into_iter().flat_map(i16::to_le_bytes);
        Self(std::array::from_fn(|_| bytes.next().unwrap_or(0)))
    }
}

/// Horizontal taps as tables.
pub(in crate::device::cpu) struct Gathers(Way);

enum Way {
    Quads(Quads),
    Pairs(Pairs),
}

impl Gathers {
    pub(super) fn new(taps: &Taps) -> Self {
        // Pairs may turn out not to be possible.
        let cheaper = Pairs::cost(taps) < Quads::cost(taps);
        let pairs = cheaper.then(|| Pairs::new(taps)).flatten();
        Self(pairs.map_or_else(|| Way::Quads(Quads::new(taps)), Way::Pairs))
    }
}

/// A gather's part of its step's table: that of two blocks.
fn vectors<const TAPS: usize, const OUTPUTS: usize>(
    (low, high): (&Gather<TAPS, OUTPUTS>, &Gather<TAPS, OUTPUTS>),
) -> [Vector; 3] {
    let mut vectors = [Vector([0; 32]); 3];
    for (i, pick) in low.picks.as_flattened().iter().chain(high.picks.as_flattened()).enumerate() {
        let bytes = [pick.index, pick.high() as u8, pick.low() as u8];
        for (vector, byte) in vectors.iter_mut().zip(bytes) {
            vector.0[i] = byte;
        }
    }
    vectors
}

/// [`Kernel::horizontal_first`](crate::device::cpu::kernel::Kernel::horizontal_first).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn horizontal(rows: Rows, gathers: &Gathers) {
    // SAFETY: the same contract.
    unsafe {
        match &gathers.0 {
            Way::Quads(quads) => quads::horizontal(rows, quads),
            Way::Pairs(pairs) => pairs::horizontal(rows, pairs),
        }
    }
}

/// [`Kernel::vertical_second`](crate::device::cpu::kernel::Kernel::vertical_second).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn vertical(
    lines: *const i16,
    taps: RowTaps<'_>,
    fraction_bits: u32,
    width: usize,
    target: *mut u8,
) {
    // A rounding multiplication by `2^(15 - bits)` is a rounding shift by `bits`.
    let shift = _mm256_set1_epi16(1 << (15 - fraction_bits));
    for x in (0..width).step_by(64) {
        // SAFETY: lines are readable for `width`, rounded up to a multiple of 64.
        let [a, b, c, d] =
            unsafe { vertical_sums(lines.add(x), taps) }.map(|sum| _mm256_mulhrs_epi16(sum, shift));
        for (half, samples) in
            [_mm256_packs_epi16(a, b), _mm256_packs_epi16(c, d)].into_iter().enumerate()
        {
            let samples = _mm256_permute4x64_epi64::<0b11_01_10_00>(samples);
            let samples = _mm256_xor_si256(samples, _mm256_set1_epi8(i8::MIN));
            // SAFETY: `target` is writable for `width`, rounded up to a multiple of 64.
            unsafe { _mm256_storeu_si256(target.add(x + 32 * half).cast(), samples) };
        }
    }
}

/// [`Kernel::vertical_second_words`](crate::device::cpu::kernel::Kernel::vertical_second_words).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn vertical_words(
    lines: *const i16,
    taps: RowTaps<'_>,
    width: usize,
    line: *mut i16,
) {
    for x in (0..width).step_by(64) {
        // SAFETY: lines are readable, and `line` writable, for `width` rounded up to a multiple of 64.
        unsafe {
            for (v, sum) in vertical_sums(lines.add(x), taps).into_iter().enumerate() {
                _mm256_storeu_si256(line.add(x + 16 * v).cast(), sum);
            }
        }
    }
}

/// The sums of 64 words.
///
/// # Safety
///
/// Each tap's lines must be readable for them, aligned.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn vertical_sums(lines: *const i16, taps: RowTaps<'_>) -> [__m256i; 4] {
    // SAFETY: the caller's contract.
    let words = |offset: u32, v: usize| unsafe {
        _mm256_load_si256(lines.add(offset as usize + 16 * v).cast())
    };
    let mut sums = [_mm256_setzero_si256(); 4];
    for pair in taps.pairs {
        let weight = _mm256_set1_epi32(pair.weights());
        let [one, other] = pair.offsets;
        for (v, sum) in sums.iter_mut().enumerate() {
            let both = _mm256_add_epi16(words(one, v), words(other, v));
            *sum = _mm256_add_epi16(*sum, _mm256_mulhrs_epi16(both, weight));
        }
    }
    for single in taps.singles {
        let weight = _mm256_set1_epi32(single.weights());
        let [line] = single.offsets;
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_add_epi16(*sum, _mm256_mulhrs_epi16(words(line, v), weight));
        }
    }
    sums
}
