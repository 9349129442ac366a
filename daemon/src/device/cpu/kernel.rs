//! Owns the seam between the walk of a band and the instructions that do its work: [`Kernel`], and
//! what it is handed.
//!
//! A kernel knows lines and taps only. Every implementation gives the bits that
//! [`scalar`](super::scalar) gives. Invariant of the memory it is handed: where it may run over the end
//! of a line, it may do so up to the next multiple of [`LINE`] samples, or of [`WIDE_LINE`] where that
//! is said. What is a plain loop at every level has a body here; levels whose instructions are not part
//! of the target compile it anew with them.
#![allow(unsafe_code)]

use super::interleave;
pub(super) use super::interleave::Interleave;
#[cfg(doc)]
use super::lengths::{LINE, WIDE_LINE};
use super::mix::{self, Mix};
use super::rolling::Held;
pub(super) use super::rolling::{ROWS, RowTaps};
pub(super) use super::samples::Column;
use super::samples::{self, Samples};
use crate::device::plan::Arrange;
pub(super) use crate::device::plan::PATTERN;

/// Source rows, and the lines that a horizontal pass makes of them. Some may be the same, with their lines.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Rows {
    /// Each readable for [`WIDE_LINE`] bytes from any of its samples.
    pub(super) sources: [*const u8; ROWS],
    /// So many bytes behind each row lies what will be read next: worth fetching, if it is memory at all.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "Rust has no stable intrinsic for it there")
    )]
    pub(super) ahead: usize,
    /// The first output that is made, a multiple of [`WIDE_LINE`].
    pub(super) start: usize,
    /// One behind the last.
    pub(super) end: usize,
    /// Bias and rounding, with 13 fraction bits, of the outputs in turns.
    pub(super) constants: [i32; PATTERN],
    /// Each aligned to [`WIDE_LINE`] bytes, and writable for a word for each of these outputs, rounded up to a
    /// multiple of [`WIDE_LINE`].
    pub(super) lines: [*mut i16; ROWS],
}

/// The passes in either order, and the change between interleaved and planar lines. Taps are arranged as they
/// read them, once a stream.
pub(in crate::device) trait Kernel:
    Arrange<Lines = Held> + Send + Sync + 'static
{
    /// Whether [`Self::horizontal_first_words`] takes the channels of a row one after the other, and so wants
    /// room for that.
    const DEINTERLEAVES: bool;

    /// Vertical pass, if it comes first: makes `len` words out of as many samples of each row. Words behind
    /// `len`, up to the multiple of [`LINE`], may be overwritten.
    ///
    /// # Safety
    ///
    /// Each row must be readable for `len` bytes, rounded up to a multiple of [`LINE`].
    unsafe fn vertical_first(&self, column: Column<'_>, words: &mut [i16], len: usize);

    /// As [`Self::vertical_first`], of samples of any kind, at most [`PIECE`] of them, that become words
    /// first: those that it makes are centred on zero, as [`Self::to_words`] are.
    ///
    /// # Safety
    ///
    /// Each row must be readable for as many samples as there are `words`, and aligned to a sample.
    ///
    /// [`PIECE`]: super::lengths::PIECE
    unsafe fn vertical_first_words(&self, column: Column<'_>, samples: Samples, words: &mut [i16]) {
        // SAFETY: the same contract.
        unsafe { samples::vertical_first_words(column, samples, words) };
    }

    /// Horizontal pass, if it comes second: makes a line of samples out of a line of words, one for
    /// each window; `constant` is bias and rounding, with 20 fraction bits. `words` must have [`LINE`]
    /// words, of any content, behind those that the windows reach.
    ///
    /// # Safety
    ///
    /// `target` must be writable for a byte for each window, rounded up to a multiple of [`LINE`].
    unsafe fn horizontal_second(
        &self,
        words: &[i16],
        windows: &Self::Windows,
        constant: i32,
        target: *mut u8,
    );

    /// As [`Self::horizontal_second`], but the sums stay words of 6 fraction bits, in the order of the
    /// outputs.
    ///
    /// # Safety
    ///
    /// As there, with a word of `line` for each window.
    unsafe fn horizontal_second_words(
        &self,
        words: &[i16],
        windows: &Self::Windows,
        constant: i32,
        line: *mut i16,
    );

    /// Horizontal pass, if it comes first: makes a line of words out of each source row, one for each
    /// output. In what order a line holds its words is the kernel's own affair.
    ///
    /// # Safety
    ///
    /// Rows and lines must be as [`Rows`] has it.
    unsafe fn horizontal_first(&self, rows: Rows, gathers: &Self::Gathers);

    /// Horizontal pass, if it comes first and nothing changes in its direction: makes a line of words out of
    /// `len` samples of each row, as [`Self::horizontal_first`] does; or a part of one, that starts at a
    /// multiple of [`WIDE_LINE`].
    ///
    /// # Safety
    ///
    /// Each row must be readable, and each line be aligned and writable, for `len` rounded up to a
    /// multiple of [`WIDE_LINE`].
    unsafe fn widen(&self, rows: [*const u8; ROWS], len: usize, lines: [*mut i16; ROWS]) {
        for (row, line) in rows.into_iter().zip(lines) {
            // SAFETY: this method's contract.
            unsafe { self.to_words(row, Samples::Bytes, len, line) };
        }
    }

    /// Vertical pass, if it comes second: makes `width` samples out of the lines that
    /// [`Self::horizontal_first`] made; a tap's lines start its offsets in words behind `lines`. Two of a
    /// pair add up to 16 bits.
    ///
    /// # Safety
    ///
    /// Each tap's lines must be readable as it was writable for [`Self::horizontal_first`], with a window for
    /// each of `width`; `target` must be writable for `width` bytes, rounded up to a multiple of
    /// [`WIDE_LINE`].
    unsafe fn vertical_second(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        fraction_bits: u32,
        width: usize,
        target: *mut u8,
    );

    /// As [`Self::vertical_second`], but the sums stay words, in the order of the outputs: of the taps'
    /// fraction bits, centred on zero.
    ///
    /// # Safety
    ///
    /// As there; `line` must be writable for `width` words, rounded up to a multiple of [`WIDE_LINE`].
    unsafe fn vertical_second_words(
        &self,
        lines: *const i16,
        taps: RowTaps<'_>,
        width: usize,
        line: *mut i16,
    );

    /// Horizontal pass, if it comes first, of rows of words: makes a line of each, a word for each window, as
    /// [`Self::horizontal_first`] does. Rows must have [`LINE`] words, of any content, behind those that the
    /// windows reach. `room` is what [`Deinterleaved`] asks for, where that is wanted:
    /// [`Self::DEINTERLEAVES`].
    ///
    /// # Safety
    ///
    /// Lines must be aligned and writable as for [`Self::horizontal_first`].
    ///
    /// [`Deinterleaved`]: super::deinterleave::Deinterleaved
    unsafe fn horizontal_first_words(
        &self,
        rows: [&[i16]; ROWS],
        windows: &Self::Words,
        room: &mut [i16],
        lines: [*mut i16; ROWS],
    );

    /// Makes `len` words of 6 fraction bits, centred on zero, out of as many samples.
    ///
    /// # Safety
    ///
    /// `row` must be readable and `line` writable for `len`; `row` must be aligned to a sample.
    unsafe fn to_words(&self, row: *const u8, samples: Samples, len: usize, line: *mut i16) {
        // SAFETY: the same contract.
        unsafe { samples::to_words(row, samples, len, line) };
    }

    /// Mixes a row of `width` pixels of each target out of lines of words.
    ///
    /// # Safety
    ///
    /// There must be a line for each that the mix names, readable for `width` pixels and [`SLACK`]
    /// words, and a target for each of its planes, writable for `width` pixels.
    ///
    /// [`SLACK`]: super::mix::SLACK
    unsafe fn mix(&self, mix: &Mix, lines: &[*const i16], targets: &[*mut u8], width: usize) {
        // SAFETY: the same contract.
        unsafe { mix::mix(mix, lines, targets, width) };
    }

    /// Parts interleaved words into lines of one channel each.
    fn split(&self, interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
        interleave::split(interleaved, lines, shape);
    }

    /// Interleaves the samples, or words, of lines of one channel each.
    ///
    /// # Safety
    ///
    /// Each line must be readable, and `target` be writable for all of them.
    unsafe fn merge<T: Copy>(&self, lines: *const T, target: *mut T, shape: Interleave) {
        // SAFETY: the same contract.
        unsafe { interleave::merge(lines, target, shape) };
    }
}
