//! Owns which rows of a vertical window are added before they are weighed, where the vertical pass
//! comes second: it decides how often products are rounded, so every device must do alike.
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
    /// The window's weights; zero, once they are one's above.
    left: Vec<i16>,
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
        let Self { pairs, singles, left } = self;
        pairs.clear();
        singles.clear();
        let window = vertical.window(index);
        let row = |i: usize| window.start + i * window.step;
        left.clear();
        left.extend_from_slice(window.weights);
        for i in 0..left.len() {
            let weight = left[i];
            if weight == 0 {
                continue;
            }
            let twin = left[i + 1..].iter().rposition(|&other| fold && other == weight);
            match twin.map(|twin| i + 1 + twin) {
                Some(twin) => {
                    left[twin] = 0;
                    pairs.push(([row(i), row(twin)], weight));
                }
                None => singles.push((row(i), weight)),
            }
        }
    }
}
