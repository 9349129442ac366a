//! Owns shapes: of pixels, of pictures, and where a picture lies in a frame of another shape, between
//! borders that keep its own.

use resized_client::{Extent, Rectangle};

/// A ratio of two numbers above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratio(u64, u64);

impl Ratio {
    pub(crate) const ONE: Self = Self(1, 1);

    /// In its lowest terms; a zero counts as a one.
    pub(crate) fn new(over: u64, under: u64) -> Self {
        let divisor = gcd(over, under).max(1);
        Self((over / divisor).max(1), (under / divisor).max(1))
    }

    /// Of a caps' fraction; one where it says nothing that makes sense.
    pub(crate) fn of(fraction: gst::Fraction) -> Self {
        match (u64::try_from(fraction.numer()), u64::try_from(fraction.denom())) {
            (Ok(over), Ok(under)) if over > 0 && under > 0 => Self::new(over, under),
            _ => Self::ONE,
        }
    }

    fn times(self, other: Self) -> Self {
        let (left, right) = (Self::new(self.0, other.1), Self::new(other.0, self.1));
        // Sides and pixel shapes of any video are far smaller; others lose some precision.
        let fits = |number: u64| number.min(u64::from(u32::MAX));
        Self::new(fits(left.0) * fits(right.0), fits(left.1) * fits(right.1))
    }

    pub(crate) fn over(self, other: Self) -> Self {
        self.times(Self(other.1, other.0))
    }

    /// The nearest that caps can have.
    pub(crate) fn fraction(self) -> gst::Fraction {
        let Self(mut over, mut under) = self;
        while over > i32::MAX as u64 || under > i32::MAX as u64 {
            (over, under) = ((over / 2).max(1), (under / 2).max(1));
        }
        gst::Fraction::new(over as i32, under as i32)
    }

    /// So many times this, rounded, at least one.
    pub(crate) fn of_side(self, side: u32) -> u32 {
        let scaled =
            (u128::from(side) * u128::from(self.0) + u128::from(self.1) / 2) / u128::from(self.1);
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A frame's size, and the shape of its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) extent: Extent,
    pub(crate) pixel: Ratio,
}

impl Shape {
    /// Width to height, as it is seen.
    pub(crate) fn seen(&self) -> Ratio {
        Ratio::new(self.extent.width.into(), self.extent.height.into()).times(self.pixel)
    }
}

/// Where a picture of one shape lies in a frame of another: as large as it can be, in the middle,
/// from an even row and column on, so that chroma that is halved lies on it.
pub(crate) fn fit(from: &Shape, to: &Shape) -> Rectangle {
    let Extent { width, height } = to.extent;
    // Width to height in the frame's own pixels.
    let ratio = from.seen().over(to.pixel);
    let high = Ratio::ONE.over(ratio).of_side(width);
    let extent = match high <= height {
        true => Extent::new(width, high),
        false => Extent::new(ratio.of_side(height).min(width), height),
    };
    let start = |slack: u32| slack / 2 / 2 * 2;
    Rectangle { left: start(width - extent.width), top: start(height - extent.height), extent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(width: u32, height: u32, over: u64, under: u64) -> Shape {
        Shape { extent: Extent::new(width, height), pixel: Ratio::new(over, under) }
    }

    #[test]
    fn pictures_keep_their_shape_between_borders() {
        let at = |from, to| {
            let Rectangle { left, top, extent } = fit(&from, &to);
            (left, top, extent.width, extent.height)
        };
        let square = |width, height| shape(width, height, 1, 1);
        assert_eq!(at(square(1920, 1080), square(640, 480)), (0, 60, 640, 360));
        assert_eq!(at(square(480, 640), square(640, 480)), (140, 0, 360, 480));
        assert_eq!(at(square(320, 240), square(640, 480)), (0, 0, 640, 480));
        // PAL, 16:9, to square pixels and back.
        assert_eq!(at(shape(720, 576, 64, 45), square(1024, 576)), (0, 0, 1024, 576));
        assert_eq!(at(square(1024, 576), shape(720, 576, 64, 45)), (0, 0, 720, 576));
        assert_eq!(at(shape(720, 576, 16, 15), square(1024, 576)), (128, 0, 768, 576));
        assert_eq!(at(square(16384, 1), square(9, 9)), (0, 4, 9, 1));
    }

    #[test]
    fn ratios_stay_within_what_caps_can_have() {
        assert_eq!(Ratio::new(6, 4), Ratio::new(3, 2));
        assert_eq!(Ratio::of(gst::Fraction::new(0, 1)), Ratio::new(1, 1));
        let huge = Ratio::new(u64::from(u32::MAX), 2).times(Ratio::new(u64::from(u32::MAX) - 2, 1));
        let fraction = huge.fraction();
        assert!(fraction.numer() > 1 << 29 && fraction.denom() >= 1);
        assert_eq!(Ratio::new(16, 9).of_side(1080), 1920);
    }
}
