//! Owns the horizontal pass in AVX2 where it comes first and neighbouring outputs lie close
//! together, as up to about 2:1 they do: two taps of each of eight outputs come from one window of
//! 16 source samples.
//!
//! All sums stay in 16 bits. `sum(128 x high + low) >> 7` is the high sum, which may wrap, and the
//! low one shifted. That one has up to 18 bits, so it is added up in two parts, of which `vpavgw`
//! makes half the sum of both without losing the 17th. Invariants: both parts fit 16 bits, else
//! there are no [`Pairs`]; a line holds its words in the order of the outputs.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::{Vector, vectors};
use crate::device::cpu::fetch::fetch;
use crate::device::cpu::gather::{self, Gather, Pick, Tables};
use crate::device::cpu::kernel::{PATTERN, ROWS, Rows};
use crate::filter::Taps;

/// Outputs that share one window.
const BLOCK: usize = 8;

/// Source samples of a window.
const WINDOW: usize = 16;

/// Outputs that are worked on at once: a block in each half of a register.
const STEP: usize = 2 * BLOCK;

/// Set in the place of a step's table if the bytes of both its blocks lie in their windows as they are
/// wanted, and the windows side by side.
const IN_PLACE: u32 = 1 << 31;

/// Gathers of a step up to which there is code for them.
const MOST: usize = 6;

/// Horizontal taps as tables, for steps of two blocks.
///
/// A step's table has three vectors of 16 bits for each output: where its sums start, see
/// [`starts`]; then three for each gather: where in the windows its bytes lie, two for each output,
/// and the high and the low bytes of their weights. Most steps share theirs.
pub(super) struct Pairs {
    count: usize,
    /// All gathers of a step are from the same windows.
    one_window: bool,
    /// Bytes of the source from one step to the next, at the most.
    step: usize,
    /// For each step the place of its table in `tables`, then the start of each gather's two windows.
    places: Vec<u32>,
    tables: Vec<Vector>,
}

impl Pairs {
    /// If the sums fit, and there are no more than [`MOST`] gathers.
    pub(super) fn new(taps: &Taps) -> Option<Self> {
        let gathers = gather::Gathers::<2, BLOCK>::new(taps, WINDOW, STEP / BLOCK);
        let (count, one_window) = (gathers.count, gathers.windows() == 1);
        if count > MOST {
            return None;
        }
        let blocks: Vec<_> = gathers.blocks().collect();
        let (steps, _) = blocks.as_chunks::<{ STEP / BLOCK }>();
        let step = gather::furthest_step(steps.iter().map(|[front, _]| front[0].base));
        let mut places = Vec::with_capacity(steps.len() * (1 + 2 * count));
        let mut tables = Tables::new();
        for [front, back] in steps {
            let (order, starts) = parted(front, back)?;
            let gathers = || order[..count].iter().map(|&g| (&front[g], &back[g]));
            let place = tables.place(starts.into_iter().chain(gathers().flat_map(vectors)));
            let in_place = if gathers().all(is_in_place) { IN_PLACE } else { 0 };
            places.push(place | in_place);
            places.extend(gathers().flat_map(|(f, b)| [f.base as u32, b.base as u32]));
        }
        Some(Self { count, one_window, step, places, tables: tables.into_vectors() })
    }

    /// Vector instructions for 16 outputs of a row, without loads, if it were for these taps; roughly.
    pub(super) fn cost(taps: &Taps) -> usize {
        match gather::Gathers::<2, BLOCK>::estimate(taps, WINDOW) {
            count @ ..=MOST => 5 * count + 3,
            _ => usize::MAX,
        }
    }
}

/// One block's gathers: each brings two taps of its outputs.
type Block = [Gather<2, BLOCK>];

/// The numbers of a step's gathers in an order in which the low sums of the first half of them, and
/// those of the others, fit 16 bits; and where the sums start. `None` if there is no such order.
fn parted(front: &Block, back: &Block) -> Option<([usize; MOST], [Vector; 3])> {
    let count = front.len();
    let halves = (0_u32..1 << count).filter(|h| h.count_ones() as usize == count.div_ceil(2));
    halves.into_iter().find_map(|half| {
        let is_first = |g: usize| half >> g & 1 == 1;
        let starts = starts(front, back, is_first)?;
        let mut order = [0; MOST];
        let of_first = (0..count).filter(|&g| is_first(g));
        let all = of_first.chain((0..count).filter(|&g| !is_first(g)));
        order.iter_mut().zip(all).for_each(|(place, g)| *place = g);
        Some((order, starts))
    })
}

/// Where the sums of a step's outputs start: both parts of the low one, so that they have no sign,
/// and the high one, which is less by as much. `None` if a part does not fit 16 bits.
fn starts(front: &Block, back: &Block, is_first: impl Fn(usize) -> bool) -> Option<[Vector; 3]> {
    /// A constant's 7 bits, less one, since an average rounds up.
    const CONSTANT: Range<i32> = -1..127;
    let mut starts = [[0_i16; 3]; STEP];
    for (output, starts) in starts.iter_mut().enumerate() {
        let (block, place) = if output < BLOCK { (front, output) } else { (back, output - BLOCK) };
        // Of both parts the sums of what is below zero, and of what is above.
        let (mut below, mut above) = ([0; 2], [0; 2]);
        for (g, gather) in block.iter().enumerate() {
            let part = usize::from(!is_first(g));
            for low in gather.picks[place].map(|pick| i32::from(pick.low())) {
                below[part] += low.min(0);
                above[part] += low.max(0);
            }
        }
        for part in [0, 1] {
            let least = 255 * below[part] + CONSTANT.start;
            let most = 255 * above[part] + CONSTANT.end;
            let start = (-least as u32).next_multiple_of(128);
            if most + start as i32 > u16::MAX.into() {
                return None;
            }
            starts[part] = start as i16;
            starts[2] -= (start >> 7) as i16;
        }
    }
    Some([0, 1, 2].map(|sum| Vector::of_words(starts.map(|starts| starts[sum]))))
}

/// Whether the 32 source samples from the front window's start on are the taps in their order.
fn is_in_place((front, back): (&Gather<2, BLOCK>, &Gather<2, BLOCK>)) -> bool {
    let in_order = |gather: &Gather<2, BLOCK>| {
        let mut picks = gather.picks.as_flattened().iter().enumerate();
        picks.all(|(i, pick)| usize::from(pick.index) == i || is_nothing(pick))
    };
    back.base == front.base + 16 && in_order(front) && in_order(back)
}

fn is_nothing(pick: &Pick) -> bool {
    pick.weight == 0
}

/// [`Kernel::horizontal_first`](crate::device::cpu::kernel::Kernel::horizontal_first).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn horizontal(rows: Rows, pairs: &Pairs) {
    // SAFETY: the same contract; the numbers of gathers are those of the tables.
    unsafe {
        match (pairs.count, pairs.one_window) {
            (1, _) => steps::<1, true>(rows, pairs),
            (2, true) => steps::<2, true>(rows, pairs),
            (2, false) => steps::<2, false>(rows, pairs),
            (3, true) => steps::<3, true>(rows, pairs),
            (3, false) => steps::<3, false>(rows, pairs),
            (4, true) => steps::<4, true>(rows, pairs),
            (4, false) => steps::<4, false>(rows, pairs),
            (5, _) => steps::<5, false>(rows, pairs),
            (MOST, _) => steps::<MOST, false>(rows, pairs),
            (count, _) => unreachable!("no more than {MOST} gathers, not {count}"),
        }
    }
}

/// [`horizontal`] in steps of 16 outputs. `COUNT` is the number of gathers; `ONE` if they share their
/// windows.
#[target_feature(enable = "avx2")]
unsafe fn steps<const COUNT: usize, const ONE: bool>(rows: Rows, pairs: &Pairs) {
    let Rows { sources, ahead, start, end, constants, lines } = rows;
    let per_step = 1 + 2 * pairs.count;
    let steps = start / STEP..end.div_ceil(STEP);
    let places = &pairs.places[steps.start * per_step..steps.end * per_step];
    for (step, places) in places.chunks_exact(per_step).enumerate() {
        let (starts, _) = places[1..].as_chunks::<2>();
        sources
            .iter()
            .for_each(|row| fetch(row.wrapping_add(starts[0][0] as usize + ahead), pairs.step));
        // SAFETY: the place of a step's table, which has `3 + 3 * count` vectors; the caller's
        // contract.
        let words = unsafe {
            let table = pairs.tables.as_ptr().add((places[0] & !IN_PLACE) as usize);
            match places[0] & IN_PLACE {
                0 => words::<COUNT, ONE, false>(sources, table, starts, constants),
                _ => words::<COUNT, ONE, true>(sources, table, starts, constants),
            }
        };
        for r in 0..ROWS {
            // SAFETY: lines are writable for the steps, which are fewer words than their multiple of
            // 64, and aligned.
            unsafe { _mm256_store_si256(lines[r].add(STEP * step).cast(), words[r]) };
        }
    }
}

/// Sixteen words for each row. `starts` are those of both windows of each gather.
///
/// # Safety
///
/// `table` must have three vectors and three for each of `starts`; each row must be readable for 16 bytes
/// from each start.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn words<const COUNT: usize, const ONE: bool, const IN_PLACE: bool>(
    rows: [*const u8; ROWS],
    table: *const Vector,
    starts: &[[u32; 2]],
    constants: [i32; PATTERN],
) -> [__m256i; ROWS] {
    // SAFETY: the caller's contract.
    let vector = |i: usize| unsafe { _mm256_load_si256(table.add(i).cast()) };
    // SAFETY: the caller's contract.
    let windows = |r: usize, g: usize| unsafe {
        let [front, back] = starts[g].map(|start| rows[r].add(start as usize));
        match IN_PLACE {
            true => _mm256_loadu_si256(front.cast()),
            false => _mm256_loadu2_m128i(back.cast(), front.cast()),
        }
    };
    let repeat = |part: fn(i32) -> i16| {
        let [a, b, c, d] = constants.map(part);
        _mm256_broadcastq_epi64(_mm_set_epi16(0, 0, 0, 0, d, c, b, a))
    };
    // One less, since the average of both parts rounds up.
    let constant = repeat(|constant| (constant & 127) as i16 - 1);
    let low_start = [_mm256_add_epi16(vector(0), constant), vector(1)];
    let high_start = _mm256_add_epi16(vector(2), repeat(|constant| (constant >> 7) as i16));
    let mut high = [high_start; ROWS];
    let mut low = [low_start; ROWS];
    let mut window = [_mm256_setzero_si256(); ROWS];
    for g in 0..COUNT {
        let (upper, lower) = (vector(3 * g + 4), vector(3 * g + 5));
        for r in 0..ROWS {
            if g == 0 || !ONE {
                window[r] = windows(r, g);
            }
            let taps = match IN_PLACE {
                true => window[r],
                false => _mm256_shuffle_epi8(window[r], vector(3 * g + 3)),
            };
            // Neither saturates: high bytes sum to 128 at most, and low ones are within 64.
            high[r] = _mm256_add_epi16(high[r], _mm256_maddubs_epi16(taps, upper));
            let part = &mut low[r][usize::from(g >= COUNT.div_ceil(2))];
            *part = _mm256_add_epi16(*part, _mm256_maddubs_epi16(taps, lower));
        }
    }
    std::array::from_fn(|r| {
        let low = _mm256_srli_epi16::<6>(average(low[r][0], low[r][1]));
        _mm256_add_epi16(high[r], low)
    })
}

/// The average of 16 bits without a sign, rounded up.
///
/// As assembly, because the compiler takes the instruction's intrinsic for arithmetic in 32 bits,
/// merges it with the shift behind it, and finds no such instruction again.
#[target_feature(enable = "avx2")]
#[inline]
fn average(a: __m256i, b: __m256i) -> __m256i {
    let average;
    // SAFETY: reads two registers and writes a third one.
    unsafe {
        asm!(
            "vpavgw {average}, {a}, {b}",
            average = lateout(ymm_reg) average,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    average
}

#[cfg(test)]
mod tests {
    use resized_protocol::message::Filter;

    use super::*;
    use crate::device::cpu::avx2::Avx2;
    use crate::device::cpu::kernel::Kernel;
    use crate::device::cpu::lengths::WIDE_LINE;
    use crate::device::cpu::scalar::Scalar;
    use crate::filter::Axis;
    use crate::levels::if_there;

    #[derive(Clone, Copy)]
    #[repr(align(64))]
    struct Line([i16; 2 * WIDE_LINE]);

    /// Rows that bring the low sum of an output as far from zero as it can be.
    #[test]
    fn low_sums_fit_at_their_worst() {
        if if_there("avx2", Avx2::new()).is_none() {
            return;
        }
        let constants = [(-128 << 13) + 127; PATTERN];
        let mut made = 0;
        for (filter, destination) in
            Filter::ALL.into_iter().flat_map(|filter| (24..90_u32).map(move |to| (filter, to)))
        {
            for gain in [1.0, 255.0 / 219.0] {
                let taps = Taps::new(filter, &Axis::full(60, destination), 0.5 * gain);
                let Some(pairs) = Pairs::new(&taps) else { continue };
                made += 1;
                for (x, is_flipped) in (0..taps.destination()).flat_map(|x| [(x, false), (x, true)])
                {
                    let mut row = [0; 60 + WIDE_LINE];
                    for (sample, weight) in taps.window(x).used() {
                        let is_white = Pick { index: 0, weight }.low() > 0;
                        row[sample] = if is_white == is_flipped { 0 } else { 255 };
                    }
                    let mut lines = [[Line([0; 2 * WIDE_LINE]); ROWS]; 2];
                    let [found, wanted] = &mut lines;
                    // SAFETY: the feature is there; rows and lines are long enough, and lines aligned.
                    unsafe {
                        let (sources, end) = ([row.as_ptr(); ROWS], taps.destination());
                        let lines = found.each_mut().map(|line| line.0.as_mut_ptr());
                        let rows = Rows { sources, ahead: 0, start: 0, end, constants, lines };
                        horizontal(rows, &pairs);
                        let lines = wanted.each_mut().map(|line| line.0.as_mut_ptr());
                        Scalar.horizontal_first(Rows { lines, ..rows }, &taps);
                    }
                    let of = |lines: &[Line; ROWS]| lines[0].0[..taps.destination()].to_vec();
                    assert_eq!(of(found), of(wanted), "{filter:?} to {destination}, {x}");
                }
            }
        }
        assert!(made > 200, "{made}");
    }
}
