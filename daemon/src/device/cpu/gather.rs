//! Owns how horizontal taps become gathers: for a block of neighbouring outputs, in which windows
//! of the source row their taps lie, where in its window each tap lies, and its weight, whole or in
//! two signed bytes.
//!
//! Knows taps and the length of a vector, no instructions. Invariants: a window starts on a sample of
//! the row; every tap that weighs something is picked once, or several times in parts that add up to
//! its weight; `weight = 128 x high + low`.

use std::collections::HashMap;
use std::ops::Range;

use crate::filter::Taps;

/// Blocks by which ways to gather are compared.
const SAMPLED: usize = 16;

/// What one gather of a block of `OUTPUTS` brings: `TAPS` taps of each output, from one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gather<const TAPS: usize, const OUTPUTS: usize> {
    /// The source sample at which the window starts.
    pub(super) base: usize,
    /// For each output of the block.
    pub(super) picks: [[Pick; TAPS]; OUTPUTS],
}

/// A tap: a sample of the window, and what it weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) index: u8,
    pub(super) weight: i16,
}

impl Pick {
    /// The weight is 128 times this, and [`Self::low`].
    pub(super) const fn high(self) -> i8 {
        let high = (self.weight + 64) >> 7;
        debug_assert!(high as i8 as i16 == high, "a weight of two or more");
        high as i8
    }

    /// Within 64 of zero.
    pub(super) const fn low(self) -> i8 {
        (self.weight - ((self.high() as i16) << 7)) as i8
    }

    /// From zero.
    const fn distance(self) -> u16 {
        self.weight.unsigned_abs()
    }

    /// Picks of the same sample that weigh as much together, each within `most` of zero; as few as can be.
    fn parts(self, most: u8) -> impl ExactSizeIterator<Item = Self> {
        let Self { index, weight } = self;
        let most = u16::from(most);
        (0..self.distance().div_ceil(most)).map(move |part| {
            let distance = most.min(self.distance() - part * most) as i16;
            Self { index, weight: weight.signum() * distance }
        })
    }
}

/// The most samples from one of these windows to the next, one at least: by how much kernels get on
/// in the source.
pub(super) fn furthest_step(bases: impl Iterator<Item = usize> + Clone) -> usize {
    let steps = bases.clone().zip(bases.skip(1)).map(|(one, next)| next.saturating_sub(one));
    steps.max().unwrap_or(0).max(1)
}

/// The gathers of all blocks, the same number for each.
pub(super) struct Gathers<const TAPS: usize, const OUTPUTS: usize> {
    /// Gathers of a block.
    pub(super) count: usize,
    gathers: Vec<Gather<TAPS, OUTPUTS>>,
}

impl<const TAPS: usize, const OUTPUTS: usize> Gathers<TAPS, OUTPUTS> {
    /// Those of each block of windows, from windows of `reach` source samples, and the last block
    /// again until there is a multiple of `blocks`. A block may end in gathers that weigh nothing.
    pub(super) fn new(taps: &Taps, reach: usize, blocks: usize) -> Self {
        let mut used = Used::default();
        let (mut gathers, mut ends) = (Vec::new(), Vec::new());
        for first in (0..taps.destination()).step_by(OUTPUTS) {
            used.fill(taps, first..(first + OUTPUTS).min(taps.destination()));
            used.gather(reach, |gather| gathers.push(gather));
            ends.push(gathers.len());
        }
        let counts = ends.iter().scan(0, |begin, &end| Some(end - std::mem::replace(begin, end)));
        let count = counts.max().unwrap_or(0);
        let mut even = Vec::with_capacity(ends.len().next_multiple_of(blocks) * count);
        let mut begin = 0;
        for end in ends {
            even.extend_from_slice(&gathers[begin..end]);
            let nothing = Gather { picks: [[Pick::default(); TAPS]; OUTPUTS], ..gathers[end - 1] };
            even.resize(even.len().next_multiple_of(count), nothing);
            begin = end;
        }
        while !(even.len() / count).is_multiple_of(blocks) {
            even.extend_from_within(even.len() - count..);
        }
        Self { count, gathers: even }
    }

    /// How many gathers the block that has most of them takes, roughly: of a few blocks from all over.
    pub(super) fn estimate(taps: &Taps, reach: usize) -> usize {
        let mut used = Used::default();
        let blocks = taps.destination().div_ceil(OUTPUTS);
        let some = (0..blocks).step_by(blocks.div_ceil(SAMPLED));
        let counts = some.map(|block| {
            let first = block * OUTPUTS;
            used.fill(taps, first..(first + OUTPUTS).min(taps.destination()));
            let mut count = 0;
            used.gather(reach, |_: Gather<TAPS, OUTPUTS>| count += 1);
            count
        });
        counts.max().unwrap_or(0)
    }

    /// Block by block.
    pub(super) fn blocks(&self) -> std::slice::ChunksExact<'_, Gather<TAPS, OUTPUTS>> {
        self.gathers.chunks_exact(self.count)
    }

    /// Has the last gather of each block bring what weighs least, in parts that are within `most` of
    /// zero. Tells whether that is possible for all blocks: then the last gather has no other weights.
    ///
    /// Taps may change their places only among the gathers of one window.
    pub(super) fn lighten(&mut self, most: u8) -> bool {
        self.gathers.chunks_exact_mut(self.count).all(|block| {
            let Some((last, others)) = block.split_last_mut() else { return false };
            (0..OUTPUTS).all(|output| {
                let last_picks = &mut last.picks[output];
                while last_picks.iter().map(|pick| pick.parts(most).len()).sum::<usize>() > TAPS {
                    let heaviest = last_picks.iter_mut().max_by_key(|pick| pick.distance());
                    let sharing = others.iter_mut().filter(|gather| gather.base == last.base);
                    let picks = sharing.flat_map(|gather| &mut gather.picks[output]);
                    match (heaviest, picks.min_by_key(|pick| pick.distance())) {
                        (Some(heaviest), Some(lightest))
                            if lightest.distance() < heaviest.distance() =>
                        {
                            std::mem::swap(heaviest, lightest);
                        }
                        _ => return false,
                    }
                }
                let mut parts = last_picks.iter().flat_map(|pick| pick.parts(most));
                *last_picks = std::array::from_fn(|_| parts.next().unwrap_or_default());
                true
            })
        })
    }

    /// How many gathers, from the first on, have windows of their own: the rest use the last of these.
    pub(super) fn windows(&self) -> usize {
        let moves = |gathers: &[Gather<TAPS, OUTPUTS>]| {
            let moved = |i: &usize| gathers[i - 1].base != gathers[*i].base;
            (1..gathers.len()).rev().find(moved).map_or(1, |last| last + 1)
        };
        self.blocks().map(moves).max().unwrap_or(1)
    }
}

/// The tables of all blocks, of vectors; one that is there already is shared, as most are where the
/// ratio is a simple one.
pub(super) struct Tables<V> {
    vectors: Vec<V>,
    /// Places by what tables hash to.
    known: HashMap<u64, u32>,
}

impl<V: Copy + Eq + AsRef<[u8]>> Tables<V> {
    pub(super) fn new() -> Self {
        Self { vectors: Vec::new(), known: HashMap::new() }
    }

    /// The number of the table's first vector.
    pub(super) fn place(&mut self, table: impl Iterator<Item = V>) -> u32 {
        let begin = self.vectors.len();
        self.vectors.extend(table);
        let (there, table) = self.vectors.split_at(begin);
        let place = *self.known.entry(digest(table)).or_insert(begin as u32);
        // Two that hash alike by chance are not shared.
        if !there.get(place as usize..).is_some_and(|there| there.starts_with(table)) {
            return begin as u32;
        }
        self.vectors.truncate(begin);
        place
    }

    pub(super) fn into_vectors(mut self) -> Vec<V> {
        // They are charged for, and kept as long as the stream.
        self.vectors.shrink_to_fit();
        self.vectors
    }
}

/// A number for a table. Who finds two tables of one number gains nothing: they are compared.
fn digest<V: AsRef<[u8]>>(table: &[V]) -> u64 {
    let words = table.iter().flat_map(|vector| vector.as_ref().as_chunks::<8>().0);
    words.fold(0, |digest: u64, &word| {
        let mixed = (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    })
}

/// The taps of a block's outputs that weigh something, one output after the other.
#[derive(Default)]
struct Used {
    taps: Vec<(usize, i16)>,
    /// Those of each output that are not picked yet.
    left: Vec<Range<usize>>,
}

impl Used {
    fn fill(&mut self, taps: &Taps, outputs: Range<usize>) {
        self.taps.clear();
        self.left.clear();
        for output in outputs {
            let begin = self.taps.len();
            self.taps.extend(taps.window(output).used());
            self.left.push(begin..self.taps.len());
        }
    }

    /// Picks all taps. A window is used again if all taps that are left lie in it; else the next
    /// one starts at the first of them.
    fn gather<const TAPS: usize, const OUTPUTS: usize>(
        &mut self,
        reach: usize,
        mut made: impl FnMut(Gather<TAPS, OUTPUTS>),
    ) {
        let Self { taps, left } = self;
        let mut again = None;
        loop {
            let some = || left.iter().filter(|left| !left.is_empty());
            let Some(first) = some().map(|left| taps[left.start].0).min() else { break };
            let last = some().map(|left| taps[left.end - 1].0).max().unwrap_or(first);
            let base = match again {
                Some(base) if (base..base + reach).contains(&last) => base,
                _ => first,
            };
            again = Some(base);
            let mut gather = Gather { base, picks: [[Pick::default(); TAPS]; OUTPUTS] };
            for (picks, left) in gather.picks.iter_mut().zip(left.iter_mut()) {
                for (pick, &(sample, weight)) in picks.iter_mut().zip(&taps[left.clone()]) {
                    if sample >= base + reach {
                        break;
                    }
                    *pick = Pick { index: (sample - base) as u8, weight };
                    left.start += 1;
                }
            }
            made(gather);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use resized_protocol::message::Filter;

    use super::*;
    use crate::filter::Axis;

    #[test]
    fn every_tap_is_picked_once() {
        for filter in Filter::ALL {
            for (source, destination) in [(96, 32), (97, 33), (31, 64), (40, 10), (3, 1), (1, 40)] {
                let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
                picked_once::<4, 16>(&taps, 64, 2);
                picked_once::<4, 4>(&taps, 16, 4);
                picked_once::<2, 8>(&taps, 16, 2);
            }
        }
    }

    fn picked_once<const TAPS: usize, const OUTPUTS: usize>(
        taps: &Taps,
        reach: usize,
        multiple: usize,
    ) {
        all_picked(taps, reach, multiple, &Gathers::<TAPS, OUTPUTS>::new(taps, reach, multiple));
        for most in [127, 63] {
            let mut gathers = Gathers::<TAPS, OUTPUTS>::new(taps, reach, multiple);
            let is_light = gathers.lighten(most);
            all_picked(taps, reach, multiple, &gathers);
            let last = gathers.blocks().filter_map(|block| block.last());
            let mut picks = last.flat_map(|gather| gather.picks.as_flattened());
            assert_eq!(is_light, picks.all(|pick| pick.weight.unsigned_abs() <= most.into()));
        }
    }

    fn all_picked<const TAPS: usize, const OUTPUTS: usize>(
        taps: &Taps,
        reach: usize,
        multiple: usize,
        gathers: &Gathers<TAPS, OUTPUTS>,
    ) {
        let blocks: Vec<_> = gathers.blocks().collect();
        let wanted = taps.destination().div_ceil(OUTPUTS).next_multiple_of(multiple);
        assert_eq!(blocks.len(), wanted);
        for index in 0..taps.destination() {
            let picked: Vec<_> = blocks[index / OUTPUTS]
                .iter()
                .flat_map(|gather| gather.picks[index % OUTPUTS].map(|p| (gather, p)))
                .map(|(gather, pick)| {
                    assert!(usize::from(pick.index) < reach);
                    let weight = i16::from(pick.high()) * 128 + i16::from(pick.low());
                    assert_eq!(weight, pick.weight);
                    (gather.base + usize::from(pick.index), weight)
                })
                .filter(|&(_, weight)| weight != 0)
                .collect();
            let mut found = BTreeMap::new();
            picked.iter().for_each(|&(sample, weight)| *found.entry(sample).or_insert(0) += weight);
            let wanted: BTreeMap<_, _> = taps.window(index).used().collect();
            assert_eq!(found, wanted, "{index} of {}", taps.destination());
        }
    }

    #[test]
    fn windows_are_used_again() {
        let count = |filter, source, destination| {
            let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
            Gathers::<4, 4>::new(&taps, 16, 4).windows()
        };
        assert_eq!(count(Filter::Bicubic, 1280, 640), 1);
        assert_eq!(count(Filter::Bicubic, 1920, 640), 2);
        assert_eq!(count(Filter::Lanczos3, 1280, 640), 2);
    }

    #[test]
    fn usual_ratios_have_a_light_last_gather() {
        let is_light = |filter, source, destination| {
            let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
            Gathers::<4, 16>::new(&taps, 64, 2).lighten(127)
        };
        assert!(is_light(Filter::Bicubic, 1920, 640));
        assert!(is_light(Filter::Lanczos3, 1920, 640));
        assert!(is_light(Filter::Bicubic, 1920, 1280));
        assert!(is_light(Filter::Bicubic, 768, 640));
        assert!(is_light(Filter::Lanczos3, 1280, 640));
        // Eight taps, none of them light, in eight slots.
        assert!(!is_light(Filter::Bicubic, 1280, 640));
    }

    #[test]
    fn usual_ratios_need_no_more_gathers_than_taps() {
        let count = |filter, source, destination| {
            let taps = Taps::new(filter, &Axis::full(source, destination), 0.5);
            Gathers::<4, 16>::new(&taps, 64, 2).count
        };
        // Two of the eleven taps of 3:1 weigh nothing.
        assert_eq!(count(Filter::Bicubic, 1920, 640), 3);
        assert_eq!(count(Filter::Bicubic, 1280, 640), 2);
        assert_eq!(count(Filter::Bicubic, 1280, 1920), 1);
        assert_eq!(count(Filter::Bicubic, 2560, 640), 4);
        assert_eq!(count(Filter::Lanczos3, 1920, 640), 4);
    }
}
