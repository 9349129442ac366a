//! Owns the walk of a band through the passes, from rows of source planes to rows of destination
//! planes.
//!
//! Knows planes, rows and taps; of the slot's memory only addresses, since a client may write it
//! meanwhile: no reference to it is formed. Invariant: every address a kernel is given comes from the
//! plan, which was computed from the ring's own layout.
#![allow(unsafe_code)]

mod horizontal_first;
mod input;
mod vertical_first;

use std::ops::Range;

use self::horizontal_first::Lines;
use self::input::Input;
use self::vertical_first::vertical_first;
use super::fetch::fetch;
use super::kernel::{Kernel, ROWS};
use super::lengths::WIDE_LINE;
use super::mix::Mix;
use super::samples::Samples;
use crate::device::plan::{FirstPass, Passes, Resized, Target, Work};
use crate::device::{Band, Scratch};

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
            assert!(!is_cut || !matches!(passes.first, FirstPass::Words(_)));
            for start in (0..resized.samples).step_by(passes.lines.strip) {
                let strip = start..(start + passes.lines.strip).min(resized.samples);
                let mut lines =
                    Lines::new(resized, passes, source, rows.clone(), strip.clone(), held);
                for index in rows.clone() {
                    // SAFETY: every tap's line has been made by then; `out` gives whole vectors.
                    unsafe {
                        let (lines, taps) = lines.advance(kernel, index);
                        let bits = passes.fraction_bits;
                        out.write(index, strip.clone(), |to| {
                            kernel.vertical_second(lines, taps, bits, strip.len(), to);
                        });
                    }
                }
            }
        }
        Passes::VerticalFirst(passes) => {
            for index in rows {
                // SAFETY: the same contract; `out` gives whole vectors.
                unsafe {
                    out.write(index, 0..resized.samples, |to| {
                        vertical_first(kernel, resized, passes, source, index, held, to);
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
                // What kernels leave behind the row is the client's own, but no part of the picture.
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
