//! Owns which rows of a vertical window are added before they are weighed, where the vertical pass comes
//! second: it decides how often products are rounded, so every device must do alike.
//!
//! Knows taps and no lines.

use std::collections::VecDeque;

use crate::filter::Taps;

/// What makes one output row. There is at least one pair or single; no row is in it twice.
pub(in crate::device) struct Folded {
    /// Two rows of the same weight.
    pub(in crate::device) pairs: Vec<([usize; 2], i16)>,
    /// All others that weigh something.
    pub(in crate::device) singles: Vec<(usize, i16)>,
}

impl Folded {
    /// The window `index` of vertical taps. Without `fold` there are no pairs.
    pub(in crate::device) fn new(vertical: &Taps, index: usize, fold: bool) -> Self {
        let mut left: VecDeque<_> = vertical.window(index).used().collect();
        let mut folded = Self { pairs: Vec::new(), singles: Vec::new() };
        while let Some((row, weight)) = left.pop_front() {
            let twin = left.iter().rposition(|&(_, other)| fold && other == weight);
            match twin.and_then(|twin| left.remove(twin)) {
                Some((twin, _)) => folded.pairs.push(([row, twin], weight)),
                None => folded.singles.push((row, weight)),
            }
        }
        folded
    }
}
