//! Owns the way of a source plane into a mix: one line of words for each row of the picture, whatever the
//! passes that make it.
//!
//! Knows nothing of other planes, nor of what is mixed of its words.
#![allow(unsafe_code)]

use std::ops::Range;

use super::super::kernel::Kernel;
use super::Frames;
use super::horizontal_first::Lines;
use super::vertical_first::vertical_first;
use crate::device::plan::{Passes, Resized, VerticalFirst};

/// A source plane on its way into a mix.
pub(super) struct Input<'a, K: Kernel> {
    resized: &'a Resized<K>,
    source: *const u8,
    passes: InputPasses<'a, K>,
    /// A row of the picture.
    pub(super) line: &'a mut [i16],
}

/// How it becomes a line of words.
enum InputPasses<'a, K: Kernel> {
    Copy { row: usize, sample: usize },
    HorizontalFirst(Lines<'a, K>),
    VerticalFirst(&'a VerticalFirst<K>, &'a mut [i16]),
}

impl<'a, K: Kernel> Input<'a, K> {
    /// Takes its part of the working memory; gives the rest.
    ///
    /// # Safety
    ///
    /// The input frame must have the plane.
    pub(super) unsafe fn new(
        resized: &'a Resized<K>,
        frames: Frames,
        rows: Range<usize>,
        words: &'a mut [i16],
    ) -> (Self, &'a mut [i16]) {
        let (held, words) = words.split_at_mut(resized.held_words());
        let (line, words) = words.split_at_mut(resized.picture_words());
        // SAFETY: the caller's contract.
        let source = unsafe { frames.input.add(resized.source.offset) };
        let passes = match &resized.passes {
            &Passes::Copy { row, sample } => InputPasses::Copy { row, sample },
            Passes::HorizontalFirst(passes) => {
                let outputs = 0..resized.samples;
                let lines = Lines::new(resized, passes, source, rows, outputs, held);
                InputPasses::HorizontalFirst(lines)
            }
            Passes::VerticalFirst(passes) => InputPasses::VerticalFirst(passes, held),
        };
        (Self { resized, source, passes, line }, words)
    }

    /// Makes the line of words of a row of the picture.
    ///
    /// # Safety
    ///
    /// Rows of one band in order; the input frame must be readable as its layout says.
    pub(super) unsafe fn advance(&mut self, kernel: &K, row: usize) {
        let resized = self.resized;
        let (len, line) = (resized.samples, self.line.as_mut_ptr());
        // SAFETY: the caller's contract; the line has room for whole vectors.
        unsafe {
            match &mut self.passes {
                InputPasses::HorizontalFirst(lines) => {
                    let (lines, taps) = lines.advance(kernel, row);
                    kernel.vertical_second_words(lines, taps, len, line);
                }
                InputPasses::VerticalFirst(passes, held) => {
                    vertical_first(kernel, resized, passes, self.source, row, held, line);
                }
                InputPasses::Copy { row: first, sample } => {
                    let from = self.source.add((*first + row) * resized.source.stride);
                    let from = from.add(*sample * resized.source.sample_bytes);
                    kernel.to_words(from, resized.kind, len, line);
                }
            }
        }
    }
}
