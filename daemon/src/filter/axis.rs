//! Owns where a destination sample lies among the source samples of an axis.
//!
//! Knows lengths, crops and siting, no filters. Positions are in samples from the source plane's edge:
//! sample `i` reaches from `i` to `i + 1`, its centre is `i + 0.5`. Invariants: what may be read lies
//! within the plane and is not empty; a centre lies within it, but for a sample or so of chroma.

use resized_protocol::frame::{Component, Siting};
use resized_protocol::message::StreamSpec;
use resized_protocol::placement::Placement;

/// One direction of a plane: how many samples on both sides, and how they map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    source: u32,
    /// The samples that may be read: start and end.
    within: (u32, u32),
    destination: u32,
    /// Source samples to as many destination samples.
    span: (f64, f64),
    offset: f64,
}

/// Both directions of a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axes {
    /// Along a row.
    pub(crate) horizontal: Axis,
    /// Across the rows.
    pub(crate) vertical: Axis,
}

/// How samples lie among pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// One on each.
    Whole,
    /// One for two pixels.
    Halved(Siting),
}

impl Grid {
    const fn of(component: Component, siting: Siting) -> Self {
        match component {
            Component::Chroma => Self::Halved(siting),
            Component::Luma | Component::Colour | Component::Alpha => Self::Whole,
        }
    }

    /// Pixels for each sample.
    const fn step(self) -> u32 {
        match self {
            Self::Whole => 1,
            Self::Halved(_) => 2,
        }
    }

    /// Pixels by which a sample lies before the middle of its pixels.
    const fn lead(self) -> f64 {
        match self {
            Self::Halved(Siting::Left) => 0.5,
            Self::Whole | Self::Halved(Siting::Centre) => 0.0,
        }
    }
}

impl Axis {
    /// An axis that is not subsampled: the two edges of the source fall on those of the destination.
    /// Neither length may be zero.
    #[cfg(test)]
    pub(crate) fn full(source: u32, destination: u32) -> Self {
        let crop = (0.0, f64::from(source));
        Self::new(source, crop, destination, Grid::Whole, Grid::Whole)
    }

    /// An axis from samples on one grid to samples on another. `source` and `destination` are numbers
    /// of pixels, `crop` is start and length of what is seen of the source, in pixels.
    ///
    /// Sample `i` of a grid lies on the pixel position `step * (i + 1/2) - lead`. Pixel positions
    /// map by the scale alone.
    pub(crate) fn new(
        source: u32,
        crop: (f64, f64),
        destination: u32,
        from: Grid,
        to: Grid,
    ) -> Self {
        let (step, span) = (f64::from(from.step()), f64::from(to.step()));
        let scale = crop.1 / f64::from(destination);
        let samples = source.div_ceil(from.step());
        let first = ((crop.0 / step) as u32).min(samples - 1);
        let end = (((crop.0 + crop.1) / step).ceil() as u32).clamp(first + 1, samples);
        Self {
            source: samples,
            within: (first, end),
            destination: destination.div_ceil(to.step()),
            span: (crop.1 * span, f64::from(destination) * step),
            offset: (crop.0 + from.lead() - scale * to.lead()) / step,
        }
    }

    /// Samples on the source's side.
    pub(crate) const fn source(&self) -> u32 {
        self.source
    }

    /// The source samples that may be read: the first, and one behind the last.
    pub(crate) const fn within(&self) -> (u32, u32) {
        self.within
    }

    /// Samples on the destination's side.
    pub(crate) const fn destination(&self) -> u32 {
        self.destination
    }

    /// Source samples for each destination sample: above one when shrinking.
    pub(crate) fn scale(&self) -> f64 {
        self.span.0 / self.span.1
    }

    /// Whether destination samples are source samples, one after the other.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.span.0 == self.span.1 && self.offset.fract() == 0.0
    }

    /// Where in the source the centre of a destination sample lies.
    pub(crate) fn centre(&self, index: u32) -> f64 {
        // Divided last: whatever is a whole number comes out as one.
        (f64::from(index) + 0.5) * self.span.0 / self.span.1 + self.offset
    }
}

impl Axes {
    /// The axes from planes that carry `from` to planes that carry `to`.
    pub(crate) fn new(
        spec: &StreamSpec,
        placement: &Placement,
        from: Component,
        to: Component,
    ) -> Self {
        let (source, crop) = (spec.source.extent, placement.source);
        let destination = placement.destination.extent;
        let (left, centre) = (spec.source.siting, Siting::Centre);
        let horizontal = (Grid::of(from, left), Grid::of(to, spec.destination.siting));
        let vertical = (Grid::of(from, centre), Grid::of(to, centre));
        Self {
            horizontal: Axis::new(
                source.width,
                (crop.left, crop.width),
                destination.width,
                horizontal.0,
                horizontal.1,
            ),
            vertical: Axis::new(
                source.height,
                (crop.top, crop.height),
                destination.height,
                vertical.0,
                vertical.1,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRIDS: [Grid; 3] =
        [Grid::Whole, Grid::Halved(Siting::Left), Grid::Halved(Siting::Centre)];

    /// Position of a sample among pixels, in pixels from the frame's edge.
    fn among_pixels(sample: f64, grid: Grid) -> f64 {
        match grid {
            Grid::Whole => sample,
            Grid::Halved(Siting::Left) => 2.0 * (sample - 0.5) + 0.5,
            Grid::Halved(Siting::Centre) => 2.0 * (sample - 0.5) + 1.0,
        }
    }

    #[test]
    fn samples_keep_their_place_among_pixels() {
        for (source, destination) in [(1920, 640), (640, 1920), (33, 17), (17, 33), (1, 9), (9, 1)]
        {
            let length = f64::from(source);
            for crop in [(0.0, length), (length * 0.3, length * 0.5)] {
                for (from, to) in GRIDS.into_iter().flat_map(|a| GRIDS.map(|b| (a, b))) {
                    let axis = Axis::new(source, crop, destination, from, to);
                    let scale = crop.1 / f64::from(destination);
                    for index in 0..axis.destination() {
                        let place = among_pixels(f64::from(index) + 0.5, to);
                        let found = among_pixels(axis.centre(index), from);
                        let wanted = crop.0 + place * scale;
                        assert!((wanted - found).abs() < 1e-9, "{axis:?} {index}");
                    }
                    let (first, end) = axis.within();
                    assert!(first < end && end <= axis.source(), "{axis:?}");
                }
            }
        }
    }

    #[test]
    fn at_the_same_size_and_siting_nothing_moves() {
        for grid in GRIDS {
            let axis = Axis::new(7, (0.0, 7.0), 7, grid, grid);
            assert!(axis.is_unchanged());
            assert!((0..4).all(|index| axis.centre(index) == f64::from(index) + 0.5));
        }
        assert!(Axis::new(9, (2.0, 4.0), 4, Grid::Whole, Grid::Whole).is_unchanged());
        assert!(!Axis::new(9, (2.5, 4.0), 4, Grid::Whole, Grid::Whole).is_unchanged());
    }

    #[test]
    fn only_what_a_crop_touches_is_read() {
        assert_eq!(Axis::new(100, (10.5, 20.0), 5, Grid::Whole, Grid::Whole).within(), (10, 31));
        let halved = Grid::Halved(Siting::Left);
        assert_eq!(Axis::new(101, (10.0, 91.0), 5, halved, halved).within(), (5, 51));
        assert_eq!(Axis::new(3, (2.0, 1.0), 5, halved, halved).within(), (1, 2));
    }
}
