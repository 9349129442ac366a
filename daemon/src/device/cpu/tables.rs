//! Owns a bound on the memory that a stream's tables take, at whatever level, known before any is made.
//!
//! Knows specs alone. Invariant: no level keeps more than that for a stream, whatever its ratio.

use resized_protocol::frame::{Component, Extent, FrameSpec};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::placement::Framing;

/// Bytes that are kept for each vertical tap, for each row and column, and for each plane that is
/// prepared, at the most.
const TAP_BYTES: u64 = 8;
const LINE_BYTES: u64 = 16;
const LEAST_BYTES: u64 = 4 << 10;

/// Horizontal taps are gathered: of a block of so many outputs up to [`GATHERED`] of each by one
/// gather, from one window of [`REACH`] samples. What is kept for one, at the most, whatever the
/// vectors are: places and weights, whether they are used or not.
const BLOCK: u64 = 16;
const GATHERED: u64 = 4;
const REACH: u64 = 64;
const GATHER_BYTES: u64 = 264;

/// Bytes that the tables of a stream take at the most: each source plane has taps of both directions,
/// for destination planes of its own kind or, where those are other ones, of all sizes there are.
pub(super) fn bytes(spec: &StreamSpec) -> u64 {
    let StreamSpec { source, destination, filter, .. } = spec;
    let kind = |frame: &FrameSpec| (frame.format, frame.matrix, frame.range);
    let plane = |components: &[Component]| {
        let is_chroma = components[0] == Component::Chroma;
        let halved = |extent: Extent| if is_chroma { extent.halved() } else { extent };
        let from = halved(source.extent);
        let channels = components.len() as u64;
        let pass = |to: Extent| {
            let rows = u64::from(to.height);
            let vertical = window(*filter, from.height, to.height) * rows * TAP_BYTES;
            let lines = u64::from(to.width) * channels + rows;
            let horizontal = horizontal_taps(*filter, from.width, to.width, channels);
            horizontal + vertical + lines * LINE_BYTES + LEAST_BYTES
        };
        let passes = |to: Extent| match destination.format.is_subsampled() {
            _ if kind(source) == kind(destination) => pass(halved(to)),
            true => pass(to) + pass(to.halved()),
            false => pass(to),
        };
        pictures(spec).map(passes).max().unwrap_or(0)
    };
    source.format.components().iter().map(|components| plane(components)).sum()
}

/// Extents that a picture may have in the destination, by halves: of a crop that a frame brings it is
/// another one where it keeps its shape.
fn pictures(spec: &StreamSpec) -> impl Iterator<Item = Extent> {
    let fits = matches!(spec.framing, Framing::Fit { .. });
    let Extent { width, height } = spec.destination.extent;
    let most = if fits { width.max(height).ilog2() } else { 0 };
    let part = move |halves| [(width >> halves, height), (width, height >> halves)];
    (0..=most).flat_map(part).map(|(width, height)| Extent::new(width.max(1), height.max(1)))
}

/// Bytes for the taps of rows. The further apart outputs lie the fewer of a block find taps in the
/// same window: in the end each has gathers of its own. Where nothing is gathered, and channels are
/// interleaved, they have weights of zero for each other.
fn horizontal_taps(filter: Filter, from: u32, to: u32, channels: u64) -> u64 {
    let (window, outputs) = (window(filter, from, to), u64::from(to) * channels);
    let spread = BLOCK * u64::from(from.div_ceil(to));
    let apart = (1 + spread.div_ceil(REACH)).min(BLOCK).min(outputs);
    let gathers = outputs.div_ceil(BLOCK) * window.div_ceil(GATHERED) * apart;
    let weights = outputs.next_multiple_of(BLOCK) * (window * channels).next_multiple_of(GATHERED);
    (gathers * GATHER_BYTES).max(weights * size_of::<i16>() as u64)
}

/// Taps of an output in one direction.
fn window(filter: Filter, from: u32, to: u32) -> u64 {
    let support = match filter {
        Filter::Nearest | Filter::Area => 1,
        Filter::Bilinear => 2,
        Filter::Bicubic | Filter::Mitchell => 4,
        Filter::Lanczos3 => 6,
    };
    let (from, to) = (u64::from(from), u64::from(to));
    // A window is cut at the borders.
    let window = support * from.div_ceil(to) + 2;
    window.min(from)
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::PixelFormat;
    use resized_protocol::message::Alpha;
    use resized_protocol::placement::Align;
    use resized_protocol::shm::RingLayout;

    use super::super::tests::{every_level, kept};
    use super::*;
    use crate::device::Device;

    /// Whatever the ratio, at every level that this machine has.
    #[test]
    fn tables_are_within_what_is_charged_for_them() {
        const SIDES: [((u32, u32), (u32, u32)); 14] = [
            ((16384, 2), (129, 2)),
            ((2, 16384), (2, 129)),
            ((16384, 2), (1, 1)),
            ((4096, 3), (1365, 2)),
            ((4096, 3), (900, 3)),
            ((4096, 3), (700, 1)),
            ((3000, 9), (201, 2)),
            ((1920, 1080), (640, 360)),
            ((640, 360), (1920, 1081)),
            ((300, 300), (299, 301)),
            ((2, 2), (3000, 3000)),
            ((1000, 40), (30, 3000)),
            ((7, 5), (3, 2)),
            ((2048, 2048), (2048, 34)),
        ];
        for (from, to) in SIDES {
            for (format, into, alpha) in [
                (PixelFormat::Gray8, PixelFormat::Gray8, Alpha::Apart),
                (PixelFormat::Gray8, PixelFormat::Rgb24, Alpha::Apart),
                (PixelFormat::Rgb24, PixelFormat::Rgb24, Alpha::Apart),
                (PixelFormat::Rgba, PixelFormat::Rgba, Alpha::Apart),
                (PixelFormat::Rgba, PixelFormat::Nv12, Alpha::Weighs),
                (PixelFormat::Nv12, PixelFormat::Nv12, Alpha::Apart),
                (PixelFormat::P010, PixelFormat::P010, Alpha::Apart),
                (PixelFormat::Rgba, PixelFormat::Rgba, Alpha::Weighs),
                (PixelFormat::I420, PixelFormat::Bgra, Alpha::Apart),
                (PixelFormat::P010, PixelFormat::I420P10, Alpha::Apart),
            ] {
                for filter in [Filter::Nearest, Filter::Area, Filter::Bicubic, Filter::Lanczos3] {
                    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
                    let mut spec = StreamSpec::new(source, Extent::new(to.0, to.1));
                    (spec.destination.format, spec.alpha, spec.slots) = (into, alpha, 1);
                    spec.filter = filter;
                    let fit = Framing::Fit { align: Align::Centre, pad: [0; 3] };
                    for framing in [Framing::Stretch, fit] {
                        spec.framing = framing;
                        let ring = RingLayout::new(&spec).unwrap();
                        for cpu in every_level() {
                            let level = cpu.level();
                            let kept = kept(|| cpu.open(&spec, &ring).unwrap());
                            assert!(kept <= bytes(&spec), "{kept} bytes, {level:?}: {spec:?}");
                        }
                    }
                }
            }
        }
    }
}
