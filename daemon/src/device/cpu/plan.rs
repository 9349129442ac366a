//! Owns what is computed once for a stream: the taps of every plane and how much working memory a row
//! takes.
//!
//! Knows specs and layouts, no pixels. Invariant: the number of channel plans is the number of channels
//! of the plane, and the lines counted here are what [`Kernel`] asks for.

use std::sync::Arc;

use resized_protocol::frame::{Component, Plane};
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::RingLayout;

use super::kernel::{Kernel, LINE};
use crate::filter::{Axes, Taps, Tone};

/// Fraction bits of a horizontal sum: 6 of the word, 14 of the weight.
const FRACTION_BITS: u32 = 20;

/// How one plane is resized.
pub(super) struct PlanePlan<W> {
    pub(super) source: Plane,
    pub(super) destination: Plane,
    pub(super) vertical: Taps,
    pub(super) channels: Vec<ChannelPlan<W>>,
}

/// The horizontal pass of one channel of a plane.
pub(super) struct ChannelPlan<W> {
    /// Shared by the channels that have the same axis and gain.
    pub(super) windows: Arc<W>,
    /// Bias and rounding.
    pub(super) constant: i32,
}

/// Plans every plane of a stream whose ring is `ring`.
pub(super) fn planes<K: Kernel>(
    kernel: &K,
    spec: &StreamSpec,
    ring: &RingLayout,
) -> Vec<PlanePlan<K::Windows>> {
    let mut arranged: Vec<(Component, Arc<K::Windows>)> = Vec::new();
    let mut channel = |&component: &Component| {
        let tone = Tone::new(component, spec.source.range, spec.destination.range);
        let known = arranged.iter().find(|(other, _)| *other == component);
        let windows = known.map(|(_, windows)| Arc::clone(windows)).unwrap_or_else(|| {
            let axis = Axes::new(spec, component).horizontal;
            let windows = Arc::new(kernel.arrange(Taps::new(spec.filter, &axis, tone.gain)));
            arranged.push((component, Arc::clone(&windows)));
            windows
        });
        ChannelPlan { windows, constant: constant(tone.bias) }
    };
    let components = spec.source.format.components();
    let planes = ring.input().planes().iter().zip(ring.output().planes());
    planes
        .zip(components)
        .map(|((&source, &destination), components)| PlanePlan {
            source,
            destination,
            vertical: Taps::new(spec.filter, &Axes::new(spec, components[0]).vertical, 1.0),
            channels: components.iter().map(&mut channel).collect(),
        })
        .collect()
}

/// Bias and half a step, in the scale of a horizontal sum.
fn constant(bias: f64) -> i32 {
    (bias * f64::from(1 << FRACTION_BITS)).round() as i32 + (1 << (FRACTION_BITS - 1))
}

impl<W> PlanePlan<W> {
    /// Words of a row between the passes, with what the horizontal pass may read behind it.
    pub(super) fn row_words(&self) -> usize {
        self.source.row_bytes().next_multiple_of(LINE) + LINE
    }

    /// Words of one channel's part of that row.
    pub(super) fn line_words(&self) -> usize {
        (self.source.extent.width as usize).next_multiple_of(LINE) + LINE
    }

    /// Bytes of one channel's part of an output row.
    pub(super) fn line_bytes(&self) -> usize {
        (self.destination.extent.width as usize).next_multiple_of(LINE)
    }

    /// Working memory: the row, and where channels are interleaved their lines before and after the
    /// horizontal pass.
    pub(super) fn scratch_words(&self) -> usize {
        let lines = match self.channels.len() {
            1 => 0,
            channels => channels * (self.line_words() + self.line_bytes() / size_of::<i16>()),
        };
        self.row_words() + lines
    }
}
