//! Owns the shape of the pictures: which part of a frame is resized, how large that becomes, and what
//! they are laid on where it leaves something.
//!
//! Speaks of frames upright, as they are shown: their samples may be wider than high.

use anyhow::{Result, ensure};
use resized_client::{Crop, Extent, FrameLayout, MAX_SIDE};
use resized_pictures::{Colour, Mode, Size};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    size: Size,
    mode: Mode,
}

impl Shape {
    pub(crate) const fn new(size: Size, mode: Mode) -> Self {
        Self { size, mode }
    }

    /// How large the pictures are of frames of `source`, whose samples are `aspect` times as wide as high.
    pub(crate) fn picture(self, source: Extent, aspect: f64) -> Extent {
        self.sheet().map_or_else(|| self.resized(source, aspect), |sheet| sheet.extent)
    }

    /// What such a frame itself becomes. A side that follows is rounded to the nearest.
    pub(crate) fn resized(self, source: Extent, aspect: f64) -> Extent {
        match (self.mode, self.size) {
            (Mode::Fill | Mode::Stretch, Size::Box(extent)) => extent,
            _ => shown(source, aspect).fit(self.size.most()),
        }
    }

    /// The part of such a frame that is resized; `None` for all of it.
    pub(crate) fn crop(self, source: Extent, aspect: f64) -> Option<Crop> {
        let (Mode::Fill, Size::Box(Extent { width, height })) = (self.mode, self.size) else {
            return None;
        };
        let whole = Crop::whole(source);
        let crop = whole.filling((f64::from(width) / aspect, f64::from(height)));
        Some(crop).filter(|crop| *crop != whole)
    }

    /// What pictures are laid on, if they are padded.
    pub(crate) const fn sheet(self) -> Option<Sheet> {
        match (self.mode, self.size) {
            (Mode::Pad(colour), Size::Box(extent)) => Some(Sheet { extent, colour }),
            _ => None,
        }
    }

    /// Fails if the daemon would refuse frames of `source`, or pictures made from them.
    pub(crate) fn check(self, source: Extent, aspect: f64) -> Result<()> {
        if source.width == 0 || source.height == 0 {
            return Ok(()); // not known before the first frame
        }
        let fits = |extent: Extent| extent.width.max(extent.height) <= MAX_SIDE;
        ensure!(fits(source), "frames of {source} have more than {MAX_SIDE} pixels a side");
        let pictures = self.picture(source, aspect);
        ensure!(fits(pictures), "pictures of {pictures} have more than {MAX_SIDE} pixels a side");
        Ok(())
    }

    /// As the report says it.
    pub(crate) fn in_words(self) -> String {
        match (self.size, self.mode) {
            (Size::Box(extent), Mode::Stretch) => extent.to_string(),
            (Size::Box(extent), Mode::Fit) => format!("what fits into {extent}"),
            (Size::Box(extent), Mode::Fill) => format!("{extent}, filled"),
            (Size::Box(extent), Mode::Pad(colour)) => format!("{extent}, padded with {colour}"),
            (Size::Width(side), _) => format!("{side} pixels wide"),
            (Size::Height(side), _) => format!("{side} pixels high"),
        }
    }
}

/// A frame as it is shown.
fn shown(source: Extent, aspect: f64) -> Crop {
    Crop { width: f64::from(source.width) * aspect, ..Crop::whole(source) }
}

/// What a picture is laid on, in the middle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sheet {
    pub(crate) extent: Extent,
    colour: Colour,
}

impl Sheet {
    /// Whether a gray picture has no room for its colour.
    pub(crate) fn is_coloured(self) -> bool {
        let Colour([red, green, blue]) = self.colour;
        red != green || green != blue
    }

    /// The column and the row where a picture begins, both even: chroma is halved.
    pub(crate) const fn place(self, picture: Extent) -> (u32, u32) {
        let Extent { width, height } = self.extent;
        ((width - picture.width) / 4 * 2, (height - picture.height) / 4 * 2)
    }

    /// Writes its colour into all planes, which are of luma, or luma and chroma, of bytes.
    pub(crate) fn fill(self, layout: &FrameLayout, samples: &mut [u8]) {
        let [red, green, blue] = self.colour.0.map(f64::from);
        // ITU-T T.871, clause 7.
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
        let chroma = [(blue - luma) / 1.772 + 128.0, (red - luma) / 1.402 + 128.0];
        for (plane, sample) in layout.planes().iter().zip([luma, chroma[0], chroma[1]]) {
            // A float that is too large saturates.
            samples[plane.offset..][..plane.stride * plane.rows()].fill(sample.round() as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Mode = Mode::Pad(Colour([255; 3]));

    fn shape(size: &str, mode: Mode) -> Shape {
        Shape::new(size.parse().unwrap(), mode)
    }

    #[test]
    fn a_side_that_follows_is_rounded_to_the_nearest() {
        let source = Extent::new(1920, 1080);
        for (text, expected) in [
            ("640x360", Extent::new(640, 360)),
            ("640x-1", Extent::new(640, 360)),
            ("640x", Extent::new(640, 360)),
            ("-1x360", Extent::new(640, 360)),
            ("x360", Extent::new(640, 360)),
            ("101x-1", Extent::new(101, 57)),
            ("8x-1", Extent::new(8, 5)),
            ("1x-1", Extent::new(1, 1)),
        ] {
            for mode in [Mode::Stretch, Mode::Fit, Mode::Fill, WHITE] {
                assert_eq!(shape(text, mode).picture(source, 1.0), expected, "{text}");
            }
        }
        assert_eq!(shape("1x", Mode::Fit).picture(Extent::new(9000, 1), 1.0), Extent::new(1, 1));
    }

    #[test]
    fn a_side_that_follows_keeps_the_shape_of_the_video_as_shown() {
        // PAL, 4:3.
        let (source, aspect) = (Extent::new(720, 576), 16.0 / 15.0);
        for (text, mode, expected) in [
            ("640x-1", Mode::Stretch, Extent::new(640, 480)),
            ("-1x480", Mode::Stretch, Extent::new(640, 480)),
            ("720x576", Mode::Stretch, Extent::new(720, 576)),
            ("640x640", Mode::Fit, Extent::new(640, 480)),
            ("640x360", Mode::Fit, Extent::new(480, 360)),
            ("640x360", WHITE, Extent::new(480, 360)),
        ] {
            assert_eq!(shape(text, mode).resized(source, aspect), expected, "{text} {mode:?}");
        }
        let crop = shape("640x360", Mode::Fill).crop(source, aspect).unwrap();
        assert!((crop.width - 720.0).abs() < 1e-9 && (crop.height - 432.0).abs() < 1e-9);
        assert!(crop.left.abs() < 1e-9 && (crop.top - 72.0).abs() < 1e-9, "{crop:?}");
        assert!(crop.is_within(source));
    }

    #[test]
    fn a_part_that_fills_the_size_lies_in_the_frame() {
        for (source, size) in [((1920, 1080), "100x100"), ((16_384, 1), "1x16384"), ((7, 3), "3x7")]
        {
            let source = Extent::new(source.0, source.1);
            let crop = shape(size, Mode::Fill).crop(source, 1.0).unwrap();
            assert!(crop.is_within(source), "{crop:?}");
        }
        assert_eq!(shape("640x360", Mode::Fill).crop(Extent::new(1920, 1080), 1.0), None);
        assert_eq!(shape("640x", Mode::Fill).crop(Extent::new(1000, 1080), 1.0), None);
    }

    #[test]
    fn sides_are_bounded_also_where_they_follow() {
        let fits = |size: &str, (width, height)| {
            shape(size, Mode::Stretch).check(Extent::new(width, height), 1.0).is_ok()
        };
        assert!(fits("16384x16384", (16384, 16384)));
        assert!(!fits("1x1", (16385, 1)) && !fits("1x1", (1, 16385)));
        assert!(fits("16384x-1", (64, 64)) && !fits("16384x-1", (64, 65)));
        assert!(fits("-1x16384", (64, 64)) && !fits("-1x16384", (65, 64)));
        assert!(fits("640x-1", (0, 0)));
    }
}
