//! Owns which source rows are held as lines of words while a band is resized horizontally first, where
//! each line lies, and which of them make an output row.
//!
//! Knows rows and no pixels. A source row's line lies at the row's number modulo the number of
//! lines, so that places are computed once a stream. Invariants: both bounds of [`RowTaps`] never
//! fall from one output row to the next; no line that an output row or a later one needs is
//! overwritten before, though up to [`ROWS`] lines are made at once; taps that weigh nothing are
//! left out, and the others used once.

use super::kernel::{LineTap, ROWS, RowTaps};
use super::lengths::WIDE_LINE;
use crate::device::plan::Folded;
use crate::filter::Taps;

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
