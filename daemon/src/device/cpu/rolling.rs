//! Owns which source rows are held as lines of words while a band is resized horizontally first, where
//! each line lies, and which of them make an output row.
//!
//! Knows rows and no pixels. A source row's line lies at the row's number modulo the number of
//! lines, so that places are computed once a stream. Invariants: both bounds of [`RowTaps`] never
//! fall from one output row to the next; no line that an output row or a later one needs is
//! overwritten before, though up to [`ROWS`] lines are made at once; taps that weigh nothing are
//! left out, and the others used once.

use super::lengths::WIDE_LINE;
use crate::device::plan::{FIRST_CACHE, Folded, Row};
use crate::filter::Taps;

/// Source rows that share one load of the horizontal tables.
pub(super) const ROWS: usize = 4;

/// The part of one line, or of the sum of two, in an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) struct LineTap<const LINES: usize> {
    /// Words from the first line to these.
    pub(super) offsets: [u32; LINES],
    /// Their weight.
    pub(super) weight: i16,
    /// The same once more, so that vectors repeat 32 bits, which costs them nothing.
    again: i16,
}

impl<const LINES: usize> LineTap<LINES> {
    pub(super) const fn new(offsets: [u32; LINES], weight: i16) -> Self {
        Self { offsets, weight, again: weight }
    }

    /// The weight twice.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "vectors of x86-64 want it")
    )]
    #[inline(always)]
    pub(super) const fn weights(&self) -> i32 {
        (self.weight as u16 as i32) | ((self.again as i32) << 16)
    }
}

/// What makes one output row. There is at least one pair or single.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct RowTaps<'rolling> {
    /// No source row before this one is needed, now or later.
    pub(super) first: usize,
    /// One behind the last source row that was needed so far.
    pub(super) end: usize,
    /// Lines of the same weight, to be added before they are weighed.
    pub(super) pairs: &'rolling [LineTap<2>],
    /// All others.
    pub(super) singles: &'rolling [LineTap<1>],
}

/// The lines of one plane.
pub(super) struct Rolling {
    capacity: usize,
    pitch: usize,
    /// `first` and `end` of each output row.
    bounds: Vec<(u32, u32)>,
    /// Where each output row's taps end, in `pairs` and in `singles`.
    ends: Vec<(u32, u32)>,
    pairs: Vec<LineTap<2>>,
    singles: Vec<LineTap<1>>,
}

impl Rolling {
    /// The lines for vertical taps, each of `width` words. With `fold` those of the same weight become
    /// pairs.
    pub(super) fn new(vertical: &Taps, width: usize, fold: bool) -> Self {
        let used = |index| vertical.window(index).used();
        let rows = 0..vertical.destination();
        let mut bounds: Vec<(u32, u32)> = rows
            .clone()
            .map(|index| {
                // The weights of a window sum to more than zero: one of them is not zero.
                let first = used(index).next().map_or(0, |(row, _)| row as u32);
                let end = used(index).next_back().map_or(1, |(row, _)| row as u32 + 1);
                (first, end)
            })
            .collect();
        for index in rows.clone().skip(1) {
            bounds[index].1 = bounds[index].1.max(bounds[index - 1].1);
            let back = vertical.destination() - index;
            bounds[back - 1].0 = bounds[back - 1].0.min(bounds[back].0);
        }
        let held = bounds.iter().map(|&(first, end)| (end - first) as usize).max().unwrap_or(1);
        let (capacity, pitch) = (held + ROWS - 1, pitch(width));
        let mut rolling = Self {
            capacity,
            pitch,
            bounds,
            ends: Vec::with_capacity(vertical.destination()),
            pairs: Vec::new(),
            singles: Vec::new(),
        };
        let mut folded = Folded::default();
        for index in rows {
            folded.fill(vertical, index, fold);
            // Divided in 32 bits: a good part of what this costs.
            let offset = |row: usize| row as u32 % capacity as u32 * pitch as u32;
            let pair = |&(rows, weight): &([usize; 2], i16)| LineTap::new(rows.map(offset), weight);
            let single = |&(row, weight): &(usize, i16)| LineTap::new([offset(row)], weight);
            rolling.pairs.extend(folded.pairs.iter().map(pair));
            rolling.singles.extend(folded.singles.iter().map(single));
            rolling.ends.push((rolling.pairs.len() as u32, rolling.singles.len() as u32));
        }
        // They are charged for, and kept as long as the stream.
        rolling.pairs.shrink_to_fit();
        rolling.singles.shrink_to_fit();
        rolling
    }

    /// Words that all lines take together.
    pub(super) const fn words(&self) -> usize {
        self.capacity * self.pitch
    }

    /// Words that a line has room for.
    pub(super) const fn pitch(&self) -> usize {
        self.pitch
    }

    /// Words from the first line to that of a source row.
    pub(super) const fn offset(&self, row: usize) -> usize {
        row % self.capacity * self.pitch
    }

    /// What makes the output row `index`.
    pub(super) fn row(&self, index: usize) -> RowTaps<'_> {
        let (first, end) = self.bounds[index];
        let from = if index == 0 { (0, 0) } else { self.ends[index - 1] };
        let to = self.ends[index];
        RowTaps {
            first: first as usize,
            end: end as usize,
            pairs: &self.pairs[from.0 as usize..to.0 as usize],
            singles: &self.singles[from.1 as usize..to.1 as usize],
        }
    }
}

/// The most outputs of a strip, into which a plane that shrinks is cut if its lines and the source
/// rows they come from outgrow the first cache: 4K becomes 1080p 5 to 12 % faster. Enlarging gains
/// nothing.
const STRIP: usize = 1024;

/// The lines of a plane that is resized horizontally first.
pub(in crate::device) struct Held {
    /// Outputs that are made together, from the first row of a band to the last: a multiple of
    /// [`WIDE_LINE`], or a whole row.
    pub(super) strip: usize,
    pub(super) rolling: Rolling,
}

impl Held {
    /// The lines for the vertical taps of rows of the picture that are as long as `row` has it.
    pub(super) fn new(vertical: &Taps, Row { source, picture }: Row, fold: bool) -> Self {
        let whole = Rolling::new(vertical, picture, fold);
        let is_cut = source.is_some_and(|source| {
            let held = size_of::<i16>() * whole.words() + ROWS * source;
            held > FIRST_CACHE && source >= picture
        });
        if is_cut {
            let strip = picture.div_ceil(picture.div_ceil(STRIP)).next_multiple_of(WIDE_LINE);
            Self { strip, rolling: Rolling::new(vertical, strip, fold) }
        } else {
            Self { strip: picture, rolling: whole }
        }
    }
}

/// Words from one line to the next: aligned, and off multiples of a page, where lines would share the
/// same few places of the first cache.
fn pitch(width: usize) -> usize {
    const PAGE: usize = 4096 / size_of::<i16>();
    let pitch = width.next_multiple_of(WIDE_LINE);
    if pitch.is_multiple_of(PAGE) { pitch + WIDE_LINE } else { pitch }
}

#[cfg(test)]
mod tests {
    use resized_protocol::message::Filter;

    use super::*;
    use crate::filter::Axis;

    #[test]
    fn lines_outlive_their_last_use() {
        for (filter, fold) in Filter::ALL.into_iter().flat_map(|f| [(f, false), (f, true)]) {
            for (source, destination) in [(9, 27), (27, 9), (40, 27), (1, 5), (5, 1), (64, 64)] {
                let taps = Taps::new(filter, &Axis::full(source, destination), 1.0);
                let rolling = Rolling::new(&taps, 100, fold);
                // The source row that each line holds, as the walk of a band fills them.
                let (mut held, mut next) = (vec![usize::MAX; rolling.capacity], 0);
                for index in 0..taps.destination() {
                    let row = rolling.row(index);
                    next = next.max(row.first);
                    while next < row.end {
                        for row in next..(next + ROWS).min(source as usize) {
                            held[rolling.offset(row) / rolling.pitch] = row;
                        }
                        next += ROWS;
                    }
                    let wanted: Vec<_> = taps.window(index).used().collect();
                    let held = |offset: u32| held[offset as usize / rolling.pitch];
                    let pairs =
                        row.pairs.iter().flat_map(|tap| tap.offsets.map(|o| (o, tap.weight)));
                    let singles = row.singles.iter().map(|tap| (tap.offsets[0], tap.weight));
                    let mut found: Vec<_> = pairs
                        .chain(singles)
                        .map(|(offset, weight)| (held(offset), weight))
                        .collect();
                    found.sort_unstable();
                    assert_eq!(found, wanted, "{filter:?} {source} {destination} {index}");
                }
            }
        }
    }

    #[test]
    fn symmetric_windows_fold() {
        let taps = Taps::new(Filter::Bicubic, &Axis::full(1080, 360), 1.0);
        let rolling = Rolling::new(&taps, 100, true);
        // Two of the eleven weigh nothing.
        assert_eq!((rolling.row(100).pairs.len(), rolling.row(100).singles.len()), (4, 1));
    }
}
