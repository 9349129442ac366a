//! Owns the curves of the filters: what each source sample of an axis weighs in a destination sample.
//!
//! Knows one axis and exact numbers; [`Taps`](super::Taps) knows how they are rounded.

use std::f64::consts::PI;

use resized_protocol::message::Filter;

use super::Axis;

/// The exact weights of a destination sample, up to a common factor, and the first one's place.
pub(super) fn exact(filter: Filter, axis: &Axis, index: u32) -> (usize, Vec<f64>) {
    let (centre, scale) = (axis.centre(index), axis.scale());
    let weights = match filter {
        _ if axis.is_unchanged() => None,
        Filter::Nearest => None,
        Filter::Area => windowed(axis, centre, scale / 2.0, |sample| {
            let covered = (sample + 0.5).min(centre + scale / 2.0);
            (covered - (sample - 0.5).max(centre - scale / 2.0)).max(0.0)
        }),
        Filter::Bilinear => convolved(axis, centre, 1.0, triangle),
        Filter::Bicubic => convolved(axis, centre, 2.0, catmull_rom),
        Filter::Lanczos3 => convolved(axis, centre, 3.0, lanczos3),
        Filter::Mitchell => convolved(axis, centre, 2.0, mitchell),
    };
    // A window may lie beyond the border as a whole: an enlarged chroma plane whose siting moves.
    let (first, end) = axis.within();
    weights.unwrap_or_else(|| ((centre as u32).clamp(first, end - 1) as usize, vec![1.0]))
}

/// Weights of a kernel that is `support` wide to both sides at a scale of one.
fn convolved(
    axis: &Axis,
    centre: f64,
    support: f64,
    kernel: impl Fn(f64) -> f64,
) -> Option<(usize, Vec<f64>)> {
    let stretch = axis.scale().max(1.0);
    windowed(axis, centre, support * stretch, |sample| kernel((sample - centre) / stretch))
}

/// `weight` of the centre of each sample that `reach` to both sides of `centre` touches.
fn windowed(
    axis: &Axis,
    centre: f64,
    reach: f64,
    weight: impl Fn(f64) -> f64,
) -> Option<(usize, Vec<f64>)> {
    let (first, end) = axis.within();
    let first = ((centre - reach).floor().max(0.0) as usize).max(first as usize);
    let end = ((centre + reach).ceil().max(0.0) as usize).min(end as usize);
    let weights: Vec<_> = (first..end).map(|sample| weight(sample as f64 + 0.5)).collect();
    (weights.iter().sum::<f64>() > f64::EPSILON).then_some((first, weights))
}

/// The tent: linear interpolation.
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// The cubic with B = 0, C = 1/2 (Mitchell and Netravali, "Reconstruction filters in computer
/// graphics", SIGGRAPH 1988, equation 8): interpolates, exact for quadratics.
fn catmull_rom(x: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

/// The cubic with B = C = 1/3, the one that the same paper recommends.
fn mitchell(x: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => ((7.0 * x - 12.0) * x * x + 16.0 / 3.0) / 6.0,
        x if x < 2.0 => (((-7.0 / 3.0 * x + 12.0) * x - 20.0) * x + 32.0 / 3.0) / 6.0,
        _ => 0.0,
    }
}

/// A sinc windowed by the central lobe of one three times as wide (Duchon, "Lanczos filtering in one
/// and two dimensions", J. Applied Meteorology 18, 1979).
fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}
