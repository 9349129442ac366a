//! Owns the definition that kernels are held against: every plane in f64, each destination sample a sum
//! over all source samples. Written without a look at `filter.rs`, slow, and meant to be.

use resized_protocol::frame::{Component, Plane, Range, Siting};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::shm::RingLayout;

/// The exact samples of a plane's channel, row by row, neither rounded nor cut to 0..=255.
pub(crate) fn channel(
    spec: &StreamSpec,
    ring: &RingLayout,
    input: &[u8],
    (plane, channel): (usize, usize),
) -> Vec<f64> {
    let (source, destination) = (ring.input().planes()[plane], ring.output().planes()[plane]);
    let component = spec.source.format.components()[plane][channel];
    let (across, down) = weights(spec, component, &source, &destination);
    let sample = |x: usize, y: usize| {
        f64::from(input[source.offset + y * source.stride + x * source.channels + channel])
    };
    let (width, height) = (source.extent.width as usize, source.rows());
    let wide: Vec<Vec<f64>> = (0..height)
        .map(|y| {
            across.iter().map(|taps| (0..width).map(|x| taps[x] * sample(x, y)).sum()).collect()
        })
        .collect();
    let value = |taps: &Vec<f64>, x: usize| (0..height).map(|y| taps[y] * wide[y][x]).sum();
    let converted = |value| converted(component, spec.source.range, spec.destination.range, value);
    let row = |taps| (0..across.len()).map(move |x| converted(value(taps, x)));
    down.iter().flat_map(row).collect()
}

/// For each destination sample of both directions the weight of every source sample.
fn weights(
    spec: &StreamSpec,
    component: Component,
    source: &Plane,
    destination: &Plane,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let step = if component == Component::Chroma { 2.0 } else { 1.0 };
    // Where sample 0 lies, in luma pixels from the edge of the frame.
    let first = |siting| match (component, siting) {
        (Component::Chroma, Siting::Centre) => 1.0,
        _ => 0.5,
    };
    let axis = |(from, to): (u32, u32), (first_from, first_to), (lengths_from, lengths_to)| {
        let scale = f64::from(lengths_from) / f64::from(lengths_to);
        (0..to)
            .map(|j| {
                let place = (first_to + step * f64::from(j)) * scale;
                let distance = |i: u32| (place - first_from - step * f64::from(i)) / step;
                normalised(spec.filter, scale, (0..from).map(distance).collect())
            })
            .collect()
    };
    let (s, d) = (spec.source, spec.destination);
    (
        axis(
            (source.extent.width, destination.extent.width),
            (first(s.siting), first(d.siting)),
            (s.extent.width, d.extent.width),
        ),
        axis(
            (source.extent.height, destination.extent.height),
            (first(Siting::Centre), first(Siting::Centre)),
            (s.extent.height, d.extent.height),
        ),
    )
}

/// Weights of samples at those distances, which sum to one.
fn normalised(filter: Filter, scale: f64, distances: Vec<f64>) -> Vec<f64> {
    let stretch = scale.max(1.0);
    let kernel = |d: f64| {
        let x = d.abs() / stretch;
        match filter {
            Filter::Nearest => 0.0,
            // Nothing changes: copied.
            _ if scale == 1.0 && distances.contains(&0.0) => 0.0,
            Filter::Area => {
                ((d + scale / 2.0).min(0.5) - (d - scale / 2.0).max(-0.5)).max(0.0) / scale
            }
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
            Filter::Bicubic if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
            Filter::Lanczos3 if x < 1e-9 => 1.0,
            Filter::Lanczos3 if x < 3.0 => {
                let angle = std::f64::consts::PI * x;
                3.0 * angle.sin() * (angle / 3.0).sin() / (angle * angle)
            }
            Filter::Mitchell if x < 1.0 => 7.0 / 6.0 * x.powi(3) - 2.0 * x.powi(2) + 8.0 / 9.0,
            Filter::Mitchell if x < 2.0 => {
                -7.0 / 18.0 * x.powi(3) + 2.0 * x.powi(2) - 10.0 / 3.0 * x + 16.0 / 9.0
            }
            Filter::Bicubic | Filter::Lanczos3 | Filter::Mitchell => 0.0,
        }
    };
    let weights: Vec<_> = distances.iter().map(|&d| kernel(d)).collect();
    let sum: f64 = weights.iter().sum();
    if sum > 1e-9 {
        return weights.iter().map(|weight| weight / sum).collect();
    }
    // The nearest one; of two equally near ones the later.
    let nearest = distances.iter().map(|d| d.abs()).fold(f64::INFINITY, f64::min);
    let chosen = distances.iter().rposition(|d| d.abs() < nearest + 1e-9);
    (0..distances.len()).map(|i| if Some(i) == chosen { 1.0 } else { 0.0 }).collect()
}

/// A value in another nominal range.
fn converted(component: Component, from: Range, to: Range, value: f64) -> f64 {
    let ends = |range| match (component, range) {
        (Component::Alpha, _) | (Component::Luma | Component::Colour, Range::Full) => (0.0, 255.0),
        (Component::Luma | Component::Colour, Range::Limited) => (16.0, 235.0),
        (Component::Chroma, Range::Full) => (0.5, 255.5),
        (Component::Chroma, Range::Limited) => (16.0, 240.0),
    };
    let ((from_low, from_high), (to_low, to_high)) = (ends(from), ends(to));
    (value - from_low) / (from_high - from_low) * (to_high - to_low) + to_low
}
