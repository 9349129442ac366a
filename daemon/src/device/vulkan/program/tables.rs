//! Owns the tables: all that shaders look up, in one buffer of 32-bit words.
//!
//! Knows taps, sums and padding, not what is resized. Invariant: where something lies is never zero,
//! which stands for nothing.

use super::super::shader::PushConstants;
use super::dispatch::Lines;
use crate::device::plan::{Folded, Mix, PATTERN, Target};
use crate::filter::Taps;

/// Bytes of an element.
const ELEMENT: usize = 4;

/// What is in the tables so far.
pub(super) struct Tables(Vec<u32>);

/// Where windows are: their starts, their weights, and how many and how far apart these are.
pub(super) struct Windows {
    starts: u32,
    weights: u32,
    count: u32,
    step: u32,
}

impl Windows {
    /// The numbers of a dispatch that looks them up.
    pub(super) fn of(self, constants: PushConstants) -> PushConstants {
        let Self { starts, weights, count, step } = self;
        PushConstants { starts, weights, count, step, ..constants }
    }
}

impl Tables {
    pub(super) fn new() -> Self {
        Self(vec![0])
    }

    pub(super) fn into_words(self) -> Vec<u32> {
        self.0
    }

    /// Where what is added next will lie.
    const fn place(&self) -> u32 {
        self.0.len() as u32
    }

    /// Windows as they are.
    pub(super) fn windows(&mut self, taps: &Taps) -> Windows {
        let window = |index| {
            let window = taps.window(index);
            (window.start, window.weights.to_vec())
        };
        let windows = (0..taps.destination()).map(window).collect();
        self.add_windows(windows, taps.count(), taps.window(0).step)
    }

    /// Windows of bytes that follow each other, each from a whole element to another. What they
    /// reach behind the source's rows weighs nothing, and is less than a frame's tail.
    pub(super) fn aligned_windows(&mut self, taps: &Taps) -> Windows {
        let window = |index| {
            let window = taps.window(index);
            let lead = window.start % ELEMENT;
            (window.start - lead, [&vec![0; lead], window.weights].concat())
        };
        let windows: Vec<_> = (0..taps.destination()).map(window).collect();
        let count = windows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        self.add_windows(windows, count.next_multiple_of(ELEMENT), 1)
    }

    /// The starts of windows, and their weights in pairs, zeros behind them.
    fn add_windows(
        &mut self,
        windows: Vec<(usize, Vec<i16>)>,
        count: usize,
        step: usize,
    ) -> Windows {
        let starts = self.place();
        self.0.extend(windows.iter().map(|(start, _)| *start as u32));
        let weights = self.place();
        for (_, mut window) in windows {
            window.resize(count.next_multiple_of(2), 0);
            let (pairs, _) = window.as_chunks::<2>();
            let pair =
                |&[one, other]: &[i16; 2]| u32::from(one as u16) | u32::from(other as u16) << 16;
            self.0.extend(pairs.iter().map(pair));
        }
        Windows { starts, weights, count: count as u32, step: step as u32 }
    }

    /// The windows of a second, vertical pass, of lines that begin with row `first`: of each where it
    /// lies and how many pairs and single rows it has, then rows and weights of these.
    pub(super) fn folded_windows(&mut self, vertical: &Taps, fold: bool, first: usize) -> u32 {
        let starts = self.0.len();
        let windows = 0..vertical.destination();
        self.0.resize(starts + 2 * windows.len(), 0);
        let line = |row: usize| (row - first) as u32;
        for index in windows {
            let Folded { pairs, singles, .. } = Folded::new(vertical, index, fold);
            self.0[starts + 2 * index] = self.place();
            self.0[starts + 2 * index + 1] = (pairs.len() | singles.len() << 16) as u32;
            for ([one, other], weight) in pairs {
                self.0.extend([line(one) | line(other) << 16, i32::from(weight) as u32]);
            }
            for (row, weight) in singles {
                self.0.extend([line(row), i32::from(weight) as u32]);
            }
        }
        starts as u32
    }

    /// Constants of outputs in turns.
    pub(super) fn constants(&mut self, constants: [i32; PATTERN]) -> u32 {
        let place = self.place();
        self.0.extend(constants.map(|constant| constant as u32));
        place
    }

    /// Where channels lie among lines.
    pub(super) fn places(&mut self, mix: &Mix, lines: &[Lines]) -> u32 {
        let start = self.place();
        for place in &mix.places {
            let Lines { first, pitch } = lines[place.line];
            self.0.extend([first, pitch, place.first as u32, place.step as u32]);
        }
        start
    }

    /// The sums that channels of the destination are.
    pub(super) fn sums(&mut self, mix: &Mix) -> u32 {
        let start = self.place();
        for sum in mix.planes.iter().flatten() {
            let numbers = [sum.middle, sum.bias, sum.low, sum.high];
            self.0.extend(sum.weights.into_iter().chain(numbers).map(f32::to_bits));
            self.0.push(u32::from(sum.weighed));
        }
        start
    }

    /// A pixel of padding, a number for each channel of all of these planes; zero, where none has any.
    pub(super) fn padding(&mut self, targets: &[Target]) -> u32 {
        if targets.iter().all(|target| target.padding.is_empty()) {
            return 0;
        }
        let place = self.place();
        for target in targets {
            let bytes = target.plane.sample_bytes;
            for number in target.padding.chunks_exact(bytes).take(target.plane.channels) {
                let mut four = [0; ELEMENT];
                four[..bytes].copy_from_slice(number);
                self.0.push(u32::from_le_bytes(four));
            }
        }
        place
    }
}
