//! Owns the step from a filter to its taps: which source samples make a destination sample, and with
//! what weights. Shared by every device, so that all of them resize alike.
//!
//! Knows one axis at a time and no pixels. Invariants of [`Taps`]: the weights of a window sum to
//! the gain exactly, so that a flat area stays flat; a window's weights never reach beyond what may
//! be read of the source.

mod axis;
mod colour;
mod tone;
mod weights;

pub(crate) use axis::{Axes, Axis};
pub(crate) use colour::{Blend, MAX_CHANNELS};
pub(crate) use tone::Tone;
pub(crate) use weights::Weights;

#[cfg(test)]
use resized_protocol::message::Filter;

/// The weight 1.0: weights have 14 fraction bits, which leaves room for lobes up to 2.
pub(crate) const ONE: i32 = 1 << 14;

/// The windows of one axis: for each destination sample the same number of weights, and the source
/// sample on which the first of them lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taps {
    source: usize,
    count: usize,
    step: usize,
    starts: Vec<u32>,
    weights: Vec<i16>,
}

/// What makes one destination sample: `weights[i]` of the source sample `start + i * step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window<'taps> {
    /// The first source sample; the last one is one of the source's too.
    pub(crate) start: usize,
    /// Samples from each to the next: the channels that are interleaved.
    pub(crate) step: usize,
    /// Weights, [`ONE`] to the unit.
    pub(crate) weights: &'taps [i16],
}

impl<'taps> Window<'taps> {
    /// The source samples that weigh something, and their weights.
    pub(crate) fn used(self) -> impl DoubleEndedIterator<Item = (usize, i16)> + 'taps {
        let Self { start, step, weights } = self;
        let samples = weights.iter().enumerate().map(move |(i, &w)| (start + i * step, w));
        samples.filter(|&(_, weight)| weight != 0)
    }
}

impl Taps {
    /// The taps of `filter` along `axis`. The weights of each window sum to `gain` x [`ONE`], rounded.
    #[cfg(test)]
    pub(crate) fn new(filter: Filter, axis: &Axis, gain: f64) -> Self {
        Weights::new(filter, axis).taps(gain)
    }

    /// The taps of a row whose channels are interleaved, from those of each: as many windows for each
    /// pixel, in the order of the channels. They may differ in their weights only.
    pub(crate) fn interleaved(channels: &[&Self]) -> Self {
        if let [channel] = channels {
            return (*channel).clone();
        }
        let pixels = channels.iter().map(|taps| taps.destination()).min().unwrap_or(0);
        let source = channels.iter().map(|taps| taps.source).min().unwrap_or(1);
        let count = channels.iter().map(|taps| taps.count).max().unwrap_or(1);
        let mut taps = Self::with_capacity(source, count, pixels * channels.len());
        for pixel in 0..pixels {
            for channel in channels {
                let window = channel.window(pixel);
                taps.push(window.start, window.weights);
            }
        }
        taps.source *= channels.len();
        taps.step = channels.len();
        for (i, start) in taps.starts.iter_mut().enumerate() {
            *start = *start * channels.len() as u32 + (i % channels.len()) as u32;
        }
        taps
    }

    fn with_capacity(source: usize, count: usize, windows: usize) -> Self {
        let (starts, weights) = (Vec::with_capacity(windows), Vec::with_capacity(windows * count));
        Self { source, count, step: 1, starts, weights }
    }

    /// A window shorter than the longest one is filled up with zeros: behind it or, where the source
    /// ends before that, in front of it.
    fn push(&mut self, first: usize, weights: &[i16]) {
        let start = first.min(self.source - self.count);
        let filled = self.weights.len() + self.count;
        self.starts.push(start as u32);
        self.weights.resize(filled - self.count + (first - start), 0);
        self.weights.extend(weights);
        self.weights.resize(filled, 0);
    }

    /// Weights in each window: at most the number of source samples.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Samples on the source's side.
    pub(crate) const fn source(&self) -> usize {
        self.source
    }

    /// Samples on the destination's side: the number of windows.
    pub(crate) fn destination(&self) -> usize {
        self.starts.len()
    }

    /// What makes the destination sample `index`.
    pub(crate) fn window(&self, index: usize) -> Window<'_> {
        let weights = &self.weights[index * self.count..][..self.count];
        Window { start: self.starts[index] as usize, step: self.step, weights }
    }
}

#[cfg(test)]
mod tests;
