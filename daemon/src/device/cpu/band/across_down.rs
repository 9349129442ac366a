//! Owns the walk down a plane that is resized horizontally first: which lines are made of source rows,
//! and when, for the row of the picture that comes next.
//!
//! Knows lines and source rows; not where the picture goes. Invariant: a line is made once for a band, and
//! overwritten only when no row of the picture needs it any more: see [`Rolling`](super::super::rolling).
#![allow(unsafe_code)]

use std::ops::Range;

use super::super::fetch::{fetch, pieces};
use super::super::kernel::{Kernel, ROWS, RowTaps};
use crate::device::plan::{Across, AcrossDown, Resized};

/// The lines of a plane that is resized horizontally first: each source row that is needed becomes
/// a line of words, [`ROWS`] of them at once, and waits there for its last use.
pub(super) struct Lines<'a, K: Kernel> {
    passes: &'a AcrossDown<K>,
    source: *const u8,
    stride: usize,
    lines: *mut i16,
    /// Rows of the source as words, where those are made first.
    rows: &'a mut [i16],
    /// Room for the channels of one, apart.
    room: &'a mut [i16],
    resized: &'a Resized<K>,
    /// The next source row to become a line.
    next: usize,
    /// The last one that the band needs.
    last: usize,
}

impl<'a, K: Kernel> Lines<'a, K> {
    /// For a band's rows of the picture, and a source plane that starts at `source`.
    pub(super) fn new(
        resized: &'a Resized<K>,
        passes: &'a AcrossDown<K>,
        source: *const u8,
        rows: Range<usize>,
        held: &'a mut [i16],
    ) -> Self {
        let (lines, rest) = held.split_at_mut(passes.lines.rolling.words());
        let (room, rows_of_words) = match passes.across {
            Across::Words(_) => rest.split_at_mut(resized.words_room()),
            Across::Gather { .. } | Across::Widen(_) => (&mut [][..], rest),
        };
        let last = rows.last().map_or(0, |row| passes.lines.rolling.row(row).end - 1);
        let (stride, lines) = (resized.source.stride, lines.as_mut_ptr());
        Self { resized, passes, source, stride, lines, rows: rows_of_words, room, next: 0, last }
    }

    /// Makes the lines that a row of the picture needs: the first of all lines, and the row's taps.
    ///
    /// # Safety
    ///
    /// Rows of one band in order, and the same outputs for all of them, whose start is a multiple of
    /// [`WIDE_LINE`]; the source plane must be readable as its layout says.
    pub(super) unsafe fn advance(
        &mut self,
        kernel: &K,
        outputs: Range<usize>,
        row: usize,
    ) -> (*const i16, RowTaps<'a>) {
        let rolling = &self.passes.lines.rolling;
        let taps = rolling.row(row);
        self.next = self.next.max(taps.first);
        let ahead = ROWS * self.stride;
        while self.next < taps.end {
            // Beyond the band's last source row that one is made again.
            let batch: [usize; ROWS] = std::array::from_fn(|i| (self.next + i).min(self.last));
            let outputs = outputs.clone();
            assert!(outputs.len() <= rolling.pitch());
            // SAFETY: rows up to `last` lie within the plane, each readable up to its stride and 64
            // bytes beyond: the next row, or the frame's tail. Lines lie within what is held, whose
            // alignment is `Scratch`'s.
            unsafe {
                let rows = batch.map(|row| self.source.add(row * self.stride));
                let lines = batch.map(|row| self.lines.add(rolling.offset(row)));
                match &self.passes.across {
                    Across::Gather { gathers, constants } => {
                        kernel.across(rows, ahead, gathers, outputs, *constants, lines);
                    }
                    Across::Widen(sample) => {
                        let rows = rows.map(|row| row.add(sample + outputs.start));
                        for piece in pieces(outputs.len()) {
                            let rows = rows.map(|row| row.add(piece.start));
                            rows.iter().for_each(|row| fetch(row.wrapping_add(ahead), piece.len()));
                            let lines = lines.map(|line| line.add(piece.start));
                            kernel.widen(rows, piece.len(), lines);
                        }
                    }
                    Across::Words(windows) => {
                        let rows = words(kernel, self.resized, rows, self.rows);
                        kernel.across_words(rows, windows, self.room, lines);
                    }
                }
            }
            self.next += ROWS;
        }
        (self.lines, taps)
    }
}

/// Makes words of those samples of rows of the source that are read.
///
/// # Safety
///
/// The rows must be readable.
unsafe fn words<'rows, K: Kernel>(
    kernel: &K,
    resized: &Resized<K>,
    rows: [*const u8; ROWS],
    made: &'rows mut [i16],
) -> [&'rows [i16]; ROWS] {
    let Resized { kind, columns, source, .. } = resized;
    let pitch = resized.row_words();
    for (row, words) in rows.into_iter().zip(made.chunks_exact_mut(pitch)) {
        let words = &mut words[columns.clone()];
        // SAFETY: the caller's contract; rows are aligned to 64 bytes, and a sample has no more.
        unsafe {
            let row = row.add(columns.start * source.sample_bytes);
            fetch(row.wrapping_add(ROWS * source.stride), words.len() * source.sample_bytes);
            kernel.words(row, *kind, words.len(), words.as_mut_ptr());
        }
    }
    std::array::from_fn(|r| &made[r * pitch..][..pitch])
}
