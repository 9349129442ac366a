//! Owns the translation of a stream's plan into dispatches: which shader makes what of which bytes,
//! with which [`tables`].
//!
//! Knows the plan and the shaders' numbers; no Vulkan. Invariants: every index that a shader can
//! compute from [`PushConstants`] and tables lies within the frames that the ring's layouts
//! describe, the tables, and as many elements of lines as are counted here; within a stage no two
//! dispatches touch the same element, and each reads only the frame and what stages before it made.

mod dispatch;
mod reads;
mod tables;

use std::ops::Range;

use resized_protocol::message::StreamSpec;
use resized_protocol::placement::Placement;
use resized_protocol::shm::RingLayout;

pub(super) use self::dispatch::Dispatch;
use self::dispatch::{COLUMNS, Lines};
use self::reads::Reads;
use self::tables::Tables;
use super::shader::{Form, Made, Packing, PushConstants, Variant};
use crate::device::plan::{
    self, Arrange, FirstPass, HorizontalFirst, Mix, Number, Passes, Resized, Row, Target,
    VerticalFirst, WORD_BITS, Work,
};
use crate::filter::Taps;

/// Elements behind the lines of a plane that may be read, whatever they hold: those of another
/// plane may be written at the same time.
const SLACK: u64 = 2;

/// What is computed once for a stream.
#[derive(Debug)]
pub(super) struct Program {
    /// Windows, weights, and all else that dispatches look up.
    pub(super) tables: Vec<u32>,
    /// Elements of 32 bits between the passes.
    pub(super) lines: u64,
    /// Those of a stage may run at the same time.
    pub(super) stages: [Vec<Dispatch>; 3],
    /// What they read of a source frame.
    pub(super) reads: Reads,
}

/// Taps stay as they are until they go into tables.
struct AsTheyAre;

/// Vertical taps of a second pass.
struct Folding {
    vertical: Taps,
    fold: bool,
}

impl Arrange for AsTheyAre {
    type Windows = Taps;
    type Words = Taps;
    type Gathers = Taps;
    type Lines = Folding;

    fn arrange(&self, taps: Taps) -> Taps {
        taps
    }

    fn arrange_words(&self, taps: Taps, channels: usize) -> Taps {
        Taps::interleaved(&vec![&taps; channels])
    }

    fn gather(&self, taps: Taps) -> Taps {
        taps
    }

    fn lines(&self, vertical: Taps, _: Row, fold: bool) -> Folding {
        Folding { vertical, fold }
    }
}

/// Where a plane's samples go.
enum End<'a> {
    Plane(&'a Target),
    /// Into so many lines, to be mixed.
    Lines(usize),
}

impl End<'_> {
    /// Rows of the picture.
    const fn rows(&self) -> usize {
        match self {
            Self::Plane(target) => target.rows.end - target.rows.start,
            Self::Lines(rows) => *rows,
        }
    }
}

impl Program {
    /// Translates the plan of a stream whose ring is `ring`. `None`: it has more elements than 32
    /// bits count.
    pub(super) fn new(spec: &StreamSpec, placement: &Placement, ring: &RingLayout) -> Option<Self> {
        let mut builder = Builder {
            tables: Tables::new(),
            lines: 0,
            stages: Default::default(),
            reads: Reads::new(ring.input()),
        };
        for work in plan::works(&AsTheyAre, spec, placement, ring) {
            match work {
                Work::Resize(resized, target) => {
                    builder.resize(&resized, &End::Plane(&target));
                }
                Work::Mix { inputs, mix, targets } => builder.mix(&inputs, &mix, &targets),
            }
        }
        let Builder { tables, lines, stages, reads } = builder;
        let tables = tables.into_words();
        let counted = [lines, tables.len() as u64, ring.input().len() as u64]
            .into_iter()
            .chain([ring.output().len() as u64]);
        counted.max().is_some_and(|most| most <= u64::from(u32::MAX / 4)).then_some(())?;
        Some(Self { tables, lines, stages, reads })
    }
}

struct Builder {
    tables: Tables,
    lines: u64,
    stages: [Vec<Dispatch>; 3],
    reads: Reads,
}

impl Builder {
    /// A plane of the source on its way to `end`; gives the lines, where there are some.
    fn resize(&mut self, resized: &Resized<AsTheyAre>, end: &End<'_>) -> Lines {
        let source = &resized.source;
        let from = PushConstants {
            from: source.offset as u32,
            from_pitch: source.stride as u32,
            samples: resized.samples as u32,
            ..PushConstants::default()
        };
        match &resized.passes {
            &Passes::Copy { row, sample } => {
                let from = PushConstants { first: sample as u32, first_row: row as u32, ..from };
                self.reads.note(source, row..row + end.rows());
                match *end {
                    End::Plane(target) => {
                        let all = self.all_rows(target, from);
                        self.stages[0].push(Dispatch::rows(Variant::Copy, all));
                        Lines::default()
                    }
                    End::Lines(rows) => {
                        let widened = Variant::HorizontalFirst(Form::Widen(resized.kind));
                        self.made_lines(0, widened, from, rows)
                    }
                }
            }
            Passes::HorizontalFirst(passes) => self.horizontal_first(resized, passes, from, end),
            Passes::VerticalFirst(passes) => self.vertical_first(resized, passes, from, end),
        }
    }

    /// Both passes of a plane, the vertical one first.
    fn vertical_first(
        &mut self,
        resized: &Resized<AsTheyAre>,
        passes: &VerticalFirst<AsTheyAre>,
        from: PushConstants,
        end: &End<'_>,
    ) -> Lines {
        let (columns, rows) = (&resized.columns, passes.vertical.destination());
        self.reads.note(&resized.source, rows_of(&passes.vertical));
        let lines = self.lines(resized.row_samples(), rows);
        let words = PushConstants {
            first: columns.start as u32,
            samples: columns.end as u32,
            to: lines.first,
            to_pitch: lines.pitch,
            width: (columns.end - columns.start).div_ceil(COLUMNS) as u32,
            rows: rows as u32,
            ..self.tables.windows(&passes.vertical).of(from)
        };
        self.stages[0].push(Dispatch::rows(Variant::VerticalFirst(resized.kind), words));
        let channels = 0..resized.source.channels;
        let windows: Vec<_> = channels.clone().map(|c| passes.channel(c).windows).collect();
        let constants = std::array::from_fn(|i| passes.channel(i % channels.len()).constant);
        let from = PushConstants {
            from: lines.first,
            from_pitch: lines.pitch,
            samples: resized.samples as u32,
            constants: self.tables.constants(constants),
            ..PushConstants::default()
        };
        let from = self.tables.windows(&Taps::interleaved(&windows)).of(from);
        self.second(Variant::HorizontalSecond, from, rows, end)
    }

    /// Both passes of a plane, the horizontal one first.
    fn horizontal_first(
        &mut self,
        resized: &Resized<AsTheyAre>,
        passes: &HorizontalFirst<AsTheyAre>,
        from: PushConstants,
        end: &End<'_>,
    ) -> Lines {
        let Folding { vertical, fold } = &passes.lines;
        let read = rows_of(vertical);
        self.reads.note(&resized.source, read.clone());
        let from = PushConstants { first_row: read.start as u32, ..from };
        let (form, constants) = match &passes.first {
            FirstPass::Gather { gathers, constants } => {
                let (form, windows) = match gathers.window(0).step {
                    1 => (Form::Aligned, self.tables.aligned_windows(gathers)),
                    _ => (Form::Gather, self.tables.windows(gathers)),
                };
                let constants = self.tables.constants(*constants);
                (form, PushConstants { constants, ..windows.of(from) })
            }
            FirstPass::Widen(sample) => {
                (Form::Widen(resized.kind), PushConstants { first: *sample as u32, ..from })
            }
            FirstPass::Words(taps) => {
                (Form::Words(resized.kind), self.tables.windows(taps).of(from))
            }
        };
        let lines = self.made_lines(0, Variant::HorizontalFirst(form), constants, read.len());
        let from = PushConstants {
            from: lines.first,
            from_pitch: lines.pitch,
            samples: resized.samples as u32,
            starts: self.tables.folded_windows(vertical, *fold, read.start),
            fraction_bits: passes.fraction_bits,
            ..PushConstants::default()
        };
        self.second(Variant::VerticalSecond, from, vertical.destination(), end)
    }

    /// A second pass, to where its samples go.
    fn second(
        &mut self,
        pass: fn(Made) -> Variant,
        from: PushConstants,
        rows: usize,
        end: &End<'_>,
    ) -> Lines {
        match end {
            End::Plane(target) => {
                let all = self.all_rows(target, from);
                self.stages[1].push(Dispatch::rows(pass(Made::Plane), all));
                Lines::default()
            }
            End::Lines(_) => self.made_lines(1, pass(Made::Lines), from, rows),
        }
    }

    /// Planes of one size are mixed from the lines of others.
    fn mix(&mut self, inputs: &[Resized<AsTheyAre>], mix: &Mix, targets: &[Target]) {
        let Some(target) = targets.first() else { return };
        let end = End::Lines(target.rows.len());
        let lines: Vec<_> = inputs.iter().map(|input| self.resize(input, &end)).collect();
        let sums = PushConstants {
            places: self.tables.places(mix, &lines),
            place_count: mix.places.len() as u32,
            sums: self.tables.sums(mix),
            weight: mix.weight.unwrap_or(0) as u32,
            fraction_bits: mix.weight.map_or(WORD_BITS, |weight| mix.places[weight].bits),
            padding: self.tables.padding(targets),
            ..PushConstants::default()
        };
        if let Number::I8 | Number::F16 | Number::F32 = mix.number {
            // Those of tensors.
            let plane = &target.plane;
            let all = PushConstants {
                planes: targets.len() as u32,
                plane_rows: plane.rows() as u32,
                ..in_plane(target, sums)
            };
            let bytes = (plane.row_bytes() * plane.rows() * targets.len()) as u64;
            let variant = Variant::Mix(mix.number, Packing::Dense);
            self.stages[2].push(Dispatch::dense(variant, all, bytes));
        } else {
            for (index, target) in targets.iter().enumerate() {
                let all = PushConstants { plane: index as u32, ..in_plane(target, sums) };
                let variant = Variant::Mix(mix.number, Packing::Rows);
                self.stages[2].push(Dispatch::rows(variant, all));
            }
        }
    }

    /// The numbers of a dispatch that makes all rows of a plane, with its padding.
    fn all_rows(&mut self, target: &Target, from: PushConstants) -> PushConstants {
        let padding = self.tables.padding(std::slice::from_ref(target));
        in_plane(target, PushConstants { padding, ..from })
    }

    /// Has `rows` lines made, of the samples that the numbers say.
    fn made_lines(
        &mut self,
        stage: usize,
        variant: Variant,
        from: PushConstants,
        rows: usize,
    ) -> Lines {
        let lines = self.lines(from.samples as usize, rows);
        let constants = PushConstants {
            to: lines.first,
            to_pitch: lines.pitch,
            width: lines.pitch,
            rows: rows as u32,
            ..from
        };
        self.stages[stage].push(Dispatch::rows(variant, constants));
        lines
    }

    /// Room for `rows` lines of `words` words.
    fn lines(&mut self, words: usize, rows: usize) -> Lines {
        let (first, pitch) = (self.lines as u32, words.div_ceil(2));
        self.lines += (pitch * rows) as u64 + SLACK;
        Lines { first, pitch: pitch as u32 }
    }
}

/// The rows from the first that weighs something to the last.
fn rows_of(vertical: &Taps) -> Range<usize> {
    let used = |index| vertical.window(index).used().map(|(row, _)| row);
    let rows = || (0..vertical.destination()).flat_map(used);
    rows().min().unwrap_or(0)..rows().max().map_or(0, |last| last + 1)
}

/// Where a plane is made, and where the picture lies in it.
fn in_plane(target: &Target, from: PushConstants) -> PushConstants {
    let plane = &target.plane;
    PushConstants {
        to: plane.offset as u32 / 4,
        to_pitch: plane.stride as u32 / 4,
        width: plane.row_bytes().div_ceil(4) as u32,
        rows: plane.rows() as u32,
        row_samples: (plane.row_bytes() / plane.sample_bytes) as u32,
        left: (target.bytes.start / plane.sample_bytes) as u32,
        right: (target.bytes.end / plane.sample_bytes) as u32,
        top: target.rows.start as u32,
        bottom: target.rows.end as u32,
        channels: plane.channels as u32,
        ..from
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::Alpha;
    use resized_protocol::placement::Crop;
    use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Tensor};

    use super::*;

    fn program(spec: &StreamSpec) -> Program {
        let (placement, ring) = (spec.placement().unwrap(), RingLayout::new(spec).unwrap());
        Program::new(spec, &placement, &ring).unwrap()
    }

    /// All that programs have, and nothing else.
    #[test]
    fn every_variant_of_a_shader_is_there_for_some_stream() {
        let tensor = |element| {
            let (arrangement, order) = (Arrangement::Planar, ChannelOrder::Rgb);
            PixelFormat::Tensor(Tensor { element, arrangement, order })
        };
        let sources = || PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT);
        let tensors = [Element::F32, Element::F16, Element::I8].map(tensor);
        // Copied, smaller, larger, much smaller in a direction, and what swells on its way.
        let size = |(width, height)| Extent::new(width, height);
        let sizes = [
            ((60, 40), (60, 40)),
            ((60, 40), (20, 10)),
            ((60, 40), (90, 70)),
            ((60, 40), (4, 40)),
            ((60, 300), (20, 1)),
            ((900, 2), (1, 900)),
        ]
        .map(|(from, to)| (size(from), size(to)));
        let all = Variant::all();
        let mut had = vec![false; all.len()];
        for source in sources() {
            for format in sources().chain(tensors) {
                for (from, to) in sizes {
                    let from = FrameSpec::new(source, from);
                    let stream = StreamSpec::new(from, to);
                    let destination = FrameSpec { format, ..stream.destination };
                    for alpha in [Alpha::Apart, Alpha::Weighs] {
                        let spec = StreamSpec { alpha, destination, ..stream };
                        for dispatch in program(&spec).stages.iter().flatten() {
                            let known = all.iter().position(|variant| *variant == dispatch.variant);
                            had[known.unwrap_or_else(|| panic!("{dispatch:?} {spec:?}"))] = true;
                        }
                    }
                }
            }
        }
        let missing: Vec<_> = all.iter().zip(had).filter(|(_, had)| !had).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// What lies below it costs nothing: no lines, and no copies.
    #[test]
    fn a_crop_costs_as_much_as_a_frame_of_its_size() {
        let part = Extent::new(640, 360);
        let crop = Crop { left: 0.0, top: 0.0, width: 640.0, height: 360.0 };
        for (from, to) in [
            (PixelFormat::Nv12, PixelFormat::Rgb24),
            (PixelFormat::I420, PixelFormat::I420),
            (PixelFormat::Rgba, PixelFormat::Nv12),
        ] {
            for size in [part, Extent::new(160, 90)] {
                let source = FrameSpec::new(from, part);
                let destination = FrameSpec::new(to, size);
                let whole = StreamSpec { destination, ..StreamSpec::new(source, size) };
                let source = FrameSpec { extent: Extent::new(7680, 4320), ..source };
                let cropped = StreamSpec { source, crop: Some(crop), ..whole };
                let (whole, cropped) = (program(&whole), program(&cropped));
                assert_eq!(cropped.lines, whole.lines, "{from:?} {to:?} {size:?}");
                let read =
                    |program: &Program| program.reads.bytes().iter().map(Range::len).sum::<usize>();
                assert_eq!(read(&cropped), 12 * read(&whole), "{from:?} {to:?} {size:?}");
            }
        }
    }
}
