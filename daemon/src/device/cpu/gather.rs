//! Owns how horizontal taps become gathers of bytes: for a block of neighbouring outputs, in which
//! windows of the source row their taps lie, where in its window each tap lies, and its weight in two
//! signed bytes.
//!
//! Knows taps and the length of a vector, no instructions. Invariants: a window starts on a sample of
//! the row; every tap that weighs something is picked once; `weight = 128 x high + low`.

use crate::filter::Taps;

/// What one gather of a block brings: `TAPS` taps of each output, from one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gather<const TAPS: usize> {
    /// The source sample at which the window starts.
    pub(super) base: usize,
    /// For each output of the block.
    pub(super) picks: Vec<[Pick; TAPS]>,
}

/// A tap: a sample of the window, and what it weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) index: u8,
    pub(super) high: i8,
    pub(super) low: i8,
}

impl Pick {
    fn new(index: usize, weight: i16) -> Self {
        let high = (weight + 64) >> 7;
        Self { index: index as u8, high: high as i8, low: (weight - (high << 7)) as i8 }
    }
}

/// The gathers of each block of `outputs` windows, from windows of `reach` source samples: the same
/// number for every block, which may end in gathers that weigh nothing.
pub(super) fn blocks<const TAPS: usize>(
    taps: &Taps,
    outputs: usize,
    reach: usize,
) -> Vec<Vec<Gather<TAPS>>> {
    let firsts = (0..taps.destination()).step_by(outputs);
    let mut blocks: Vec<_> = firsts
        .map(|first| {
            let windows = (first..first + outputs).map(|index| used(taps, index)).collect();
            block(windows, reach)
        })
        .collect();
    let longest = blocks.iter().map(Vec::len).max().unwrap_or(0);
    for gathers in &mut blocks {
        let base = gathers[gathers.len() - 1].base;
        let nothing = Gather { base, picks: vec![[Pick::default(); TAPS]; outputs] };
        gathers.resize(longest, nothing);
    }
    blocks
}

/// The taps that weigh something, none beyond the last window.
fn used(taps: &Taps, index: usize) -> Vec<(usize, i16)> {
    if index >= taps.destination() { Vec::new() } else { taps.window(index).used().collect() }
}

/// The gathers of one block. A window is used again if all taps that are left lie in it; else the next
/// one starts at the first of them.
fn block<const TAPS: usize>(mut left: Vec<Vec<(usize, i16)>>, reach: usize) -> Vec<Gather<TAPS>> {
    let samples = |left: &[Vec<(usize, i16)>]| {
        let samples = left.iter().flatten().map(|&(sample, _)| sample);
        samples.clone().min().zip(samples.max())
    };
    let mut gathers: Vec<Gather<TAPS>> = Vec::new();
    while let Some((first, last)) = samples(&left) {
        let again = gathers.last().map(|gather| gather.base);
        let base = again.filter(|base| (*base..base + reach).contains(&last)).unwrap_or(first);
        let pick = |taps: &mut Vec<(usize, i16)>| {
            let within = taps.iter().take_while(|&&(sample, _)| sample < base + reach).count();
            let mut picks = [Pick::default(); TAPS];
            for (pick, (sample, weight)) in picks.iter_mut().zip(taps.drain(..within.min(TAPS))) {
                *pick = Pick::new(sample - base, weight);
            }
            picks
        };
        gathers.push(Gather { base, picks: left.iter_mut().map(pick).collect() });
    }
    gathers
}

/// How many gathers, from the first on, have windows of their own: the rest use the last of these.
pub(super) fn windows<const TAPS: usize>(blocks: &[Vec<Gather<TAPS>>]) -> usize {
    let moves = |gathers: &Vec<Gather<TAPS>>| {
        let bases = gathers.windows(2).map(|two| two[0].base != two[1].base);
        bases.enumerate().filter(|&(_, moved)| moved).map(|(i, _)| i + 2).next_back().unwrap_or(1)
    };
    blocks.iter().map(moves).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use resized_protocol::message::Filter;

    use super::*;
    use crate::filter::Axis;

    #[test]
    fn every_tap_is_picked_once() {
        for filter in Filter::ALL {
            for (source, destination) in [(96, 32), (97, 33), (31, 64), (40, 10), (3, 1), (1, 40)] {
                let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
                picked_once::<4>(&taps, 16, 64);
                picked_once::<4>(&taps, 4, 16);
                picked_once::<2>(&taps, 8, 16);
            }
        }
    }

    fn picked_once<const TAPS: usize>(taps: &Taps, outputs: usize, reach: usize) {
        let blocks = blocks::<TAPS>(taps, outputs, reach);
        assert_eq!(blocks.len(), taps.destination().div_ceil(outputs));
        for index in 0..taps.destination() {
            let mut found: Vec<_> = blocks[index / outputs]
                .iter()
                .flat_map(|gather| gather.picks[index % outputs].map(|p| (gather, p)))
                .map(|(gather, pick)| {
                    assert!(usize::from(pick.index) < reach);
                    let weight = i16::from(pick.high) * 128 + i16::from(pick.low);
                    (gather.base + usize::from(pick.index), weight)
                })
                .filter(|&(_, weight)| weight != 0)
                .collect();
            found.sort_unstable();
            assert_eq!(found, used(taps, index), "{index} of {}", taps.destination());
        }
    }

    #[test]
    fn windows_are_used_again() {
        let count = |filter, source, destination| {
            let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
            windows(&blocks::<4>(&taps, 4, 16))
        };
        assert_eq!(count(Filter::Bicubic, 1280, 640), 1);
        assert_eq!(count(Filter::Bicubic, 1920, 640), 2);
        assert_eq!(count(Filter::Lanczos3, 1280, 640), 2);
    }

    #[test]
    fn usual_ratios_need_no_more_gathers_than_taps() {
        let count = |filter, source, destination| {
            let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
            blocks::<4>(&taps, 16, 64)[0].len()
        };
        // Two of the eleven taps of 3:1 weigh nothing.
        assert_eq!(count(Filter::Bicubic, 1920, 640), 3);
        assert_eq!(count(Filter::Bicubic, 1280, 640), 2);
        assert_eq!(count(Filter::Bicubic, 1280, 1920), 1);
        assert_eq!(count(Filter::Bicubic, 2560, 640), 4);
        assert_eq!(count(Filter::Lanczos3, 1920, 640), 4);
    }
}
