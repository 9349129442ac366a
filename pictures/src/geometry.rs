//! Owns which part of a stored picture becomes which result, and how much of the shrinking its
//! decoder does.
//!
//! Knows sides and orientations, no pixels. A wish speaks of upright pictures, a plan of stored ones.

use image::metadata::Orientation;
use resized_client::{Align, Crop, Extent, Framing, MAX_SIDE};

use crate::error::PictureError;
use crate::wish::{Colour, Mode, Size};

/// How many times the result's side what the decoder gives has at least, in either direction, if
/// the decoder shrinks. Halving blocks of a cosine transform rings and aliases a little; what comes
/// after it hides that.
const LEAST: f64 = 2.0;

/// Which part of a picture is to become how large.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Of the result.
    pub size: Size,
    /// What becomes of a picture of another shape.
    pub mode: Mode,
    /// The part that is resized, in the pixels of the upright picture; `None` for all of it.
    pub crop: Option<Crop>,
    /// Nothing is made larger than it was.
    pub only_shrink: bool,
}

/// What is done with one picture, in the orientation in which it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The decoder gives one pixel of so many, in either direction.
    pub(crate) shrink: u32,
    /// The part of the decoded picture that is resized.
    pub(crate) crop: Crop,
    pub(crate) framing: Framing,
    pub(crate) destination: Extent,
    /// That, upright.
    pub(crate) result: Extent,
}

impl Plan {
    /// For a picture of `stored` extent whose decoder can shrink by any of `shrinks`.
    pub(crate) fn new(
        wish: &Wish,
        stored: Extent,
        orientation: Orientation,
        shrinks: &[u32],
    ) -> Result<Self, PictureError> {
        let turn = Turn::of(orientation);
        let upright = turn.extent(stored);
        let part = wish.crop.unwrap_or(Crop::whole(upright));
        if !part.is_within(upright) {
            return Err(PictureError::Crop { upright });
        }
        let result = wish.result(part);
        if result.width.max(result.height) > MAX_SIDE {
            return Err(PictureError::Result(result));
        }
        let ratio = {
            let (across, down) =
                (part.width / f64::from(result.width), part.height / f64::from(result.height));
            match (wish.mode, wish.size) {
                // What is padded is as large as the longer way round lets it be.
                (Mode::Pad(_), Size::Box(_)) => across.max(down),
                _ => across.min(down),
            }
        };
        let enough = |&&shrink: &&u32| ratio / f64::from(shrink) >= LEAST;
        let shrink = shrinks.iter().filter(enough).max().copied().unwrap_or(1);
        let crop = turn.stored(part, stored);
        let by = f64::from(shrink);
        let crop = Crop {
            left: crop.left / by,
            top: crop.top / by,
            width: crop.width / by,
            height: crop.height / by,
        };
        let framing = match (wish.mode, wish.size) {
            (Mode::Fill, _) => Framing::Fill,
            (Mode::Pad(Colour(pad)), Size::Box(_)) => Framing::Fit { align: Align::Centre, pad },
            _ => Framing::Stretch,
        };
        Ok(Self { shrink, crop, framing, destination: turn.extent(result), result })
    }
}

impl Wish {
    /// All of the picture, as large as it can be within the size.
    pub const fn new(size: Size) -> Self {
        Self { size, mode: Mode::Fit, crop: None, only_shrink: false }
    }

    /// What becomes of that part of an upright picture.
    fn result(&self, part: Crop) -> Extent {
        // Of a float, which saturates.
        let own = |side: f64| (side.round() as u32).max(1);
        let mut most = self.size.most();
        if self.only_shrink {
            let (width, height) = (own(part.width), own(part.height));
            most = Extent::new(most.width.min(width), most.height.min(height));
        }
        match (self.mode, self.size) {
            (_, Size::Width(_) | Size::Height(_)) | (Mode::Fit, _) => part.fit(most),
            (Mode::Stretch, _) => most,
            (Mode::Fill | Mode::Pad(_), Size::Box(Extent { width, height })) => {
                // Of the shape asked for, all the same.
                let ratio = |side: u32, of: f64| f64::from(side) / of;
                let (across, down) = (ratio(width, part.width), ratio(height, part.height));
                let by = if self.mode == Mode::Fill { across.max(down) } else { across.min(down) };
                let most = if self.only_shrink { 1.0 } else { f64::INFINITY };
                let by = (most / by).min(1.0);
                Extent::new(own(f64::from(width) * by), own(f64::from(height) * by))
            }
        }
    }
}

/// What makes a stored picture upright: its axes are swapped first, then some reversed.
#[derive(Clone, Copy, Debug)]
struct Turn {
    swapped: bool,
    /// The stored picture's columns count from the right.
    from_right: bool,
    /// Its rows count from below.
    from_below: bool,
}

impl Turn {
    const fn of(orientation: Orientation) -> Self {
        let (swapped, from_right, from_below) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270 => (true, true, false),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        Self { swapped, from_right, from_below }
    }

    /// The other orientation's extent, either way.
    const fn extent(self, extent: Extent) -> Extent {
        let Extent { width, height } = extent;
        if self.swapped { Extent::new(height, width) } else { extent }
    }

    /// Where a part of the upright picture lies in the stored one.
    fn stored(self, part: Crop, stored: Extent) -> Crop {
        let Crop { left, top, width, height } = if self.swapped {
            Crop { left: part.top, top: part.left, width: part.height, height: part.width }
        } else {
            part
        };
        let reversed = |start: f64, len: f64, side: u32| f64::from(side) - start - len;
        Crop {
            left: if self.from_right { reversed(left, width, stored.width) } else { left },
            top: if self.from_below { reversed(top, height, stored.height) } else { top },
            width,
            height,
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage};

    use super::*;

    const SHRINKS: [u32; 4] = [1, 2, 4, 8];
    const PAD: Mode = Mode::Pad(Colour([9; 3]));

    fn wish(size: &str, mode: Mode) -> Wish {
        Wish { size: size.parse().unwrap(), mode, crop: None, only_shrink: false }
    }

    fn result(wish: &Wish, width: u32, height: u32) -> (u32, u32) {
        let stored = Extent::new(width, height);
        let plan = Plan::new(wish, stored, Orientation::NoTransforms, &SHRINKS).unwrap();
        (plan.destination.width, plan.destination.height)
    }

    #[test]
    fn results_have_the_size_that_the_mode_says() {
        for (size, mode, picture, expected) in [
            ("640x360", Mode::Fit, (1920, 1080), (640, 360)),
            ("640x360", Mode::Fit, (4000, 3000), (480, 360)),
            ("640x360", Mode::Fit, (3000, 4000), (270, 360)),
            ("640x360", Mode::Fit, (32, 18), (640, 360)),
            ("640x360", Mode::Fit, (10_000, 1), (640, 1)),
            ("640x360", PAD, (3000, 4000), (640, 360)),
            ("640x360", PAD, (32, 18), (640, 360)),
            ("640x", PAD, (3000, 4000), (640, 853)),
            ("640x360", Mode::Fill, (3000, 4000), (640, 360)),
            ("640x360", Mode::Stretch, (3000, 4000), (640, 360)),
            ("640x", Mode::Fit, (3000, 4000), (640, 853)),
            ("x360", Mode::Stretch, (3000, 4000), (270, 360)),
        ] {
            let result = result(&wish(size, mode), picture.0, picture.1);
            assert_eq!(result, expected, "{size} {mode:?} {picture:?}");
        }
    }

    #[test]
    fn nothing_is_enlarged_if_so_wished() {
        for (size, mode, picture, expected) in [
            ("640x360", Mode::Fit, (320, 90), (320, 90)),
            ("640x360", Mode::Fit, (320, 720), (160, 360)),
            ("640x360", PAD, (320, 90), (320, 180)),
            ("640x360", PAD, (320, 720), (640, 360)),
            ("640x360", Mode::Fill, (320, 720), (320, 180)),
            ("640x360", Mode::Stretch, (320, 720), (320, 360)),
            ("640x", Mode::Fit, (320, 720), (320, 720)),
            ("x360", Mode::Fit, (320, 720), (160, 360)),
        ] {
            let wish = Wish { only_shrink: true, ..wish(size, mode) };
            assert_eq!(
                result(&wish, picture.0, picture.1),
                expected,
                "{size} {mode:?} {picture:?}"
            );
        }
    }

    #[test]
    fn decoders_shrink_as_far_as_the_result_allows() {
        for (picture, size, expected) in [
            ((1920, 1080), "640x360", 1),
            ((2560, 1440), "640x360", 2),
            ((4000, 3000), "640x360", 4),
            ((10_240, 5760), "640x360", 8),
            ((10, 10), "640x360", 1),
        ] {
            let stored = Extent::new(picture.0, picture.1);
            let wish = wish(size, Mode::Fit);
            let plan = Plan::new(&wish, stored, Orientation::NoTransforms, &SHRINKS).unwrap();
            assert_eq!(plan.shrink, expected, "{picture:?}");
            assert_eq!(plan.crop.width, f64::from(picture.0) / f64::from(expected));
            let padded = Wish { mode: PAD, ..wish };
            let plan = Plan::new(&padded, stored, Orientation::NoTransforms, &SHRINKS).unwrap();
            assert_eq!(plan.shrink, expected, "{picture:?}");
            let plan = Plan::new(&wish, stored, Orientation::NoTransforms, &[1]).unwrap();
            assert_eq!(plan.shrink, 1);
        }
    }

    #[test]
    fn a_crop_is_of_the_upright_picture_whatever_the_orientation() {
        // Each pixel has a value of its own.
        let stored = GrayImage::from_fn(5, 4, |x, y| image::Luma([(10 * y + x) as u8]));
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut upright = DynamicImage::from(stored.clone());
            upright.apply_orientation(orientation);
            let expected = upright.crop_imm(1, 2, 3, 1);
            let crop = Some(Crop { left: 1.0, top: 2.0, width: 3.0, height: 1.0 });
            let wish = Wish { crop, ..wish("3x1", Mode::Stretch) };
            let plan = Plan::new(&wish, Extent::new(5, 4), orientation, &SHRINKS).unwrap();
            let Crop { left, top, width, height } = plan.crop;
            assert_eq!(
                (plan.destination.width, plan.destination.height),
                (width as u32, height as u32)
            );
            let mut part = DynamicImage::from(stored.clone()).crop_imm(
                left as u32,
                top as u32,
                width as u32,
                height as u32,
            );
            part.apply_orientation(orientation);
            assert_eq!(part, expected, "orientation {exif}");
        }
    }

    #[test]
    fn crops_outside_and_results_too_large_are_refused() {
        let crop = Some(Crop { left: 1.0, top: 0.0, width: 64.0, height: 8.0 });
        let stored = Extent::new(64, 64);
        let plan = |wish| Plan::new(&wish, stored, Orientation::NoTransforms, &SHRINKS);
        let outside = plan(Wish { crop, ..wish("8x8", Mode::Fit) });
        assert!(matches!(outside, Err(PictureError::Crop { .. })), "{outside:?}");
        let crop = Some(Crop { left: 0.0, top: 0.0, width: 1.0, height: 64.0 });
        let large = plan(Wish { crop, ..wish("16384x", Mode::Fit) });
        assert!(matches!(large, Err(PictureError::Result(_))), "{large:?}");
    }
}
