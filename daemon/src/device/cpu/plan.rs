//! Owns what is computed once for a stream: the taps of every plane in the order of its passes, and how
//! much working memory it takes.
//!
//! Knows specs and layouts, no pixels. Invariant: the number of channel plans is the number of channels
//! of the plane, and the lines counted here are what [`Kernel`] asks for.

use std::sync::Arc;

use resized_protocol::frame::{Component, Plane};
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::RingLayout;

use super::kernel::{Kernel, LINE, PATTERN, ROWS, WIDE_LINE};
use super::order::{self, ACROSS_BITS, FIRST_CACHE, Order, WORD_BITS};
use super::rolling::Rolling;
use crate::filter::{Axes, Taps, Tone};

/// Fraction bits of a horizontal sum in the second pass: 6 of the word, 14 of the weight.
const FRACTION_BITS: u32 = 20;

/// The most outputs of a strip, into which a plane that shrinks is cut if its lines and the source rows they
/// come from outgrow the first cache: 4K becomes 1080p 5 to 12 % faster. Enlarging gains nothing.
const STRIP: usize = 1024;

/// How one plane is resized.
pub(super) struct PlanePlan<K: Kernel> {
    pub(super) source: Plane,
    pub(super) destination: Plane,
    pub(super) passes: Passes<K>,
}

/// The two passes of a plane.
pub(super) enum Passes<K: Kernel> {
    VerticalFirst { vertical: Taps, channels: Vec<ChannelPlan<K>> },
    HorizontalFirst(Arc<AcrossDown<K>>),
}

/// The second pass of one channel of a plane, where that is the horizontal one.
pub(super) struct ChannelPlan<K: Kernel> {
    pub(super) windows: K::Windows,
    /// Bias and rounding.
    pub(super) constant: i32,
}

/// Both passes, where the horizontal one is first. Shared by both chroma planes.
pub(super) struct AcrossDown<K: Kernel> {
    pub(super) gathers: K::Gathers,
    /// Outputs that are made together, from the first row of a band to the last: a multiple of
    /// [`WIDE_LINE`], or a whole row.
    pub(super) strip: usize,
    /// Bias, rounding, and the step from 0..=255 to a centre of zero, of each channel in turn.
    pub(super) constants: [i32; PATTERN],
    pub(super) rolling: Rolling,
    /// Fraction bits of the vertical sum.
    pub(super) fraction_bits: u32,
}

/// Plans every plane of a stream whose ring is `ring`.
pub(super) fn planes<K: Kernel>(
    kernel: &K,
    spec: &StreamSpec,
    ring: &RingLayout,
) -> Vec<PlanePlan<K>> {
    let planes = ring.input().planes().iter().zip(ring.output().planes());
    let components = spec.source.format.components();
    let mut plans: Vec<PlanePlan<K>> = Vec::with_capacity(components.len());
    for ((&source, &destination), &components) in planes.zip(components) {
        // A plane like the one before it: the second one of chroma.
        let shared = plans.last().and_then(|plan| match &plan.passes {
            Passes::HorizontalFirst(passes)
                if plan.source.extent == source.extent && components == [Component::Chroma] =>
            {
                Some(Arc::clone(passes))
            }
            _ => None,
        });
        let samples = destination.row_bytes();
        let passes = shared
            .map(Passes::HorizontalFirst)
            .unwrap_or_else(|| passes(kernel, spec, components, samples));
        plans.push(PlanePlan { source, destination, passes });
    }
    plans
}

/// Plans a plane of those components, rows of `samples` in the destination.
fn passes<K: Kernel>(
    kernel: &K,
    spec: &StreamSpec,
    components: &[Component],
    samples: usize,
) -> Passes<K> {
    let tone = |&component| Tone::new(component, spec.source.range, spec.destination.range);
    let tones: Vec<Tone> = components.iter().map(tone).collect();
    // All components of a plane lie alike.
    let axes = Axes::new(spec, components[0]);
    match order::order(spec.filter, &axes, &tones) {
        Order::HorizontalFirst { horizontal, vertical, fraction_bits, fold } => {
            let whole = Rolling::new(&vertical, samples, fold);
            let held = size_of::<i16>() * whole.words() + ROWS * horizontal.source();
            let (strip, rolling) = if held <= FIRST_CACHE || horizontal.source() < samples {
                (samples, whole)
            } else {
                let strip = samples.div_ceil(samples.div_ceil(STRIP)).next_multiple_of(WIDE_LINE);
                (strip, Rolling::new(&vertical, strip, fold))
            };
            Passes::HorizontalFirst(Arc::new(AcrossDown {
                gathers: kernel.gather(horizontal),
                constants: std::array::from_fn(|i| centred_constant(tones[i % tones.len()].bias)),
                rolling,
                strip,
                fraction_bits,
            }))
        }
        Order::VerticalFirst { vertical, horizontal } => {
            let channel = |(taps, tone): (Taps, &Tone)| ChannelPlan {
                windows: kernel.arrange(taps),
                constant: constant(tone.bias),
            };
            let channels = horizontal.into_iter().zip(&tones).map(channel).collect();
            Passes::VerticalFirst { vertical, channels }
        }
    }
}

/// Bias and half a step, in the scale of a horizontal sum in the second pass.
fn constant(bias: f64) -> i32 {
    (bias * f64::from(1 << FRACTION_BITS)).round() as i32 + (1 << (FRACTION_BITS - 1))
}

/// Bias, what moves the middle of 0..=255 to zero, and half a step, in the scale of a horizontal sum in
/// the first pass.
fn centred_constant(bias: f64) -> i32 {
    let step = 1 << (ACROSS_BITS - WORD_BITS);
    ((bias - 128.0) * f64::from(1 << ACROSS_BITS)).round() as i32 + step / 2
}

impl<K: Kernel> PlanePlan<K> {
    /// Words of a row between the passes, if the vertical one is first, with what the horizontal one
    /// may read behind it.
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

    /// Working memory: with the vertical pass first the row and, where channels are interleaved, their
    /// lines before and after the horizontal pass; else the lines that are held.
    pub(super) fn scratch_words(&self) -> usize {
        let channels = match &self.passes {
            Passes::HorizontalFirst(passes) => return passes.rolling.words(),
            Passes::VerticalFirst { channels, .. } => channels.len(),
        };
        let lines = match channels {
            1 => 0,
            _ => channels * (self.line_words() + self.line_bytes() / size_of::<i16>()),
        };
        self.row_words() + lines
    }
}
