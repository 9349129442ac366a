//! Owns what it means to take part: [`Contender`], and how far two results are from each other.

use std::fmt;
use std::time::Instant;

/// Who does a work: we, a peer, or the floor. Opened for one work, source at hand, set-up done.
pub(crate) trait Contender {
    /// Does the work once, all that a frame costs and nothing else; gives the milliseconds.
    fn turn(&mut self) -> f64;

    /// The samples of the last turn, packed; `None` if it makes nothing to compare. As floats, for
    /// whatever type a work ends in.
    fn made(&mut self) -> Option<Vec<f32>>;
}

/// Milliseconds of `work`.
pub(crate) fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64() * 1e3
}

/// How far two results are from each other, in steps of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) mean: f32,
    pub(crate) max: f32,
}

impl Difference {
    pub(crate) fn between(ours: &[f32], theirs: &[f32]) -> Self {
        assert_eq!(ours.len(), theirs.len(), "both make every sample");
        let each = || ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
        let sum: f64 = each().map(f64::from).sum();
        Self { mean: (sum / ours.len() as f64) as f32, max: each().fold(0.0, f32::max) }
    }

    pub(crate) fn within(self, allowed: Self) -> bool {
        self.mean <= allowed.mean && self.max <= allowed.max
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5.2} {:>5.1}", self.mean, self.max)
    }
}
