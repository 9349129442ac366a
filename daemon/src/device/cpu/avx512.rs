//! Owns which passes AVX-512 has code of its own for, bit for bit those of [`scalar`](super::scalar): those
//! with the horizontal one first, and the plain loops. All else is done as [`Avx2`] does it.
//!
//! Invariant: an [`Avx512`] exists only where the CPU has the features, so its methods may use them.
#![allow(unsafe_code)]

mod horizontal_first;
mod words_first;

use self::horizontal_first::Gathers;
use self::words_first::Words;
use super::avx2::{Avx2, Blocks};
use super::kernel::{Column, Interleave, Kernel, ROWS, RowTaps, Rows};
use super::mix::{self, Mix};
use super::rolling::Held;
use super::samples::{self, Samples};
use crate::device::plan::{Arrange, Row};
use crate::filter::Taps;

/// Proof that this CPU has AVX-512 with BW, VL, VBMI and VNNI (Ice Lake, Zen 4 and later).
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512 {
    avx2: Avx2,
}

impl Avx512 {
    pub(super) fn new() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
        Avx2::new().filter(|_| there).map(|avx2| Self { avx2 })
    }
}

/// Sixty-four bytes as they lie in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Vector([u8; 64]);

impl AsRef<[u8]> for Vector {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Arrange for Avx512 {
    type Windows = Blocks;
    type Words = Words;
    type Gathers = Gathers;
    type Lines = Held;

    fn arrange(&self, taps: Taps) -> Blocks {
        self.avx2.arrange(taps)
    }

    fn arrange_words(&self, taps: Taps, channels: usize) -> Words {
        Words::new(&Taps::interleaved(&vec![&taps; channels]))
    }

    fn gather(&self, taps: Taps) -> Gathers {
        Gathers::new(&taps)
    }

    fn lines(&self, vertical: Taps, row: Row, fold: bool) -> Held {
        Held::new(&vertical, row, fold)
    }
}

impl Kernel for Avx512 {
    const DEINTERLEAVES: bool = false;

    unsafe fn vertical_first(&self, column: Column<'_>, words: &mut [i16], len: usize) {
        // SAFETY: the same contract.
        unsafe { self.avx2.vertical_first(column, words, len) }
    }

    unsafe fn horizontal_second(
        &self,
        words: &[i16],
        blocks: &Blocks,
        constant: i32,
        target: *mut u8,
    ) {
        // SAFETY: the same contract.
        unsafe { self.avx2.horizontal_second(words, blocks, constant, target) }
    }

    unsafe fn horizontal_second_words(
        &self,
        words: &[i16],
        blocks: &Blocks,
        constant: i32,
        line: *mut i16,
    ) {
        // SAFETY: the same contract.
        unsafe { self.avx2.horizontal_second_words(words, blocks, constant, line) }
    }

    unsafe fn horizontal_first(&self, rows: Rows, gathers: &Gathers) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { horizontal_first::horizontal(rows, gathers) };
    }

    unsafe fn vertical_second(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        fraction_bits: u32,
        width: usize,
        target: *mut u8,
    ) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { horizontal_first::vertical(lines, taps, fraction_bits, width, target) }
    }

    unsafe fn widen(&self, rows: [*const u8; ROWS], len: usize, lines: [*mut i16; ROWS]) {
        for (row, line) in rows.into_iter().zip(lines) {
            // SAFETY: `self` proves the features; the rest is this method's contract.
            unsafe { horizontal_first::widen(row, len, line) };
        }
    }

    unsafe fn vertical_second_words(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        width: usize,
        line: *mut i16,
    ) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { horizontal_first::vertical_words(lines, taps, width, line) }
    }

    unsafe fn horizontal_first_words(
        &self,
        rows: [&[i16]; ROWS],
        words: &Words,
        _room: &mut [i16],
        lines: [*mut i16; ROWS],
    ) {
        assert!(rows.iter().all(|row| row.len() >= words.reach()));
        let rows = rows.map(<[i16]>::as_ptr);
        // SAFETY: `self` proves the features; no window reaches beyond a row, as just asserted; the
        // rest is this method's contract.
        unsafe { words_first::horizontal(rows, words, lines) };
    }

    unsafe fn vertical_first_words(&self, column: Column<'_>, samples: Samples, words: &mut [i16]) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { vertical_first_words(column, samples, words) };
    }

    unsafe fn to_words(&self, row: *const u8, samples: Samples, len: usize, line: *mut i16) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { to_words(row, samples, len, line) };
    }

    unsafe fn mix(&self, mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
        // SAFETY: `self` proves the features; the rest is this method's contract.
        unsafe { mix_row(mix, lines, targets, width) };
    }

    fn split(&self, interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
        self.avx2.split(interleaved, lines, shape);
    }

    unsafe fn merge<T: Copy>(&self, lines: *const T, target: *mut T, shape: Interleave) {
        // SAFETY: the same contract.
        unsafe { self.avx2.merge(lines, target, shape) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn vertical_first_words(column: Column<'_>, samples: Samples, words: &mut [i16]) {
    // SAFETY: the same contract.
    unsafe { samples::vertical_first_words(column, samples, words) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn to_words(row: *const u8, samples: Samples, len: usize, line: *mut i16) {
    // SAFETY: the same contract.
    unsafe { samples::to_words(row, samples, len, line) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,fma")]
unsafe fn mix_row(mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
    // SAFETY: the same contract.
    unsafe { mix::mix(mix, lines, targets, width) };
}
