//! Owns where a destination sample lies among the source samples of an axis.
//!
//! Knows lengths and siting, no filters. Positions are in samples from the source plane's edge: sample
//! `i` reaches from `i` to `i + 1`, its centre is `i + 0.5`. Invariant: a centre lies between 0 and a
//! quarter of a sample behind the source's last edge.

use resized_protocol::frame::{Component, Siting};
use resized_protocol::message::StreamSpec;

/// One direction of a plane: how many samples on both sides, and how they map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    source: u32,
    destination: u32,
    /// Lengths whose ratio is the scale: those of luma, also where chroma's are rounded up.
    span: (u32, u32),
    offset: f64,
}

/// Both directions of a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axes {
    /// Along a row.
    pub horizontal: Axis,
    /// Across the rows.
    pub vertical: Axis,
}

impl Axis {
    /// An axis that is not subsampled: the two edges of the source fall on those of the destination.
    /// Neither length may be zero.
    pub const fn full(source: u32, destination: u32) -> Self {
        Self { source, destination, span: (source, destination), offset: 0.0 }
    }

    /// An axis of chroma at half the resolution of luma, whose lengths these are, moving from one
    /// siting to another.
    ///
    /// Chroma sample `i` lies on the centre of luma sample `2i` (left) or half a luma sample behind it
    /// (centre). So the chroma position `c` is the luma position `2c - 1/2 + s`, with `s` 0 or 1/2, and
    /// luma positions map by the scale alone.
    pub fn halved(source: u32, destination: u32, from: Siting, to: Siting) -> Self {
        let scale = f64::from(source) / f64::from(destination);
        let left_of_centre = |siting| match siting {
            Siting::Left => 0.5,
            Siting::Centre => 0.0,
        };
        Self {
            source: source.div_ceil(2),
            destination: destination.div_ceil(2),
            span: (source, destination),
            offset: (left_of_centre(from) - scale * left_of_centre(to)) / 2.0,
        }
    }

    /// Samples on the source's side.
    pub const fn source(&self) -> u32 {
        self.source
    }

    /// Samples on the destination's side.
    pub const fn destination(&self) -> u32 {
        self.destination
    }

    /// Source samples for each destination sample: above one when shrinking.
    pub fn scale(&self) -> f64 {
        f64::from(self.span.0) / f64::from(self.span.1)
    }

    /// Whether destination samples are source samples: of the same length, in the same place.
    pub fn is_unchanged(&self) -> bool {
        self.span.0 == self.span.1 && self.offset == 0.0
    }

    /// Where in the source the centre of a destination sample lies.
    pub fn centre(&self, index: u32) -> f64 {
        // Divided last: whatever is a whole number comes out as one.
        (f64::from(index) + 0.5) * f64::from(self.span.0) / f64::from(self.span.1) + self.offset
    }
}

impl Axes {
    /// The axes of the planes that carry `component`.
    pub fn new(spec: &StreamSpec, component: Component) -> Self {
        let (source, destination) = (spec.source.extent, spec.destination.extent);
        match component {
            Component::Chroma => Self {
                horizontal: Axis::halved(
                    source.width,
                    destination.width,
                    spec.source.siting,
                    spec.destination.siting,
                ),
                vertical: Axis::halved(
                    source.height,
                    destination.height,
                    Siting::Centre,
                    Siting::Centre,
                ),
            },
            Component::Luma | Component::Colour | Component::Alpha => Self {
                horizontal: Axis::full(source.width, destination.width),
                vertical: Axis::full(source.height, destination.height),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Position of a chroma sample among luma samples, in luma pixels from the frame's edge.
    fn among_luma(chroma: f64, siting: Siting) -> f64 {
        match siting {
            Siting::Left => 2.0 * (chroma - 0.5) + 0.5,
            Siting::Centre => 2.0 * (chroma - 0.5) + 1.0,
        }
    }

    #[test]
    fn chroma_keeps_its_place_among_luma() {
        for (source, destination) in [(1920, 640), (640, 1920), (33, 17), (17, 33), (1, 9), (9, 1)]
        {
            for (from, to) in [
                (Siting::Left, Siting::Left),
                (Siting::Left, Siting::Centre),
                (Siting::Centre, Siting::Left),
                (Siting::Centre, Siting::Centre),
            ] {
                let axis = Axis::halved(source, destination, from, to);
                for index in 0..axis.destination() {
                    let wanted = among_luma(f64::from(index) + 0.5, to) * axis.scale();
                    let found = among_luma(axis.centre(index), from);
                    assert!((wanted - found).abs() < 1e-9, "{axis:?} {index}");
                    let end = f64::from(axis.source()) + 0.25;
                    assert!((0.0..=end).contains(&axis.centre(index)), "{axis:?} {index}");
                }
            }
        }
    }

    #[test]
    fn at_the_same_size_and_siting_nothing_moves() {
        for siting in [Siting::Left, Siting::Centre] {
            let axis = Axis::halved(7, 7, siting, siting);
            assert!((0..4).all(|index| axis.centre(index) == f64::from(index) + 0.5));
        }
    }
}
