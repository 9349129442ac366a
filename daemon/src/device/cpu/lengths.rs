//! Owns the lengths to which memory is rounded up and into which rows are cut, for kernels and for those
//! who hand them memory.
//!
//! Knows nothing else, and is below everything else. Invariant: each is a multiple of the ones before it, so
//! that a piece starts where any vector may.

use std::ops::Range;

/// Samples to which a line's memory is rounded up: kernels read and write whole vectors.
pub(super) const LINE: usize = 32;

/// Samples to which a line is rounded up where the horizontal pass comes first. Also the bytes behind
/// any sample of a source row that a kernel may then read.
pub(super) const WIDE_LINE: usize = 64;

/// Samples of a piece of a row.
pub(super) const PIECE: usize = 512;

const _: () = assert!(WIDE_LINE.is_multiple_of(LINE) && PIECE.is_multiple_of(WIDE_LINE));

/// The pieces of a row of so many samples.
pub(super) fn pieces(samples: usize) -> impl Iterator<Item = Range<usize>> {
    (0..samples).step_by(PIECE).map(move |start| start..(start + PIECE).min(samples))
}
