//! Owns the horizontal pass of a row of words, one channel after the other: where channels are interleaved
//! they are parted first, and what was made of them is interleaved again.
//!
//! Knows how long rows are, not what passes do. Invariant: lines between have room for whole vectors.
#![allow(unsafe_code)]

use std::ops::Range;

use super::kernel::{Interleave, Kernel, ROWS};
use super::lengths::{LINE, WIDE_LINE};
use crate::filter::Taps;

/// The channels of a plane.
#[derive(Clone, Debug)]
pub(super) struct Deinterleaved {
    pub(super) channels: usize,
    /// Pixels of a row of the source.
    pub(super) source: usize,
    /// Those of them that are read, all that windows reach.
    pub(super) pixels: Range<usize>,
    /// Pixels of a row of the picture.
    pub(super) picture: usize,
}

impl Deinterleaved {
    /// For the taps that each channel has.
    pub(super) fn new(taps: &Taps, channels: usize) -> Self {
        let windows = (0..taps.destination()).map(|index| taps.window(index).used());
        let first = windows.clone().filter_map(|mut used| used.next()).map(|(pixel, _)| pixel);
        let last = windows.filter_map(|mut used| used.next_back()).map(|(pixel, _)| pixel);
        let pixels = first.min().unwrap_or(0)..last.max().map_or(0, |pixel| pixel + 1);
        Self { channels, source: taps.source(), pixels, picture: taps.destination() }
    }

    /// Words of one channel's part of a row, with what a horizontal pass may read behind it.
    const fn line(&self) -> usize {
        self.source.next_multiple_of(LINE) + LINE
    }

    /// Samples, or words, of one channel's part of a row of the picture.
    const fn made(&self) -> usize {
        self.picture.next_multiple_of(WIDE_LINE)
    }

    /// Words of working memory. None for a single channel, which is where it should be already.
    pub(super) const fn room(&self) -> usize {
        if self.channels == 1 { 0 } else { self.channels * (self.line() + self.made()) }
    }

    /// Makes a row of the picture of `row`: `make(channel, line, to)` is called for each channel. `line` is
    /// the channel's part of the row, with words of any content where no pixel is read and [`LINE`] of them
    /// behind it; `to` is where a sample or word for each pixel of the picture goes.
    ///
    /// # Safety
    ///
    /// `make` may write as many as the picture has pixels, rounded up to a multiple of [`WIDE_LINE`], and
    /// no more. `target` must be writable for a row of the picture and, where there is a single channel,
    /// for as much. In that case `row` is the line, and must have the words behind it.
    pub(super) unsafe fn row<K: Kernel, T: Copy>(
        &self,
        kernel: &K,
        row: &[i16],
        room: &mut [i16],
        target: *mut T,
        make: impl Fn(usize, &[i16], *mut T),
    ) {
        if self.channels == 1 {
            return make(0, row, target);
        }
        let (lines, made) = room.split_at_mut(self.channels * self.line());
        // A crop may be far narrower than the frame.
        let Self { channels, pixels: Range { start, end }, .. } = *self;
        let shape = Interleave { channels, pixels: end - start, pitch: self.line() };
        kernel.split(&row[channels * start..], &mut lines[start..], shape);
        assert!(size_of_val(made) >= self.channels * self.made() * size_of::<T>());
        let made = made.as_mut_ptr().cast::<T>();
        for (channel, line) in lines.chunks_exact(self.line()).enumerate() {
            // SAFETY: there is a line for each channel, as just asserted.
            make(channel, line, unsafe { made.add(channel * self.made()) });
        }
        let shape = Interleave { channels, pixels: self.picture, pitch: self.made() };
        // SAFETY: lines are no shorter than the picture's rows; the rest is this method's contract.
        unsafe { kernel.merge(made, target, shape) };
    }
}

/// [`Kernel::horizontal_first_words`] of kernels that take channels apart: by their own second pass.
///
/// # Safety
///
/// As there.
pub(super) unsafe fn horizontal_first_words<K: Kernel>(
    kernel: &K,
    rows: [&[i16]; ROWS],
    (channels, windows): &(Deinterleaved, K::Windows),
    room: &mut [i16],
    lines: [*mut i16; ROWS],
) {
    /// Half a step of a word, with 20 fraction bits.
    const ROUNDING: i32 = 1 << 13;
    for (row, line) in rows.into_iter().zip(lines) {
        // SAFETY: this function's contract; a word for each window is what a line has room for.
        unsafe {
            channels.row(kernel, row, room, line, |_, words, line| {
                kernel.horizontal_second_words(words, windows, ROUNDING, line);
            });
        }
    }
}
