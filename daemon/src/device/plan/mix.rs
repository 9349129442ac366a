//! Owns the coefficients by which lines of words become channels of another format.
//!
//! Knows where words lie and what the sums are of; no pixels and no instructions.

use super::number::Number;
use crate::filter::{Blend, MAX_CHANNELS};

/// Where a channel of the source lies among the lines of a row.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Place {
    /// Number of the line.
    pub(in crate::device) line: usize,
    /// The channel's first word.
    pub(in crate::device) first: usize,
    /// Words from one pixel to the next.
    pub(in crate::device) step: usize,
    /// Number of the channel.
    pub(in crate::device) channel: usize,
    /// Fraction bits of a word; it is centred on zero.
    pub(in crate::device) bits: u32,
}

/// How rows of all destination planes of one size are made of lines of words.
pub(in crate::device) struct Mix {
    pub(in crate::device) number: Number,
    pub(in crate::device) places: Vec<Place>,
    /// Number of the place whose words are the opacity by which those of the others are weighed.
    pub(in crate::device) weight: Option<usize>,
    /// Of each plane its channels.
    pub(in crate::device) planes: Vec<Vec<Sum>>,
}

/// One channel of the destination.
pub(in crate::device) struct Sum {
    /// For a word at each place, and none at the others.
    pub(in crate::device) weights: [f32; MAX_CHANNELS],
    /// What the words' centres add.
    pub(in crate::device) middle: f32,
    pub(in crate::device) bias: f32,
    /// Its words are weighed by opacity: their sum is divided by that before the bias is added.
    pub(in crate::device) weighed: bool,
    pub(in crate::device) low: f32,
    pub(in crate::device) high: f32,
}

impl Mix {
    /// `blends` are the channels of each plane of the destination. With `weighed`, words of the
    /// last place are the opacity by which the others are weighed.
    pub(in crate::device) fn new(
        number: Number,
        places: Vec<Place>,
        weighed: bool,
        blends: Vec<Vec<Blend>>,
    ) -> Self {
        let weight = places.len().checked_sub(1).filter(|_| weighed);
        let sum = |blend: Blend| {
            let (mut weights, mut middle) = ([0.0; MAX_CHANNELS], 0.0);
            for (weight, place) in weights.iter_mut().zip(&places) {
                let share = blend.weights[place.channel];
                *weight = (share / f64::from(1 << place.bits)) as f32;
                middle += 128.0 * share;
            }
            let weighed = weight.is_some_and(|alpha| weights[alpha] == 0.0);
            let (middle, bias) = match weighed {
                true => (middle, blend.bias),
                false => (middle + blend.bias, 0.0),
            };
            Sum {
                weights,
                middle: middle as f32,
                bias: bias as f32,
                weighed,
                low: blend.low as f32,
                high: blend.high as f32,
            }
        };
        let plane = |plane: Vec<Blend>| plane.into_iter().map(sum).collect();
        let planes = blends.into_iter().map(plane).collect();
        Self { number, places, weight, planes }
    }
}
