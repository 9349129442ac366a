//! Owns the translation of a stream's plan into dispatches: which shader makes what of which bytes,
//! with which tables.
//!
//! Knows the plan and the shaders' numbers; no Vulkan. Invariants: every index that a shader can
//! compute from [`Numbers`] and tables lies within the frames that the ring's layouts describe, the
//! tables, and as many elements of lines as are counted here; within a stage no two dispatches
//! touch the same element, and each reads only the frame and what stages before it made.

use resized_protocol::frame::PixelFormat;
use resized_protocol::message::StreamSpec;
use resized_protocol::placement::Placement;
use resized_protocol::shm::RingLayout;

use super::shader::{NUMBERS, Shader, Variant};
use crate::device::plan::{
    self, Arrange, FirstPass, Folded, HorizontalFirst, Mix, Number, PATTERN, Passes, Resized, Row,
    Samples, Target, VerticalFirst, WORD_BITS, Work,
};
use crate::filter::Taps;

/// Invocations in a work group: `local_size_x` of the shaders.
const GROUP: u64 = 64;

/// Rows that an invocation makes of `across.comp`.
const ROWS: u32 = 4;

/// Columns that an invocation makes of `vertical.comp`.
const COLUMNS: usize = 4;

/// Bytes of an element.
const ELEMENT: usize = 4;

/// Elements behind the lines of a plane that may be read, whatever they hold: those of another
/// plane may be written at the same time.
const SLACK: u64 = 2;

/// Work groups in a row of them, where a plane is one long row: every device takes as many.
const MOST_GROUPS: u64 = 1 << 15;

/// What is computed once for a stream.
#[derive(Debug)]
pub(super) struct Program {
    /// Windows, weights, and all else that dispatches look up.
    pub(super) tables: Vec<u32>,
    /// Elements of 32 bits between the passes.
    pub(super) lines: u64,
    /// Those of a stage may run at the same time.
    pub(super) stages: [Vec<Dispatch>; 3],
}

/// One shader's work.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) variant: Variant,
    pub(super) numbers: Numbers,
    pub(super) groups: [u32; 3],
}

/// The numbers of a dispatch: `Numbers` in `shaders/common.glsl`, which says what they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    from: u32,
    from_pitch: u32,
    to: u32,
    to_pitch: u32,
    width: u32,
    rows: u32,
    samples: u32,
    first: u32,
    first_row: u32,
    starts: u32,
    weights: u32,
    count: u32,
    step: u32,
    constants: u32,
    fraction_bits: u32,
    row_samples: u32,
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
    padding: u32,
    channels: u32,
    places: u32,
    place_count: u32,
    sums: u32,
    weight: u32,
    planes: u32,
    plane_rows: u32,
}

impl Numbers {
    /// In the order of the shaders.
    pub(super) const fn as_array(&self) -> [u32; NUMBERS] {
        [
            self.from,
            self.from_pitch,
            self.to,
            self.to_pitch,
            self.width,
            self.rows,
            self.samples,
            self.first,
            self.first_row,
            self.starts,
            self.weights,
            self.count,
            self.step,
            self.constants,
            self.fraction_bits,
            self.row_samples,
            self.left,
            self.right,
            self.top,
            self.bottom,
            self.padding,
            self.channels,
            self.places,
            self.place_count,
            self.sums,
            self.weight,
            self.planes,
            self.plane_rows,
        ]
    }
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

/// Lines of words between two passes: where the first one starts, and elements from one to the next.
#[derive(Clone, Copy)]
struct Lines {
    first: u32,
    pitch: u32,
}

/// Where a plane's samples go.
enum End<'a> {
    Plane(&'a Target),
    /// Into lines, to be mixed.
    Lines,
}

impl Program {
    /// Translates the plan of a stream whose ring is `ring`. `None`: it has more elements than 32
    /// bits count.
    pub(super) fn new(spec: &StreamSpec, placement: &Placement, ring: &RingLayout) -> Option<Self> {
        // Table 0 means that there is none.
        let mut builder = Builder { tables: vec![0], lines: 0, stages: Default::default() };
        for work in plan::works(&AsTheyAre, spec, placement, ring) {
            match work {
                Work::Resize(resized, target) => {
                    builder.resize(&resized, &End::Plane(&target));
                }
                Work::Mix { inputs, mix, targets } => {
                    builder.mix(spec.destination.format, &inputs, &mix, &targets);
                }
            }
        }
        let Builder { tables, lines, stages } = builder;
        let counted = [lines, tables.len() as u64, ring.input().len() as u64]
            .into_iter()
            .chain([ring.output().len() as u64]);
        counted.max().is_some_and(|most| most <= u64::from(u32::MAX / 4)).then_some(())?;
        Some(Self { tables, lines, stages })
    }
}

struct Builder {
    tables: Vec<u32>,
    lines: u64,
    stages: [Vec<Dispatch>; 3],
}

impl Builder {
    /// A plane of the source on its way to `end`; gives the lines, where there are some.
    fn resize(&mut self, resized: &Resized<AsTheyAre>, end: &End<'_>) -> Lines {
        let source = &resized.source;
        let from = Numbers {
            from: source.offset as u32,
            from_pitch: source.stride as u32,
            samples: resized.samples as u32,
            ..Numbers::default()
        };
        match &resized.passes {
            &Passes::Copy { row, sample } => {
                let from = Numbers { first: sample as u32, first_row: row as u32, ..from };
                match end {
                    End::Plane(target) => {
                        let numbers = self.plane(target, from);
                        self.dispatch(0, Shader::Copy, [0, 0], numbers);
                        Lines { first: 0, pitch: 0 }
                    }
                    End::Lines => {
                        // As many rows as are left of the plane: more than the picture has do no harm.
                        let rows = source.rows() - row;
                        self.made_lines(0, Shader::Across, [2, samples(resized.kind)], from, rows)
                    }
                }
            }
            Passes::HorizontalFirst(passes) => self.across_down(resized, passes, from, end),
            Passes::VerticalFirst(passes) => self.down_across(resized, passes, from, end),
        }
    }

    /// Both passes of a plane, the vertical one first.
    fn down_across(
        &mut self,
        resized: &Resized<AsTheyAre>,
        passes: &VerticalFirst<AsTheyAre>,
        from: Numbers,
        end: &End<'_>,
    ) -> Lines {
        let (columns, rows) = (&resized.columns, passes.vertical.destination());
        let lines = self.lines(resized.row_samples(), rows);
        let words = Numbers {
            first: columns.start as u32,
            samples: columns.end as u32,
            to: lines.first,
            to_pitch: lines.pitch,
            width: (columns.end - columns.start).div_ceil(COLUMNS) as u32,
            rows: rows as u32,
            ..self.windows(&passes.vertical, from)
        };
        self.dispatch(0, Shader::Vertical, [0, samples(resized.kind)], words);
        let channels = 0..resized.source.channels;
        let windows: Vec<_> = channels.clone().map(|c| passes.channel(c).windows).collect();
        let constants = std::array::from_fn(|i| passes.channel(i % channels.len()).constant);
        let from = Numbers {
            from: lines.first,
            from_pitch: lines.pitch,
            samples: resized.samples as u32,
            constants: self.constants(constants),
            ..Numbers::default()
        };
        let from = self.windows(&Taps::interleaved(&windows), from);
        self.second(Shader::Horizontal, from, rows, end)
    }

    /// Both passes of a plane, the horizontal one first.
    fn across_down(
        &mut self,
        resized: &Resized<AsTheyAre>,
        passes: &HorizontalFirst<AsTheyAre>,
        from: Numbers,
        end: &End<'_>,
    ) -> Lines {
        let Folding { vertical, fold } = &passes.lines;
        let used = |index| vertical.window(index).used().map(|(row, _)| row);
        let windows = 0..vertical.destination();
        let first = windows.clone().flat_map(used).min().unwrap_or(0);
        let last = windows.clone().flat_map(used).max().unwrap_or(0);
        let from = Numbers { first_row: first as u32, ..from };
        let (form, numbers) = match &passes.first {
            FirstPass::Gather { gathers, constants } => {
                let (form, windows) = match gathers.window(0).step {
                    1 => (3, self.aligned_windows(gathers, from)),
                    _ => (0, self.windows(gathers, from)),
                };
                (form, Numbers { constants: self.constants(*constants), ..windows })
            }
            FirstPass::Widen(sample) => (2, Numbers { first: *sample as u32, ..from }),
            FirstPass::Words(windows) => (1, self.windows(windows, from)),
        };
        let form = [form, samples(resized.kind)];
        let lines = self.made_lines(0, Shader::Across, form, numbers, last + 1 - first);
        let starts = self.tables.len();
        self.tables.resize(starts + 2 * windows.len(), 0);
        for index in windows {
            let Folded { pairs, singles, .. } = Folded::new(vertical, index, *fold);
            self.tables[starts + 2 * index] = self.tables.len() as u32;
            self.tables[starts + 2 * index + 1] = (pairs.len() | singles.len() << 16) as u32;
            let line = |row: usize| (row - first) as u32;
            for ([one, other], weight) in pairs {
                self.tables.extend([line(one) | line(other) << 16, i32::from(weight) as u32]);
            }
            for (row, weight) in singles {
                self.tables.extend([line(row), i32::from(weight) as u32]);
            }
        }
        let from = Numbers {
            from: lines.first,
            from_pitch: lines.pitch,
            samples: resized.samples as u32,
            starts: starts as u32,
            fraction_bits: passes.fraction_bits,
            ..Numbers::default()
        };
        self.second(Shader::Down, from, vertical.destination(), end)
    }

    /// A second pass, to where its samples go.
    fn second(&mut self, shader: Shader, from: Numbers, rows: usize, end: &End<'_>) -> Lines {
        match end {
            End::Plane(target) => {
                let numbers = self.plane(target, from);
                self.dispatch(1, shader, [0, 0], numbers);
                Lines { first: 0, pitch: 0 }
            }
            End::Lines => self.made_lines(1, shader, [1, 0], from, rows),
        }
    }

    /// Planes of one size are mixed from the lines of others.
    fn mix(
        &mut self,
        format: PixelFormat,
        inputs: &[Resized<AsTheyAre>],
        mix: &Mix,
        targets: &[Target],
    ) {
        let lines: Vec<_> = inputs.iter().map(|input| self.resize(input, &End::Lines)).collect();
        let Some(target) = targets.first() else { return };
        let (places, sums) = self.mix_tables(mix, &lines);
        let mut padding = 0;
        if targets.iter().any(|target| !target.padding.is_empty()) {
            padding = self.tables.len() as u32;
            targets.iter().for_each(|target| self.push_padding(target));
        }
        let plane = &target.plane;
        let numbers = Numbers {
            places,
            place_count: mix.places.len() as u32,
            sums,
            weight: mix.weight.unwrap_or(0) as u32,
            fraction_bits: mix.weight.map_or(WORD_BITS, |weight| mix.places[weight].bits),
            ..picture(target)
        };
        let variant = number(mix.number);
        if let PixelFormat::Tensor(_) = format {
            let numbers = Numbers {
                to: plane.offset as u32 / 4,
                planes: targets.len() as u32,
                plane_rows: plane.rows() as u32,
                padding,
                ..numbers
            };
            let bytes = (plane.row_bytes() * plane.rows() * targets.len()) as u64;
            let groups = bytes.div_ceil(4).div_ceil(GROUP);
            let across = groups.min(MOST_GROUPS);
            let groups = [across as u32, groups.div_ceil(across) as u32, 1];
            let variant = Variant { shader: Shader::Mix, constants: [variant, 1] };
            self.stages[2].push(Dispatch { variant, numbers, groups });
        } else {
            for (index, target) in targets.iter().enumerate() {
                let numbers = Numbers { first: index as u32, ..self.plane(target, numbers) };
                let numbers = Numbers { padding, ..numbers };
                self.dispatch(2, Shader::Mix, [variant, 0], numbers);
            }
        }
    }

    /// Where channels lie among lines, and the sums of destination channels.
    fn mix_tables(&mut self, mix: &Mix, lines: &[Lines]) -> (u32, u32) {
        let places = self.tables.len() as u32;
        for place in &mix.places {
            let Lines { first, pitch } = lines[place.line];
            self.tables.extend([first, pitch, place.first as u32, place.step as u32]);
        }
        let sums = self.tables.len() as u32;
        for sum in mix.planes.iter().flatten() {
            let numbers = [sum.middle, sum.bias, sum.low, sum.high];
            self.tables.extend(sum.weights.into_iter().chain(numbers).map(f32::to_bits));
            self.tables.push(u32::from(sum.weighed));
        }
        (places, sums)
    }

    /// The numbers of a dispatch that makes all of a plane's rows.
    fn plane(&mut self, target: &Target, from: Numbers) -> Numbers {
        let plane = &target.plane;
        let mut padding = 0;
        if !target.padding.is_empty() {
            padding = self.tables.len() as u32;
            self.push_padding(target);
        }
        let Numbers { row_samples, left, right, top, bottom, channels, .. } = picture(target);
        Numbers {
            to: plane.offset as u32 / 4,
            to_pitch: plane.stride as u32 / 4,
            width: plane.row_bytes().div_ceil(4) as u32,
            rows: plane.rows() as u32,
            row_samples,
            left,
            right,
            top,
            bottom,
            channels,
            padding,
            ..from
        }
    }

    /// A pixel of padding, a number for each channel.
    fn push_padding(&mut self, target: &Target) {
        let bytes = target.plane.sample_bytes;
        for number in target.padding.chunks_exact(bytes).take(target.plane.channels) {
            let mut four = [0; 4];
            four[..bytes].copy_from_slice(number);
            self.tables.push(u32::from_le_bytes(four));
        }
    }

    /// Has `rows` lines made, of the samples that `numbers` say.
    fn made_lines(
        &mut self,
        stage: usize,
        shader: Shader,
        constants: [u32; 2],
        numbers: Numbers,
        rows: usize,
    ) -> Lines {
        let lines = self.lines(numbers.samples as usize, rows);
        let numbers = Numbers {
            to: lines.first,
            to_pitch: lines.pitch,
            width: lines.pitch,
            rows: rows as u32,
            ..numbers
        };
        self.dispatch(stage, shader, constants, numbers);
        lines
    }

    /// Room for `rows` lines of `words` words.
    fn lines(&mut self, words: usize, rows: usize) -> Lines {
        let (first, pitch) = (self.lines as u32, words.div_ceil(2));
        self.lines += (pitch * rows) as u64 + SLACK;
        Lines { first, pitch: pitch as u32 }
    }

    fn windows(&mut self, taps: &Taps, numbers: Numbers) -> Numbers {
        let window = |index| {
            let window = taps.window(index);
            (window.start, window.weights.to_vec())
        };
        let step = taps.window(0).step as u32;
        let windows = (0..taps.destination()).map(window).collect();
        Numbers { step, ..self.tabled(windows, taps.count(), numbers) }
    }

    /// Windows of bytes that follow each other, each from a whole element to another. What they
    /// reach behind the source's rows weighs nothing, and is less than a frame's tail.
    fn aligned_windows(&mut self, taps: &Taps, numbers: Numbers) -> Numbers {
        let window = |index| {
            let window = taps.window(index);
            let lead = window.start % ELEMENT;
            (window.start - lead, [&vec![0; lead], window.weights].concat())
        };
        let windows: Vec<_> = (0..taps.destination()).map(window).collect();
        let count = windows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        self.tabled(windows, count.next_multiple_of(ELEMENT), numbers)
    }

    /// Puts windows into the tables: their starts, and their weights in pairs, zeros behind them.
    fn tabled(
        &mut self,
        windows: Vec<(usize, Vec<i16>)>,
        count: usize,
        numbers: Numbers,
    ) -> Numbers {
        let starts = self.tables.len() as u32;
        self.tables.extend(windows.iter().map(|(start, _)| *start as u32));
        let weights = self.tables.len() as u32;
        for (_, mut window) in windows {
            window.resize(count.next_multiple_of(2), 0);
            let (pairs, _) = window.as_chunks::<2>();
            let pair =
                |&[one, other]: &[i16; 2]| u32::from(one as u16) | u32::from(other as u16) << 16;
            self.tables.extend(pairs.iter().map(pair));
        }
        Numbers { starts, weights, count: count as u32, ..numbers }
    }

    fn constants(&mut self, constants: [i32; PATTERN]) -> u32 {
        let place = self.tables.len() as u32;
        self.tables.extend(constants.map(|constant| constant as u32));
        place
    }

    fn dispatch(&mut self, stage: usize, shader: Shader, constants: [u32; 2], numbers: Numbers) {
        let each = if shader == Shader::Across { ROWS } else { 1 };
        let rows = numbers.rows.div_ceil(each);
        let groups = [u64::from(numbers.width).div_ceil(GROUP) as u32, rows, 1];
        let variant = Variant { shader, constants };
        self.stages[stage].push(Dispatch { variant, numbers, groups });
    }
}

/// Where the picture lies in a plane.
fn picture(target: &Target) -> Numbers {
    let plane = &target.plane;
    Numbers {
        row_samples: (plane.row_bytes() / plane.sample_bytes) as u32,
        left: (target.bytes.start / plane.sample_bytes) as u32,
        right: (target.bytes.end / plane.sample_bytes) as u32,
        top: target.rows.start as u32,
        bottom: target.rows.end as u32,
        channels: plane.channels as u32,
        ..Numbers::default()
    }
}

/// `SAMPLES` in `shaders/samples.glsl`.
const fn samples(samples: Samples) -> u32 {
    match samples {
        Samples::Bytes => 0,
        Samples::LowTen => 1,
        Samples::HighTen => 2,
        Samples::Weighed => 3,
    }
}

/// `NUMBER` in `shaders/mix.comp`.
const fn number(number: Number) -> u32 {
    match number {
        Number::U8 => 0,
        Number::I8 => 1,
        Number::F16 => 2,
        Number::F32 => 3,
        Number::LowTen => 4,
        Number::HighTen => 5,
    }
}
