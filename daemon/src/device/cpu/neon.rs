//! Owns the two passes in NEON, bit for bit those of [`scalar`](super::scalar).
//!
//! Invariant: a [`Neon`] exists only where the CPU has the feature, so its methods may use it. The
//! plain loops that [`Kernel`] has are compiled for NEON wherever this file is: it is part of the
//! target, and so are the fused multiply-additions that a mix is made of.
#![allow(unsafe_code)]

mod horizontal_first;

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use self::horizontal_first::Gathers;
use super::deinterleave::{self, Deinterleaved};
use super::kernel::{Column, Kernel, ROWS, RowTaps, Rows};
use super::lengths::LINE;
use super::rolling::Held;
use crate::device::plan::{Arrange, Row};
use crate::filter::Taps;

/// Windows whose sums make a register.
const QUAD: usize = 4;

/// Windows that are worked on at once.
const BLOCK: usize = 2 * QUAD;

/// Proof that this CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn new() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Horizontal taps in blocks of eight windows, each padded with zeros to `4 x quads` taps.
pub(super) struct Blocks {
    quads: usize,
    /// First words of each window; beyond the last window they are those of word 0.
    starts: Vec<[u32; BLOCK]>,
    /// For four windows after another: for every 8 taps, and the last 4 where `quads` is odd, those of
    /// each window.
    weights: Vec<i16>,
    /// Words that the padded windows reach.
    reach: usize,
}

impl Blocks {
    fn new(taps: &Taps) -> Self {
        let quads = taps.count().div_ceil(4);
        let windows = taps.destination().next_multiple_of(BLOCK);
        let mut starts = vec![[0; BLOCK]; windows / BLOCK];
        let mut padded = vec![0_i16; windows * 4 * quads];
        for index in 0..taps.destination() {
            let window = taps.window(index);
            starts[index / BLOCK][index % BLOCK] = window.start as u32;
            padded[index * 4 * quads..][..taps.count()].copy_from_slice(window.weights);
        }
        let mut weights = Vec::with_capacity(padded.len());
        for four in padded.chunks_exact(QUAD * 4 * quads) {
            for tap in (0..4 * quads).step_by(8) {
                for window in four.chunks_exact(4 * quads) {
                    weights.extend(&window[tap..(tap + 8).min(window.len())]);
                }
            }
        }
        let furthest = starts.iter().flatten().max().map_or(0, |&start| start as usize);
        Self { quads, starts, weights, reach: furthest + 4 * quads }
    }
}

impl Arrange for Neon {
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

impl Kernel for Neon {
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
}

/// Rows whose weights share a register: each is multiplied with from its own lane.
const LANES: usize = 4;

/// Thirty-two columns at a time.
#[target_feature(enable = "neon")]
unsafe fn vertical_first(column: Column<'_>, words: *mut i16, len: usize) {
    let Column { first, stride, weights } = column;
    let (fours, rest) = weights.as_chunks::<LANES>();
    for x in (0..len).step_by(LINE) {
        let mut sums = [vdupq_n_s32(0); 8];
        // `wrapping_add`, since the step behind the last row may leave the frame.
        let mut row = first.wrapping_add(x);
        for four in fours {
            // SAFETY: four weights.
            let four = unsafe { vld1_s16(four.as_ptr()) };
            // SAFETY: each weight has its row, readable for `len` bytes, rounded up to a multiple of
            // `LINE`.
            unsafe {
                weigh::<0>(&mut sums, row, four);
                weigh::<1>(&mut sums, row.wrapping_add(stride), four);
                weigh::<2>(&mut sums, row.wrapping_add(2 * stride), four);
                weigh::<3>(&mut sums, row.wrapping_add(3 * stride), four);
            }
            row = row.wrapping_add(LANES * stride);
        }
        for &weight in rest {
            // SAFETY: as above.
            unsafe { weigh::<0>(&mut sums, row, vdup_n_s16(weight)) };
            row = row.wrapping_add(stride);
        }
        for (i, [front, back]) in sums.as_chunks::<2>().0.iter().enumerate() {
            let eight = vqrshrn_high_n_s32::<8>(vqrshrn_n_s32::<8>(*front), *back);
            // SAFETY: `words` holds `len` words, rounded up to a multiple of `LINE`.
            unsafe { vst1q_s16(words.add(x + 8 * i), eight) };
        }
    }
}

/// Adds thirty-two samples to their sums, weighed by a lane of `weights`.
///
/// # Safety
///
/// `row` must be readable for them.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn weigh<const LANE: i32>(sums: &mut [int32x4_t; 8], row: *const u8, weights: int16x4_t) {
    let (halves, _) = sums.as_chunks_mut::<4>();
    for (half, [a, b, c, d]) in halves.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        let samples = unsafe { vld1q_u8(row.add(16 * half)) };
        let front = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(samples)));
        let back = vreinterpretq_s16_u16(vmovl_high_u8(samples));
        *a = vmlal_lane_s16::<LANE>(*a, vget_low_s16(front), weights);
        *b = vmlal_high_lane_s16::<LANE>(*b, front, weights);
        *c = vmlal_lane_s16::<LANE>(*c, vget_low_s16(back), weights);
        *d = vmlal_high_lane_s16::<LANE>(*d, back, weights);
    }
}

/// Eight windows at a time.
#[target_feature(enable = "neon")]
unsafe fn horizontal_second(words: *const i16, blocks: &Blocks, constant: i32, target: *mut u8) {
    let constant = vdupq_n_s32(constant);
    let store = |x: usize, sums: [int32x4_t; 2]| {
        let [front, back] = sums.map(|sum| vaddq_s32(sum, constant));
        // Of the 20 fraction bits 16 go first: what is below zero stays there, and is cut.
        let samples = vqshrun_high_n_s32::<16>(vqshrun_n_s32::<16>(front), back);
        // SAFETY: `target` is writable for the windows, rounded up to a multiple of `LINE`.
        unsafe { vst1_u8(target.add(x), vqshrn_n_u16::<4>(samples)) };
    };
    // SAFETY: no padded window reaches beyond `words`.
    unsafe { block_sums(words, blocks, store) };
}

/// As [`horizontal_second`], but what it makes stays words.
#[target_feature(enable = "neon")]
unsafe fn horizontal_second_words(
    words: *const i16,
    blocks: &Blocks,
    constant: i32,
    line: *mut i16,
) {
    let constant = vdupq_n_s32(constant);
    let store = |x: usize, sums: [int32x4_t; 2]| {
        let [front, back] = sums.map(|sum| vaddq_s32(sum, constant));
        let eight = vqshrn_high_n_s32::<14>(vqshrn_n_s32::<14>(front), back);
        // SAFETY: `line` is writable for the windows, rounded up to a multiple of `LINE`.
        unsafe { vst1q_s16(line.add(x), eight) };
    };
    // SAFETY: no padded window reaches beyond `words`.
    unsafe { block_sums(words, blocks, store) };
}

/// Has the sums of eight windows at a time stored, with the place of the first one.
///
/// # Safety
///
/// `words` must be readable as far as the windows reach.
#[target_feature(enable = "neon")]
unsafe fn block_sums(words: *const i16, blocks: &Blocks, store: impl Fn(usize, [int32x4_t; 2])) {
    let mut weights = blocks.weights.chunks_exact(QUAD * 4 * blocks.quads);
    for (block, starts) in blocks.starts.iter().enumerate() {
        let mut sums = [vdupq_n_s32(0); 2];
        let (fours, _) = starts.as_chunks::<QUAD>();
        for ((sum, starts), weights) in sums.iter_mut().zip(fours).zip(&mut weights) {
            // SAFETY: the caller's contract; four windows have that many weights.
            *sum = unsafe { window_sums(words, starts, weights) };
        }
        store(block * BLOCK, sums);
    }
}

/// The sums of four windows.
///
/// # Safety
///
/// `words` must be readable from each of the `starts` for a quarter as many words as there are `weights`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn window_sums(words: *const i16, starts: &[u32; QUAD], weights: &[i16]) -> int32x4_t {
    let from = starts.map(|start| words.wrapping_add(start as usize));
    let mut sums = [vdupq_n_s32(0); QUAD];
    let (eights, fours) = weights.as_chunks::<{ 8 * QUAD }>();
    for (i, weights) in eights.iter().enumerate() {
        for k in 0..QUAD {
            // SAFETY: the caller's contract; eight of the chunk's weights.
            let (words, weights) =
                unsafe { (vld1q_s16(from[k].add(8 * i)), vld1q_s16(weights.as_ptr().add(8 * k))) };
            sums[k] = vmlal_s16(sums[k], vget_low_s16(words), vget_low_s16(weights));
            sums[k] = vmlal_high_s16(sums[k], words, weights);
        }
    }
    if let Some(weights) = fours.as_chunks::<{ 4 * QUAD }>().0.first() {
        for k in 0..QUAD {
            // SAFETY: the caller's contract; four of the chunk's weights.
            let (words, weights) = unsafe {
                (vld1_s16(from[k].add(8 * eights.len())), vld1_s16(weights.as_ptr().add(4 * k)))
            };
            sums[k] = vmlal_s16(sums[k], words, weights);
        }
    }
    vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]))
}
