//! Owns the two passes in AVX2, bit for bit those of [`scalar`](super::scalar).
//!
//! Invariant: an [`Avx2`] exists only where the CPU has the feature, so its methods may use it.
#![allow(unsafe_code)]

mod horizontal_first;

use std::arch::x86_64::*;

use self::horizontal_first::Gathers;
use super::deinterleave::{self, Deinterleaved};
use super::interleave;
use super::kernel::{Column, Interleave, Kernel, ROWS, RowTaps, Rows};
use super::lengths::LINE;
use super::mix::{self, Mix};
use super::rolling::Held;
use super::samples::{self, Samples};
use crate::device::plan::{Arrange, Row};
use crate::filter::Taps;

/// Windows that are worked on at once.
const BLOCK: usize = 8;

/// Proof that this CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Self> {
        let there = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        there.then_some(Self(()))
    }
}

/// Sixteen weights as they lie in a register.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Vector([i16; 16]);

/// Horizontal taps in blocks of eight windows `a`..`h`, each padded with zeros to `4 x quads` taps.
///
/// A block's weights are vectors of 128-bit halves: for every 8 taps `a e`, `b f`, `c g`, `d h`, and
/// for the last 4 taps, where `quads` is odd, `ab ef` and `cd gh`. Two rounds of horizontal sums turn
/// both into `abcd efgh`.
pub(super) struct Blocks {
    quads: usize,
    /// First words of each window; beyond the last window they are those of word 0.
    starts: Vec<[u32; BLOCK]>,
    weights: Vec<Vector>,
    /// Words that the padded windows reach.
    reach: usize,
}

impl Blocks {
    fn new(taps: &Taps) -> Self {
        let quads = taps.count().div_ceil(4);
        let blocks = taps.destination().div_ceil(BLOCK);
        let mut starts = vec![[0; BLOCK]; blocks];
        let mut padded = vec![0_i16; blocks * BLOCK * 4 * quads];
        for index in 0..taps.destination() {
            let window = taps.window(index);
            starts[index / BLOCK][index % BLOCK] = window.start as u32;
            padded[index * 4 * quads..][..taps.count()].copy_from_slice(window.weights);
        }
        let mut weights = Vec::with_capacity(padded.len() / 16);
        for block in padded.chunks_exact(BLOCK * 4 * quads) {
            let quad = |window: usize, quad: usize| &block[(window * quads + quad) * 4..][..4];
            let mut push = |parts: [&[i16]; 4]| {
                let mut vector = Vector([0; 16]);
                for (four, part) in vector.0.chunks_exact_mut(4).zip(parts) {
                    four.copy_from_slice(part);
                }
                weights.push(vector);
            };
            for q in (0..quads / 2).map(|pair| 2 * pair) {
                for k in 0..4 {
                    push([quad(k, q), quad(k, q + 1), quad(k + 4, q), quad(k + 4, q + 1)]);
                }
            }
            if quads % 2 == 1 {
                for k in [0, 2] {
                    let last = quads - 1;
                    push([quad(k, last), quad(k + 1, last), quad(k + 4, last), quad(k + 5, last)]);
                }
            }
        }
        let furthest = starts.iter().flatten().max().map_or(0, |&start| start as usize);
        Self { quads, starts, weights, reach: furthest + 4 * quads }
    }
}

impl Arrange for Avx2 {
    type Windows = Blocks;
    type Words = (Deinterleaved, Blocks);
    type Gathers = Gathers;
    type Lines = Held;

    fn arrange(&self, taps: Taps) -> Blocks {
        Blocks::new(&taps)
    }

    fn arrange_words(&self, taps: Taps, channels: usize) -> (Deinterleaved, Blocks) {
        (Deinterleaved::new(&taps, channels), Blocks::new(&taps))
    }

    fn gather(&self, taps: Taps) -> Gathers {
        Gathers::new(&taps)
    }

    fn lines(&self, vertical: Taps, row: Row, fold: bool) -> Held {
        Held::new(&vertical, row, fold)
    }
}

impl Kernel for Avx2 {
    const DEINTERLEAVES: bool = true;

    unsafe fn vertical_first(&self, column: Column<'_>, words: &mut [i16], len: usize) {
        assert!(words.len() >= len.next_multiple_of(LINE));
        // SAFETY: `self` proves the feature; the rest is this method's contract and the assertion.
        unsafe { vertical_first(column, words.as_mut_ptr(), len) }
    }

    unsafe fn horizontal_second(
        &self,
        words: &[i16],
        blocks: &Blocks,
        constant: i32,
        target: *mut u8,
    ) {
        assert!(words.len() >= blocks.reach);
        // SAFETY: `self` proves the feature; no window reaches beyond `words`, as just asserted.
        unsafe { horizontal_second(words.as_ptr(), blocks, constant, target) }
    }

    unsafe fn horizontal_second_words(
        &self,
        words: &[i16],
        blocks: &Blocks,
        constant: i32,
        line: *mut i16,
    ) {
        assert!(words.len() >= blocks.reach);
        // SAFETY: `self` proves the feature; no window reaches beyond `words`, as just asserted.
        unsafe { horizontal_second_words(words.as_ptr(), blocks, constant, line) }
    }

    unsafe fn horizontal_first(&self, rows: Rows, gathers: &Gathers) {
        // SAFETY: `self` proves the feature; the rest is this method's contract.
        unsafe { horizontal_first::horizontal(rows, gathers) }
    }

    unsafe fn vertical_second(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        fraction_bits: u32,
        width: usize,
        target: *mut u8,
    ) {
        // SAFETY: `self` proves the feature; the rest is this method's contract.
        unsafe { horizontal_first::vertical(lines, taps, fraction_bits, width, target) }
    }

    unsafe fn vertical_second_words(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        width: usize,
        line: *mut i16,
    ) {
        // SAFETY: `self` proves the feature; the rest is this method's contract.
        unsafe { horizontal_first::vertical_words(lines, taps, width, line) }
    }

    unsafe fn horizontal_first_words(
        &self,
        rows: [&[i16]; ROWS],
        words: &(Deinterleaved, Blocks),
        room: &mut [i16],
        lines: [*mut i16; ROWS],
    ) {
        // SAFETY: the same contract.
        unsafe { deinterleave::horizontal_first_words(self, rows, words, room, lines) };
    }

    unsafe fn vertical_first_words(&self, column: Column<'_>, samples: Samples, words: &mut [i16]) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { vertical_first_words(column, samples, words) };
    }

    unsafe fn to_words(&self, row: *const u8, samples: Samples, len: usize, line: *mut i16) {
        // SAFETY: `self` proves the feature; the rest is this method's contract.
        unsafe { to_words(row, samples, len, line) };
    }

    unsafe fn mix(&self, mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { mix_row(mix, lines, targets, width) };
    }

    fn split(&self, interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
        // SAFETY: `self` proves the feature.
        unsafe { split(interleaved, lines, shape) }
    }

    unsafe fn merge<T: Copy>(&self, lines: *const T, target: *mut T, shape: Interleave) {
        // SAFETY: `self` proves the feature; the rest is the same contract.
        unsafe { merge(lines, target, shape) }
    }
}

#[target_feature(enable = "avx2")]
fn split(interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
    interleave::split(interleaved, lines, shape);
}

#[target_feature(enable = "avx2")]
unsafe fn merge<T: Copy>(lines: *const T, target: *mut T, shape: Interleave) {
    // SAFETY: the same contract.
    unsafe { interleave::merge(lines, target, shape) };
}

#[target_feature(enable = "avx2")]
unsafe fn vertical_first_words(column: Column<'_>, samples: Samples, words: &mut [i16]) {
    // SAFETY: the same contract.
    unsafe { samples::vertical_first_words(column, samples, words) };
}

#[target_feature(enable = "avx2")]
unsafe fn to_words(row: *const u8, samples: Samples, len: usize, line: *mut i16) {
    // SAFETY: the same contract.
    unsafe { samples::to_words(row, samples, len, line) };
}

#[target_feature(enable = "avx2,fma")]
unsafe fn mix_row(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
    // SAFETY: the same contract.
    unsafe { mix::mix(mix, lines, targets, width) };
}

/// Thirty-two columns at a time: two rows are interleaved, widened, and multiplied with the pair of
/// their weights.
#[target_feature(enable = "avx2")]
unsafe fn vertical_first(column: Column<'_>, words: *mut i16, len: usize) {
    let Column { first, stride, weights } = column;
    let (pairs, last) = weights.as_chunks::<2>();
    let rounding = _mm256_set1_epi32(1 << 7);
    let zero = _mm256_setzero_si256();
    for x in (0..len).step_by(LINE) {
        let mut sums = [rounding; 4];
        let mut add = |upper: *const u8, lower: *const u8, [u, l]: [i16; 2]| {
            let weight = _mm256_set1_epi32(i32::from(u) & 0xffff | i32::from(l) << 16);
            // SAFETY: both rows are readable for `len` bytes, rounded up to a multiple of `LINE`.
            let (upper, lower) =
                unsafe { (_mm256_loadu_si256(upper.cast()), _mm256_loadu_si256(lower.cast())) };
            let low = _mm256_unpacklo_epi8(upper, lower);
            let high = _mm256_unpackhi_epi8(upper, lower);
            let columns = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            for (sum, columns) in sums.iter_mut().zip(columns) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(columns, weight));
            }
        };
        // SAFETY: each weight has its row, and `x < len` lies within it.
        let mut row = unsafe { first.add(x) };
        for &pair in pairs {
            // `wrapping_add`, since the step behind the last row may leave the frame.
            add(row, row.wrapping_add(stride), pair);
            row = row.wrapping_add(2 * stride);
        }
        if let [weight] = *last {
            add(row, row, [weight, 0]);
        }
        let [a, b, c, d] = sums.map(|sum| _mm256_srai_epi32::<8>(sum));
        // In both halves of the register: columns 0..8 and 8..16 of the sixteen they were loaded from.
        let (front, back) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        // SAFETY: `words` holds `len` words, rounded up to a multiple of `LINE`.
        unsafe {
            let out = words.add(x).cast::<__m256i>();
            _mm256_storeu_si256(out, _mm256_permute2x128_si256::<0x20>(front, back));
            _mm256_storeu_si256(out.add(1), _mm256_permute2x128_si256::<0x31>(front, back));
        }
    }
}

/// Eight windows at a time: see [`Blocks`] for the order.
#[target_feature(enable = "avx2")]
unsafe fn horizontal_second(words: *const i16, blocks: &Blocks, constant: i32, target: *mut u8) {
    let constant = _mm256_set1_epi32(constant);
    let vectors = 4 * (blocks.quads / 2) + 2 * (blocks.quads % 2);
    let weights = blocks.weights.chunks_exact(vectors);
    for (block, (starts, weights)) in blocks.starts.iter().zip(weights).enumerate() {
        // SAFETY: no padded window reaches beyond `words`.
        let sums = unsafe { block_sums(words, starts, weights, blocks.quads) };
        let samples = _mm256_srai_epi32::<20>(_mm256_add_epi32(sums, constant));
        let samples = _mm256_packs_epi32(samples, samples);
        let samples = _mm256_packus_epi16(samples, samples);
        let both = _mm_unpacklo_epi32(
            _mm256_castsi256_si128(samples),
            _mm256_extracti128_si256::<1>(samples),
        );
        // SAFETY: `target` is writable for the windows, rounded up to a multiple of `LINE`.
        unsafe { _mm_storel_epi64(target.add(block * BLOCK).cast(), both) };
    }
}

/// As [`horizontal_second`], but what it makes stays words.
#[target_feature(enable = "avx2")]
unsafe fn horizontal_second_words(
    words: *const i16,
    blocks: &Blocks,
    constant: i32,
    line: *mut i16,
) {
    let constant = _mm256_set1_epi32(constant);
    let vectors = 4 * (blocks.quads / 2) + 2 * (blocks.quads % 2);
    let weights = blocks.weights.chunks_exact(vectors);
    for (block, (starts, weights)) in blocks.starts.iter().zip(weights).enumerate() {
        // SAFETY: no padded window reaches beyond `words`.
        let sums = unsafe { block_sums(words, starts, weights, blocks.quads) };
        let sums = _mm256_srai_epi32::<14>(_mm256_add_epi32(sums, constant));
        let (low, high) = (_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        // SAFETY: `line` is writable for the windows, rounded up to a multiple of `LINE`.
        unsafe { _mm_storeu_si128(line.add(block * BLOCK).cast(), _mm_packs_epi32(low, high)) };
    }
}

/// The sums of a block's windows, in order.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn block_sums(
    words: *const i16,
    starts: &[u32; BLOCK],
    weights: &[Vector],
    quads: usize,
) -> __m256i {
    let from = |window: usize, tap: usize| words.wrapping_add(starts[window] as usize + tap);
    // SAFETY: the caller vouches for `4 * quads` words behind each start; what is loaded ends there.
    let eight = |window: usize, tap: usize| unsafe { _mm_loadu_si128(from(window, tap).cast()) };
    // SAFETY: as above.
    let four =
        |window: usize, tap: usize| unsafe { from(window, tap).cast::<i64>().read_unaligned() };
    // SAFETY: a `Vector` is a register's length and alignment.
    let weight = |vector: &Vector| unsafe { _mm256_load_si256(vector.0.as_ptr().cast()) };

    let (eights, fours) = weights.as_chunks::<4>();
    let mut sums = [_mm256_setzero_si256(); 4];
    for (i, vectors) in eights.iter().enumerate() {
        for k in 0..4 {
            let taps = _mm256_set_m128i(eight(k + 4, 8 * i), eight(k, 8 * i));
            sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(taps, weight(&vectors[k])));
        }
    }
    let mut halves = [_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3])];
    let tap = 4 * (quads - 1);
    for (half, (vector, k)) in halves.iter_mut().zip(fours.iter().zip([0, 2])) {
        let taps =
            _mm256_set_epi64x(four(k + 5, tap), four(k + 4, tap), four(k + 1, tap), four(k, tap));
        *half = _mm256_add_epi32(*half, _mm256_madd_epi16(taps, weight(vector)));
    }
    _mm256_hadd_epi32(halves[0], halves[1])
}
