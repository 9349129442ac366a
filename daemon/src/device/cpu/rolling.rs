//! Owns which source rows are held as lines of words while a band is resized horizontally first, where
//! each line lies, and which of them make an output row.
//!
//! Knows rows and no pixels. A source row's line lies at the row's number modulo the number of lines,
//! so that places are computed once a stream. Invariants: both bounds of [`RowTaps`] never fall from one
//! output row to the next; no line that an output row or a later one needs is overwritten before, though
//! up to [`ROWS`] lines are made at once; taps that weigh nothing are left out.

use super::kernel::{ROWS, WIDE_LINE};
use crate::filter::Taps;

/// One line's part in an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineTap {
    /// Words from the first line to this one.
    pub(super) offset: u32,
    /// Its weight.
    pub(super) weight: i16,
    /// The same once more, so that vectors repeat 32 bits, which costs them nothing.
    again: i16,
}

impl LineTap {
    /// Of the line `offset` words behind the first.
    const fn new(offset: usize, weight: i16) -> Self {
        Self { offset: offset as u32, weight, again: weight }
    }

    /// The weight twice.
    #[inline(always)]
    pub(super) const fn weights(&self) -> i32 {
        (self.weight as u16 as i32) | ((self.again as i32) << 16)
    }
}

/// What makes one output row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowTaps<'rolling> {
    /// No source row before this one is needed, now or later.
    pub(super) first: usize,
    /// One behind the last source row that was needed so far.
    pub(super) end: usize,
    /// At least one.
    pub(super) taps: &'rolling [LineTap],
}

/// The lines of one plane.
pub(super) struct Rolling {
    capacity: usize,
    pitch: usize,
    bounds: Vec<(u32, u32)>,
    /// Where each output row's taps end in `taps`.
    ends: Vec<u32>,
    taps: Vec<LineTap>,
}

impl Rolling {
    /// The lines for vertical `taps`, each of `width` words.
    pub(super) fn new(vertical: &Taps, width: usize) -> Self {
        let used = |index| {
            let window = vertical.window(index);
            let weights = window.weights.iter().enumerate();
            weights.filter(|&(_, &weight)| weight != 0).map(move |(i, &w)| (window.start + i, w))
        };
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
        let (mut taps, mut ends) = (Vec::new(), Vec::with_capacity(vertical.destination()));
        for index in rows {
            taps.extend(
                used(index).map(|(row, weight)| LineTap::new(row % capacity * pitch, weight)),
            );
            ends.push(taps.len() as u32);
        }
        Self { capacity, pitch, bounds, ends, taps }
    }

    /// Words that all lines take together.
    pub(super) const fn words(&self) -> usize {
        self.capacity * self.pitch
    }

    /// Words from the first line to that of a source row.
    pub(super) const fn offset(&self, row: usize) -> usize {
        row % self.capacity * self.pitch
    }

    /// What makes the output row `index`.
    pub(super) fn row(&self, index: usize) -> RowTaps<'_> {
        let (first, end) = self.bounds[index];
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        let taps = &self.taps[from as usize..self.ends[index] as usize];
        RowTaps { first: first as usize, end: end as usize, taps }
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
        for filter in Filter::ALL {
            for (source, destination) in [(9, 27), (27, 9), (40, 27), (1, 5), (5, 1), (64, 64)] {
                let taps = Taps::new(filter, &Axis::full(source, destination), 1.0);
                let rolling = Rolling::new(&taps, 100);
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
                    let window = taps.window(index);
                    let wanted = window.weights.iter().enumerate().filter(|&(_, &w)| w != 0);
                    let wanted: Vec<_> = wanted.map(|(i, &w)| (window.start + i, w)).collect();
                    let found = row.taps.iter();
                    let found: Vec<_> = found
                        .map(|tap| (held[tap.offset as usize / rolling.pitch], tap.weight))
                        .collect();
                    assert_eq!(found, wanted, "{filter:?} {source} {destination} {index}");
                }
            }
        }
    }
}
