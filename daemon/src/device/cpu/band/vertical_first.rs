//! Owns the walk of one row of the picture through the passes of a plane that is resized vertically
//! first: every row of the picture looks at all source rows of its window anew.
//!
//! Knows columns and channels; not where the picture goes. Invariant: what is kept between the passes
//! is one row, in working memory of the lane's own.
#![allow(unsafe_code)]

use super::super::fetch::fetch;
use super::super::kernel::{Column, Kernel};
#[cfg(doc)]
use super::super::lengths::LINE;
use super::super::lengths::pieces;
use super::super::samples::Samples;
use crate::device::plan::{ChannelPlan, Resized, VerticalFirst};
use crate::filter::Taps;

/// What a row of the picture is made of where the horizontal pass comes second.
pub(super) trait Made: Copy {
    /// Makes one channel's part of it.
    ///
    /// # Safety
    ///
    /// `line` must be writable for one of each window, rounded up to a multiple of [`LINE`].
    unsafe fn horizontal_second<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: ChannelPlan<'_, K>,
        line: *mut Self,
    );
}

/// Samples of a plane.
impl Made for u8 {
    unsafe fn horizontal_second<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: ChannelPlan<'_, K>,
        line: *mut Self,
    ) {
        // SAFETY: the same contract.
        unsafe { kernel.horizontal_second(words, channel.windows, channel.constant, line) };
    }
}

/// Words, to be mixed.
impl Made for i16 {
    unsafe fn horizontal_second<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: ChannelPlan<'_, K>,
        line: *mut Self,
    ) {
        // SAFETY: the same contract.
        unsafe { kernel.horizontal_second_words(words, channel.windows, channel.constant, line) };
    }
}

/// Makes one row of the picture, the vertical pass first.
///
/// # Safety
///
/// `source` must be the start of the plane, `target` writable for a row of the picture, rounded up to a
/// multiple of [`LINE`].
pub(super) unsafe fn vertical_first<K: Kernel, M: Made>(
    kernel: &K,
    resized: &Resized<K>,
    passes: &VerticalFirst<K>,
    source: *const u8,
    index: usize,
    words: &mut [i16],
    target: *mut M,
) {
    let (row, room) = words.split_at_mut(resized.row_words());
    // SAFETY: the caller's contract; each channel's line is as long as the pass takes it to be.
    unsafe {
        vertical_pass(kernel, resized, &passes.vertical, source, index, row);
        resized.deinterleaved().row(kernel, row, room, target, |channel, line, made| {
            M::horizontal_second(kernel, line, passes.channel(channel), made);
        });
    }
}

/// The vertical pass of a row of the picture: a word for each column that is read.
///
/// # Safety
///
/// `source` must be the start of the plane.
unsafe fn vertical_pass<K: Kernel>(
    kernel: &K,
    resized: &Resized<K>,
    vertical: &Taps,
    source: *const u8,
    index: usize,
    row: &mut [i16],
) {
    let Resized { kind, ref columns, source: plane, .. } = *resized;
    let (window, stride, bytes) = (vertical.window(index), plane.stride, plane.sample_bytes);
    // What the next row reads that this one does not.
    let next = vertical.window((index + 1).min(vertical.destination() - 1));
    let weights = window.weights;
    let new = weights.len()..(next.start + next.weights.len()).saturating_sub(window.start);
    let row = &mut row[columns.start..];
    // SAFETY: the window's rows lie within the plane; each is readable up to its stride, which is a
    // multiple of 64 and so reaches to the last column in whole vectors.
    unsafe {
        let first = source.add(window.start * stride + columns.start * bytes);
        for piece in pieces(columns.len()) {
            let (first, len) = (first.add(piece.start * bytes), piece.len());
            let (column, words) = (Column { first, stride, weights }, &mut row[piece.start..]);
            new.clone().for_each(|row| fetch(first.wrapping_add(row * stride), len * bytes));
            match kind {
                Samples::Bytes => kernel.vertical_first(column, words, len),
                _ => kernel.vertical_first_words(column, kind, &mut words[..len]),
            }
        }
    }
}
