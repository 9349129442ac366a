//! Owns what is computed once for a stream: which source planes make which destination planes, the taps of
//! every plane in the order of its passes, and how much working memory it takes.
//!
//! Knows specs and layouts, no pixels. Planes that keep their components are resized one by one; all
//! others are mixed from several. Invariants: what is read and written lies within the frames that the
//! ring's layouts describe; the lines counted here are what [`Kernel`] asks for.

use std::ops::Range;
use std::sync::Arc;

use resized_protocol::frame::{Component, FrameLayout, Plane};
use resized_protocol::message::StreamSpec;
use resized_protocol::placement::{Framing, Placement};
use resized_protocol::shm::RingLayout;

use super::kernel::{Kernel, LINE, PATTERN, ROWS, WIDE_LINE};
use super::mix::{self, Mix, Place};
use super::order::{self, ACROSS_BITS, FIRST_CACHE, Order, WORD_BITS};
use super::rolling::Rolling;
use super::words::Samples;
use crate::filter::{Axes, Blend, Taps, Tone};

/// Fraction bits of a horizontal sum in the second pass: 6 of the word, 14 of the weight.
const FRACTION_BITS: u32 = 20;

/// The most outputs of a strip, into which a plane that shrinks is cut if its lines and the source rows they
/// come from outgrow the first cache: 4K becomes 1080p 5 to 12 % faster. Enlarging gains nothing.
const STRIP: usize = 1024;

/// A part of a stream's work that is done from the first row of a band to its last.
pub(super) enum Work<K: Kernel> {
    /// The samples of one plane are resized.
    Resize(Resized<K>, Target),
    /// Planes of one size are mixed from the resized samples of others.
    Mix { inputs: Vec<Resized<K>>, mix: Mix, targets: Vec<Target> },
}

/// A plane of the source, and how its samples become those of a picture.
pub(super) struct Resized<K: Kernel> {
    pub(super) source: Plane,
    pub(super) passes: Passes<K>,
    /// Samples in a row of the picture.
    pub(super) samples: usize,
    /// What its samples are.
    pub(super) kind: Samples,
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
pub(super) enum Passes<K: Kernel> {
    /// Nothing changes: the first row and sample of what is copied.
    Copy {
        row: usize,
        sample: usize,
    },
    /// `columns` are the samples of a row that are read.
    VerticalFirst {
        vertical: Taps,
        channels: Vec<ChannelPlan<K>>,
        columns: Range<usize>,
    },
    HorizontalFirst(Arc<AcrossDown<K>>),
    /// Rows become words first, and shrink beyond what those can add up: the taps of each channel.
    Words {
        vertical: Taps,
        channels: Vec<Taps>,
    },
}

/// The second pass of one channel of a plane, where that is the horizontal one.
pub(super) struct ChannelPlan<K: Kernel> {
    pub(super) windows: K::Windows,
    /// Bias and rounding.
    pub(super) constant: i32,
}

/// Both passes, where the horizontal one is first. Shared by planes that are alike.
pub(super) struct AcrossDown<K: Kernel> {
    pub(super) across: Across<K>,
    /// Outputs that are made together, from the first row of a band to the last: a multiple of
    /// [`WIDE_LINE`], or a whole row.
    pub(super) strip: usize,
    pub(super) rolling: Rolling,
    /// Fraction bits of the vertical sum.
    pub(super) fraction_bits: u32,
}

/// The horizontal pass, where it is the first.
pub(super) enum Across<K: Kernel> {
    Gather {
        gathers: K::Gathers,
        /// Bias, rounding, and the step from 0..=255 to a centre of zero, of each channel in turn.
        constants: [i32; PATTERN],
    },
    /// Nothing changes in this direction: the first sample of what becomes words as it is.
    Widen(usize),
    /// Words are made of the whole row first.
    Words(K::Windows),
}

/// Plans a stream whose ring is `ring`.
pub(super) fn works<K: Kernel>(
    kernel: &K,
    spec: &StreamSpec,
    placement: &Placement,
    ring: &RingLayout,
) -> Vec<Work<K>> {
    let plan = Planner { kernel, spec, placement, ring };
    let colour = |frame: &resized_protocol::frame::FrameSpec| (frame.format, frame.matrix);
    let subsampled = spec.source.format.is_subsampled();
    if spec.source.format == spec.destination.format
        && Samples::of(spec) == Samples::Bytes
        && (!subsampled || colour(&spec.source) == colour(&spec.destination))
    {
        plan.plane_by_plane()
    } else {
        plan.mixed()
    }
}

/// A plane of the destination, and what its channels are.
type Blended = (usize, Vec<Blend>);

/// What all parts of a plan are made from.
struct Planner<'spec, K: Kernel> {
    kernel: &'spec K,
    spec: &'spec StreamSpec,
    placement: &'spec Placement,
    ring: &'spec RingLayout,
}

impl<K: Kernel> Planner<'_, K> {
    /// Every plane becomes the one of the same number.
    fn plane_by_plane(&self) -> Vec<Work<K>> {
        let spec = self.spec;
        let mut works: Vec<Work<K>> = Vec::new();
        for (index, &components) in spec.source.format.components().iter().enumerate() {
            let tone = |&c: &Component| Tone::new(c, spec.source.range, spec.destination.range);
            let tones: Vec<Tone> = components.iter().map(tone).collect();
            let source = self.ring.input().planes()[index];
            // A plane like the one before it: the second one of chroma.
            let twin = works.last().and_then(|work| match work {
                Work::Resize(Resized { source: other, passes, .. }, _)
                    if other.extent == source.extent && components == [Component::Chroma] =>
                {
                    passes.shared()
                }
                _ => None,
            });
            let resized = match twin {
                Some(passes) => {
                    let samples = self.width(components[0]);
                    Resized { source, passes, samples, kind: Samples::Bytes }
                }
                None => self.resized(index, components[0], Some(&tones)),
            };
            works.push(Work::Resize(resized, self.target(index)));
        }
        works
    }

    /// Every group of destination planes of one size is mixed from the source planes that it takes.
    fn mixed(&self) -> Vec<Work<K>> {
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

    fn mix(&self, component: Component, planes: Vec<Blended>) -> Work<K> {
        let (mut inputs, mut places) = (Vec::new(), Vec::new());
        let mut channel = 0;
        for (index, components) in self.spec.source.format.components().iter().enumerate() {
            let channels = channel..channel + components.len();
            channel = channels.end;
            let mut blends = planes.iter().flat_map(|(_, blends)| blends);
            let mut taken = |c: usize| blends.any(|blend| blend.weights[c] != 0.0);
            if !channels.clone().any(&mut taken) {
                continue;
            }
            let input = self.resized(index, component, None);
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
        let element = mix::Number::of(self.spec.destination.format);
        let weighed = Samples::of(self.spec) == Samples::Weighed;
        let targets = planes.iter().map(|&(index, _)| self.target(index)).collect();
        let blends = planes.into_iter().map(|(_, blends)| blends).collect();
        Work::Mix { inputs, mix: Mix::new(element, places, weighed, blends), targets }
    }

    /// Pixels in a row of the picture in planes of that component.
    fn width(&self, to: Component) -> usize {
        let axes = Axes::new(self.spec, self.placement, to, to);
        axes.horizontal.destination() as usize
    }

    /// A source plane, made as large as destination planes of the component `to`. With the tones of its
    /// channels it becomes one of them, without it goes on to be mixed.
    fn resized(&self, index: usize, to: Component, tones_given: Option<&[Tone]>) -> Resized<K> {
        let source = self.ring.input().planes()[index];
        let from = self.spec.source.format.components()[index][0];
        let axes = Axes::new(self.spec, self.placement, from, to);
        let samples = axes.horizontal.destination() as usize * source.channels;
        let kind = Samples::of(self.spec);
        let tones = match tones_given {
            Some(tones) => tones.to_vec(),
            None => vec![Tone { gain: 1.0, bias: 0.0 }; source.channels],
        };
        let passes = match kind {
            Samples::Bytes => self.passes(&axes, &tones, samples, tones_given.is_none()),
            _ => self.word_passes(&axes, &tones, samples),
        };
        Resized { source, passes, samples, kind }
    }

    /// As `passes`, of rows that become words first. They are only ever mixed.
    fn word_passes(&self, axes: &Axes, tones: &[Tone], samples: usize) -> Passes<K> {
        let filter = self.spec.filter;
        let horizontal = Taps::new(filter, &axes.horizontal, 1.0);
        let vertical = Taps::new(filter, &axes.vertical, 1.0);
        if let (Some(sample), Some(row)) = (horizontal.copies_from(), vertical.copies_from()) {
            return Passes::Copy { row, sample: sample * tones.len() };
        }
        let channels = vec![horizontal; tones.len()];
        match order::order(filter, axes, tones, true) {
            Order::HorizontalFirst { vertical, fraction_bits, fold, .. } => {
                let windows = self.kernel.arrange(Taps::interleaved(&channels).dense());
                Passes::HorizontalFirst(Arc::new(AcrossDown {
                    across: Across::Words(windows),
                    rolling: Rolling::new(&vertical, samples, fold),
                    strip: samples,
                    fraction_bits,
                }))
            }
            Order::VerticalFirst { .. } => Passes::Words { vertical, channels },
        }
    }

    fn passes(&self, axes: &Axes, tones: &[Tone], samples: usize, mixed: bool) -> Passes<K> {
        let unchanged = tones.iter().all(|tone| *tone == Tone { gain: 1.0, bias: 0.0 });
        let copied = |axis| Taps::new(self.spec.filter, axis, 1.0).copies_from();
        let across = copied(&axes.horizontal).filter(|_| unchanged).map(|x| x * tones.len());
        if let (Some(sample), Some(row)) = (across, copied(&axes.vertical)) {
            return Passes::Copy { row, sample };
        }
        match order::order(self.spec.filter, axes, tones, mixed) {
            Order::HorizontalFirst { horizontal, vertical, fraction_bits, fold } => {
                let whole = Rolling::new(&vertical, samples, fold);
                let held = size_of::<i16>() * whole.words() + ROWS * horizontal.source();
                let (strip, rolling) = if held <= FIRST_CACHE || horizontal.source() < samples {
                    (samples, whole)
                } else {
                    let strip = samples.div_ceil(samples.div_ceil(STRIP));
                    let strip = strip.next_multiple_of(WIDE_LINE);
                    (strip, Rolling::new(&vertical, strip, fold))
                };
                let constant = |i: usize| centred_constant(tones[i % tones.len()].bias);
                let across = match across {
                    Some(sample) => Across::Widen(sample),
                    None => Across::Gather {
                        gathers: self.kernel.gather(horizontal),
                        constants: std::array::from_fn(constant),
                    },
                };
                Passes::HorizontalFirst(Arc::new(AcrossDown {
                    across,
                    rolling,
                    strip,
                    fraction_bits,
                }))
            }
            Order::VerticalFirst { vertical, horizontal } => {
                let channel = |(taps, tone): (Taps, &Tone)| ChannelPlan {
                    windows: self.kernel.arrange(taps),
                    constant: constant(tone.bias),
                };
                let channels = horizontal.into_iter().zip(tones).map(channel).collect();
                let (first, end) = axes.horizontal.within();
                let (first, end) = (first as usize * tones.len(), end as usize * tones.len());
                let columns = first / WIDE_LINE * WIDE_LINE..end;
                Passes::VerticalFirst { vertical, channels, columns }
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
        let number = mix::Number::of(format);
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

/// Bias, what moves the middle of 0..=255 to zero, and half a step, in the scale of a horizontal sum in
/// the first pass.
fn centred_constant(bias: f64) -> i32 {
    let step = 1 << (ACROSS_BITS - WORD_BITS);
    ((bias - 128.0) * f64::from(1 << ACROSS_BITS)).round() as i32 + step / 2
}

impl<K: Kernel> Passes<K> {
    fn shared(&self) -> Option<Self> {
        match self {
            Self::HorizontalFirst(passes) => Some(Self::HorizontalFirst(Arc::clone(passes))),
            Self::Copy { row, sample } => Some(Self::Copy { row: *row, sample: *sample }),
            Self::VerticalFirst { .. } | Self::Words { .. } => None,
        }
    }
}

impl<K: Kernel> Resized<K> {
    /// Fraction bits of the words of a line of the picture.
    pub(super) fn fraction_bits(&self) -> u32 {
        match &self.passes {
            Passes::HorizontalFirst(passes) => passes.fraction_bits,
            Passes::Copy { .. } | Passes::VerticalFirst { .. } | Passes::Words { .. } => WORD_BITS,
        }
    }

    /// Words of a row between the passes, if the vertical one is first, with what the horizontal one
    /// may read behind it.
    pub(super) const fn row_words(&self) -> usize {
        self.row_samples().next_multiple_of(LINE) + LINE
    }

    /// Samples in a row of the source.
    pub(super) const fn row_samples(&self) -> usize {
        self.source.extent.width as usize * self.source.channels
    }

    /// Words of one channel's part of that row.
    pub(super) const fn line_words(&self) -> usize {
        (self.source.extent.width as usize).next_multiple_of(LINE) + LINE
    }

    /// Bytes of one channel's part of a row of the picture.
    pub(super) const fn line_bytes(&self) -> usize {
        (self.samples / self.source.channels).next_multiple_of(WIDE_LINE)
    }

    /// Words of working memory for the passes: with the vertical one first the row and, where channels
    /// are interleaved, their lines before and after the horizontal pass; else the lines that are held.
    pub(super) fn held_words(&self) -> usize {
        let channels = match &self.passes {
            Passes::Copy { .. } => 0,
            Passes::HorizontalFirst(passes) => {
                let row = if self.kind == Samples::Bytes { 0 } else { self.row_words() };
                return passes.rolling.words() + row;
            }
            // A row of words, and of their sums in single precision.
            Passes::Words { .. } => return 3 * self.row_words(),
            Passes::VerticalFirst { channels, .. } => channels.len(),
        };
        let lines = match channels {
            0 => return 0,
            1 => 0,
            _ => channels * (self.line_words() + self.line_bytes() / size_of::<i16>()),
        };
        (self.row_words() + lines).next_multiple_of(LINE)
    }

    /// Bytes of a row of the picture, in whole vectors.
    pub(super) const fn row_bytes(&self) -> usize {
        self.samples.next_multiple_of(WIDE_LINE)
    }

    /// Words of a line of the picture, with what a mix may read behind it.
    pub(super) const fn picture_words(&self) -> usize {
        self.samples.next_multiple_of(WIDE_LINE) + mix::SLACK
    }
}

impl Target {
    /// Whether a row of the picture is as long as the plane's: kernels may write to the stride's end.
    pub(super) fn is_whole_rows(&self) -> bool {
        self.bytes == (0..self.plane.row_bytes())
    }
}

impl<K: Kernel> Work<K> {
    /// Words of working memory.
    pub(super) fn scratch_words(&self) -> usize {
        match self {
            Self::Resize(resized, _) => resized.held_words() + resized.row_bytes() / 2,
            Self::Mix { inputs, .. } => {
                let words = |input: &Resized<K>| {
                    input.held_words() + input.picture_words() + input.row_bytes() / 2
                };
                inputs.iter().map(words).sum()
            }
        }
    }
}

/// Whether rows of a source are whole vectors, as kernels take for granted. Those of tensors are not.
pub(super) fn is_aligned(layout: &FrameLayout) -> bool {
    layout.planes().iter().all(|plane| plane.stride.is_multiple_of(WIDE_LINE))
}
