//! Owns the walk of a band through the passes, from rows of source planes to rows of destination
//! planes.
//!
//! Knows planes, rows and taps; of the slot's memory only addresses, since a client may write it
//! meanwhile: no reference to it is formed. Invariant: every address a kernel is given comes from the
//! plan, which was computed from the ring's own layout.
#![allow(unsafe_code)]

use std::ops::Range;

use super::fetch::{fetch, pieces};
use super::kernel::{Kernel, LINE, ROWS, RowTaps, WIDE_LINE};
use super::mix::Mix;
use super::words::Samples;
use crate::device::plan::{Across, AcrossDown, ChannelPlan, Passes, Resized, Target, Work};
use crate::device::{Band, Scratch};
use crate::filter::{ONE, Taps};

/// A slot's frames.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    pub(super) input: *const u8,
    pub(super) output: *mut u8,
}

/// Does one part of a stream's work for one band.
///
/// # Safety
///
/// The frames must be laid out as the plan says, readable and writable respectively.
pub(super) unsafe fn work<K: Kernel>(
    kernel: &K,
    work: &Work<K>,
    frames: Frames,
    band: Band,
    scratch: &mut Scratch,
) {
    let words = scratch.words(work.scratch_words());
    // SAFETY: the same contract.
    unsafe {
        match work {
            Work::Resize(resized, target) => {
                let rows = target.begin(frames, band);
                resize(kernel, resized, target, frames, rows, words);
            }
            Work::Mix { inputs, mix, targets } => {
                mix_planes(kernel, (inputs, mix), targets, frames, band, words);
            }
        }
    }
}

impl Target {
    /// Pads the band's rows, and gives those rows of the picture that lie in it.
    ///
    /// # Safety
    ///
    /// The output frame must be writable for this plane.
    unsafe fn begin(&self, frames: Frames, band: Band) -> Range<usize> {
        let rows = band.rows(self.plane.rows());
        if !self.padding.is_empty() {
            for row in rows.clone() {
                let parts = match self.rows.contains(&row) {
                    true => [0..self.bytes.start, self.bytes.end..self.padding.len()],
                    false => [0..self.padding.len(), 0..0],
                };
                for part in parts {
                    let padding = &self.padding[part.clone()];
                    // SAFETY: a row of padding is a row of the plane.
                    unsafe {
                        let row = frames.output.add(self.plane.offset + row * self.plane.stride);
                        row.add(part.start)
                            .copy_from_nonoverlapping(padding.as_ptr(), padding.len());
                    }
                }
            }
        }
        let clamp = |row: usize| row.clamp(self.rows.start, self.rows.end) - self.rows.start;
        clamp(rows.start)..clamp(rows.end)
    }

    /// Where a row of the picture starts.
    ///
    /// # Safety
    ///
    /// The output frame must have this plane, and the picture this row.
    unsafe fn row(&self, frames: Frames, row: usize) -> *mut u8 {
        let row = (self.rows.start + row) * self.plane.stride;
        // SAFETY: the caller's contract.
        unsafe { frames.output.add(self.plane.offset + row + self.bytes.start) }
    }

    /// Asks for the row of the picture after the next: a line of the caches is read before it is
    /// written to.
    fn fetch(&self, row: *const u8, len: usize) {
        fetch(row.wrapping_add(2 * self.plane.stride), len);
    }
}

/// Resizes rows of the picture in one plane.
///
/// # Safety
///
/// As for [`work`]; `words` are those of the work.
unsafe fn resize<K: Kernel>(
    kernel: &K,
    resized: &Resized<K>,
    target: &Target,
    frames: Frames,
    rows: Range<usize>,
    words: &mut [i16],
) {
    // All others are only ever mixed.
    assert!(resized.kind == Samples::Bytes);
    let (held, row) = words.split_at_mut(resized.held_words());
    // SAFETY: by the caller's contract the plane lies in the frame as the plan says.
    let source = unsafe { frames.input.add(resized.source.offset) };
    let aside = (!target.is_whole_rows()).then_some(&mut *row);
    let mut out = Out { target, frames, aside };
    match &resized.passes {
        Passes::Copy { row, sample } => {
            for index in rows {
                // SAFETY: what is copied lies within both planes.
                unsafe {
                    let from = source.add((row + index) * resized.source.stride + sample);
                    let to = target.row(frames, index);
                    fetch(from.wrapping_add(ROWS * resized.source.stride), resized.samples);
                    to.copy_from_nonoverlapping(from, resized.samples);
                }
            }
        }
        Passes::HorizontalFirst(passes) => {
            // Rows of words become whole lines, whatever is asked for: see `Lines::advance`.
            let is_cut = passes.lines.strip < resized.samples;
            assert!(!is_cut || !matches!(passes.across, Across::Words(_)));
            for start in (0..resized.samples).step_by(passes.lines.strip) {
                let strip = start..(start + passes.lines.strip).min(resized.samples);
                let mut lines = Lines::new(resized, passes, source, rows.clone(), held);
                for index in rows.clone() {
                    // SAFETY: every tap's line has been made by then; `out` gives whole vectors.
                    unsafe {
                        let (lines, taps) = lines.advance(kernel, strip.clone(), index);
                        let bits = passes.fraction_bits;
                        out.write(index, strip.clone(), |to| {
                            kernel.down(lines, taps, bits, strip.len(), to);
                        });
                    }
                }
            }
        }
        Passes::Words { .. } => unreachable!("such rows are only ever mixed"),
        Passes::VerticalFirst { vertical, channels } => {
            for index in rows {
                // SAFETY: the same contract; `out` gives whole vectors.
                unsafe {
                    out.write(index, 0..resized.samples, |to| {
                        let taps = (vertical, channels.as_slice());
                        down_across(kernel, resized, taps, source, index, held, to);
                    });
                }
            }
        }
    }
}

/// Where rows of samples go: straight into the frame, or by way of a row of their own where whole
/// vectors would reach beyond the picture.
struct Out<'a> {
    target: &'a Target,
    frames: Frames,
    aside: Option<&'a mut [i16]>,
}

impl Out<'_> {
    /// Has `samples` of a row of the picture written to where they are to be written.
    ///
    /// # Safety
    ///
    /// The picture must have the row and the samples, whose start is a multiple of [`WIDE_LINE`]; what is
    /// written must not be more than whole vectors of [`WIDE_LINE`] samples.
    unsafe fn write(&mut self, row: usize, samples: Range<usize>, write: impl FnOnce(*mut u8)) {
        // SAFETY: the caller's contract.
        let place = unsafe { self.target.row(self.frames, row).add(samples.start) };
        self.target.fetch(place, samples.len());
        match &mut self.aside {
            None => {
                write(place);
                // What kernels leave behind the row comes from whatever was in the working memory,
                // another client's pixels among it.
                let vectors = samples.len().next_multiple_of(WIDE_LINE);
                // SAFETY: rows of the plane are whole vectors.
                unsafe { place.add(samples.len()).write_bytes(0, vectors - samples.len()) };
            }
            Some(aside) => {
                let aside = aside.as_mut_ptr().cast::<u8>();
                write(aside);
                // SAFETY: the picture's own samples, which were written to the row just now.
                unsafe { place.copy_from_nonoverlapping(aside, samples.len()) };
            }
        }
    }
}

/// The lines of a plane that is resized horizontally first: each source row that is needed becomes
/// a line of words, [`ROWS`] of them at once, and waits there for its last use.
struct Lines<'a, K: Kernel> {
    passes: &'a AcrossDown<K>,
    source: *const u8,
    stride: usize,
    lines: *mut i16,
    /// Rows of the source as words, where those are made first.
    rows: &'a mut [i16],
    resized: &'a Resized<K>,
    /// The next source row to become a line.
    next: usize,
    /// The last one that the band needs.
    last: usize,
}

impl<'a, K: Kernel> Lines<'a, K> {
    /// For a band's rows of the picture, and a source plane that starts at `source`.
    fn new(
        resized: &'a Resized<K>,
        passes: &'a AcrossDown<K>,
        source: *const u8,
        rows: Range<usize>,
        held: &'a mut [i16],
    ) -> Self {
        let (lines, words) = held.split_at_mut(passes.lines.rolling.words());
        let last = rows.last().map_or(0, |row| passes.lines.rolling.row(row).end - 1);
        let (stride, lines) = (resized.source.stride, lines.as_mut_ptr());
        Self { resized, passes, source, stride, lines, rows: words, next: 0, last }
    }

    /// Makes the lines that a row of the picture needs: the first of all lines, and the row's taps.
    ///
    /// # Safety
    ///
    /// Rows of one band in order, and the same outputs for all of them, whose start is a multiple of
    /// [`WIDE_LINE`]; the source plane must be readable as its layout says.
    unsafe fn advance(
        &mut self,
        kernel: &K,
        outputs: Range<usize>,
        row: usize,
    ) -> (*const i16, RowTaps<'a>) {
        let rolling = &self.passes.lines.rolling;
        let taps = rolling.row(row);
        self.next = self.next.max(taps.first);
        let ahead = ROWS * self.stride;
        while self.next < taps.end {
            // Beyond the band's last source row that one is made again.
            let batch: [usize; ROWS] = std::array::from_fn(|i| (self.next + i).min(self.last));
            let outputs = outputs.clone();
            assert!(outputs.len() <= rolling.pitch());
            // SAFETY: rows up to `last` lie within the plane, each readable up to its stride and 64
            // bytes beyond: the next row, or the frame's tail. Lines lie within what is held, whose
            // alignment is `Scratch`'s.
            unsafe {
                let rows = batch.map(|row| self.source.add(row * self.stride));
                let lines = batch.map(|row| self.lines.add(rolling.offset(row)));
                match &self.passes.across {
                    Across::Gather { gathers, constants } => {
                        kernel.across(rows, ahead, gathers, outputs, *constants, lines);
                    }
                    Across::Widen(sample) => {
                        let rows = rows.map(|row| row.add(sample + outputs.start));
                        for piece in pieces(outputs.len()) {
                            let rows = rows.map(|row| row.add(piece.start));
                            rows.iter().for_each(|row| fetch(row.wrapping_add(ahead), piece.len()));
                            let lines = lines.map(|line| line.add(piece.start));
                            kernel.widen(rows, piece.len(), lines);
                        }
                    }
                    Across::Words(windows) => {
                        kernel.across_words(self.words(kernel, rows), windows, lines);
                    }
                }
            }
            self.next += ROWS;
        }
        (self.lines, taps)
    }

    /// Makes words of those samples of rows of the source that are read.
    ///
    /// # Safety
    ///
    /// The rows must be readable.
    unsafe fn words(&mut self, kernel: &K, rows: [*const u8; ROWS]) -> [&[i16]; ROWS] {
        let Resized { kind, columns, source, .. } = self.resized;
        let pitch = self.resized.row_words();
        for (row, words) in rows.into_iter().zip(self.rows.chunks_exact_mut(pitch)) {
            let words = &mut words[columns.clone()];
            // SAFETY: the caller's contract; rows are aligned to 64 bytes, and a sample has no more.
            unsafe {
                let row = row.add(columns.start * source.sample_bytes);
                fetch(row.wrapping_add(ROWS * self.stride), words.len() * source.sample_bytes);
                kernel.words(row, *kind, words.len(), words.as_mut_ptr());
            }
        }
        std::array::from_fn(|r| &self.rows[r * pitch..][..pitch])
    }
}

/// What a row of the picture is made of where the horizontal pass comes second.
trait Made: Copy {
    /// Makes one channel's part of it.
    ///
    /// # Safety
    ///
    /// `line` must be writable for one of each window, rounded up to a multiple of [`LINE`].
    unsafe fn across<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: &ChannelPlan<K>,
        line: *mut Self,
    );
}

/// Samples of a plane.
impl Made for u8 {
    unsafe fn across<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: &ChannelPlan<K>,
        line: *mut Self,
    ) {
        // SAFETY: the same contract.
        unsafe { kernel.horizontal(words, &channel.windows, channel.constant, line) };
    }
}

/// Words, to be mixed.
impl Made for i16 {
    unsafe fn across<K: Kernel>(
        kernel: &K,
        words: &[i16],
        channel: &ChannelPlan<K>,
        line: *mut Self,
    ) {
        // SAFETY: the same contract.
        unsafe { kernel.horizontal_words(words, &channel.windows, channel.constant, line) };
    }
}

/// Makes one row of the picture, the vertical pass first.
///
/// # Safety
///
/// `source` must be the start of the plane, `target` writable for a row of the picture, rounded up to a
/// multiple of [`LINE`].
unsafe fn down_across<K: Kernel, M: Made>(
    kernel: &K,
    resized: &Resized<K>,
    (vertical, channels): (&Taps, &[ChannelPlan<K>]),
    source: *const u8,
    index: usize,
    words: &mut [i16],
    target: *mut M,
) {
    let (row, lines) = words.split_at_mut(resized.row_words());
    let (window, columns) = (vertical.window(index), resized.columns.clone());
    // SAFETY: the window's rows lie within the plane; each is readable up to its stride, which is a
    // multiple of 64 and so reaches to the last column in whole vectors.
    unsafe {
        let first = source.add(window.start * resized.source.stride + columns.start);
        let columns_of_row = &mut row[columns.start..];
        let (stride, weights) = (resized.source.stride, window.weights);
        // What the next row reads that this one does not.
        let next = vertical.window((index + 1).min(vertical.destination() - 1));
        let new = weights.len()..(next.start + next.weights.len()).saturating_sub(window.start);
        for piece in pieces(columns.len()) {
            let (first, words) = (first.add(piece.start), &mut columns_of_row[piece.start..]);
            new.clone().for_each(|row| fetch(first.wrapping_add(row * stride), piece.len()));
            kernel.vertical(first, stride, weights, words, piece.len());
        }
    }
    match channels {
        [channel] => {
            // SAFETY: the caller's contract.
            unsafe { M::across(kernel, row, channel, target) };
        }
        channels => {
            // SAFETY: the caller's contract.
            unsafe { interleaved_row(kernel, resized, channels, row, lines, target) };
        }
    }
}

/// The horizontal pass of a row whose channels are interleaved: each on its own.
///
/// # Safety
///
/// `target` must be writable for a row of the picture.
unsafe fn interleaved_row<K: Kernel, M: Made>(
    kernel: &K,
    resized: &Resized<K>,
    channels: &[ChannelPlan<K>],
    row: &[i16],
    lines: &mut [i16],
    target: *mut M,
) {
    let (words, made) = lines.split_at_mut(resized.line_words() * channels.len());
    let width = resized.source.extent.width as usize;
    kernel.split(&row[..width * channels.len()], words, resized.line_words());
    let pitch = resized.line_samples();
    assert!(size_of_val(made) >= pitch * channels.len() * size_of::<M>());
    let made = made.as_mut_ptr().cast::<M>();
    let lines = words.chunks_exact(resized.line_words());
    for (c, (line, channel)) in lines.zip(channels).enumerate() {
        // SAFETY: `made` holds a line of `pitch`, whole vectors, for each channel, as just asserted.
        unsafe { M::across(kernel, line, channel, made.add(c * pitch)) };
    }
    let width = resized.samples / channels.len();
    // SAFETY: as above, `pitch` is at least `width`, and by this function's contract.
    unsafe { kernel.merge(made, pitch, channels.len(), width, target) };
}

/// A source plane on its way into a mix.
struct Input<'a, K: Kernel> {
    resized: &'a Resized<K>,
    source: *const u8,
    passes: InputPasses<'a, K>,
    /// A row of the picture.
    line: &'a mut [i16],
}

/// How it becomes a line of words.
enum InputPasses<'a, K: Kernel> {
    Copy { row: usize, sample: usize },
    HorizontalFirst(Lines<'a, K>),
    VerticalFirst { taps: (&'a Taps, &'a [ChannelPlan<K>]), held: &'a mut [i16] },
    Words { taps: (&'a Taps, &'a [Taps]), held: &'a mut [i16] },
}

impl<'a, K: Kernel> Input<'a, K> {
    /// Takes its part of the working memory; gives the rest.
    ///
    /// # Safety
    ///
    /// The input frame must have the plane.
    unsafe fn new(
        resized: &'a Resized<K>,
        frames: Frames,
        rows: Range<usize>,
        words: &'a mut [i16],
    ) -> (Self, &'a mut [i16]) {
        let (held, words) = words.split_at_mut(resized.held_words());
        let (line, words) = words.split_at_mut(resized.picture_words());
        // SAFETY: the caller's contract.
        let source = unsafe { frames.input.add(resized.source.offset) };
        let passes = match &resized.passes {
            &Passes::Copy { row, sample } => InputPasses::Copy { row, sample },
            Passes::HorizontalFirst(passes) => {
                InputPasses::HorizontalFirst(Lines::new(resized, passes, source, rows, held))
            }
            Passes::VerticalFirst { vertical, channels } => {
                InputPasses::VerticalFirst { taps: (vertical, channels.as_slice()), held }
            }
            Passes::Words { vertical, channels } => {
                InputPasses::Words { taps: (vertical, channels.as_slice()), held }
            }
        };
        (Self { resized, source, passes, line }, words)
    }

    /// Makes the line of words of a row of the picture.
    ///
    /// # Safety
    ///
    /// Rows of one band in order; the input frame must be readable as its layout says.
    unsafe fn advance(&mut self, kernel: &K, row: usize) {
        let resized = self.resized;
        let (len, line) = (resized.samples, self.line.as_mut_ptr());
        // SAFETY: the caller's contract; the line has room for whole vectors.
        unsafe {
            match &mut self.passes {
                InputPasses::HorizontalFirst(lines) => {
                    let (lines, taps) = lines.advance(kernel, 0..len, row);
                    kernel.down_words(lines, taps, len, line);
                }
                InputPasses::VerticalFirst { taps, held } => {
                    down_across(kernel, resized, *taps, self.source, row, held, line);
                }
                InputPasses::Words { taps, held } => {
                    words_row(kernel, resized, *taps, self.source, row, held, self.line);
                }
                InputPasses::Copy { row: first, sample } => {
                    let from = self.source.add((*first + row) * resized.source.stride);
                    let from = from.add(*sample * resized.source.sample_bytes);
                    kernel.words(from, resized.kind, len, line);
                }
            }
        }
    }
}

/// Makes a line of words of a plane whose rows become words first, at any ratio: the vertical pass first,
/// in single precision.
///
/// # Safety
///
/// `source` must be the start of the plane.
unsafe fn words_row<K: Kernel>(
    kernel: &K,
    resized: &Resized<K>,
    (vertical, channels): (&Taps, &[Taps]),
    source: *const u8,
    index: usize,
    held: &mut [i16],
    line: &mut [i16],
) {
    let (words, sums) = held.split_at_mut(resized.row_words());
    let words = &mut words[resized.columns.clone()];
    let (first, len) = (resized.columns.start, words.len());
    // SAFETY: any four bytes are a number.
    let (before, sums, _) = unsafe { sums.align_to_mut::<f32>() };
    // Or there would be less room than was counted.
    assert!(before.is_empty());
    let sums = &mut sums[..len];
    sums.fill(0.0);
    for (row, weight) in vertical.window(index).used() {
        // SAFETY: the window's rows lie within the plane.
        unsafe {
            let row = source.add(row * resized.source.stride + first * resized.source.sample_bytes);
            kernel.words(row, resized.kind, len, words.as_mut_ptr());
        }
        for (sum, word) in sums.iter_mut().zip(words.iter()) {
            *sum += f32::from(weight) * f32::from(*word);
        }
    }
    // Both weights have 14 fraction bits.
    let scale = 1.0 / (ONE as f32 * ONE as f32);
    let step = channels.len();
    for (c, taps) in channels.iter().enumerate() {
        for x in 0..taps.destination() {
            let products = taps.window(x).used();
            let sum: f32 = products.map(|(i, w)| f32::from(w) * sums[i * step + c - first]).sum();
            line[x * step + c] = (sum * scale).round_ties_even() as i16;
        }
    }
}

/// Mixes the band's rows of destination planes of one size.
///
/// # Safety
///
/// As for [`work`]; `words` are those of the work.
unsafe fn mix_planes<'a, K: Kernel>(
    kernel: &K,
    (inputs, mix): (&'a [Resized<K>], &Mix),
    targets: &[Target],
    frames: Frames,
    band: Band,
    mut words: &'a mut [i16],
) {
    /// Planes of one size, and source planes that one of them is mixed from: at most so many.
    const PLANES: usize = 3;
    let mut rows = 0..0;
    for target in targets {
        // SAFETY: the caller's contract.
        rows = unsafe { target.begin(frames, band) };
    }
    let mut sources: [Option<Input<'_, K>>; PLANES] = [const { None }; PLANES];
    for (source, resized) in sources.iter_mut().zip(inputs) {
        // SAFETY: the caller's contract.
        let (input, rest) = unsafe { Input::new(resized, frames, rows.clone(), words) };
        (*source, words) = (Some(input), rest);
    }
    let width = match targets.first() {
        Some(target) => target.bytes.len() / (target.plane.channels * target.plane.sample_bytes),
        None => return,
    };
    for row in rows {
        let mut lines = [std::ptr::null::<i16>(); PLANES];
        for (source, line) in sources.iter_mut().flatten().zip(&mut lines) {
            // SAFETY: the caller's contract.
            unsafe { source.advance(kernel, row) };
            *line = source.line.as_ptr();
        }
        let mut places = [std::ptr::null_mut::<u8>(); PLANES];
        for (place, target) in places.iter_mut().zip(targets) {
            // SAFETY: the caller's contract.
            *place = unsafe { target.row(frames, row) };
            target.fetch(*place, target.bytes.len());
        }
        // SAFETY: a line for each input, a place for each target, both for a row of the picture.
        unsafe { kernel.mix(mix, &lines[..inputs.len()], &places[..targets.len()], width) };
    }
}

const _: () = assert!(WIDE_LINE.is_multiple_of(LINE));
