//! Owns what a frame costs in the fair queue, and what a stream's tables take of memory, from its
//! spec and what was measured of it.
//!
//! Knows neither devices nor tables. Costs are in pixels of the cheapest kind, planes of bytes: a
//! stream's pixels cost as many times that as they were measured to take longer. Until something
//! was measured, the stream's kind decides.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use resized_protocol::frame::{Component, Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::{Crop, Framing};

use crate::metrics::nanoseconds;

/// Cheap pixels that a lane does in a nanosecond: about as many as one does with vectors of 512
/// bits. It scales all that was measured alike.
const PIXELS_PER_NS: u64 = 10;

/// Times the pixels of the larger end that there are between the passes, at the most.
const MOST_BETWEEN: u64 = 4;

/// What a pixel costs is kept in parts of so many, so small that frames of few pixels change it by
/// no more than they should.
const UNIT: u64 = 1 << 20;

/// The part of an estimate that the next whole frame makes is one in so many, and no frame counts
/// for more than so many times the estimate: a lane may have been kept from its core. One of fewer
/// pixels makes as much less of a part: else whoever has small cheap ones between the large ones
/// would pay for those what the small ones cost.
const MEMORY: u64 = 4;

/// Bytes that devices keep for each vertical tap, for each row and column, and for whatever they are
/// asked to prepare, at the most.
const TAP_BYTES: u64 = 8;
const LINE_BYTES: u64 = 16;
const LEAST_BYTES: u64 = 4 << 10;

/// Horizontal taps are gathered: of a block of so many outputs up to [`GATHERED`] of each by one
/// gather, from one window of [`REACH`] samples. What devices keep for one, at the most, whatever their
/// vectors are: places and weights, whether they are used or not.
const BLOCK: u64 = 16;
const GATHERED: u64 = 4;
const REACH: u64 = 64;
const GATHER_BYTES: u64 = 264;

/// What is resized of a frame, and to what.
pub(super) struct Extents {
    seen: Extent,
    made: Extent,
}

impl Extents {
    /// Of a stream's frame that has a crop of its own, or the stream's.
    pub(super) fn new(spec: &StreamSpec, own: Option<Crop>) -> Self {
        let rounded = |crop: Crop| Extent::new(crop.width.ceil() as u32, crop.height.ceil() as u32);
        let seen = own.or(spec.crop).map_or(spec.source.extent, rounded);
        Self { seen, made: spec.destination.extent }
    }

    /// Pixels of both.
    pub(super) const fn pixels(&self) -> u64 {
        self.seen.pixels() + self.made.pixels()
    }

    /// Pixels between the two passes, whichever comes first. More than at both ends only where one
    /// direction shrinks and the other grows; devices put that last which would make far more.
    pub(super) fn between(&self) -> u64 {
        let Self { seen, made } = self;
        let pixels = |width, height| Extent::new(width, height).pixels();
        let between = pixels(seen.width, made.height).max(pixels(made.width, seen.height));
        between.min(MOST_BETWEEN * seen.pixels().max(made.pixels()))
    }

    /// All of them.
    pub(super) fn work(&self) -> u64 {
        self.pixels() + self.between()
    }
}

/// What a pixel of a stream costs.
pub(super) struct Rate {
    /// In parts of [`UNIT`].
    price: AtomicU64,
    measured: AtomicBool,
    /// Pixels of a frame without a crop of its own, or of the largest that was measured.
    whole: AtomicU64,
}

impl Rate {
    pub(super) fn new(spec: &StreamSpec) -> Self {
        let price = AtomicU64::new(effort(spec) * UNIT);
        let whole = Extents::new(spec, None).work().max(1);
        Self { price, measured: false.into(), whole: whole.into() }
    }

    /// A frame of so many pixels took lanes so long.
    pub(super) fn note(&self, pixels: u64, worked: Duration) {
        let parts = u128::from(nanoseconds(worked)) * u128::from(PIXELS_PER_NS * UNIT);
        let sample = u64::try_from(parts / u128::from(pixels.max(1))).unwrap_or(u64::MAX);
        let before = self.price.load(Ordering::Relaxed);
        let whole = self.whole.fetch_max(pixels, Ordering::Relaxed).max(pixels);
        let is_first = pixels >= whole && !self.measured.swap(true, Ordering::Relaxed);
        let price = if is_first {
            sample
        } else {
            let sample = sample.min(before.saturating_mul(MEMORY));
            let [kept, new] = [whole * (MEMORY - 1), pixels].map(u128::from);
            let total = u128::from(before) * kept + u128::from(sample) * new;
            let mixed = (total + (kept + new) / 2) / (kept + new);
            u64::try_from(mixed).unwrap_or(u64::MAX)
        };
        // Lanes that note at the same time may lose one of two: the next frame makes up for it.
        self.price.store(price.clamp(1, u64::MAX / 2), Ordering::Relaxed);
    }

    /// What so many pixels cost.
    pub(super) fn cost(&self, pixels: u64) -> u64 {
        let price = self.price.load(Ordering::Relaxed);
        let cost = u128::from(pixels) * u128::from(price) / u128::from(UNIT);
        u64::try_from(cost).unwrap_or(u64::MAX).max(1)
    }
}

/// What costs so much is thought to take a lane so long.
pub(super) const fn takes(cost: u64) -> Duration {
    Duration::from_nanos(cost / PIXELS_PER_NS)
}

/// How many times as long as planes of bytes its pixels take, roughly.
fn effort(spec: &StreamSpec) -> u64 {
    let StreamSpec { source, destination, .. } = spec;
    match source.format {
        format if format.has_alpha() && spec.alpha == Alpha::Weighs => 64,
        PixelFormat::I420P10 | PixelFormat::P010 => 4,
        _ if source.format != destination.format || source.matrix != destination.matrix => 4,
        PixelFormat::Gray8 | PixelFormat::I420 | PixelFormat::Nv12 => 1,
        _ => 3,
    }
}

/// Bytes that the tables of a stream take at the most: each source plane has taps of both directions,
/// for destination planes of its own kind or, where those are other ones, of all sizes there are.
pub(super) fn tables(spec: &StreamSpec) -> u64 {
    let StreamSpec { source, destination, filter, .. } = spec;
    let kind = |frame: &FrameSpec| (frame.format, frame.matrix, frame.range);
    let plane = |components: &[Component]| {
        let is_chroma = components[0] == Component::Chroma;
        let from = halved(source.extent, is_chroma);
        let channels = components.len() as u64;
        let pass = |to: Extent| {
            let rows = u64::from(to.height);
            let down = window(*filter, from.height, to.height) * rows;
            let lines = u64::from(to.width) * channels + rows;
            let across = across(*filter, from.width, to.width, channels);
            across + down * TAP_BYTES + lines * LINE_BYTES + LEAST_BYTES
        };
        let passes = |to: Extent| match destination.format.is_subsampled() {
            _ if kind(source) == kind(destination) => pass(halved(to, is_chroma)),
            true => pass(to) + pass(halved(to, true)),
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

fn halved(extent: Extent, halve: bool) -> Extent {
    match halve {
        true => Extent::new(extent.width.div_ceil(2), extent.height.div_ceil(2)),
        false => extent,
    }
}

/// Bytes for the taps of rows. The further apart outputs lie the fewer of a block find taps in the
/// same window: in the end each has gathers of its own. Where nothing is gathered, and channels are
/// interleaved, they have weights of zero for each other.
fn across(filter: Filter, from: u32, to: u32, channels: u64) -> u64 {
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
    use resized_protocol::placement::Align;
    use resized_protocol::shm::RingLayout;

    use super::*;
    use crate::device::Device;
    use crate::device::cpu::{Cpu, Level, tests::kept};

    fn spec(format: PixelFormat) -> StreamSpec {
        let extent = Extent::new(1920, 1080);
        StreamSpec::new(FrameSpec::new(format, extent), Extent::new(640, 360))
    }

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
                        for &level in Level::ALL {
                            let Some(cpu) = Cpu::with_level(1, level) else { continue };
                            let kept = kept(|| cpu.open(&spec, &ring).unwrap());
                            assert!(kept <= tables(&spec), "{kept} bytes, {level:?}: {spec:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn before_anything_was_measured_the_kind_decides() {
        let cost = |spec: &StreamSpec| Rate::new(spec).cost(1000);
        let bytes = cost(&spec(PixelFormat::I420));
        assert_eq!(bytes, 1000);
        assert!(PixelFormat::TEN_BIT.into_iter().all(|ten| cost(&spec(ten)) >= 4 * bytes));
        let apart = spec(PixelFormat::Rgba);
        let weighed = StreamSpec { alpha: Alpha::Weighs, ..apart };
        assert!(cost(&weighed) > 10 * cost(&apart));
        // It has no opacity to weigh.
        let opaque = StreamSpec { alpha: Alpha::Weighs, ..spec(PixelFormat::Rgb24) };
        assert_eq!(cost(&opaque), cost(&spec(PixelFormat::Rgb24)));
    }

    #[test]
    fn what_was_measured_counts() {
        let spec = spec(PixelFormat::I420);
        let (rate, whole) = (Rate::new(&spec), Extents::new(&spec, None).work());
        let is_about = |cost: u64, ns: u64| {
            let ratio = cost as f64 / (ns * PIXELS_PER_NS) as f64;
            assert!((0.99..1.01).contains(&ratio), "{ratio}");
        };
        rate.note(whole, Duration::from_micros(500));
        is_about(rate.cost(whole), 500_000);
        is_about(rate.cost(2 * whole), 1_000_000);
        // A lane that was kept from its core for a second costs little,
        rate.note(whole, Duration::from_secs(1));
        assert!(rate.cost(whole) < 1_000_000 * PIXELS_PER_NS);
        // but what takes longer all the time costs that.
        (0..60).for_each(|_| rate.note(whole, Duration::from_millis(50)));
        is_about(rate.cost(whole), 50_000_000);
        rate.note(1, Duration::MAX);
        rate.note(0, Duration::ZERO);
        assert!(rate.cost(u64::MAX) > 0 && rate.cost(0) > 0);
    }

    #[test]
    fn small_frames_count_by_their_pixels() {
        let spec = spec(PixelFormat::I420);
        let (rate, whole) = (Rate::new(&spec), Extents::new(&spec, None).work());
        let small = whole / 1000;
        // Not even the first of all says what a whole one costs.
        rate.note(small, Duration::from_nanos(1));
        assert!(rate.cost(whole) > whole / 2);
        let milliseconds = Duration::from_millis(2);
        rate.note(whole, milliseconds);
        for _ in 0..100 {
            (0..3).for_each(|_| rate.note(small, Duration::from_nanos(1)));
            assert!(rate.cost(whole) > nanoseconds(milliseconds) * PIXELS_PER_NS * 9 / 10);
            rate.note(whole, milliseconds);
        }
        // Nor where the stream's own crop is as small, and the large ones have crops of their own.
        let cropped = Rate { whole: small.into(), ..Rate::new(&spec) };
        (0..2).for_each(|_| cropped.note(whole, milliseconds));
        for _ in 0..100 {
            (0..3).for_each(|_| cropped.note(small, Duration::from_nanos(1)));
            assert!(cropped.cost(whole) > nanoseconds(milliseconds) * PIXELS_PER_NS * 9 / 10);
            cropped.note(whole, milliseconds);
        }
        // Where there are no others they do.
        (0..20_000).for_each(|_| rate.note(small, milliseconds / 500));
        assert!(rate.cost(whole) > nanoseconds(milliseconds) * PIXELS_PER_NS * 3 / 2);
    }
}
