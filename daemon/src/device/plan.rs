//! Owns what is computed once for a stream: which source planes make which destination planes, and
//! the taps of every plane in the order of its passes. What is decided here decides the arithmetic,
//! so every device works by it; how a device keeps the taps is its own affair ([`Arrange`]).
//!
//! Knows specs and layouts, no pixels and no device. Planes that keep their components are resized
//! one by one; all others are mixed from several. Invariant: what is read and written lies within
//! the frames that the ring's layouts describe.

mod fold;
mod mix;
mod number;
mod order;

use std::ops::Range;
use std::sync::Arc;

use resized_protocol::frame::{Component, FrameLayout, PixelFormat, Plane, ROW_ALIGN};
use resized_protocol::message::{Alpha, StreamSpec};
use resized_protocol::placement::{Framing, Placement};
use resized_protocol::shm::RingLayout;

use crate::filter::{Axes, Blend, Taps, Tone, Weights};

pub(super) use fold::Folded;
pub(super) use mix::{Mix, Place, Sum};
pub(super) use number::{Half, HighTen, LowTen, Number, Stored};
pub(super) use order::{FIRST_CACHE, WORD_BITS};
use order::{HORIZONTAL_FIRST_BITS, Order, Swelling, Toned};

/// Fraction bits of a horizontal sum in the second pass: those of the word, 14 of the weight.
const FRACTION_BITS: u32 = WORD_BITS + WEIGHT_BITS;

/// Those of a weight that is [`ONE`](crate::filter::ONE).
const WEIGHT_BITS: u32 = 14;

/// Outputs after which the constants of a horizontal pass repeat, if it comes first: a multiple of the
/// number of channels, or those of all channels are the same.
pub(super) const PATTERN: usize = 4;

/// How a device keeps the taps of a pass, in the order in which it reads them.
pub(super) trait Arrange {
    /// Those of a horizontal pass that comes second, and reads words of one channel.
    type Windows: Send + Sync;

    /// Those of a horizontal pass that comes first, and reads words.
    type Words: Send + Sync;

    /// Those of a horizontal pass that reads samples.
    type Gathers: Send + Sync;

    /// Those of a vertical pass that comes second.
    type Lines: Send + Sync;

    /// Arranges horizontal taps of words of one channel.
    fn arrange(&self, taps: Taps) -> Self::Windows;

    /// Arranges horizontal taps of words, for each of so many channels that are interleaved.
    fn arrange_words(&self, taps: Taps, channels: usize) -> Self::Words;

    /// Arranges horizontal taps of samples, all channels interleaved. The high bytes of a window's
    /// positive weights sum to 128 at most, and so do those of its negative ones.
    fn gather(&self, taps: Taps) -> Self::Gathers;

    /// Arranges vertical taps of lines of words, of one row of the picture each. With `fold` two
    /// words have room for their sum.
    fn lines(&self, vertical: Taps, row: Row, fold: bool) -> Self::Lines;
}

/// How long the rows are that a plane's passes read and make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Samples in a row of the source, if rows of the picture may be made in parts.
    pub(super) source: Option<usize>,
    /// Samples in a row of the picture.
    pub(super) picture: usize,
}

/// What the samples of a source row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Samples {
    /// A byte each.
    Bytes,
    /// Ten bits in the lower ones of 16; more is taken for the most.
    LowTen,
    /// Ten bits in the upper ones of 16.
    HighTen,
    /// Pixels of three colours and their opacity, a byte each: the colours' words are weighed by it.
    Weighed,
}

impl Samples {
    /// Of a stream's source.
    pub(super) fn of(spec: &StreamSpec) -> Self {
        match spec.source.format {
            PixelFormat::I420P10 => Self::LowTen,
            PixelFormat::P010 => Self::HighTen,
            format if format.has_alpha() && spec.alpha == Alpha::Weighs => Self::Weighed,
            _ => Self::Bytes,
        }
    }
}

/// A part of a stream's work that is done from the first row of a band to its last.
pub(super) enum Work<A: Arrange> {
    /// The samples of one plane are resized.
    Resize(Resized<A>, Target),
    /// Planes of one size are mixed from the resized samples of others.
    Mix { inputs: Vec<Resized<A>>, mix: Mix, targets: Vec<Target> },
}

/// A plane of the source, and how its samples become those of a picture.
pub(super) struct Resized<A: Arrange> {
    pub(super) source: Plane,
    pub(super) passes: Passes<A>,
    /// Samples in a row of the picture.
    pub(super) samples: usize,
    /// What its samples are.
    pub(super) kind: Samples,
    /// The samples of a row that are read.
    pub(super) columns: Range<usize>,
}

/// Where a picture lies in a plane of the destination.
pub(super) struct Target {
    pub(super) plane: Plane,
    /// Rows of the plane that have a row of the picture.
    pub(super) rows: Range<usize>,
    /// Bytes of those rows that are the picture's.
    pub(super) bytes: Range<usize>,
    /// A row of padding; empty if the picture fills the plane.
    pub(super) padding: Vec<u8>,
}

/// The two passes of a plane.
pub(super) enum Passes<A: Arrange> {
    /// Nothing changes: the first row and sample of what is copied.
    Copy {
        row: usize,
        sample: usize,
    },
    VerticalFirst(Arc<VerticalFirst<A>>),
    HorizontalFirst(Arc<HorizontalFirst<A>>),
}

/// Both passes, where the vertical one is first. Shared by planes that are alike.
pub(super) struct VerticalFirst<A: Arrange> {
    pub(super) vertical: Taps,
    /// Those of one tone once.
    windows: Vec<A::Windows>,
    /// Of each channel the number of its windows, and its constant.
    channels: Vec<(usize, i32)>,
}

/// The second pass of one channel of a plane, where that is the horizontal one.
pub(super) struct ChannelPlan<'passes, A: Arrange> {
    pub(super) windows: &'passes A::Windows,
    /// Rounding and, of what becomes samples, bias; of bytes that are mixed, the step from 0..=255 to
    /// a centre of zero.
    pub(super) constant: i32,
}

impl<A: Arrange> VerticalFirst<A> {
    pub(super) fn channel(&self, number: usize) -> ChannelPlan<'_, A> {
        let (windows, constant) = self.channels[number];
        ChannelPlan { windows: &self.windows[windows], constant }
    }
}

/// Both passes, where the horizontal one is first. Shared by planes that are alike.
pub(super) struct HorizontalFirst<A: Arrange> {
    pub(super) first: FirstPass<A>,
    pub(super) lines: A::Lines,
    /// Fraction bits of the vertical sum.
    pub(super) fraction_bits: u32,
}

/// The horizontal pass, where it is the first.
pub(super) enum FirstPass<A: Arrange> {
    Gather {
        gathers: A::Gathers,
        /// Bias, rounding, and the step from 0..=255 to a centre of zero, of each channel in turn.
        constants: [i32; PATTERN],
    },
    /// Nothing changes in this direction: the first sample of what becomes words as it is.
    Widen(usize),
    /// Words are made of the whole row first.
    Words(A::Words),
}

/// Plans a stream whose ring is `ring`.
pub(super) fn works<A: Arrange>(
    arrange: &A,
    spec: &StreamSpec,
    placement: &Placement,
    ring: &RingLayout,
) -> Vec<Work<A>> {
    let plan = Planner { arrange, spec, placement, ring };
    let colour = |frame: &resized_protocol::frame::FrameSpec| (frame.format, frame.matrix);
    let subsampled = spec.source.format.is_subsampled();
    let axes = Axes::new(spec, placement, Component::Luma, Component::Luma);
    // Only what is mixed may become words at once.
    let swells = Swelling::of(&axes.horizontal, &axes.vertical) == Swelling::Vertical;
    if spec.source.format == spec.destination.format
        && Samples::of(spec) == Samples::Bytes
        && (!subsampled || colour(&spec.source) == colour(&spec.destination))
        && !swells
    {
        plan.plane_by_plane()
    } else {
        plan.mixed()
    }
}

/// A plane of the destination, and what its channels are.
type Blended = (usize, Vec<Blend>);

/// What all parts of a plan are made from.
struct Planner<'spec, A: Arrange> {
    arrange: &'spec A,
    spec: &'spec StreamSpec,
    placement: &'spec Placement,
    ring: &'spec RingLayout,
}

impl<A: Arrange> Planner<'_, A> {
    /// Every plane becomes the one of the same number.
    fn plane_by_plane(&self) -> Vec<Work<A>> {
        let spec = self.spec;
        let mut works: Vec<Work<A>> = Vec::new();
        let planes = spec.source.format.components();
        for (index, &components) in planes.iter().enumerate() {
            let tone = |&c: &Component| Tone::new(c, spec.source.range, spec.destination.range);
            let tones: Vec<Tone> = components.iter().map(tone).collect();
            let twin = works.last().and_then(|work| match work {
                Work::Resize(before, _) => self.twin(before, index),
                Work::Mix { .. } => None,
            });
            let resized = twin.unwrap_or_else(|| self.resized(index, components[0], Some(&tones)));
            works.push(Work::Resize(resized, self.target(index)));
        }
        works
    }

    /// Every group of destination planes of one size is mixed from the source planes that it takes.
    fn mixed(&self) -> Vec<Work<A>> {
        let destination = self.spec.destination.format;
        let mut blends = Blend::all(self.spec).into_iter();
        let mut works: Vec<(Component, Vec<Blended>)> = Vec::new();
        for (index, components) in destination.components().iter().enumerate() {
            let plane = (index, blends.by_ref().take(components.len()).collect());
            match works.last_mut() {
                Some((component, planes)) if *component == components[0] => planes.push(plane),
                _ => works.push((components[0], vec![plane])),
            }
        }
        works.into_iter().map(|(component, planes)| self.mix(component, planes)).collect()
    }

    fn mix(&self, component: Component, planes: Vec<Blended>) -> Work<A> {
        let (mut inputs, mut places) = (Vec::<Resized<A>>::new(), Vec::new());
        let mut channel = 0;
        for (index, components) in self.spec.source.format.components().iter().enumerate() {
            let channels = channel..channel + components.len();
            channel = channels.end;
            let blends = || planes.iter().flat_map(|(_, blends)| blends);
            let taken = |c: usize| blends().any(|blend| blend.weights[c] != 0.0);
            if !channels.clone().any(taken) {
                continue;
            }
            let twin = inputs.last().and_then(|before| self.twin(before, index));
            let input = twin.unwrap_or_else(|| self.resized(index, component, None));
            let bits = input.fraction_bits();
            places.extend(channels.enumerate().map(|(first, channel)| Place {
                line: inputs.len(),
                first,
                step: components.len(),
                channel,
                bits,
            }));
            inputs.push(input);
        }
        let element = Number::of(self.spec.destination.format);
        let weighed = Samples::of(self.spec) == Samples::Weighed;
        let targets = planes.iter().map(|&(index, _)| self.target(index)).collect();
        let blends = planes.into_iter().map(|(_, blends)| blends).collect();
        Work::Mix { inputs, mix: Mix::new(element, places, weighed, blends), targets }
    }

    /// A source plane like the one before it, the second one of chroma, shares what that was prepared.
    fn twin(&self, before: &Resized<A>, index: usize) -> Option<Resized<A>> {
        let source = self.ring.input().planes()[index];
        let components = self.spec.source.format.components();
        let alike = index > 0
            && components[index - 1] == components[index]
            && before.source.offset == self.ring.input().planes()[index - 1].offset;
        let Resized { ref passes, samples, kind, ref columns, .. } = *before;
        let (passes, columns) = (passes.shared(), columns.clone());
        alike.then_some(Resized { source, passes, samples, kind, columns })
    }

    /// A source plane, made as large as destination planes of the component `to`. With the tones of its
    /// channels it becomes one of them, without it goes on to be mixed.
    fn resized(&self, index: usize, to: Component, tones_given: Option<&[Tone]>) -> Resized<A> {
        let source = self.ring.input().planes()[index];
        let from = self.spec.source.format.components()[index][0];
        let axes = Axes::new(self.spec, self.placement, from, to);
        let samples = axes.horizontal.destination() as usize * source.channels;
        let kind = Samples::of(self.spec);
        let tones = match tones_given {
            Some(tones) => tones.to_vec(),
            None => vec![Tone { gain: 1.0, bias: 0.0 }; source.channels],
        };
        let mixed = tones_given.is_none();
        let passes = self.passes(&axes, kind, &tones, samples, mixed);
        let (first, end) = axes.horizontal.within();
        let (first, end) = (first as usize * source.channels, end as usize * source.channels);
        let columns = first / ROW_ALIGN * ROW_ALIGN..end;
        Resized { source, passes, samples, kind, columns }
    }

    fn weights(&self, axes: &Axes) -> (Weights, Weights) {
        let weights = |axis| Weights::new(self.spec.filter, axis);
        (weights(&axes.horizontal), weights(&axes.vertical))
    }

    /// The passes of a plane whose samples are `kind`, to `samples` in a row of the picture. `mixed`:
    /// without a tone, and to words.
    fn passes(
        &self,
        axes: &Axes,
        kind: Samples,
        tones: &[Tone],
        samples: usize,
        mixed: bool,
    ) -> Passes<A> {
        let unchanged = tones.iter().all(|tone| *tone == Tone { gain: 1.0, bias: 0.0 });
        let (horizontal, vertical) = self.weights(axes);
        let copied = horizontal.copies_from().filter(|_| unchanged).map(|x| x * tones.len());
        if let (Some(sample), Some(row)) = (copied, vertical.copies_from()) {
            return Passes::Copy { row, sample };
        }
        match order::order(&horizontal, &vertical, tones, mixed) {
            Order::HorizontalFirst { horizontal: taps, vertical, fraction_bits, fold } => {
                let (least, end) = axes.horizontal.within();
                let constant = |i: usize| centred_constant(tones[i % tones.len()].bias);
                let first = match (kind, copied, taps) {
                    (Samples::Bytes, Some(sample), _) => FirstPass::Widen(sample),
                    (Samples::Bytes, None, Some(taps)) => FirstPass::Gather {
                        gathers: self.arrange.gather(taps),
                        constants: std::array::from_fn(constant),
                    },
                    _ => {
                        // Words are made of samples as they are. Rows of bytes become words at once only
                        // where they swell and shrink beyond what sums of samples have room for, and
                        // planes that do are mixed, without a tone (see `works`; chroma alone may swell
                        // where luma does not, but not at such ratios).
                        debug_assert!(unchanged, "the tone would be lost");
                        let taps = horizontal.taps(1.0);
                        FirstPass::Words(self.arrange.arrange_words(taps, tones.len()))
                    }
                };
                // A mix takes whole rows, and words are made into whole ones.
                let is_whole = mixed || matches!(first, FirstPass::Words(_));
                let source = (!is_whole).then_some((end - least) as usize * tones.len());
                let row = Row { source, picture: samples };
                Passes::HorizontalFirst(Arc::new(HorizontalFirst {
                    first,
                    lines: self.arrange.lines(vertical, row, fold),
                    fraction_bits,
                }))
            }
            Order::VerticalFirst { vertical, horizontal: Toned { taps, channels } } => {
                let windows = taps.into_iter().map(|taps| self.arrange.arrange(taps)).collect();
                let constant = |tone: &Tone| match (mixed, kind) {
                    (false, _) => constant(tone.bias),
                    (true, Samples::Bytes) => WORD_ROUNDING - (128 << FRACTION_BITS),
                    // Their words are centred on zero already.
                    (true, _) => WORD_ROUNDING,
                };
                let channels = channels.into_iter().zip(tones.iter().map(constant)).collect();
                Passes::VerticalFirst(Arc::new(VerticalFirst { vertical, windows, channels }))
            }
        }
    }

    /// The place of the picture in a destination plane.
    fn target(&self, index: usize) -> Target {
        let plane = self.ring.output().planes()[index];
        let component = self.spec.destination.format.components()[index][0];
        let picture = Axes::new(self.spec, self.placement, component, component);
        let step = if component == Component::Chroma { 2 } else { 1 };
        let rectangle = &self.placement.destination;
        let (left, top) = (rectangle.left as usize / step, rectangle.top as usize / step);
        let pixel = plane.channels * plane.sample_bytes;
        let rows = top..top + picture.vertical.destination() as usize;
        let columns = left..left + picture.horizontal.destination() as usize;
        let fills = rows == (0..plane.rows()) && columns == (0..plane.extent.width as usize);
        let bytes = columns.start * pixel..columns.end * pixel;
        let padding = match self.spec.framing {
            Framing::Fit { pad, .. } if !fills => self.padding(index, &plane, pad),
            _ => Vec::new(),
        };
        Target { plane, rows, bytes, padding }
    }

    fn padding(&self, index: usize, plane: &Plane, colour: [u8; 3]) -> Vec<u8> {
        let format = self.spec.destination.format;
        let before: usize = format.components()[..index].iter().map(|plane| plane.len()).sum();
        let values = Blend::pad(self.spec, colour);
        let pixel = &values[before..before + plane.channels];
        let number = Number::of(format);
        pixel
            .iter()
            .flat_map(|&value| number.bytes(value))
            .collect::<Vec<_>>()
            .repeat(plane.extent.width as usize)
    }
}

/// Bias and half a step, in the scale of a horizontal sum in the second pass.
fn constant(bias: f64) -> i32 {
    (bias * f64::from(1 << FRACTION_BITS)).round() as i32 + (1 << (FRACTION_BITS - 1))
}

/// Half a step of a word, in the same scale.
const WORD_ROUNDING: i32 = 1 << (WEIGHT_BITS - 1);

/// Bias, what moves the middle of 0..=255 to zero, and half a step, in the scale of a horizontal sum in
/// the first pass.
fn centred_constant(bias: f64) -> i32 {
    let step = 1 << (HORIZONTAL_FIRST_BITS - WORD_BITS);
    ((bias - 128.0) * f64::from(1 << HORIZONTAL_FIRST_BITS)).round() as i32 + step / 2
}

impl<A: Arrange> Passes<A> {
    fn shared(&self) -> Self {
        match self {
            Self::HorizontalFirst(passes) => Self::HorizontalFirst(Arc::clone(passes)),
            Self::VerticalFirst(passes) => Self::VerticalFirst(Arc::clone(passes)),
            Self::Copy { row, sample } => Self::Copy { row: *row, sample: *sample },
        }
    }
}

impl<A: Arrange> Resized<A> {
    /// Fraction bits of the words of a line of the picture.
    pub(super) fn fraction_bits(&self) -> u32 {
        match &self.passes {
            Passes::HorizontalFirst(passes) => passes.fraction_bits,
            Passes::Copy { .. } | Passes::VerticalFirst(_) => WORD_BITS,
        }
    }

    /// Samples in a row of the source.
    pub(super) const fn row_samples(&self) -> usize {
        self.source.extent.width as usize * self.source.channels
    }
}

impl Target {
    /// Whether a row of the picture is as long as the plane's: kernels may write to the stride's end.
    pub(super) fn is_whole_rows(&self) -> bool {
        self.bytes == (0..self.plane.row_bytes())
    }
}

/// Whether rows of a source are whole vectors, as devices take for granted. Those of tensors are not.
pub(super) fn is_aligned(layout: &FrameLayout) -> bool {
    layout.planes().iter().all(|plane| plane.stride.is_multiple_of(ROW_ALIGN))
}
