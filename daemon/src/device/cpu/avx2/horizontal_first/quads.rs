//! Owns the horizontal pass in AVX2 where it comes first, at any ratio: four taps of each of four
//! outputs come from one window of 16 source samples, two windows to a register, and sums have 32
//! bits.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Vector, vectors};
use crate::device::cpu::fetch::fetch;
use crate::device::cpu::gather::{self, Tables};
use crate::device::cpu::kernel::{PATTERN, ROWS, Rows};
use crate::filter::Taps;

/// Outputs that share one window.
const BLOCK: usize = 4;

/// Source samples of a window.
const WINDOW: usize = 16;

/// Outputs that are worked on at once: four blocks, two registers of sums, one of words.
const STEP: usize = 4 * BLOCK;

/// Horizontal taps as tables, for steps of four blocks `a`..`d`. The first register has `a` and
/// `c`, the second `b` and `d`: so packing them leaves the outputs in order.
///
/// A step's table has for both registers three vectors for each gather: where in the windows its bytes
/// lie, four for each output, and the high and the low bytes of their weights. Most steps share theirs.
pub(super) struct Quads {
    count: usize,
    /// Gathers with windows of their own, the first ones: the rest use the last of these.
    windows: usize,
    /// Weights of each block's last gather have no high bytes.
    is_last_light: bool,
    /// Bytes of the source from one step to the next, at the most.
    step: usize,
    /// For each step the place of its table in `tables`, then for both registers the start of each
    /// gather's two windows.
    places: Vec<u32>,
    tables: Vec<Vector>,
}

impl Quads {
    pub(super) fn new(taps: &Taps) -> Self {
        let mut gathers = gather::Gathers::<4, BLOCK>::new(taps, WINDOW, STEP / BLOCK);
        // The high byte of such a weight is zero.
        let is_last_light = gathers.lighten(63);
        let (count, windows) = (gathers.count, gathers.windows());
        let blocks: Vec<_> = gathers.blocks().collect();
        let (steps, _) = blocks.as_chunks::<{ STEP / BLOCK }>();
        let step = gather::furthest_step(steps.iter().map(|[first, ..]| first[0].base));
        let mut places = Vec::with_capacity(steps.len() * (1 + 4 * count));
        let mut tables = Tables::new();
        for [a, b, c, d] in steps {
            let gathers = || a.iter().zip(*c).chain(b.iter().zip(*d));
            places.push(tables.place(gathers().flat_map(vectors)));
            places.extend(gathers().flat_map(|(low, high)| [low.base as u32, high.base as u32]));
        }
        Self { count, windows, is_last_light, step, places, tables: tables.into_vectors() }
    }

    /// Vector instructions for 16 outputs of a row, without loads, if it were for these taps; roughly.
    pub(super) fn cost(taps: &Taps) -> usize {
        12 * gather::Gathers::<4, BLOCK>::estimate(taps, WINDOW) + 5
    }
}

/// [`Kernel::horizontal_first`](crate::device::cpu::kernel::Kernel::horizontal_first).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn horizontal(rows: Rows, quads: &Quads) {
    // SAFETY: the same contract; the numbers of gathers are those of the tables.
    unsafe {
        match (quads.count, quads.windows) {
            (1, 1) => counted::<1, 1>(rows, quads),
            (2, 1) => counted::<2, 1>(rows, quads),
            (2, 2) => counted::<2, 2>(rows, quads),
            (3, 1) => counted::<3, 1>(rows, quads),
            (3, 2) => counted::<3, 2>(rows, quads),
            (3, 3) => counted::<3, 3>(rows, quads),
            (4, 3) if quads.is_last_light => steps::<4, 3, true>(rows, quads),
            // All others have high bytes, be they zeros: to leave these out costs more than it saves.
            _ => steps::<0, 0, false>(rows, quads),
        }
    }
}

/// [`horizontal`] with `COUNT` gathers, `WINDOWS` of them with windows of their own.
///
/// # Safety
///
/// As there; `quads` must have as many.
#[target_feature(enable = "avx2")]
unsafe fn counted<const COUNT: usize, const WINDOWS: usize>(rows: Rows, quads: &Quads) {
    // SAFETY: the same contract.
    unsafe {
        match quads.is_last_light {
            true => steps::<COUNT, WINDOWS, true>(rows, quads),
            false => steps::<COUNT, WINDOWS, false>(rows, quads),
        }
    }
}

/// [`counted`] in steps of 16 outputs; `COUNT` and `WINDOWS` may be 0 too, for any.
#[target_feature(enable = "avx2")]
unsafe fn steps<const COUNT: usize, const WINDOWS: usize, const IS_LAST_LIGHT: bool>(
    rows: Rows,
    quads: &Quads,
) {
    let Rows { sources, ahead, start, end, constants, lines } = rows;
    let half = 2 * quads.count;
    let steps = start / STEP..end.div_ceil(STEP);
    let places = &quads.places[steps.start * (1 + 2 * half)..steps.end * (1 + 2 * half)];
    for (step, places) in places.chunks_exact(1 + 2 * half).enumerate() {
        let (front, back) = places[1..].split_at(half);
        sources
            .iter()
            .for_each(|row| fetch(row.wrapping_add(front[0] as usize + ahead), quads.step));
        // SAFETY: the place of a step's table, which has `6 * count` vectors.
        let (first, second) = unsafe {
            let table = quads.tables.as_ptr().add(places[0] as usize);
            (table, table.add(3 * quads.count))
        };
        // SAFETY: the caller's contract; windows start on samples of the rows.
        let (front, back) = unsafe {
            (
                words::<COUNT, WINDOWS, IS_LAST_LIGHT>(sources, first, front, constants),
                words::<COUNT, WINDOWS, IS_LAST_LIGHT>(sources, second, back, constants),
            )
        };
        for r in 0..ROWS {
            // SAFETY: lines are writable for the steps, which are fewer words than their multiple of
            // 64, and aligned.
            unsafe {
                let line = lines[r].add(STEP * step).cast();
                _mm256_store_si256(line, _mm256_packs_epi32(front[r], back[r]));
            }
        }
    }
}

/// Eight words for each row, 32 bits each. `starts` are those of both windows of each gather.
///
/// # Safety
///
/// `table` must have three vectors for each two `starts`; each row must be readable for 16 bytes from
/// each of them.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn words<const COUNT: usize, const WINDOWS: usize, const IS_LAST_LIGHT: bool>(
    rows: [*const u8; ROWS],
    table: *const Vector,
    starts: &[u32],
    constants: [i32; PATTERN],
) -> [__m256i; ROWS] {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's contract.
    let vector = |i: usize| unsafe { _mm256_load_si256(table.add(i).cast()) };
    let (starts, _) = starts.as_chunks::<2>();
    // SAFETY: the caller's contract.
    let windows = |r: usize, g: usize| unsafe {
        let [front, back] = starts[g].map(|start| rows[r].add(start as usize).cast());
        _mm256_loadu2_m128i(back, front)
    };
    // Neither saturates: high bytes sum to 128 at most, and low ones are within 64. The sums of
    // high products fit 16 bits for the same reason.
    let products = |taps, upper, lower| {
        let (high, low) = (_mm256_maddubs_epi16(taps, upper), _mm256_maddubs_epi16(taps, lower));
        (high, _mm256_madd_epi16(low, ones))
    };
    let mut high = [_mm256_setzero_si256(); ROWS];
    let [a, b, c, d] = constants;
    let mut low = [_mm256_broadcastsi128_si256(_mm_set_epi32(d, c, b, a)); ROWS];
    if COUNT == 0 {
        for g in 0..starts.len() {
            let (index, upper, lower) = (vector(3 * g), vector(3 * g + 1), vector(3 * g + 2));
            for r in 0..ROWS {
                let taps = _mm256_shuffle_epi8(windows(r, g), index);
                let (upper, lower) = products(taps, upper, lower);
                high[r] = _mm256_add_epi16(high[r], upper);
                low[r] = _mm256_add_epi32(low[r], lower);
            }
        }
    } else {
        for r in 0..ROWS {
            let mut window = windows(r, 0);
            for g in 0..COUNT {
                if g > 0 && g < WINDOWS {
                    window = windows(r, g);
                }
                let taps = _mm256_shuffle_epi8(window, vector(3 * g));
                let (upper, lower) = products(taps, vector(3 * g + 1), vector(3 * g + 2));
                low[r] = _mm256_add_epi32(low[r], lower);
                if !IS_LAST_LIGHT || g + 1 < COUNT {
                    high[r] = if g == 0 { upper } else { _mm256_add_epi16(high[r], upper) };
                }
            }
        }
    }
    for r in 0..ROWS {
        let high = _mm256_madd_epi16(high[r], _mm256_set1_epi16(1 << 7));
        low[r] = _mm256_srai_epi32::<7>(_mm256_add_epi32(low[r], high));
    }
    low
}
