//! Owns the order of the two passes of a plane, and the scale of the weights that follow from it.
//!
//! Knows taps, no pixels and no level: what is decided here decides the arithmetic, so it may depend on
//! the stream alone, never on the CPU or on how a frame is cut.
//!
//! Horizontal first wins wherever it can be done: each source row is read once, and what lies between
//! the passes is as wide as the destination and stays in the first cache. It can be done where
//!
//! - its vectors gather enough: up to [`MAX_SHRINK`] source samples for each destination sample, more
//!   where rows are long;
//! - its 16-bit arithmetic is exact enough: see [`fits`] and [`fraction_bits`].
//!
//! Where one direction shrinks and the other grows, the one that grows may make far more than there is at
//! either end: then it comes second, whatever it takes, see [`Swelling`].

use crate::filter::{Axis, ONE, Taps, Tone, Weights};

/// Source samples for each destination sample up to which the horizontal pass comes first. Up to
/// 4:1 the 16 outputs of a block take four taps each from one 64-byte vector; beyond, gathers go
/// half empty, and that costs AVX2 what the order gains from 6:1 on (measured).
const MAX_SHRINK: usize = 5;

/// The same where the rows of a vertical window, source rows, outgrow [`FIRST_CACHE`]: the vertical
/// pass, if it came first, would fetch each of them from afar for each output row.
const MAX_SHRINK_FAR: usize = 8;

/// The same where three or four channels are interleaved: beside splitting and merging them,
/// gathers that go half empty are cheap.
const MAX_SHRINK_PACKED: usize = 16;

/// Bytes of the first data cache that orders and strips are made for. It decides the arithmetic, so it is
/// one number for every CPU, also for those that have less: Zen 4 has 32 KiB.
pub(in crate::device) const FIRST_CACHE: usize = 48 << 10;

/// Times the pixels of the larger end that there may be between the passes.
const MAX_SWELL: u64 = 4;

/// Fraction bits of horizontal weights where that pass comes first: weights below 2 then part into two
/// signed bytes.
pub(super) const HORIZONTAL_FIRST_BITS: u32 = 13;

/// Fraction bits of a word between the passes.
pub(in crate::device) const WORD_BITS: u32 = 6;

/// The order of the passes, with the taps of both.
pub(super) enum Order {
    /// For every ratio.
    VerticalFirst {
        /// Sum to [`ONE`].
        vertical: Taps,
        /// Sum to [`ONE`] x gain.
        horizontal: Toned,
    },
    /// Where it can be done: it is faster.
    HorizontalFirst {
        /// Those of all channels, interleaved as they are. Sum to gain, with [`HORIZONTAL_FIRST_BITS`].
        /// `None`: sums of samples would outgrow 16 bits, so rows have to become words first.
        horizontal: Option<Taps>,
        /// Sum to one, with `fraction_bits` - [`WORD_BITS`] + 15.
        vertical: Taps,
        /// Those of the vertical sum.
        fraction_bits: u32,
        /// Whether two words have room for their sum.
        fold: bool,
    },
}

/// Which pass, if it came first, would make far more than there is at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swelling {
    Horizontal,
    Vertical,
    Neither,
}

impl Swelling {
    pub(super) fn of(horizontal: &Axis, vertical: &Axis) -> Self {
        let seen = |axis: &Axis| u64::from(axis.within().1 - axis.within().0);
        let (width, height) = (seen(horizontal), seen(vertical));
        let to = (u64::from(horizontal.destination()), u64::from(vertical.destination()));
        let most = MAX_SWELL * (width * height).max(to.0 * to.1);
        match () {
            () if to.0 * height > most => Self::Horizontal,
            () if width * to.1 > most => Self::Vertical,
            () => Self::Neither,
        }
    }
}

/// Decides for a plane of which each channel has its tone. `mixed`: it goes on as words to be mixed
/// with others, and the horizontal pass is first at any ratio that its sums have room for.
pub(super) fn order(
    horizontal: &Weights,
    vertical: &Weights,
    tones: &[Tone],
    mixed: bool,
) -> Order {
    let unit = vertical.taps(1.0);
    let (min, max) = horizontal.axis().within();
    let shrink = horizontal.axis().scale().ceil() as usize;
    let window = unit.count() * (max - min) as usize * tones.len();
    let most = match tones.len() {
        3.. => MAX_SHRINK_PACKED,
        _ if window > FIRST_CACHE => MAX_SHRINK_FAR,
        _ => MAX_SHRINK,
    };
    let swelling = Swelling::of(horizontal.axis(), vertical.axis());
    if swelling != Swelling::Horizontal && (mixed || shrink <= most) {
        let toned = Toned::new(horizontal, tones, 0.5);
        let extremes: Vec<Extremes> = toned.taps.iter().map(Extremes::of).collect();
        let fits = toned.taps.iter().zip(&extremes).all(|(taps, of)| fits(of, taps.count()));
        let reaches = tones.iter().zip(&toned.channels).map(|(t, &i)| reach(&extremes[i], t));
        let reach = reaches.fold(0.0, f64::max);
        let bits = fraction_bits(reach, &unit);
        // Rows become words where nothing else is left: that is slower than gathering samples.
        if let Some(fraction_bits) = bits
            && (fits || swelling == Swelling::Vertical)
        {
            let vertical = match fraction_bits + 1 - WORD_BITS {
                0 => unit,
                more => vertical.taps(f64::from(1 << more)),
            };
            let fold = reach < f64::from(1 << (14 - WORD_BITS));
            let horizontal = fits.then(|| Taps::interleaved(&toned.each()));
            return Order::HorizontalFirst { horizontal, vertical, fraction_bits, fold };
        }
    }
    Order::VerticalFirst { vertical: unit, horizontal: Toned::new(horizontal, tones, 1.0) }
}

/// The horizontal taps of channels of which each has its tone: those of one tone once.
pub(super) struct Toned {
    pub(super) taps: Vec<Taps>,
    /// Which of them are those of each channel.
    pub(super) channels: Vec<usize>,
}

impl Toned {
    fn new(weights: &Weights, tones: &[Tone], scale: f64) -> Self {
        let mut distinct: Vec<&Tone> = Vec::with_capacity(tones.len());
        let number = |tone| {
            let known = distinct.iter().position(|&other| other == tone);
            known.unwrap_or_else(|| {
                distinct.push(tone);
                distinct.len() - 1
            })
        };
        let channels = tones.iter().map(number).collect();
        let taps = distinct.iter().map(|tone| weights.taps(tone.gain * scale)).collect();
        Self { taps, channels }
    }

    /// Those of each channel.
    fn each(&self) -> Vec<&Taps> {
        self.channels.iter().map(|&taps| &self.taps[taps]).collect()
    }
}

/// Whether products of samples with the high bytes of the weights, in steps of 1/64, fit 16 bits
/// however they are added.
fn fits(horizontal: &Extremes, taps: usize) -> bool {
    // Rounding to high bytes may add half a step for each tap. Two is 128 steps, and 255 x 128 fits.
    let rounding = taps as i32 * (1 << (HORIZONTAL_FIRST_BITS - 7));
    horizontal.positive.max(horizontal.negative) + rounding <= 2 << HORIZONTAL_FIRST_BITS
}

/// How far from zero a channel's word can be, in steps of samples.
fn reach(horizontal: &Extremes, tone: &Tone) -> f64 {
    let unit = f64::from(1 << HORIZONTAL_FIRST_BITS);
    let brightest = 255.0 * f64::from(horizontal.positive) / unit + tone.bias - 128.0;
    let darkest = 255.0 * f64::from(horizontal.negative) / unit - tone.bias + 128.0;
    brightest.max(darkest) + 1.0
}

/// The most fraction bits that the 16-bit sums of a second, vertical pass have room for, if they are
/// enough. `vertical` has its weights at [`ONE`].
///
/// A product is rounded to these bits before it is added, so each tap may cost half a step.
fn fraction_bits(reach: f64, vertical: &Taps) -> Option<u32> {
    /// What rounding products may cost a sample at the very worst.
    const TOLERANCE: f64 = 0.26;
    let extremes = Extremes::of(vertical);
    let reach = reach * f64::from(extremes.positive + extremes.negative) / f64::from(ONE);
    let taps = vertical.count() as f64;
    (5..=7).rev().find(|&bits| {
        let step = 1.0 / f64::from(1 << bits);
        // Rounding may move a weight by a few units when the scale changes.
        let weights_fit = (extremes.largest + 8) << (bits + 1 - WORD_BITS) <= i32::from(i16::MAX);
        let sums_fit = reach + taps * step < f64::from(1 << (15 - bits));
        weights_fit && sums_fit && taps * step / 2.0 <= TOLERANCE
    })
}

/// The largest of all windows' sums of positive and of negative weights, and of all weights.
#[derive(Default)]
struct Extremes {
    positive: i32,
    negative: i32,
    largest: i32,
}

impl Extremes {
    fn of(taps: &Taps) -> Self {
        let mut extremes = Self::default();
        for index in 0..taps.destination() {
            let (mut positive, mut negative) = (0, 0);
            for weight in taps.window(index).weights.iter().map(|&weight| i32::from(weight)) {
                positive += weight.max(0);
                negative -= weight.min(0);
                extremes.largest = extremes.largest.max(weight.abs());
            }
            extremes.positive = extremes.positive.max(positive);
            extremes.negative = extremes.negative.max(negative);
        }
        extremes
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Component, Range};
    use resized_protocol::message::Filter;

    use super::*;

    /// Fraction bits where the horizontal pass comes first.
    fn first(filter: Filter, horizontal: (u32, u32), vertical: (u32, u32)) -> Option<u32> {
        let weights = |(from, to): (u32, u32)| Weights::new(filter, &Axis::full(from, to));
        // The largest gain there is.
        let tone = Tone::new(Component::Luma, Range::Limited, Range::Full);
        match order(&weights(horizontal), &weights(vertical), &[tone], false) {
            Order::VerticalFirst { .. } => None,
            Order::HorizontalFirst { fraction_bits, .. } => Some(fraction_bits),
        }
    }

    #[test]
    fn usual_ratios_are_horizontal_first() {
        for filter in Filter::ALL {
            for (from, to) in [(1920, 640), (1280, 640), (1920, 1280), (1280, 1920), (400, 100)] {
                let bits = first(filter, (from, to), (from, to));
                assert!(bits.is_some(), "{filter:?} {from} {to}");
            }
        }
        assert_eq!(first(Filter::Bicubic, (1920, 640), (1080, 360)), Some(7));
        assert_eq!(first(Filter::Bicubic, (1280, 1920), (720, 1080)), Some(5));
    }

    #[test]
    fn what_grows_is_second_where_it_would_swell() {
        for filter in Filter::ALL {
            for (wide, high) in [(16_384, 1), (4000, 7), (700, 2), (90, 3)] {
                for mixed in [false, true] {
                    let axis = |(from, to): (u32, u32)| Weights::new(filter, &Axis::full(from, to));
                    let tone = Tone { gain: 1.0, bias: 0.0 };
                    let shape = |from, to| order(&axis(from), &axis(to), &[tone], mixed);
                    let upright = shape((wide, high), (high, wide));
                    let is_first = matches!(upright, Order::HorizontalFirst { .. });
                    assert!(is_first || !mixed, "{filter:?} {wide} {high}");
                    let flat = shape((high, wide), (wide, high));
                    assert!(matches!(flat, Order::VerticalFirst { .. }), "{filter:?} {wide}");
                }
            }
        }
        let swelling = |horizontal: (u32, u32), vertical: (u32, u32)| {
            let axis = |(from, to)| Axis::full(from, to);
            Swelling::of(&axis(horizontal), &axis(vertical))
        };
        assert_eq!(swelling((1920, 640), (1080, 360)), Swelling::Neither);
        assert_eq!(swelling((640, 480), (480, 640)), Swelling::Neither);
        assert_eq!(swelling((16_384, 1), (1, 16_384)), Swelling::Vertical);
        assert_eq!(swelling((16, 16_384), (1600, 100)), Swelling::Horizontal);
    }

    #[test]
    fn large_ratios_are_vertical_first() {
        assert_eq!(first(Filter::Bicubic, (1920, 300), (1080, 360)), None);
        assert_eq!(first(Filter::Bicubic, (1920, 320), (1080, 180)), None);
        assert!(first(Filter::Bicubic, (3840, 640), (2160, 360)).is_some());
        assert_eq!(first(Filter::Lanczos3, (1920, 640), (1080, 10)), None);
    }
}
