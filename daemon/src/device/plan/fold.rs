//! Owns which rows of a vertical window are added before they are weighed, where the vertical pass comes
//! second: it decides how often products are rounded, so every device must do alike.
//!
//! Knows taps and no lines.

use crate::filter::Taps;

/// What makes one output row. There is at least one pair or single; no row is in it twice.
#[derive(Default)]
pub(in crate::device) struct Folded {
    /// Two rows of the same weight.
    pub(in crate::device) pairs: Vec<([usize; 2], i16)>,
    /// All others that weigh something.
    pub(in crate::device) singles: Vec<(usize, i16)>,
}

impl Folded {
    /// The window `index` of vertical taps. Without `fold` there are no pairs.
    pub(in crate::device) fn new(vertical: &Taps, index: usize, fold: bool) -> Self {
        let mut folded = Self::default();
        folded.fill(vertical, index, fold);
        folded
    }

    /// The same in place of what it was.
    pub(in crate::device) fn fill(&mut self, vertical: &Taps, index: usize, fold: bool) {
        let Self { pairs, singles } = self;
        pairs.clear();
        singles.clear();
        singles.extend(vertical.window(index).used());
        let mut from = 0;
        while fold && from < singles.len() {
            let (row, weight) = singles[from];
            let twin = singles[from + 1..].iter().rposition(|&(_, other)| other == weight);
            match twin {
                Some(twin) => {
                    let (other, _) = singles.remove(from + 1 + twin);
                    singles.remove(from);
                    pairs.push(([row, other], weight));
                }
                None => from += 1,
            }
        }
    }
}
