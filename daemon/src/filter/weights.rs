//! Owns the curves of the filters: what each source sample of an axis weighs in a destination
//! sample, and how that is rounded to [`Taps`].
//!
//! Knows one axis. This is most of what preparing a frame with a crop of its own costs, so curves
//! are computed once for all gains, and sines once a window. Invariant: no window is empty, and
//! none sums to zero.

use std::f64::consts::PI;
use std::ops::Range;

use resized_protocol::message::Filter;

use super::{Axis, ONE, Taps};

/// The exact weights of an axis, each window up to a factor of its own.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    axis: Axis,
    windows: Vec<Place>,
    weights: Vec<f64>,
}

/// Where a window lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its first source sample.
    start: u32,
    /// One behind its last weight, in `weights`.
    end: u32,
    /// The largest weight, counted from the first one.
    peak: u32,
    /// Of all of them.
    sum: f64,
}

impl Weights {
    /// The weights of `filter` along `axis`.
    ///
    /// Windows are cut at the borders of what may be read. When shrinking, all filters but
    /// [`Filter::Nearest`] widen with the scale. Along an axis on which nothing changes all filters
    /// copy.
    pub(crate) fn new(filter: Filter, axis: &Axis) -> Self {
        let windows = Vec::with_capacity(axis.destination() as usize);
        let mut weights = Self { axis: *axis, windows, weights: Vec::new() };
        let scale = axis.scale();
        let stretch = scale.max(1.0);
        match filter {
            _ if axis.is_unchanged() => weights.fill(0.0, |_, _| {}),
            Filter::Nearest => weights.fill(0.0, |_, _| {}),
            Filter::Area => weights.fill(scale / 2.0, |first, weights| {
                for (i, weight) in weights.iter_mut().enumerate() {
                    let middle = first + i as f64;
                    let covered = (middle + 0.5).min(scale / 2.0);
                    *weight = (covered - (middle - 0.5).max(-scale / 2.0)).max(0.0);
                }
            }),
            Filter::Bilinear => weights.fill(stretch, curve(stretch, triangle)),
            Filter::Bicubic => weights.fill(2.0 * stretch, curve(stretch, catmull_rom)),
            Filter::Mitchell => weights.fill(2.0 * stretch, curve(stretch, mitchell)),
            Filter::Lanczos3 => weights.fill(3.0 * stretch, lanczos3(stretch)),
        }
        weights
    }

    /// Makes the windows, of all samples that `reach` to both sides of their centres touches.
    /// `weigh` is given how far behind the centre the middle of the first sample lies, and the
    /// weights to be made.
    fn fill(&mut self, reach: f64, weigh: impl Fn(f64, &mut [f64])) {
        let axis = self.axis;
        let (least, most) = axis.within();
        for index in 0..axis.destination() {
            let centre = axis.centre(index);
            let first = ((centre - reach).max(0.0) as u32).max(least);
            let end = (ceil(centre + reach)).min(most);
            let begin = self.weights.len();
            self.weights.resize(begin + end.saturating_sub(first) as usize, 0.0);
            let weights = &mut self.weights[begin..];
            weigh(f64::from(first) + 0.5 - centre, weights);
            let (mut start, mut sum) = (first, 0.0);
            let (mut peak, mut largest) = (0, f64::NEG_INFINITY);
            for (i, &weight) in weights.iter().enumerate() {
                sum += weight;
                (peak, largest) = if weight > largest { (i, weight) } else { (peak, largest) };
            }
            if sum <= f64::EPSILON {
                // Copied; or the window lies beyond the border as a whole: an enlarged chroma plane
                // whose siting moves.
                start = (centre as u32).clamp(least, most - 1);
                self.weights.truncate(begin);
                self.weights.push(1.0);
                (peak, sum) = (0, 1.0);
            }
            let end = self.weights.len() as u32;
            self.windows.push(Place { start, end, peak: peak as u32, sum });
        }
    }

    /// Where they lie.
    pub(crate) const fn axis(&self) -> &Axis {
        &self.axis
    }

    /// The weights, rounded so that those of each window sum to `gain` x [`ONE`].
    pub(crate) fn taps(&self, gain: f64) -> Taps {
        let mut rounded = vec![0; self.weights.len()];
        let mut windows = Vec::with_capacity(self.windows.len());
        let mut begin = 0;
        for place in &self.windows {
            let all = begin..place.end as usize;
            let weights = &mut rounded[all.clone()];
            let used = place.quantised(&self.weights[all], gain, weights);
            windows.push((place.start as usize + used.start, begin + used.start..begin + used.end));
            begin = place.end as usize;
        }
        let count = windows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut taps = Taps::with_capacity(self.axis.source() as usize, count, windows.len());
        for (start, weights) in windows {
            taps.push(start, &rounded[weights]);
        }
        taps
    }

    /// The source sample that the first destination sample is, if each of them is the one behind
    /// the one before, and nothing else weighs anything.
    pub(crate) fn copies_from(&self) -> Option<usize> {
        let (mut begin, mut first) = (0, None);
        let mut rounded = Vec::new();
        for (index, place) in self.windows.iter().enumerate() {
            let weights = &self.weights[begin..place.end as usize];
            begin = place.end as usize;
            rounded.clear();
            rounded.resize(weights.len(), 0);
            let used = place.quantised(weights, 1.0, &mut rounded);
            let start = place.start as usize + used.start;
            if used.len() > 1 || start != *first.get_or_insert(start) + index {
                return None;
            }
        }
        first
    }
}

/// `x` rounded upwards, from zero on.
fn ceil(x: f64) -> u32 {
    let whole = x as u32;
    whole + u32::from(x > f64::from(whole))
}

impl Place {
    /// Rounds the window's weights so that they sum to `gain` x [`ONE`], and gives what is left
    /// without the zeros at both ends.
    ///
    /// What rounding a weight leaves is carried to its neighbour, from both ends towards the
    /// largest weight, which takes the rest: so no partial sum is off by more than a unit, whatever
    /// the number of taps, and a symmetric window stays symmetric.
    fn quantised(&self, exact: &[f64], gain: f64, rounded: &mut [i16]) -> Range<usize> {
        let total = (gain * f64::from(ONE)).round();
        let (factor, peak) = (total / self.sum, self.peak as usize);
        let before = carry_along(0..peak, exact, factor, rounded);
        let behind = carry_along((peak + 1..exact.len()).rev(), exact, factor, rounded);
        rounded[peak] = (total as i32 - before - behind) as i16;
        let leading = rounded.iter().take_while(|&&weight| weight == 0).count();
        let end = rounded.iter().rposition(|&weight| weight != 0).map_or(leading, |last| last + 1);
        leading..end
    }
}

/// Rounds the weights of those indices, in order; gives their sum.
fn carry_along(
    indices: impl Iterator<Item = usize>,
    exact: &[f64],
    factor: f64,
    rounded: &mut [i16],
) -> i32 {
    /// What added to a small number leaves it rounded; each waits for the one before it, so this
    /// matters.
    const ROUNDING: f64 = 1.5 * (1_u64 << 52) as f64;
    let (mut carry, mut sum) = (0.0, 0);
    for i in indices {
        let wanted = exact[i] * factor + carry;
        let weight = wanted + ROUNDING - ROUNDING;
        carry = wanted - weight;
        rounded[i] = weight as i16;
        sum += i32::from(rounded[i]);
    }
    sum
}

/// A window of the curve `kernel`, made `stretch` times as wide.
fn curve(stretch: f64, kernel: impl Fn(f64) -> f64) -> impl Fn(f64, &mut [f64]) {
    let step = 1.0 / stretch;
    move |first, weights| {
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = kernel((first + i as f64) * step);
        }
    }
}

/// The tent: linear interpolation.
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// The cubic with B = 0, C = 1/2 (Mitchell and Netravali, "Reconstruction filters in computer
/// graphics", SIGGRAPH 1988, equation 8): interpolates, exact for quadratics.
fn catmull_rom(x: f64) -> f64 {
    let x = x.abs();
    let inner = (1.5 * x - 2.5) * x * x + 1.0;
    let outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    piecewise(x, inner, outer)
}

/// The cubic with B = C = 1/3, the one that the same paper recommends.
fn mitchell(x: f64) -> f64 {
    let x = x.abs();
    let inner = ((7.0 * x - 12.0) * x * x + 16.0 / 3.0) / 6.0;
    let outer = (((-7.0 / 3.0 * x + 12.0) * x - 20.0) * x + 32.0 / 3.0) / 6.0;
    piecewise(x, inner, outer)
}

/// What a cubic is, up to one, up to two, and beyond: both computed, as no branch can be foreseen.
fn piecewise(x: f64, inner: f64, outer: f64) -> f64 {
    let within = if x < 1.0 { inner } else { outer };
    if x < 2.0 { within } else { 0.0 }
}

/// A sinc windowed by the central lobe of one three times as wide (Duchon, "Lanczos filtering in one
/// and two dimensions", J. Applied Meteorology 18, 1979), made `stretch` times as wide.
///
/// With `t = pi x / 3` it is `sin(3t) sin(t) / 3t^2`, and `sin(3t) = 3 sin(t) - 4 sin^3(t)`; from
/// one sample to the next `t` grows by as much, so its sine is turned on, not computed again.
fn lanczos3(stretch: f64) -> impl Fn(f64, &mut [f64]) {
    /// Below, the curve is a parabola to within 1e-12, and the sine, which is off by 1e-16 a step, too
    /// small to be divided by.
    const SMALL: f64 = 1e-3;
    let step = PI / 3.0 / stretch;
    let (turn_sin, turn_cos) = step.sin_cos();
    move |first, weights| {
        let (mut sin, mut cos) = (first * step).sin_cos();
        for (i, weight) in weights.iter_mut().enumerate() {
            let t = (first + i as f64) * step;
            let (square, sines) = (t * t, sin * sin);
            *weight = match t.abs() {
                t if t < SMALL => 1.0 - square * (5.0 / 3.0),
                t if t < PI => sines * (3.0 - 4.0 * sines) / (3.0 * square),
                _ => 0.0,
            };
            (sin, cos) = (sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_that_are_turned_on_are_sines() {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        for stretch in [1.0, 1.7, 3.0, 250.3, 16_384.0] {
            for offset in [0.0, 1e-9, 0.3, 0.5, 0.999] {
                let first = -(3.0 * stretch) + offset;
                let mut found = vec![0.0; (6.0 * stretch) as usize + 1];
                lanczos3(stretch)(first, &mut found);
                for (i, found) in found.into_iter().enumerate() {
                    let x = (first + i as f64) / stretch;
                    let wanted = if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 };
                    assert!((found - wanted).abs() < 1e-8, "{stretch} {x}: {found}, not {wanted}");
                }
            }
        }
    }
}
