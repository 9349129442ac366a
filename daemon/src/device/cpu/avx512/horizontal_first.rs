//! Owns the passes in AVX-512 with the horizontal one first, of rows of bytes: four taps of each of 16
//! outputs come from one window of 64 bytes, and a dot product adds them.
//!
//! Invariant: a line holds its words in blocks of 32, in the order that `_mm512_packs_epi32` gives them:
//! four of outputs 0..16, four of outputs 16..32, and so on. [`vertical`] undoes it.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Vector;
use crate::device::cpu::fetch::fetch;
use crate::device::cpu::gather::{self, Gather, Tables};
use crate::device::cpu::kernel::{PATTERN, ROWS, RowTaps, Rows};
use crate::device::cpu::lengths::WIDE_LINE;
use crate::filter::Taps;

/// Outputs that one gather serves.
const BLOCK: usize = 16;

/// Gathers of a block up to which they stay in registers between the two bytes of the weights.
const FEW: usize = 6;

/// All gathers of a block are from the first 32 bytes of the same window: such loads cross the
/// border of a cache line half as often.
const NARROW: usize = 32;

/// All gathers of a block are from the same window.
const WIDE: usize = 64;

/// The first gather of a block has a window of its own, the others are from the next one: packed pixels at
/// 3:1.
const TWO: usize = 2;

/// Each gather of a block has a window of its own.
const OWN: usize = 0;

/// Horizontal taps as tables, an even number of blocks.
///
/// A block's table is three vectors for each gather: where in the window its bytes lie, four for each
/// output, and the high and the low bytes of their weights. Most blocks share theirs with others.
pub(in crate::device::cpu) struct Gathers {
    count: usize,
    /// [`NARROW`], [`WIDE`], [`TWO`] or [`OWN`].
    window: usize,
    /// Weights of each block's last gather have no high bytes.
    is_last_light: bool,
    /// Bytes of the source from two blocks to the next two, at the most.
    step: usize,
    /// For each block the place of its table in `tables`, then the start of each gather's window.
    places: Vec<u32>,
    tables: Vec<Vector>,
}

impl Gathers {
    pub(super) fn new(taps: &Taps) -> Self {
        let mut gathers = gather::Gathers::<4, BLOCK>::new(taps, 64, 2);
        // Such weights are low bytes by themselves.
        let is_last_light = gathers.lighten(127);
        let blocks: Vec<_> = gathers.blocks().collect();
        let count = gathers.count;
        let mut picks =
            blocks.iter().copied().flatten().flat_map(|gather| gather.picks.as_flattened());
        let window = match gathers.windows() {
            1 if picks.all(|pick| usize::from(pick.index) < NARROW) => NARROW,
            1 => WIDE,
            2 => TWO,
            _ => OWN,
        };
        let step = gather::furthest_step(blocks.iter().step_by(2).map(|block| block[0].base));
        let mut places = Vec::with_capacity(blocks.len() * (1 + count));
        let mut tables = Tables::new();
        let heavy = count - usize::from(is_last_light);
        for block in blocks {
            let vectors =
                block.iter().enumerate().flat_map(|(g, gather)| vectors(gather, g >= heavy));
            places.push(tables.place(vectors));
            places.extend(block.iter().map(|gather| gather.base as u32));
        }
        let tables = tables.into_vectors();
        Self { count, window, is_last_light, step, places, tables }
    }
}

/// A gather's part of its block's table. If it is light, the low byte is all of a weight.
fn vectors(gather: &Gather<4, BLOCK>, is_light: bool) -> [Vector; 3] {
    let mut vectors = [Vector([0; 64]); 3];
    for (i, pick) in gather.picks.as_flattened().iter().enumerate() {
        let bytes = match is_light {
            true => [pick.index, 0, pick.weight as u8],
            false => [pick.index, pick.high() as u8, pick.low() as u8],
        };
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn horizontal(rows: Rows, gathers: &Gathers) {
    // SAFETY: the same contract; the numbers of gathers are those of the tables.
    unsafe {
        match (gathers.count, gathers.window) {
            (1, NARROW) => counted::<1, NARROW>(rows, gathers),
            (1, WIDE) => counted::<1, WIDE>(rows, gathers),
            (2, NARROW) => counted::<2, NARROW>(rows, gathers),
            (2, WIDE) => counted::<2, WIDE>(rows, gathers),
            (2, TWO) => counted::<2, TWO>(rows, gathers),
            (3, NARROW) => counted::<3, NARROW>(rows, gathers),
            (3, WIDE) => counted::<3, WIDE>(rows, gathers),
            (3, TWO) => counted::<3, TWO>(rows, gathers),
            (3, OWN) => counted::<3, OWN>(rows, gathers),
            (4, NARROW) => counted::<4, NARROW>(rows, gathers),
            (4, WIDE) => counted::<4, WIDE>(rows, gathers),
            (4, TWO) => counted::<4, TWO>(rows, gathers),
            (4, OWN) => counted::<4, OWN>(rows, gathers),
            (5, NARROW) => counted::<5, NARROW>(rows, gathers),
            (5, WIDE) => counted::<5, WIDE>(rows, gathers),
            (5, TWO) => counted::<5, TWO>(rows, gathers),
            (5, OWN) => counted::<5, OWN>(rows, gathers),
            (FEW, NARROW) => counted::<FEW, NARROW>(rows, gathers),
            (FEW, WIDE) => counted::<FEW, WIDE>(rows, gathers),
            (FEW, TWO) => counted::<FEW, TWO>(rows, gathers),
            (FEW, OWN) => counted::<FEW, OWN>(rows, gathers),
            // Of any number of gathers none's high bytes are left out.
            _ => steps::<0, OWN, false>(rows, gathers),
        }
    }
}

/// [`horizontal`] with `COUNT` gathers.
///
/// # Safety
///
/// As there; `gathers` must have that count and that window.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn counted<const COUNT: usize, const WINDOW: usize>(rows: Rows, gathers: &Gathers) {
    // SAFETY: the same contract.
    unsafe {
        match gathers.is_last_light {
            true => steps::<COUNT, WINDOW, true>(rows, gathers),
            false => steps::<COUNT, WINDOW, false>(rows, gathers),
        }
    }
}

/// Two blocks at a time. `COUNT` is the number of gathers, or 0 for any.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn steps<const COUNT: usize, const WINDOW: usize, const IS_LAST_LIGHT: bool>(
    rows: Rows,
    gathers: &Gathers,
) {
    let Rows { sources, ahead, start, end, constants, lines } = rows;
    let per_block = 1 + gathers.count;
    let pairs = start / (2 * BLOCK)..end.div_ceil(2 * BLOCK);
    let places = &gathers.places[pairs.start * 2 * per_block..pairs.end * 2 * per_block];
    for (pair, places) in places.chunks_exact(2 * per_block).enumerate() {
        let (front, back) = places.split_at(per_block);
        sources
            .iter()
            .for_each(|row| fetch(row.wrapping_add(front[1] as usize + ahead), gathers.step));
        // SAFETY: the caller's contract; both are blocks of `gathers`.
        let (front, back) = unsafe {
            (
                words::<COUNT, WINDOW, IS_LAST_LIGHT>(sources, gathers, front, constants),
                words::<COUNT, WINDOW, IS_LAST_LIGHT>(sources, gathers, back, constants),
            )
        };
        for r in 0..ROWS {
            // SAFETY: lines are writable for the blocks, rounded up to pairs, and aligned.
            unsafe {
                let line = lines[r].add(2 * BLOCK * pair);
                _mm512_store_si512(line.cast(), _mm512_packs_epi32(front[r], back[r]));
            }
        }
    }
}

/// The words of a block, 32 bits each, for each row: `high sum + ((constant + low sum) >> 7)`, which is
/// `(constant + 128 x high sum + low sum) >> 7`.
///
/// # Safety
///
/// `block` must be a place and as many starts of windows as `gathers` counts; that is `COUNT` unless
/// `COUNT` is 0. Each row must be readable for 64 bytes from each of these starts.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn words<const COUNT: usize, const WINDOW: usize, const IS_LAST_LIGHT: bool>(
    rows: [*const u8; ROWS],
    gathers: &Gathers,
    block: &[u32],
    constants: [i32; PATTERN],
) -> [__m512i; ROWS] {
    let [a, b, c, d] = constants;
    let mut sums = [_mm512_set4_epi32(d, c, b, a); ROWS];
    // SAFETY: the place of a table.
    let table = unsafe { gathers.tables.as_ptr().add(block[0] as usize) };
    // SAFETY: a table has three vectors for each gather.
    let vector = |i: usize| unsafe { _mm512_load_si512(table.add(i).cast()) };
    // SAFETY: rows are readable for 64 bytes from the start of each window.
    let window = |r: usize, g: usize| unsafe {
        let start = rows[r].add(block[1 + g] as usize);
        match WINDOW {
            NARROW => _mm512_castsi256_si512(_mm256_loadu_si256(start.cast())),
            _ => _mm512_loadu_si512(start.cast()),
        }
    };
    if COUNT == 0 {
        let mut high = [_mm512_setzero_si512(); ROWS];
        for g in 0..block.len() - 1 {
            let (index, upper, lower) = (vector(3 * g), vector(3 * g + 1), vector(3 * g + 2));
            for r in 0..ROWS {
                let taps = _mm512_permutexvar_epi8(index, window(r, g));
                high[r] = _mm512_dpbusd_epi32(high[r], taps, upper);
                sums[r] = _mm512_dpbusd_epi32(sums[r], taps, lower);
            }
        }
        for r in 0..ROWS {
            sums[r] = _mm512_add_epi32(high[r], _mm512_srai_epi32::<7>(sums[r]));
        }
        return sums;
    }
    let mut windows = [_mm512_setzero_si512(); ROWS];
    let mut taps = [[_mm512_setzero_si512(); ROWS]; COUNT];
    for (g, taps) in taps.iter_mut().enumerate() {
        let (index, lower) = (vector(3 * g), vector(3 * g + 2));
        for r in 0..ROWS {
            if g == 0 || WINDOW == OWN || (g == 1 && WINDOW == TWO) {
                windows[r] = window(r, g);
            }
            taps[r] = _mm512_permutexvar_epi8(index, windows[r]);
            sums[r] = _mm512_dpbusd_epi32(sums[r], taps[r], lower);
        }
    }
    // High products go on top of that and need no shift.
    let mut sums = sums.map(|sums| _mm512_srai_epi32::<7>(sums));
    for (g, taps) in taps.iter().enumerate() {
        if IS_LAST_LIGHT && g + 1 == COUNT {
            break;
        }
        let upper = vector(3 * g + 1);
        for r in 0..ROWS {
            sums[r] = _mm512_dpbusd_epi32(sums[r], taps[r], upper);
        }
    }
    sums
}

/// Two vectors of words make one of samples; two of those at a time, while there are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn vertical(
    lines: *const i16,
    taps: RowTaps<'_>,
    fraction_bits: u32,
    width: usize,
    target: *mut u8,
) {
    let mut x = 0;
    // SAFETY: lines are readable and `target` is writable for `width`, rounded up to `WIDE_LINE`.
    unsafe {
        while x + WIDE_LINE < width {
            vertical_samples::<4>(lines.add(x), taps, fraction_bits, target.add(x));
            x += 2 * WIDE_LINE;
        }
        if x < width {
            vertical_samples::<2>(lines.add(x), taps, fraction_bits, target.add(x));
        }
    }
}

/// `VECTORS`, an even number of them, of words from each line make 32 samples each.
///
/// # Safety
///
/// Each tap's line must be readable for the vectors, aligned; `target` must be writable for half of
/// their bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn vertical_samples<const VECTORS: usize>(
    lines: *const i16,
    taps: RowTaps<'_>,
    fraction_bits: u32,
    target: *mut u8,
) {
    // SAFETY: the caller's contract.
    let sums = unsafe { vertical_sums::<VECTORS>(lines, taps) };
    // A rounding multiplication by `2^(15 - bits)` is a rounding shift by `bits`.
    let shift = _mm512_set1_epi16(1 << (15 - fraction_bits));
    // Four samples at a time, from where packing twice leaves them to where they belong.
    let order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    for v in (0..VECTORS).step_by(2) {
        let samples = _mm512_packs_epi16(
            _mm512_mulhrs_epi16(sums[v], shift),
            _mm512_mulhrs_epi16(sums[v + 1], shift),
        );
        let samples = _mm512_xor_si512(samples, _mm512_set1_epi8(i8::MIN));
        // SAFETY: the caller's contract.
        unsafe {
            let target = target.add(BLOCK * 2 * v);
            _mm512_storeu_si512(target.cast(), _mm512_permutexvar_epi32(order, samples));
        }
    }
}

/// Sixty-four words at a time; four of them from where packing leaves them to where they belong.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn vertical_words(
    lines: *const i16,
    taps: RowTaps<'_>,
    width: usize,
    line: *mut i16,
) {
    let order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    for x in (0..width).step_by(WIDE_LINE) {
        // SAFETY: lines are readable, and `line` writable, for `width` rounded up to `WIDE_LINE`.
        unsafe {
            for (v, sum) in vertical_sums::<2>(lines.add(x), taps).into_iter().enumerate() {
                let words = _mm512_permutexvar_epi64(order, sum);
                _mm512_storeu_si512(line.add(x + 2 * BLOCK * v).cast(), words);
            }
        }
    }
}

/// Thirty-two samples at a time, four of them from where they are to where [`horizontal`] leaves them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn widen(row: *const u8, len: usize, line: *mut i16) {
    let order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    let middle = _mm512_set1_epi16(128);
    for x in (0..len).step_by(2 * BLOCK) {
        // SAFETY: row and line reach to a multiple of `WIDE_LINE`.
        unsafe {
            let samples = _mm256_loadu_si256(row.add(x).cast());
            let words = _mm512_cvtepu8_epi16(_mm256_permutevar8x32_epi32(samples, order));
            let words = _mm512_slli_epi16::<6>(_mm512_sub_epi16(words, middle));
            _mm512_store_si512(line.add(x).cast(), words);
        }
    }
}

/// The sums of `VECTORS` vectors of words, as they lie.
///
/// # Safety
///
/// Each tap's lines must be readable for the vectors, aligned.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn vertical_sums<const VECTORS: usize>(
    lines: *const i16,
    taps: RowTaps<'_>,
) -> [__m512i; VECTORS] {
    // SAFETY: the caller's contract.
    let words = |offset: u32, v: usize| unsafe {
        _mm512_load_si512(lines.add(offset as usize + 2 * BLOCK * v).cast())
    };
    let mut sums = [_mm512_setzero_si512(); VECTORS];
    let (mut pairs, mut singles) = (taps.pairs.iter(), taps.singles.iter());
    // The first one is no addition.
    if let Some(pair) = pairs.next() {
        let weight = _mm512_set1_epi32(pair.weights());
        for (v, sum) in sums.iter_mut().enumerate() {
            let both = _mm512_add_epi16(words(pair.offsets[0], v), words(pair.offsets[1], v));
            *sum = _mm512_mulhrs_epi16(both, weight);
        }
    } else if let Some(single) = singles.next() {
        let weight = _mm512_set1_epi32(single.weights());
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_mulhrs_epi16(words(single.offsets[0], v), weight);
        }
    }
    for pair in pairs {
        let weight = _mm512_set1_epi32(pair.weights());
        for (v, sum) in sums.iter_mut().enumerate() {
            let both = _mm512_add_epi16(words(pair.offsets[0], v), words(pair.offsets[1], v));
            *sum = _mm512_add_epi16(*sum, _mm512_mulhrs_epi16(both, weight));
        }
    }
    for single in singles {
        let weight = _mm512_set1_epi32(single.weights());
        for (v, sum) in sums.iter_mut().enumerate() {
            let product = _mm512_mulhrs_epi16(words(single.offsets[0], v), weight);
            *sum = _mm512_add_epi16(*sum, product);
        }
    }
    sums
}
