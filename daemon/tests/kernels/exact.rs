//! Owns the definition that kernels are held against: every plane in f64, each destination sample a sum
//! over all source samples. Written without a look at `filter.rs`, slow, and meant to be. Which part of a
//! frame becomes which part of another it takes from the product (`StreamSpec::placement`), whose own
//! tests hold that.

use resized_protocol::frame::{Component, FrameSpec, Matrix, PixelFormat, Plane, Range, Siting};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::{Framing, Placement};
use resized_protocol::shm::RingLayout;
use resized_protocol::tensor::{ChannelOrder, Element};

/// The exact numbers of a destination plane, row by row, pixel by pixel, cut to what they may be
/// but not rounded.
pub(crate) fn plane(spec: &StreamSpec, ring: &RingLayout, input: &[u8], index: usize) -> Vec<f64> {
    let placement = spec.placement().unwrap();
    let plane = ring.output().planes()[index];
    let to = spec.destination.format.components()[index][0];
    let step = if to == Component::Chroma { 2 } else { 1 };
    let rectangle = placement.destination;
    let (left, top) = (rectangle.left as usize / step, rectangle.top as usize / step);
    let width = (rectangle.extent.width as usize).div_ceil(step);
    let height = (rectangle.extent.height as usize).div_ceil(step);
    let channels = source_channels(spec, &placement, ring, input, to);
    let first: usize = spec.destination.format.components()[..index].iter().map(|c| c.len()).sum();
    let mut numbers = Vec::new();
    for y in 0..plane.rows() {
        for x in 0..plane.extent.width as usize {
            let within = (left..left + width).contains(&x) && (top..top + height).contains(&y);
            let pixel = match spec.framing {
                Framing::Fit { pad, .. } if !within => {
                    from_rgba(spec, [pad[0], pad[1], pad[2], 255].map(f64::from))
                }
                _ => {
                    let at = (y - top) * width + (x - left);
                    let mut pixel: Vec<f64> = channels.iter().map(|channel| channel[at]).collect();
                    if spec.source.format.has_alpha() && spec.alpha == Alpha::Weighs {
                        let share = if pixel[3] >= 0.5 { 255.0 / pixel[3] } else { 0.0 };
                        pixel[..3].iter_mut().for_each(|colour| *colour *= share);
                    }
                    converted(spec, pixel)
                }
            };
            numbers.extend(&pixel[first..first + plane.channels]);
        }
    }
    numbers
}

/// Every channel of the source at the places of the picture's samples in planes of the component `to`.
fn source_channels(
    spec: &StreamSpec,
    placement: &Placement,
    ring: &RingLayout,
    input: &[u8],
    to: Component,
) -> Vec<Vec<f64>> {
    let mut channels = Vec::new();
    for (source, components) in ring.input().planes().iter().zip(spec.source.format.components()) {
        let (across, down) = weights(spec, placement, (components[0], to), source);
        for c in 0..source.channels {
            let sample = |x: usize, y: usize| {
                let row = &input[source.offset + y * source.stride..];
                let bytes = &row[(x * source.channels + c) * source.sample_bytes..];
                let weighed = spec.source.format.has_alpha() && spec.alpha == Alpha::Weighs;
                match spec.source.format {
                    _ if weighed && c < 3 => {
                        let alpha = f64::from(row[x * source.channels + 3]);
                        f64::from(bytes[0]) * alpha / 255.0
                    }
                    PixelFormat::I420P10 => {
                        f64::from(u16::from_le_bytes([bytes[0], bytes[1]]).min(1023))
                    }
                    PixelFormat::P010 => f64::from(u16::from_le_bytes([bytes[0], bytes[1]]) >> 6),
                    _ => f64::from(bytes[0]),
                }
            };
            let (width, height) = (source.extent.width as usize, source.rows());
            let wide = |y: usize, taps: &Vec<f64>| -> f64 {
                (0..width).filter(|&x| taps[x] != 0.0).map(|x| taps[x] * sample(x, y)).sum()
            };
            let wide: Vec<Vec<f64>> =
                (0..height).map(|y| across.iter().map(|taps| wide(y, taps)).collect()).collect();
            let value = |taps: &Vec<f64>, x: usize| (0..height).map(|y| taps[y] * wide[y][x]).sum();
            let row = |taps| (0..across.len()).map(move |x| value(taps, x));
            channels.push(down.iter().flat_map(row).collect());
        }
    }
    channels
}

/// For each of the picture's samples in both directions the weight of every source sample.
pub(crate) fn weights(
    spec: &StreamSpec,
    placement: &Placement,
    (from, to): (Component, Component),
    source: &Plane,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let step = |component| if component == Component::Chroma { 2.0 } else { 1.0 };
    // Where sample 0 lies, in pixels from the edge of the frame.
    let first = |component, siting| match (component, siting) {
        (Component::Chroma, Siting::Centre) => 1.0,
        _ => 0.5,
    };
    let axis = |samples: u32, (start, len): (f64, f64), pixels: u32, sitings: (Siting, Siting)| {
        let scale = len / f64::from(pixels);
        let count = if to == Component::Chroma { pixels.div_ceil(2) } else { pixels };
        (0..count)
            .map(|j| {
                let place = start + (first(to, sitings.1) + step(to) * f64::from(j)) * scale;
                let distance = |i: u32| {
                    let seen = f64::from(i + 1) * step(from) > start
                        && f64::from(i) * step(from) < start + len;
                    let at = first(from, sitings.0) + step(from) * f64::from(i);
                    seen.then_some((place - at) / step(from))
                };
                let ratio = scale * step(to) / step(from);
                normalised(spec.filter, ratio, (0..samples).map(distance).collect())
            })
            .collect()
    };
    let (crop, picture) = (placement.source, placement.destination.extent);
    let horizontal = (spec.source.siting, spec.destination.siting);
    let vertical = (Siting::Centre, Siting::Centre);
    (
        axis(source.extent.width, (crop.left, crop.width), picture.width, horizontal),
        axis(source.extent.height, (crop.top, crop.height), picture.height, vertical),
    )
}

/// Weights of samples at those distances, which sum to one; those without one are not to be read.
fn normalised(filter: Filter, scale: f64, distances: Vec<Option<f64>>) -> Vec<f64> {
    let stretch = scale.max(1.0);
    let kernel = |d: f64| {
        let x = d.abs() / stretch;
        match filter {
            Filter::Nearest => 0.0,
            // Nothing changes: copied.
            _ if scale == 1.0 && distances.contains(&Some(0.0)) => 0.0,
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
    let weights: Vec<_> = distances.iter().map(|d| d.map_or(0.0, kernel)).collect();
    let sum: f64 = weights.iter().sum();
    if sum > 1e-9 {
        return weights.iter().map(|weight| weight / sum).collect();
    }
    // The nearest one; of two equally near ones the later.
    let distance = |d: &Option<f64>| d.map_or(f64::INFINITY, f64::abs);
    let nearest = distances.iter().map(distance).fold(f64::INFINITY, f64::min);
    let chosen = distances.iter().rposition(|d| distance(d) < nearest + 1e-9);
    (0..distances.len()).map(|i| if Some(i) == chosen { 1.0 } else { 0.0 }).collect()
}

/// The numbers of a destination pixel from those of a source pixel.
fn converted(spec: &StreamSpec, source: Vec<f64>) -> Vec<f64> {
    from_rgba(spec, rgba(&spec.source, &source))
}

/// Shares of red and blue in luma.
fn shares(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

fn is_limited(frame: &FrameSpec) -> bool {
    frame.range == Range::Limited && !matches!(frame.format, PixelFormat::Tensor(_))
}

/// Steps of a sample for one of eight bits, and the greatest.
fn depth(frame: &FrameSpec) -> (f64, f64) {
    match frame.format {
        PixelFormat::I420P10 | PixelFormat::P010 => (4.0, 1023.0),
        _ => (1.0, 255.0),
    }
}

/// Red, green, blue and alpha of 0..=255.
fn rgba(frame: &FrameSpec, samples: &[f64]) -> [f64; 4] {
    let (steps, greatest) = depth(frame);
    let full = |value: f64| match is_limited(frame) {
        true => (value / steps - 16.0) / 219.0 * 255.0,
        false => value / greatest * 255.0,
    };
    let [a, b, c] = [0, 1, 2].map(|i| samples.get(i).copied().unwrap_or(0.0));
    match frame.format {
        PixelFormat::Gray8 => [full(a), full(a), full(a), 255.0],
        PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::I420P10 | PixelFormat::P010 => {
            let ((kr, kb), y) = (shares(frame.matrix), full(a));
            let span = if is_limited(frame) { 224.0 * steps } else { greatest };
            let chroma = |value: f64| (value - 128.0 * steps) / span * 255.0;
            let (cb, cr) = (chroma(b), chroma(c));
            let (red, blue) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
            [red, (y - kr * red - kb * blue) / (1.0 - kr - kb), blue, 255.0]
        }
        PixelFormat::Rgb24 => [full(a), full(b), full(c), 255.0],
        PixelFormat::Bgr24 => [full(c), full(b), full(a), 255.0],
        PixelFormat::Rgba => [full(a), full(b), full(c), samples[3]],
        PixelFormat::Bgra => [full(c), full(b), full(a), samples[3]],
        PixelFormat::Tensor(_) => unreachable!("a tensor is no source"),
    }
}

fn from_rgba(spec: &StreamSpec, [red, green, blue, alpha]: [f64; 4]) -> Vec<f64> {
    let frame = &spec.destination;
    let (kr, kb) = shares(frame.matrix);
    let (steps, greatest) = depth(frame);
    let ranged = |value: f64| match is_limited(frame) {
        true => (value * 219.0 / 255.0 + 16.0) * steps,
        false => value / 255.0 * greatest,
    };
    let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
    let span = if is_limited(frame) { 224.0 * steps } else { greatest };
    let cb = (blue - y) / (2.0 * (1.0 - kb)) * span / 255.0 + 128.0 * steps;
    let cr = (red - y) / (2.0 * (1.0 - kr)) * span / 255.0 + 128.0 * steps;
    let numbers = match frame.format {
        PixelFormat::Gray8 => vec![ranged(y)],
        PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::I420P10 | PixelFormat::P010 => {
            vec![ranged(y), cb, cr]
        }
        PixelFormat::Rgb24 => vec![ranged(red), ranged(green), ranged(blue)],
        PixelFormat::Bgr24 => vec![ranged(blue), ranged(green), ranged(red)],
        PixelFormat::Rgba => vec![ranged(red), ranged(green), ranged(blue), alpha],
        PixelFormat::Bgra => vec![ranged(blue), ranged(green), ranged(red), alpha],
        PixelFormat::Tensor(tensor) => {
            let colours = match tensor.order {
                ChannelOrder::Rgb => [red, green, blue],
                ChannelOrder::Bgr => [blue, green, red],
            };
            let normalisation = spec.normalisation;
            let number = |c: usize| {
                let mean = f64::from(normalisation.mean[c]);
                let number =
                    (colours[c].clamp(0.0, 255.0) - mean) * f64::from(normalisation.scale[c]);
                match tensor.element {
                    Element::I8 => number.clamp(-128.0, 127.0),
                    Element::F16 | Element::F32 => number,
                }
            };
            return [0, 1, 2].map(number).to_vec();
        }
    };
    numbers.into_iter().map(|number| number.clamp(0.0, greatest)).collect()
}
