//! Owns what the samples of one format and colour are in another: a sum of weighted source samples
//! and a constant for each destination channel.
//!
//! Knows one pixel, not where it lies. Formulas: ITU-T H.273, section 8.3 (equations of
//! `MatrixCoefficients`, non-constant luminance), with samples in steps of eight bits.

use resized_protocol::frame::{FrameSpec, Matrix, PixelFormat, Range};
use resized_protocol::message::StreamSpec;
use resized_protocol::tensor::ChannelOrder;

/// Most channels of a pixel.
pub(crate) const MAX_CHANNELS: usize = 4;

/// What a channel of a pixel measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Luma,
    Cb,
    Cr,
    Red,
    Green,
    Blue,
    Alpha,
}

/// A destination channel: `sum(weights[i] x source channel i) + bias`, cut to `low..=high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Blend {
    /// For the source's channels in the order of [`PixelFormat::components`], in steps of eight bits.
    pub(crate) weights: [f64; MAX_CHANNELS],
    /// In the unit of the destination.
    pub(crate) bias: f64,
    /// The least value it may have.
    pub(crate) low: f64,
    /// The greatest.
    pub(crate) high: f64,
}

/// Red, green, blue and alpha of 0..=255 as sums of the channels of a source, or of those of a
/// destination as sums of red, green, blue and alpha.
type Rows = Vec<([f64; MAX_CHANNELS], f64)>;

impl Blend {
    /// One for each channel of the destination, in the order of [`PixelFormat::components`].
    pub(crate) fn all(spec: &StreamSpec) -> Vec<Self> {
        let (to_rgba, from_rgba) = (to_rgba(&spec.source), from_rgba(&spec.destination));
        let composed = from_rgba.into_iter().map(|(row, bias)| {
            let mut weights = [0.0; MAX_CHANNELS];
            let mut sum = bias;
            for (share, (source, bias)) in row.into_iter().zip(&to_rgba) {
                for (weight, part) in weights.iter_mut().zip(source) {
                    *weight += share * part;
                }
                sum += share * bias;
            }
            // What cancels out is no reason to read a plane.
            (weights.map(|weight| if weight.abs() < 1e-9 { 0.0 } else { weight }), sum)
        });
        composed.enumerate().map(|(c, row)| Self::of_channel(spec, c, row)).collect()
    }

    /// Normalised, for a tensor.
    fn of_channel(
        spec: &StreamSpec,
        c: usize,
        (weights, bias): ([f64; MAX_CHANNELS], f64),
    ) -> Self {
        let PixelFormat::Tensor(_) = spec.destination.format else {
            let high = if is_ten_bit(&spec.destination) { 1023.0 } else { 255.0 };
            return Self { weights, bias, low: 0.0, high };
        };
        let normalisation = &spec.normalisation;
        let (mean, scale) = (f64::from(normalisation.mean[c]), f64::from(normalisation.scale[c]));
        let ends = [-mean * scale, (255.0 - mean) * scale];
        Self {
            weights: weights.map(|weight| weight * scale),
            bias: (bias - mean) * scale,
            low: ends[0].min(ends[1]),
            high: ends[0].max(ends[1]),
        }
    }

    /// The channels of an opaque colour in full range.
    pub(crate) fn pad(spec: &StreamSpec, [red, green, blue]: [u8; 3]) -> Vec<f64> {
        let rgba = [red, green, blue, 255].map(f64::from);
        let rows = from_rgba(&spec.destination).into_iter().enumerate();
        let value = |(c, (row, bias)): (usize, ([f64; MAX_CHANNELS], f64))| {
            let sum: f64 = row.iter().zip(rgba).map(|(share, value)| share * value).sum();
            let blend = Self::of_channel(spec, c, ([1.0, 0.0, 0.0, 0.0], 0.0));
            (blend.weights[0] * (sum + bias) + blend.bias).clamp(blend.low, blend.high)
        };
        rows.map(value).collect()
    }
}

/// The channels of a pixel, in memory order, plane after plane.
fn channels(format: PixelFormat) -> &'static [Channel] {
    use Channel::{Alpha, Blue, Cb, Cr, Green, Luma, Red};
    match format {
        PixelFormat::Gray8 => &[Luma],
        PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::I420P10 | PixelFormat::P010 => {
            &[Luma, Cb, Cr]
        }
        PixelFormat::Rgb24 => &[Red, Green, Blue],
        PixelFormat::Bgr24 => &[Blue, Green, Red],
        PixelFormat::Rgba => &[Red, Green, Blue, Alpha],
        PixelFormat::Bgra => &[Blue, Green, Red, Alpha],
        PixelFormat::Tensor(tensor) => match tensor.order {
            ChannelOrder::Rgb => &[Red, Green, Blue],
            ChannelOrder::Bgr => &[Blue, Green, Red],
        },
    }
}

/// Shares of red, green and blue in luma.
const fn shares(matrix: Matrix) -> [f64; 3] {
    let (red, blue) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    [red, 1.0 - red - blue, blue]
}

/// The sample that means zero, and the number of steps of what is 255 in full range. Steps are those of
/// eight bits: four of ten bits', whose full range is a little longer.
const fn nominal(channel: Channel, range: Range, ten_bit: bool) -> (f64, f64) {
    let full = if ten_bit { 1023.0 / 4.0 } else { 255.0 };
    match (channel, range) {
        (Channel::Cb | Channel::Cr, Range::Full) => (128.0, full),
        (Channel::Cb | Channel::Cr, Range::Limited) => (128.0, 224.0),
        (Channel::Alpha, _) | (_, Range::Full) => (0.0, full),
        (_, Range::Limited) => (16.0, 219.0),
    }
}

const fn is_ten_bit(frame: &FrameSpec) -> bool {
    matches!(frame.format, PixelFormat::I420P10 | PixelFormat::P010)
}

fn to_rgba(frame: &FrameSpec) -> Rows {
    let [kr, kg, kb] = shares(frame.matrix);
    let channels = channels(frame.format);
    let mut rows: Rows = vec![([0.0; MAX_CHANNELS], 0.0); 4];
    for (i, &channel) in channels.iter().enumerate() {
        let parts = match channel {
            Channel::Luma => [1.0, 1.0, 1.0, 0.0],
            Channel::Cb => [0.0, -2.0 * kb * (1.0 - kb) / kg, 2.0 * (1.0 - kb), 0.0],
            Channel::Cr => [2.0 * (1.0 - kr), -2.0 * kr * (1.0 - kr) / kg, 0.0, 0.0],
            Channel::Red => [1.0, 0.0, 0.0, 0.0],
            Channel::Green => [0.0, 1.0, 0.0, 0.0],
            Channel::Blue => [0.0, 0.0, 1.0, 0.0],
            Channel::Alpha => [0.0, 0.0, 0.0, 1.0],
        };
        let (zero, span) = nominal(channel, frame.range, is_ten_bit(frame));
        for ((weights, bias), part) in rows.iter_mut().zip(parts) {
            weights[i] = part * 255.0 / span;
            *bias -= weights[i] * zero;
        }
    }
    if !channels.contains(&Channel::Alpha) {
        // Opaque.
        rows[3].1 = 255.0;
    }
    rows
}

fn from_rgba(frame: &FrameSpec) -> Rows {
    let [kr, kg, kb] = shares(frame.matrix);
    let full_range = matches!(frame.format, PixelFormat::Tensor(_));
    let row = |&channel: &Channel| {
        let parts = match channel {
            Channel::Luma => [kr, kg, kb, 0.0],
            Channel::Cb => [-kr, -kg, 1.0 - kb, 0.0].map(|part| part / (2.0 * (1.0 - kb))),
            Channel::Cr => [1.0 - kr, -kg, -kb, 0.0].map(|part| part / (2.0 * (1.0 - kr))),
            Channel::Red => [1.0, 0.0, 0.0, 0.0],
            Channel::Green => [0.0, 1.0, 0.0, 0.0],
            Channel::Blue => [0.0, 0.0, 1.0, 0.0],
            Channel::Alpha => [0.0, 0.0, 0.0, 1.0],
        };
        let range = if full_range { Range::Full } else { frame.range };
        let (zero, span) = nominal(channel, range, is_ten_bit(frame));
        let steps = if is_ten_bit(frame) { 4.0 } else { 1.0 };
        (parts.map(|part| steps * part * span / 255.0), steps * zero)
    };
    channels(frame.format).iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::Extent;
    use resized_protocol::tensor::{Arrangement, Element, Normalisation, Tensor};

    use super::*;

    fn converted(spec: &StreamSpec, samples: [f64; MAX_CHANNELS]) -> Vec<f64> {
        let value = |blend: Blend| {
            let sum: f64 = blend.weights.iter().zip(samples).map(|(w, sample)| w * sample).sum();
            (sum + blend.bias).clamp(blend.low, blend.high)
        };
        Blend::all(spec).into_iter().map(value).collect()
    }

    fn spec(from: PixelFormat, to: PixelFormat) -> StreamSpec {
        let extent = Extent::new(16, 16);
        let (source, destination) = (FrameSpec::new(from, extent), FrameSpec::new(to, extent));
        StreamSpec { destination, ..StreamSpec::new(source, extent) }
    }

    fn assert_close(found: &[f64], wanted: &[f64]) {
        let close = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.01);
        assert!(close && found.len() == wanted.len(), "{found:?} {wanted:?}");
    }

    /// Of 75 % colour bars in limited range, from the tables of the standards.
    #[test]
    fn primaries_are_those_of_the_standards() {
        let mut spec = spec(PixelFormat::Rgb24, PixelFormat::I420);
        let red = [255.0, 0.0, 0.0, 0.0];
        assert_close(&converted(&spec, red), &[81.481, 90.203, 240.0]);
        spec.destination.matrix = Matrix::Bt709;
        assert_close(&converted(&spec, red), &[62.559, 102.336, 240.0]);
        spec.destination.matrix = Matrix::Bt2020;
        assert_close(&converted(&spec, red), &[73.531, 96.723, 240.0]);
        spec.destination.range = Range::Full;
        assert_close(&converted(&spec, [255.0; 4]), &[255.0, 128.0, 128.0]);
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            for range in [Range::Limited, Range::Full] {
                let mut there = spec(PixelFormat::Bgra, PixelFormat::Nv12);
                (there.destination.matrix, there.destination.range) = (matrix, range);
                let mut back = spec(PixelFormat::Nv12, PixelFormat::Rgba);
                (back.source.matrix, back.source.range) = (matrix, range);
                let yuv = converted(&there, [10.0, 100.0, 200.0, 50.0]);
                let rgba = converted(&back, [yuv[0], yuv[1], yuv[2], 0.0]);
                assert_close(&rgba, &[200.0, 100.0, 10.0, 255.0]);
            }
        }
    }

    #[test]
    fn what_stays_the_same_is_read_alone() {
        let blends = Blend::all(&spec(PixelFormat::I420, PixelFormat::Nv12));
        let alone = |i: usize| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 });
        for (i, blend) in blends.into_iter().enumerate() {
            let wanted: [f64; MAX_CHANNELS] = alone(i);
            assert!(blend.weights.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        let grey = Blend::all(&spec(PixelFormat::I420, PixelFormat::Gray8));
        assert_eq!(grey[0].weights[1..], [0.0; 3]);
    }

    #[test]
    fn tensors_are_normalised_and_cut_to_what_colours_may_be() {
        let order = ChannelOrder::Bgr;
        let tensor = Tensor { element: Element::F32, arrangement: Arrangement::Planar, order };
        let mut spec = spec(PixelFormat::Rgb24, PixelFormat::Tensor(tensor));
        spec.normalisation = Normalisation { mean: [1.0, 2.0, 3.0], scale: [1.0, 0.5, -2.0] };
        assert_close(&converted(&spec, [10.0, 20.0, 30.0, 0.0]), &[29.0, 9.0, -14.0]);
        assert_close(&converted(&spec, [-9.0, 300.0, 500.0, 0.0]), &[254.0, 126.5, 6.0]);
        assert_close(&Blend::pad(&spec, [10, 20, 30]), &[29.0, 9.0, -14.0]);
    }

    #[test]
    fn padding_has_its_colour() {
        let grey = Blend::pad(&spec(PixelFormat::Rgb24, PixelFormat::I420), [114; 3]);
        assert_close(&grey, &[16.0 + 114.0 * 219.0 / 255.0, 128.0, 128.0]);
        let bgra = Blend::pad(&spec(PixelFormat::I420, PixelFormat::Bgra), [1, 2, 3]);
        assert_close(&bgra, &[3.0, 2.0, 1.0, 255.0]);
    }
}
