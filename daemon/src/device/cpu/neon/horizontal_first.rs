//! Owns the passes in NEON with the horizontal one first.
//!
//! One table look-up brings a tap of each of eight outputs, widened on the way: a place beyond the
//! table gives zero, which makes the upper byte of a sample. Two long multiply-additions weigh
//! them; so weights need not be parted into bytes, and as many taps are paid for as there are.
//! Invariant: a line holds its words in the order of the outputs.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::collections::HashMap;

use crate::device::cpu::kernel::{ROWS, RowTaps, Rows};
use crate::device::cpu::lengths::WIDE_LINE;
use crate::filter::Taps;

/// Outputs that are worked on at once.
const BLOCK: usize = 8;

/// Bytes of a register.
const REGISTER: usize = 16;

/// A place that no table has.
const NOWHERE: u8 = 0xff;

/// Look-ups of one window up to which they are unrolled: windows and sums of [`ROWS`] rows stay in
/// registers anyway, so only branches are saved.
const UNROLLED: usize = 12;

/// Blocks by which windows are chosen.
const SAMPLED: usize = 16;

/// A tap of each output of a block: where in the window its sample lies, two bytes for each, and
/// what it weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(16))]
struct Tap {
    index: [u8; 2 * BLOCK],
    weights: [i16; BLOCK],
}

/// Weighs nothing.
const NO_TAP: Tap = Tap { index: [NOWHERE; 2 * BLOCK], weights: [0; BLOCK] };

/// Horizontal taps as tables, for blocks of eight outputs.
pub(in crate::device::cpu) struct Gathers {
    /// Registers of a window: 1, 2 or 4 in a row.
    registers: usize,
    /// The taps of every block, if all have one window; or 0.
    unrolled: usize,
    blocks: Vec<Block>,
    windows: Vec<Window>,
    /// A block's table is its taps, window by window. Most blocks share theirs.
    tables: Vec<Tap>,
}

/// Where a block's table starts in `tables`, and its windows in `windows`.
#[derive(Clone, Copy, Debug)]
struct Block {
    table: u32,
    windows: u32,
}

/// The source sample at which a window starts, and how many of the block's taps are from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    base: u32,
    taps: u32,
}

impl Gathers {
    pub(super) fn new(taps: &Taps) -> Self {
        // The first one of the least cost: narrow look-ups are faster on some CPUs.
        let registers = [1, 2, 4].into_iter().min_by_key(|&registers| cost(taps, registers));
        Self::with_registers(taps, registers.unwrap_or(1))
    }

    fn with_registers(taps: &Taps, registers: usize) -> Self {
        let firsts = (0..taps.destination()).step_by(BLOCK);
        let mut plans: Vec<_> =
            firsts.map(|first| plan(taps, first, registers * REGISTER)).collect();
        let single = plans.iter().all(|(windows, _)| windows.len() == 1);
        let most = plans.iter().map(|(_, table)| table.len()).max().unwrap_or(0);
        let unrolled = if single && most <= UNROLLED && registers <= 2 { most } else { 0 };
        let (mut blocks, mut windows, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = HashMap::new();
        for (block, table) in &mut plans {
            if unrolled > 0 {
                table.resize(unrolled, NO_TAP);
                block[0].taps = unrolled as u32;
            }
            let place = *known.entry(table.clone()).or_insert_with(|| {
                tables.extend_from_slice(table);
                tables.len() - table.len()
            });
            blocks.push(Block { table: place as u32, windows: windows.len() as u32 });
            windows.append(block);
        }
        blocks.push(Block { table: 0, windows: windows.len() as u32 });
        Self { registers, unrolled, blocks, windows, tables }
    }
}

/// Instructions that windows of so many registers take, roughly: for a row of a few blocks from all
/// over. A look-up in four registers is worth three.
fn cost(taps: &Taps, registers: usize) -> usize {
    let tap = if registers == 4 { 5 } else { 3 };
    let blocks = taps.destination().div_ceil(BLOCK);
    let some = (0..blocks).step_by(blocks.div_ceil(SAMPLED));
    some.flat_map(|block| plan(taps, block * BLOCK, registers * REGISTER).0)
        .map(|window| window.taps as usize * tap + registers)
        .sum()
}

/// The windows of `reach` samples and the taps of the block that starts with the output `first`.
///
/// A look-up takes the next tap of each output, as long as these lie in one window. If they never do, a
/// window is used for as long as it has any output's next tap.
fn plan(taps: &Taps, first: usize, reach: usize) -> (Vec<Window>, Vec<Tap>) {
    let end = (first + BLOCK).min(taps.destination());
    let mut left: Vec<_> = (first..end).map(|x| taps.window(x).used().peekable()).collect();
    let (mut windows, mut table): (Vec<Window>, Vec<Tap>) = (Vec::new(), Vec::new());
    loop {
        let next = left.iter_mut().filter_map(|taps| taps.peek().map(|&(sample, _)| sample));
        let bounds = next.fold(None, |bounds, sample| {
            let (least, most) = bounds.unwrap_or((sample, sample));
            Some((sample.min(least), sample.max(most)))
        });
        let Some((least, most)) = bounds else { break };
        // None lies before the window, which started at the least of them.
        let goes_on = windows.last().is_some_and(|window| {
            let end = window.base as usize + reach;
            most < end || (least < end && most - least >= reach)
        });
        if !goes_on {
            windows.push(Window { base: least as u32, taps: 0 });
        }
        let mut tap = NO_TAP;
        if let Some(window) = windows.last_mut() {
            window.taps += 1;
            for (output, taps) in left.iter_mut().enumerate() {
                let place = |sample: usize| sample - window.base as usize;
                if let Some((sample, weight)) = taps.next_if(|&(x, _)| place(x) < reach) {
                    tap.index[2 * output] = place(sample) as u8;
                    tap.weights[output] = weight;
                }
            }
        }
        table.push(tap);
    }
    if windows.is_empty() {
        windows.push(Window { base: 0, taps: 0 });
    }
    (windows, table)
}

/// [`Kernel::horizontal_first`](crate::device::cpu::kernel::Kernel::horizontal_first).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "neon")]
pub(super) unsafe fn horizontal(rows: Rows, gathers: &Gathers) {
    // SAFETY: the same contract; the numbers of registers and taps are those of the tables.
    unsafe {
        match (gathers.registers, gathers.unrolled) {
            (1, 1) => blocks::<1, 1>(rows, gathers),
            (1, 2) => blocks::<1, 2>(rows, gathers),
            (1, 3) => blocks::<1, 3>(rows, gathers),
            (1, 4) => blocks::<1, 4>(rows, gathers),
            (1, 5) => blocks::<1, 5>(rows, gathers),
            (1, 6) => blocks::<1, 6>(rows, gathers),
            (1, 7) => blocks::<1, 7>(rows, gathers),
            (1, 8) => blocks::<1, 8>(rows, gathers),
            (1, _) => blocks::<1, 0>(rows, gathers),
            (2, 3) => blocks::<2, 3>(rows, gathers),
            (2, 4) => blocks::<2, 4>(rows, gathers),
            (2, 5) => blocks::<2, 5>(rows, gathers),
            (2, 6) => blocks::<2, 6>(rows, gathers),
            (2, 7) => blocks::<2, 7>(rows, gathers),
            (2, 8) => blocks::<2, 8>(rows, gathers),
            (2, 9) => blocks::<2, 9>(rows, gathers),
            (2, 10) => blocks::<2, 10>(rows, gathers),
            (2, 11) => blocks::<2, 11>(rows, gathers),
            (2, 12) => blocks::<2, 12>(rows, gathers),
            (2, _) => blocks::<2, 0>(rows, gathers),
            _ => blocks::<4, 0>(rows, gathers),
        }
    }
}

/// [`horizontal`] in blocks. `TAPS` is the number of each block's taps, all from one window, or 0 for any.
///
/// # Safety
///
/// As for [`horizontal`]; the windows of `gathers` must have `REGISTERS`.
#[target_feature(enable = "neon")]
unsafe fn blocks<const REGISTERS: usize, const TAPS: usize>(rows: Rows, gathers: &Gathers) {
    let Rows { sources, start, end, constants, lines, .. } = rows;
    // SAFETY: a pattern is a register's length.
    let constants = unsafe { vld1q_s32(constants.as_ptr()) };
    let blocks = start / BLOCK..end.div_ceil(BLOCK);
    for (i, block) in gathers.blocks[blocks.start..=blocks.end].windows(2).enumerate() {
        let windows = &gathers.windows[block[0].windows as usize..block[1].windows as usize];
        // SAFETY: the place of a table.
        let mut table = unsafe { gathers.tables.as_ptr().add(block[0].table as usize) };
        let mut sums = [[constants; 2]; ROWS];
        // SAFETY: rows are readable for 64 bytes from the start of each window; a table has a tap for
        // each that is counted.
        unsafe {
            if TAPS > 0 {
                let places = load::<REGISTERS>(sources, windows[0].base);
                weigh::<REGISTERS, TAPS>(&mut sums, &places, table);
            } else {
                for window in windows {
                    let places = load::<REGISTERS>(sources, window.base);
                    for _ in 0..window.taps / 4 {
                        weigh::<REGISTERS, 4>(&mut sums, &places, table);
                        table = table.add(4);
                    }
                    for _ in 0..window.taps % 4 {
                        weigh::<REGISTERS, 1>(&mut sums, &places, table);
                        table = table.add(1);
                    }
                }
            }
        }
        for ([front, back], line) in sums.into_iter().zip(lines) {
            let words = vshrn_high_n_s32::<7>(vshrn_n_s32::<7>(front), back);
            // SAFETY: lines are writable for the outputs, rounded up to a multiple of 64.
            unsafe { vst1q_s16(line.add(i * BLOCK), words) };
        }
    }
}

/// Registers of a window; beyond those that it has, its first one again.
type Place = [uint8x16_t; 4];

/// The windows of all rows that start at the sample `base`.
///
/// # Safety
///
/// Each row must be readable from there for `REGISTERS` of 16 bytes.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load<const REGISTERS: usize>(rows: [*const u8; ROWS], base: u32) -> [Place; ROWS] {
    // SAFETY: the caller's contract.
    rows.map(|row| unsafe {
        let start = row.add(base as usize);
        std::array::from_fn(|i| vld1q_u8(start.add(if i < REGISTERS { REGISTER * i } else { 0 })))
    })
}

/// Adds `TAPS` taps of each output to the sums of all rows.
///
/// # Safety
///
/// `table` must have them.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn weigh<const REGISTERS: usize, const TAPS: usize>(
    sums: &mut [[int32x4_t; 2]; ROWS],
    places: &[Place; ROWS],
    table: *const Tap,
) {
    for i in 0..TAPS {
        // SAFETY: the caller's contract.
        let (index, weights) = unsafe {
            let tap = &*table.add(i);
            (vld1q_u8(tap.index.as_ptr()), vld1q_s16(tap.weights.as_ptr()))
        };
        for ([front, back], place) in sums.iter_mut().zip(places) {
            let samples = vreinterpretq_s16_u8(look_up::<REGISTERS>(*place, index));
            *front = vmlal_s16(*front, vget_low_s16(samples), vget_low_s16(weights));
            *back = vmlal_high_s16(*back, samples, weights);
        }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn look_up<const REGISTERS: usize>([a, b, c, d]: Place, index: uint8x16_t) -> uint8x16_t {
    match REGISTERS {
        1 => vqtbl1q_u8(a, index),
        2 => vqtbl2q_u8(uint8x16x2_t(a, b), index),
        _ => vqtbl4q_u8(uint8x16x4_t(a, b, c, d), index),
    }
}

/// [`Kernel::vertical_second`](crate::device::cpu::kernel::Kernel::vertical_second).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "neon")]
pub(super) unsafe fn vertical(
    lines: *const i16,
    taps: RowTaps<'_>,
    fraction_bits: u32,
    width: usize,
    target: *mut u8,
) {
    // SAFETY: the same contract.
    unsafe {
        match fraction_bits {
            5 => vertical_bits::<5>(lines, taps, width, target),
            6 => vertical_bits::<6>(lines, taps, width, target),
            7 => vertical_bits::<7>(lines, taps, width, target),
            bits => unreachable!("no order gives {bits} fraction bits"),
        }
    }
}

/// # Safety
///
/// As for [`vertical`].
#[target_feature(enable = "neon")]
unsafe fn vertical_bits<const BITS: i32>(
    lines: *const i16,
    taps: RowTaps<'_>,
    width: usize,
    target: *mut u8,
) {
    let middle = vdupq_n_u8(128);
    let store = |x: usize, sums: [int16x8_t; 8]| {
        for (i, [front, back]) in sums.as_chunks::<2>().0.iter().enumerate() {
            let samples = vqrshrn_high_n_s16::<BITS>(vqrshrn_n_s16::<BITS>(*front), *back);
            let samples = veorq_u8(vreinterpretq_u8_s8(samples), middle);
            // SAFETY: `target` is writable for `width`, rounded up to a multiple of `WIDE_LINE`.
            unsafe { vst1q_u8(target.add(x + 16 * i), samples) };
        }
    };
    // SAFETY: the caller's contract.
    unsafe { vertical_sums(lines, taps, width, store) };
}

/// [`Kernel::vertical_second_words`](crate::device::cpu::kernel::Kernel::vertical_second_words).
///
/// # Safety
///
/// As there.
#[target_feature(enable = "neon")]
pub(super) unsafe fn vertical_words(
    lines: *const i16,
    taps: RowTaps<'_>,
    width: usize,
    line: *mut i16,
) {
    let store = |x: usize, sums: [int16x8_t; 8]| {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: `line` is writable for `width`, rounded up to a multiple of `WIDE_LINE`.
            unsafe { vst1q_s16(line.add(x + 8 * v), sum) };
        }
    };
    // SAFETY: the caller's contract.
    unsafe { vertical_sums(lines, taps, width, store) };
}

/// Has the sums of 64 words at a time stored, with the place of the first one.
///
/// The multiplication is `(2 x weight x word + 2^15) >> 16`, saturated: that is the rounded product, since
/// no weight is -2^15, the only one for which it could saturate.
///
/// # Safety
///
/// Each tap's lines must be readable for `width`, rounded up to a multiple of [`WIDE_LINE`].
#[target_feature(enable = "neon")]
unsafe fn vertical_sums(
    lines: *const i16,
    taps: RowTaps<'_>,
    width: usize,
    store: impl Fn(usize, [int16x8_t; 8]),
) {
    for x in (0..width).step_by(WIDE_LINE) {
        // SAFETY: the caller's contract.
        let words =
            |offset: u32, v: usize| unsafe { vld1q_s16(lines.add(offset as usize + x + 8 * v)) };
        let mut sums = [vdupq_n_s16(0); 8];
        let (mut pairs, mut singles) = (taps.pairs.iter(), taps.singles.iter());
        // The first one is no addition.
        if let Some(pair) = pairs.next() {
            for (v, sum) in sums.iter_mut().enumerate() {
                let both = vaddq_s16(words(pair.offsets[0], v), words(pair.offsets[1], v));
                *sum = vqrdmulhq_n_s16(both, pair.weight);
            }
        } else if let Some(single) = singles.next() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = vqrdmulhq_n_s16(words(single.offsets[0], v), single.weight);
            }
        }
        for pair in pairs {
            for (v, sum) in sums.iter_mut().enumerate() {
                let both = vaddq_s16(words(pair.offsets[0], v), words(pair.offsets[1], v));
                *sum = vaddq_s16(*sum, vqrdmulhq_n_s16(both, pair.weight));
            }
        }
        for single in singles {
            for (v, sum) in sums.iter_mut().enumerate() {
                let product = vqrdmulhq_n_s16(words(single.offsets[0], v), single.weight);
                *sum = vaddq_s16(*sum, product);
            }
        }
        store(x, sums);
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::message::Filter;

    use super::*;
    use crate::filter::Axis;

    fn taps(filter: Filter, source: u32, destination: u32) -> Taps {
        Taps::new(filter, &Axis::full(source, destination), 0.5)
    }

    #[test]
    fn every_tap_is_looked_up_once() {
        for filter in Filter::ALL {
            for (source, destination) in
                [(96, 32), (97, 33), (31, 64), (40, 10), (300, 11), (1, 40)]
            {
                let channel = taps(filter, source, destination);
                let packed = Taps::interleaved(&[&channel; 3]);
                for (taps, registers) in
                    [channel, packed].iter().flat_map(|taps| [1, 2, 4].map(|n| (taps, n)))
                {
                    let gathers = Gathers::with_registers(taps, registers);
                    for index in 0..taps.destination() {
                        let output = index % BLOCK;
                        let [block, next] =
                            [index / BLOCK, index / BLOCK + 1].map(|i| gathers.blocks[i]);
                        let mut table = gathers.tables[block.table as usize..].iter();
                        let mut found = Vec::new();
                        for window in
                            &gathers.windows[block.windows as usize..next.windows as usize]
                        {
                            for tap in table.by_ref().take(window.taps as usize) {
                                let place = usize::from(tap.index[2 * output]);
                                assert_eq!(tap.index[2 * output + 1], NOWHERE);
                                if place != usize::from(NOWHERE) {
                                    assert!(place < registers * REGISTER);
                                    found.push((window.base as usize + place, tap.weights[output]));
                                }
                            }
                        }
                        let wanted: Vec<_> = taps.window(index).used().collect();
                        assert_eq!(found, wanted, "{filter:?} {source} {destination} {registers}");
                    }
                }
            }
        }
    }

    #[test]
    fn usual_ratios_need_no_more_look_ups_than_taps() {
        let plan = |filter, source, destination| {
            let gathers = Gathers::new(&taps(filter, source, destination));
            (gathers.registers, gathers.unrolled)
        };
        assert_eq!(plan(Filter::Bicubic, 1920, 640), (2, 9));
        assert_eq!(plan(Filter::Bicubic, 1280, 640), (2, 8));
        assert_eq!(plan(Filter::Bicubic, 1920, 1280), (1, 6));
        assert_eq!(plan(Filter::Bicubic, 1280, 1920), (1, 4));
        assert_eq!(plan(Filter::Lanczos3, 1280, 640), (2, 12));
    }
}
