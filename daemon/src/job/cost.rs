//! Owns what a frame costs in the fair queue, from its stream's spec and what was measured of it.
//!
//! Knows no devices. Costs are in pixels of the cheapest kind, planes of bytes: a
//! stream's pixels cost as many times that as they were measured to take longer. Until something
//! was measured, the stream's kind decides.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use resized_protocol::frame::{Extent, PixelFormat};
use resized_protocol::message::{Alpha, StreamSpec};
use resized_protocol::placement::Crop;

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
pub(super) const fn estimate(cost: u64) -> Duration {
    Duration::from_nanos(cost / PIXELS_PER_NS)
}

/// How many times as long as planes of bytes its pixels take, roughly.
fn effort(spec: &StreamSpec) -> u64 {
    let StreamSpec { source, destination, .. } = spec;
    match source.format {
        format if format.has_alpha() && spec.alpha == Alpha::Weighs => 12,
        PixelFormat::I420P10 | PixelFormat::P010 => 4,
        _ if source.format != destination.format || source.matrix != destination.matrix => 4,
        PixelFormat::Gray8 | PixelFormat::I420 | PixelFormat::Nv12 => 1,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::FrameSpec;

    use super::*;

    fn spec(format: PixelFormat) -> StreamSpec {
        let extent = Extent::new(1920, 1080);
        StreamSpec::new(FrameSpec::new(format, extent), Extent::new(640, 360))
    }

    #[test]
    fn before_anything_was_measured_the_kind_decides() {
        let cost = |spec: &StreamSpec| Rate::new(spec).cost(1000);
        let bytes = cost(&spec(PixelFormat::I420));
        assert_eq!(bytes, 1000);
        assert!(PixelFormat::TEN_BIT.into_iter().all(|ten| cost(&spec(ten)) >= 4 * bytes));
        let apart = spec(PixelFormat::Rgba);
        let weighed = StreamSpec { alpha: Alpha::Weighs, ..apart };
        assert!(cost(&weighed) >= 4 * cost(&apart));
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
