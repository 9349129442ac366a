//! Owns the oracle: the two passes as plainly as they can be written. What it gives is right, and every
//! other level must give the same bits.
#![allow(unsafe_code)]

use super::kernel::{Column, Kernel, PATTERN, ROWS, RowTaps, Rows};
use super::rolling::Held;
use crate::device::plan::{Arrange, Row};
use crate::filter::Taps;

/// The kernel for any machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Arrange for Scalar {
    type Windows = Taps;
    type Words = Taps;
    type Gathers = Taps;
    type Lines = Held;

    fn arrange(&self, taps: Taps) -> Taps {
        taps
    }

    fn arrange_words(&self, taps: Taps, channels: usize) -> Taps {
        Taps::interleaved(&vec![&taps; channels])
    }

    fn gather(&self, taps: Taps) -> Taps {
        taps
    }

    fn lines(&self, vertical: Taps, row: Row, fold: bool) -> Held {
        Held::new(&vertical, row, fold)
    }
}

impl Kernel for Scalar {
    const DEINTERLEAVES: bool = false;

    unsafe fn vertical_first(&self, column: Column<'_>, words: &mut [i16], len: usize) {
        let Column { first, stride, weights } = column;
        for (x, word) in words[..len].iter_mut().enumerate() {
            let mut sum = 1 << 7;
            for (row, &weight) in weights.iter().enumerate() {
                // SAFETY: `x < len`, and the caller vouches for `len` bytes in each row.
                let sample = unsafe { first.add(row * stride + x).read() };
                sum += i32::from(weight) * i32::from(sample);
            }
            *word = (sum >> 8).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }

    unsafe fn horizontal_second(&self, words: &[i16], taps: &Taps, constant: i32, target: *mut u8) {
        for x in 0..taps.destination() {
            let sum = constant + window_sum(words, taps, x);
            // SAFETY: the caller vouches for a byte for each window.
            unsafe { target.add(x).write((sum >> 20).clamp(0, 255) as u8) };
        }
    }

    unsafe fn horizontal_second_words(
        &self,
        words: &[i16],
        taps: &Taps,
        constant: i32,
        line: *mut i16,
    ) {
        for x in 0..taps.destination() {
            let sum = constant + window_sum(words, taps, x);
            let word = (sum >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            // SAFETY: the caller vouches for a word for each window.
            unsafe { line.add(x).write(word) };
        }
    }

    unsafe fn horizontal_first(&self, rows: Rows, taps: &Taps) {
        for (row, line) in rows.sources.into_iter().zip(rows.lines) {
            for (x, output) in (rows.start..rows.end).enumerate() {
                let window = taps.window(output);
                let mut sum = rows.constants[output % PATTERN];
                for (i, &weight) in window.weights.iter().enumerate() {
                    // SAFETY: windows lie within the row, which the caller vouches for.
                    let sample = unsafe { row.add(window.start + i * window.step).read() };
                    sum += i32::from(weight) * i32::from(sample);
                }
                // SAFETY: the caller vouches for a word for each output.
                unsafe { line.add(x).write((sum >> 7) as i16) };
            }
        }
    }

    unsafe fn vertical_second(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        fraction_bits: u32,
        width: usize,
        target: *mut u8,
    ) {
        let rounding = 1 << (fraction_bits - 1);
        for x in 0..width {
            // SAFETY: the caller's contract.
            let sum = unsafe { sum(lines, taps, x) } + rounding;
            // SAFETY: the caller vouches for `width` bytes.
            unsafe { target.add(x).write(((sum >> fraction_bits) + 128).clamp(0, 255) as u8) };
        }
    }

    unsafe fn vertical_second_words(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        width: usize,
        line: *mut i16,
    ) {
        for x in 0..width {
            // SAFETY: the caller's contract.
            unsafe { line.add(x).write(sum(lines, taps, x) as i16) };
        }
    }

    unsafe fn horizontal_first_words(
        &self,
        rows: [&[i16]; ROWS],
        taps: &Taps,
        _room: &mut [i16],
        lines: [*mut i16; ROWS],
    ) {
        for (words, line) in rows.into_iter().zip(lines) {
            for x in 0..taps.destination() {
                let window = taps.window(x);
                let products = window.weights.iter().enumerate();
                let product = |(i, &weight): (usize, &i16)| {
                    i32::from(words[window.start + i * window.step]) * i32::from(weight)
                };
                let sum = (1 << 13) + products.map(product).sum::<i32>();
                let word = (sum >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                // SAFETY: the caller vouches for a word for each window.
                unsafe { line.add(x).write(word) };
            }
        }
    }
}

/// A sum of the second, horizontal pass.
fn window_sum(words: &[i16], taps: &Taps, x: usize) -> i32 {
    let window = taps.window(x);
    let words = &words[window.start..][..window.weights.len()];
    words.iter().zip(window.weights).map(|(&w, &v)| i32::from(w) * i32::from(v)).sum()
}

/// A sum of the second, vertical pass.
///
/// # Safety
///
/// Each tap's lines must be readable at `x`.
unsafe fn sum(lines: *const i16, taps: RowTaps<'_>, x: usize) -> i32 {
    let product = |weight: i16, word: i32| (i32::from(weight) * word + (1 << 14)) >> 15;
    // SAFETY: the caller's contract.
    let word = |offset: u32| i32::from(unsafe { lines.add(offset as usize + x).read() });
    let both = |[one, other]: [u32; 2]| word(one) + word(other);
    let pairs = taps.pairs.iter().map(|pair| product(pair.weight, both(pair.offsets)));
    let singles = taps.singles.iter().map(|single| product(single.weight, word(single.offsets[0])));
    pairs.chain(singles).sum()
}
