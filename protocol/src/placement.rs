//! Owns which part of the source picture becomes which part of the destination frame: [`Crop`],
//! [`Framing`], and the [`Placement`] that follows from both; and how large a shape is within bounds.
//!
//! Knows sides, no pixels. Both ends compute a placement from the same numbers, so it is on no wire.
//! Invariants of a [`Placement`]: its crop lies within the source frame and is not empty, its rectangle
//! lies within the destination frame and is not empty; where chroma is subsampled the rectangle starts
//! on an even row and column.

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::frame::{Extent, FrameSpec};

/// A part of the source frame, in its pixels from the upper left corner; fractions are allowed. No
/// sample beyond the pixels that it touches is used.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct Crop {
    /// From the left edge of the frame to that of the crop.
    pub left: f64,
    /// From the upper edge of the frame to that of the crop.
    pub top: f64,
    /// At least [`Self::LEAST`].
    pub width: f64,
    /// At least [`Self::LEAST`].
    pub height: f64,
}

impl Crop {
    /// The least width and height.
    pub const LEAST: f64 = 1.0 / 256.0;

    /// The whole of a frame.
    pub const fn whole(extent: Extent) -> Self {
        Self { left: 0.0, top: 0.0, width: extent.width as f64, height: extent.height as f64 }
    }

    /// The largest extent of its shape that fits into `most`, as [`Extent::fit`] says. A crop need not be
    /// one of pixels: the shape in which samples that are no squares are seen will do.
    #[must_use]
    pub fn fit(&self, most: Extent) -> Extent {
        let (width, height) = (f64::from(most.width), f64::from(most.height));
        // A float that is too large saturates.
        let side = |len: f64, most: u32| (len.round() as u32).min(most).max(1);
        if width * self.height <= height * self.width {
            Extent::new(most.width, side(self.height * width / self.width, most.height))
        } else {
            Extent::new(side(self.width * height / self.height, most.width), most.height)
        }
    }

    /// The largest part of it, in its middle, that has the shape of so much width and height, and at least
    /// [`Self::LEAST`] of each: what fills a frame of that shape.
    #[must_use]
    pub fn filling(&self, (width, height): (f64, f64)) -> Self {
        // No side is computed from itself: rounded, it might be longer than it is.
        let part = |side: f64, whole: f64| side.max(Self::LEAST).min(whole);
        let (w, h) = if width * self.height >= height * self.width {
            (self.width, part(self.width * height / width, self.height))
        } else {
            (part(self.height * width / height, self.width), self.height)
        };
        let (left, top) = ((self.width - w) / 2.0, (self.height - h) / 2.0);
        Self { left: self.left + left, top: self.top + top, width: w, height: h }
    }

    /// Whether it is large enough, and all of it in a frame of that extent. NaN is not.
    pub fn is_within(&self, extent: Extent) -> bool {
        let within = |start: f64, len: f64, side: u32| {
            start >= 0.0 && len >= Self::LEAST && start + len <= f64::from(side)
        };
        within(self.left, self.width, extent.width) && within(self.top, self.height, extent.height)
    }
}

impl Extent {
    /// The largest extent of this shape that fits into `most`, which may be larger than this one: one
    /// side is `most`'s, the other is rounded to the nearest pixel, and is one at the least. Where only
    /// one side is bounded, the bound of the other is `u32::MAX`.
    #[must_use]
    pub fn fit(self, most: Self) -> Self {
        Crop::whole(self).fit(most)
    }
}

/// How a crop of one shape becomes a frame of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Framing {
    /// Fills the destination, each direction by its own ratio.
    #[default]
    Stretch,
    /// As large as it can be at its own shape; the rest of the destination is padded (letterbox).
    Fit {
        /// Where it lies along the side that is padded.
        align: Align,
        /// Red, green and blue of the padding, full range; opaque.
        pad: [u8; 3],
    },
    /// Fills the destination at its own shape; what is too much is cut off evenly at both ends.
    Fill,
}

impl Framing {
    /// [`Fit`](Self::Fit), in the middle of a padding of that red, green and blue.
    #[must_use]
    pub const fn letterbox(pad: [u8; 3]) -> Self {
        Self::Fit { align: Align::Centre, pad }
    }
}

/// Where a picture lies along a side that is longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Align {
    /// At the left or upper end.
    Start,
    /// In the middle.
    #[default]
    Centre,
    /// At the right or lower end.
    End,
}

/// A part of the destination frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rectangle {
    /// Columns before it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its size.
    pub extent: Extent,
}

/// Which part of the source becomes which part of the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// What is seen of the source.
    pub source: Crop,
    /// Where it is seen in the destination; around it is padding.
    pub destination: Rectangle,
}

/// There is no such crop in the source frame.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("no crop of {} x {} at {}, {} in a frame of {extent}", .crop.width, .crop.height, .crop.left, .crop.top)]
pub struct CropError {
    /// As asked for.
    pub crop: Crop,
    /// The source frame's.
    pub extent: Extent,
}

impl Placement {
    /// Places a crop of the source, the whole of it if none is given, in the destination.
    pub fn new(
        source: Extent,
        crop: Option<Crop>,
        framing: Framing,
        destination: &FrameSpec,
    ) -> Result<Self, CropError> {
        let crop = crop.unwrap_or(Crop::whole(source));
        if !crop.is_within(source) {
            return Err(CropError { crop, extent: source });
        }
        let extent = destination.extent;
        let whole = Rectangle { left: 0, top: 0, extent };
        Ok(match framing {
            Framing::Stretch => Self { source: crop, destination: whole },
            Framing::Fit { align, .. } => {
                let size = crop.fit(extent);
                let step = if destination.format.is_subsampled() { 2 } else { 1 };
                let start = |slack: u32| match align {
                    Align::Start => 0,
                    Align::Centre => slack / 2 / step * step,
                    Align::End => slack / step * step,
                };
                let (left, top) =
                    (start(extent.width - size.width), start(extent.height - size.height));
                Self { source: crop, destination: Rectangle { left, top, extent: size } }
            }
            Framing::Fill => {
                let shape = (f64::from(extent.width), f64::from(extent.height));
                Self { source: crop.filling(shape), destination: whole }
            }
        })
    }

    /// Where a point of the destination frame lies in the source frame: maps boxes back that were found
    /// in the resized picture. Both in pixels from the upper left corner.
    pub fn to_source(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (crop, rectangle) = (&self.source, &self.destination);
        let map = |at: f64, from: u32, len: u32, start: f64, side: f64| {
            start + (at - f64::from(from)) * side / f64::from(len)
        };
        (
            map(x, rectangle.left, rectangle.extent.width, crop.left, crop.width),
            map(y, rectangle.top, rectangle.extent.height, crop.top, crop.height),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    fn placed(
        source: (u32, u32),
        crop: Option<Crop>,
        framing: Framing,
        destination: (u32, u32),
    ) -> Placement {
        let extent = Extent::new(destination.0, destination.1);
        let destination = FrameSpec::new(PixelFormat::I420, extent);
        Placement::new(Extent::new(source.0, source.1), crop, framing, &destination).unwrap()
    }

    fn fit(align: Align) -> Framing {
        Framing::Fit { align, pad: [0; 3] }
    }

    fn rectangle(left: u32, top: u32, width: u32, height: u32) -> Rectangle {
        Rectangle { left, top, extent: Extent::new(width, height) }
    }

    #[test]
    fn fit_keeps_the_shape_and_is_aligned() {
        let at = |align| placed((1920, 1080), None, fit(align), (640, 640)).destination;
        assert_eq!(at(Align::Start), rectangle(0, 0, 640, 360));
        assert_eq!(at(Align::Centre), rectangle(0, 140, 640, 360));
        assert_eq!(at(Align::End), rectangle(0, 280, 640, 360));
        let tall = placed((1000, 3001), None, fit(Align::Centre), (101, 100)).destination;
        assert_eq!(tall, rectangle(34, 0, 33, 100));
        assert_eq!(placed((16_384, 1), None, fit(Align::End), (9, 9)).destination.extent.height, 1);
    }

    #[test]
    fn a_shape_is_as_large_as_it_can_be() {
        for (shape, most, wanted) in [
            ((1920, 1080), (640, 360), (640, 360)),
            ((1080, 1920), (640, 360), (203, 360)),
            ((4000, 3000), (640, 360), (480, 360)),
            ((32, 18), (640, 640), (640, 360)),
            ((10_000, 1), (640, 360), (640, 1)),
            // Exactly between two: up.
            ((1920, 1080), (8, 8), (8, 5)),
            ((3000, 4000), (640, u32::MAX), (640, 853)),
            ((3000, 4000), (u32::MAX, 360), (270, 360)),
            ((1, u32::MAX), (7, u32::MAX), (1, u32::MAX)),
        ] {
            let extent = |(width, height)| Extent::new(width, height);
            assert_eq!(extent(shape).fit(extent(most)), extent(wanted), "{shape:?} {most:?}");
        }
        // As PAL is seen.
        let seen = Crop { left: 0.0, top: 0.0, width: 720.0 * 16.0 / 15.0, height: 576.0 };
        assert_eq!(seen.fit(Extent::new(640, 640)), Extent::new(640, 480));
    }

    #[test]
    fn fill_cuts_evenly() {
        let placement = placed((1920, 1080), None, Framing::Fill, (100, 100));
        assert_eq!(placement.destination, rectangle(0, 0, 100, 100));
        let crop = Crop { left: 420.0, top: 0.0, width: 1080.0, height: 1080.0 };
        assert_eq!(placement.source, crop);
        // A shape that is the same to a rounding error leaves nothing out by one.
        let whole = Crop::whole(Extent::new(1920, 1080));
        assert_eq!(whole.filling((640.0, 360.0)), whole);
        assert_eq!(whole.filling((16.0 / 1e9, 9.0 / 1e9)).width, whole.width);
    }

    #[test]
    fn points_are_mapped_back() {
        let crop = Crop { left: 100.5, top: 50.0, width: 800.0, height: 200.0 };
        for framing in [Framing::Stretch, fit(Align::Centre), Framing::Fill] {
            let placement = placed((1920, 1080), Some(crop), framing, (320, 320));
            let Placement { source, destination } = placement;
            let (left, top) = (f64::from(destination.left), f64::from(destination.top));
            let Extent { width, height } = destination.extent;
            assert_eq!(placement.to_source((left, top)), (source.left, source.top));
            let end = (left + f64::from(width), top + f64::from(height));
            let wanted = (source.left + source.width, source.top + source.height);
            assert_eq!(placement.to_source(end), wanted);
        }
    }

    #[test]
    fn what_is_not_within_the_frame_is_refused() {
        let extent = Extent::new(100, 50);
        let destination = FrameSpec::new(PixelFormat::Rgb24, Extent::new(10, 10));
        let whole = Crop::whole(extent);
        for crop in [
            Crop { left: -0.1, ..whole },
            Crop { left: 0.1, ..whole },
            Crop { top: 50.0, height: 0.0, ..whole },
            Crop { width: f64::NAN, ..whole },
            Crop { top: f64::NEG_INFINITY, ..whole },
            Crop { height: f64::INFINITY, ..whole },
            Crop { width: -5.0, ..whole },
            Crop { width: 5e-324, ..whole },
            Crop { height: Crop::LEAST * 0.99, ..whole },
        ] {
            let placed = Placement::new(extent, Some(crop), Framing::Fill, &destination);
            assert_eq!(placed.map_err(|error| error.extent), Err(extent), "{crop:?}");
        }
    }

    #[test]
    fn no_placement_leaves_its_frames() {
        for (w, h) in [(1, 1), (3, 7), (7, 3), (640, 641), (16_384, 1), (1, 16_384)] {
            for source in [(1, 1), (1920, 1080), (33, 16_384)] {
                let corner = (f64::from(source.0), f64::from(source.1));
                let speck = Crop {
                    left: corner.0 - Crop::LEAST,
                    top: corner.1 - Crop::LEAST,
                    width: Crop::LEAST,
                    height: Crop::LEAST,
                };
                let sliver = Crop { top: 0.0, height: corner.1, ..speck };
                for crop in [None, Some(speck), Some(sliver)] {
                    for framing in
                        [Framing::Stretch, fit(Align::Centre), fit(Align::End), Framing::Fill]
                    {
                        let Placement { source: crop, destination } =
                            placed(source, crop, framing, (w, h));
                        let Crop { left, top, width, height } = crop;
                        assert!(width > 0.0 && height > 0.0, "{crop:?}");
                        assert!(left + width <= corner.0 && top + height <= corner.1, "{crop:?}");
                        let Extent { width, height } = destination.extent;
                        assert!(width > 0 && height > 0);
                        assert!(destination.left + width <= w && destination.top + height <= h);
                    }
                }
            }
        }
    }
}
