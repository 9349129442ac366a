//! Owns the walk down a plane that is resized horizontally first: which lines are made of source rows,
//! and when, for the row of the picture that comes next.
//!
//! Knows lines and source rows; not where the picture goes. Invariants: a line is made once for a band, and
//! overwritten only when no row of the picture needs it any more: see [`Rolling`](super::super::rolling);
//! up to the next multiple of [`WIDE_LINE`] it holds what was made of this frame, or zeros, never what the
//! working memory held before.
#![allow(unsafe_code)]

use std::ops::Range;

use super::super::fetch::fetch;
use super::super::kernel::{Kernel, ROWS, RowTaps, Rows};
use super::super::lengths::{WIDE_LINE, pieces};
use crate::device::plan::{FirstPass, HorizontalFirst, Resized};

/// The lines of a plane that is resized horizontally first: each source row that is needed becomes
/// a line of words, [`ROWS`] of them at once, and waits there for its last use.
pub(super) struct Lines<'a, K: Kernel> {
    passes: &'a HorizontalFirst<K>,
    source: *const u8,
    stride: usize,
    lines: *mut i16,
    /// Rows of the source as words, where those are made first.
    rows: &'a mut [i16],
    /// Room for the channels of one, apart.
    room: &'a mut [i16],
    resized: &'a Resized<K>,
    /// Those that are made of a row.
    outputs: Range<usize>,
    /// The next source row to become a line.
    next: usize,
    /// The last one that the band needs.
    last: usize,
}

impl<'a, K: Kernel> Lines<'a, K> {
    /// For those `outputs` of a band's rows of the picture whose start is a multiple of [`WIDE_LINE`], and
    /// a source plane that starts at `source`.
    pub(super) fn new(
        resized: &'a Resized<K>,
        passes: &'a HorizontalFirst<K>,
        source: *const u8,
        rows: Range<usize>,
        outputs: Range<usize>,
        held: &'a mut [i16],
    ) -> Self {
        let rolling = &passes.lines.rolling;
        let (lines, rest) = held.split_at_mut(rolling.words());
        // The second pass weighs whole vectors, and what it makes of them goes into the frame, if only for a
        // moment; the first pass may make less, and others' pixels were there before.
        let behind = outputs.len()..outputs.len().next_multiple_of(WIDE_LINE);
        for line in lines.chunks_exact_mut(rolling.pitch()) {
            line[behind.clone()].fill(0);
        }
        let (room, rows_of_words) = match passes.first {
            FirstPass::Words(_) => rest.split_at_mut(resized.words_room()),
            FirstPass::Gather { .. } | FirstPass::Widen(_) => (&mut [][..], rest),
        };
        let last = rows.last().map_or(0, |row| rolling.row(row).end - 1);
        let (stride, lines) = (resized.source.stride, lines.as_mut_ptr());
        let (rows, next) = (rows_of_words, 0);
        Self { passes, source, stride, lines, rows, room, resized, outputs, next, last }
    }

    /// Makes the lines that a row of the picture needs: the first of all lines, and the row's taps.
    ///
    /// # Safety
    ///
    /// Rows of one band in order; the source plane must be readable as its layout says.
    pub(super) unsafe fn advance(&mut self, kernel: &K, row: usize) -> (*const i16, RowTaps<'a>) {
        let rolling = &self.passes.lines.rolling;
        let taps = rolling.row(row);
        self.next = self.next.max(taps.first);
        let ahead = ROWS * self.stride;
        let Range { start, end } = self.outputs;
        while self.next < taps.end {
            // Beyond the band's last source row that one is made again.
            let batch: [usize; ROWS] = std::array::from_fn(|i| (self.next + i).min(self.last));
            // SAFETY: rows up to `last` lie within the plane, each readable up to its stride and 64
            // bytes beyond: the next row, or the frame's tail. Lines lie within what is held, whose
            // alignment is `Scratch`'s.
            unsafe {
                let sources = batch.map(|row| self.source.add(row * self.stride));
                let lines = batch.map(|row| self.lines.add(rolling.offset(row)));
                match &self.passes.first {
                    &FirstPass::Gather { ref gathers, constants } => {
                        let rows = Rows { sources, ahead, start, end, constants, lines };
                        kernel.horizontal_first(rows, gathers);
                    }
                    FirstPass::Widen(sample) => {
                        let rows = sources.map(|row| row.add(sample + start));
                        for piece in pieces(end - start) {
                            let rows = rows.map(|row| row.add(piece.start));
                            rows.iter().for_each(|row| fetch(row.wrapping_add(ahead), piece.len()));
                            let lines = lines.map(|line| line.add(piece.start));
                            kernel.widen(rows, piece.len(), lines);
                        }
                    }
                    FirstPass::Words(windows) => {
                        let rows = words(kernel, self.resized, sources, self.rows);
                        kernel.horizontal_first_words(rows, windows, self.room, lines);
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
            kernel.to_words(row, *kind, words.len(), words.as_mut_ptr());
        }
    }
    std::array::from_fn(|r| &made[r * pitch..][..pitch])
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::PixelFormat;
    use resized_protocol::message::Filter;
    use resized_protocol::shm::RingLayout;

    use super::super::super::tests::{Tried, at_every_level, spec};
    use super::*;
    use crate::device::plan::{self, Passes, Work};
    use crate::device::{Band, Scratch};

    /// What others may have left in the working memory: no sample makes such a word.
    const OTHERS: i16 = 0x5a5a;

    /// Gray frames of which some are resized horizontally first.
    struct LinesOf {
        filter: Filter,
        from: (u32, u32),
        to: (u32, u32),
    }

    impl Tried for LinesOf {
        fn with<K: Kernel>(&self, kernel: K) {
            let spec = spec(PixelFormat::Gray8, self.filter, self.from, self.to);
            let (ring, placement) = (RingLayout::new(&spec).unwrap(), spec.placement().unwrap());
            let works = plan::works(&kernel, &spec, &placement, &ring);
            let [Work::Resize(resized, target)] = &works[..] else { panic!("gray is one plane") };
            let Passes::HorizontalFirst(passes) = &resized.passes else {
                panic!("it is not resized horizontally first: {spec:?}")
            };
            let frame = vec![200_u8; ring.input().len()];
            let mut scratch = Scratch::default();
            let rows = Band::WHOLE.rows(target.rows.len());
            for start in (0..resized.samples).step_by(passes.lines.strip) {
                let strip = start..(start + passes.lines.strip).min(resized.samples);
                let held = scratch.words(resized.held_words());
                held.fill(OTHERS);
                let mut lines =
                    Lines::new(resized, passes, frame.as_ptr(), rows.clone(), strip.clone(), held);
                for row in rows.clone() {
                    // SAFETY: rows in order, and the frame is one of that layout.
                    let (lines, taps) = unsafe { lines.advance(&kernel, row) };
                    let pairs = taps.pairs.iter().flat_map(|tap| tap.offsets);
                    let singles = taps.singles.iter().flat_map(|tap| tap.offsets);
                    for x in 0..strip.len().next_multiple_of(WIDE_LINE) {
                        for offset in pairs.clone().chain(singles.clone()) {
                            // SAFETY: a line that was made has whole vectors.
                            let word = unsafe { lines.add(offset as usize + x).read() };
                            assert_ne!(word, OTHERS, "{x}, {strip:?}, {spec:?}");
                        }
                    }
                }
            }
        }
    }

    /// The second pass weighs whole vectors of a line, and stores what comes of them where a client may
    /// look.
    #[test]
    fn lines_hold_nothing_of_other_frames() {
        for filter in [Filter::Nearest, Filter::Bicubic] {
            for width in [1, 7, 17, 31, 33, 63, 65, 97, 128, 1025, 2047] {
                for (from, to) in [
                    ((width, 9), (width, 5)),
                    ((width + 1, 9), (width, 5)),
                    ((3 * width, 9), (width, 7)),
                    ((2 * width, 60), (width, 9)),
                ] {
                    at_every_level(&LinesOf { filter, from, to });
                }
            }
        }
    }
}
