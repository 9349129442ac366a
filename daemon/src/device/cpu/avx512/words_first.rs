//! Owns the horizontal pass in AVX-512 where it comes first and rows have become words: four taps
//! of each of eight outputs come from one window of 32 words, and a dot product leaves the sums of
//! two taps each.
//!
//! Weights stay whole, 16 bits. Invariant: a line holds its words in the order of
//! [`horizontal`](super::horizontal_first::horizontal).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Vector;
use crate::device::cpu::gather::{self, Gather, Tables};
use crate::device::cpu::kernel::ROWS;
use crate::filter::Taps;

/// Outputs that share one window.
const BLOCK: usize = 8;

/// Outputs that are worked on at once: four blocks, two registers of sums, one of words.
const STEP: usize = 4 * BLOCK;

/// Words of a window.
const WINDOW: usize = 32;

/// Horizontal taps as tables, for steps of four blocks.
///
/// A block's table is two vectors for each gather: where in the window the bytes of its words lie,
/// four words for each output, and their weights. Most blocks share theirs with others.
pub(in crate::device::cpu) struct Words {
    count: usize,
    /// All gathers of a block are from the same window.
    one_window: bool,
    /// For each block the place of its table in `tables`, then the start of each gather's window.
    places: Vec<u32>,
    tables: Vec<Vector>,
    reach: usize,
}

impl Words {
    pub(super) fn new(taps: &Taps) -> Self {
        let gathers = gather::Gathers::<4, BLOCK>::new(taps, WINDOW, STEP / BLOCK);
        let (count, one_window) = (gathers.count, gathers.windows() == 1);
        let (mut places, mut tables, mut furthest) = (Vec::new(), Tables::new(), 0);
        for block in gathers.blocks() {
            places.push(tables.place(block.iter().flat_map(vectors)));
            places.extend(block.iter().map(|gather| gather.base as u32));
            furthest = block.iter().fold(furthest, |furthest, gather| furthest.max(gather.base));
        }
        let tables = tables.into_vectors();
        Self { count, one_window, places, tables, reach: furthest + WINDOW }
    }

    /// Words of a row that windows reach.
    pub(super) const fn reach(&self) -> usize {
        self.reach
    }
}

/// A gather's part of its block's table.
fn vectors(gather: &Gather<4, BLOCK>) -> [Vector; 2] {
    let mut vectors = [Vector([0; 64]); 2];
    let picks = gather.picks.as_flattened().iter();
    let [indices, weights] = &mut vectors;
    let places = indices.0.as_chunks_mut::<2>().0.iter_mut().zip(weights.0.as_chunks_mut::<2>().0);
    for (pick, (index, weight)) in picks.zip(places) {
        *index = [2 * pick.index, 2 * pick.index + 1];
        *weight = pick.weight.to_le_bytes();
    }
    vectors
}

/// [`Kernel::horizontal_first_words`](crate::device::cpu::kernel::Kernel::horizontal_first_words).
///
/// # Safety
///
/// As there; each row must be readable as far as windows reach.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn horizontal(rows: [*const i16; ROWS], words: &Words, lines: [*mut i16; ROWS]) {
    // SAFETY: the same contract; the numbers of gathers are those of the tables.
    unsafe {
        match (words.count, words.one_window) {
            (1, _) => steps::<1, true>(rows, words, lines),
            (2, true) => steps::<2, true>(rows, words, lines),
            (2, false) => steps::<2, false>(rows, words, lines),
            (3, true) => steps::<3, true>(rows, words, lines),
            (3, false) => steps::<3, false>(rows, words, lines),
            (4, false) => steps::<4, false>(rows, words, lines),
            _ => steps::<0, false>(rows, words, lines),
        }
    }
}

/// [`horizontal`] in steps of 32 outputs. `COUNT` is the number of gathers, or 0 for any; `ONE` if they
/// share their window.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn steps<const COUNT: usize, const ONE: bool>(
    rows: [*const i16; ROWS],
    words: &Words,
    lines: [*mut i16; ROWS],
) {
    let per_block = 1 + words.count;
    for (step, places) in words.places.chunks_exact(STEP / BLOCK * per_block).enumerate() {
        let (front, back) = places.split_at(2 * per_block);
        // SAFETY: the caller's contract; each has two blocks of `words`.
        let (front, back) = unsafe {
            (sums::<COUNT, ONE>(rows, words, front), sums::<COUNT, ONE>(rows, words, back))
        };
        for r in 0..ROWS {
            let (front, back) =
                (_mm512_srai_epi32::<14>(front[r]), _mm512_srai_epi32::<14>(back[r]));
            // SAFETY: lines are writable for the steps, which are fewer words than their multiple of
            // 64, and aligned.
            unsafe {
                let line = lines[r].add(STEP * step);
                _mm512_store_si512(line.cast(), _mm512_packs_epi32(front, back));
            }
        }
    }
}

/// The sums of 16 outputs, for each row, rounding included.
///
/// # Safety
///
/// `blocks` must be two blocks of `words`, of `COUNT` gathers unless that is 0; each row must be readable as
/// far as windows reach.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn sums<const COUNT: usize, const ONE: bool>(
    rows: [*const i16; ROWS],
    words: &Words,
    blocks: &[u32],
) -> [__m512i; ROWS] {
    let (front, back) = blocks.split_at(1 + words.count);
    // SAFETY: the caller's contract.
    let (front, back) = unsafe {
        (halves::<COUNT, ONE>(rows, words, front), halves::<COUNT, ONE>(rows, words, back))
    };
    let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    std::array::from_fn(|r| {
        _mm512_add_epi32(
            _mm512_permutex2var_epi32(front[r], even, back[r]),
            _mm512_permutex2var_epi32(front[r], odd, back[r]),
        )
    })
}

/// The sums of a block, for each row: two numbers for each output, to be added.
///
/// # Safety
///
/// As for [`sums`], with one block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn halves<const COUNT: usize, const ONE: bool>(
    rows: [*const i16; ROWS],
    words: &Words,
    block: &[u32],
) -> [__m512i; ROWS] {
    // SAFETY: the place of a table, which has two vectors for each gather.
    let table = unsafe { words.tables.as_ptr().add(block[0] as usize) };
    // SAFETY: as above.
    let vector = |i: usize| unsafe { _mm512_load_si512(table.add(i).cast()) };
    // SAFETY: the caller's contract.
    let window = |r: usize, g: usize| unsafe {
        _mm512_loadu_si512(rows[r].add(block[1 + g] as usize).cast())
    };
    let mut windows = [_mm512_setzero_si512(); ROWS];
    let mut sums = [_mm512_set1_epi64(1 << 13); ROWS];
    for g in 0..if COUNT == 0 { block.len() - 1 } else { COUNT } {
        let (index, weights) = (vector(2 * g), vector(2 * g + 1));
        for r in 0..ROWS {
            if g == 0 || !ONE {
                windows[r] = window(r, g);
            }
            let taps = _mm512_permutexvar_epi8(index, windows[r]);
            sums[r] = _mm512_dpwssd_epi32(sums[r], taps, weights);
        }
    }
    sums
}
