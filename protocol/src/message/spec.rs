//! Owns what a client may say of a stream as it opens it: what becomes of every frame.
//!
//! Knows no memory: where frames lie follows from this ([`RingLayout`](crate::shm::RingLayout)). What
//! is said here may be nonsense: the daemon checks it, and refuses.

use std::str::FromStr;
use std::time::Duration;

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::coding::Coding;
use crate::frame::{Extent, FrameSpec, PixelFormat};
use crate::placement::{Crop, CropError, Framing, Placement};
use crate::tensor::Normalisation;

/// Most slots a stream may have.
pub const MAX_SLOTS: u32 = 256;

/// Largest weight a stream may have.
pub const MAX_WEIGHT: u32 = 100;

/// Reconstruction filter. All but `Nearest` widen with the ratio when shrinking, so that nothing
/// aliases. Where nothing changes in a direction, neither length nor siting, none of them does
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Filter {
    /// The source sample whose centre is nearest; never antialiased.
    Nearest,
    /// Triangle.
    Bilinear,
    /// Catmull-Rom: the cubic with B = 0, C = 1/2.
    Bicubic,
    /// Sinc windowed by a sinc, three lobes.
    Lanczos3,
    /// Mean over the exact area that a destination pixel covers.
    Area,
    /// Mitchell and Netravali's: the cubic with B = C = 1/3. Softer than Catmull-Rom, rings less.
    Mitchell,
}

impl Filter {
    /// Every filter, in wire order.
    pub const ALL: [Self; 6] =
        [Self::Nearest, Self::Bilinear, Self::Bicubic, Self::Lanczos3, Self::Area, Self::Mitchell];

    /// What it is called on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos3 => "lanczos3",
            Self::Area => "area",
            Self::Mitchell => "mitchell",
        }
    }
}

/// There is no filter of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no filter")]
pub struct UnknownFilter(String);

impl FromStr for Filter {
    type Err = UnknownFilter;

    fn from_str(name: &str) -> Result<Self, UnknownFilter> {
        let found = Self::ALL.into_iter().find(|filter| filter.name() == name);
        found.ok_or_else(|| UnknownFilter(name.to_owned()))
    }
}

/// What opacity means to the colours of a source that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Alpha {
    /// Nothing: it is resized like a colour. Faster.
    #[default]
    Apart,
    /// Colours count by it, so that what is transparent does not bleed into what is not. Where all is
    /// transparent the colour is black.
    Weighs,
}

/// What a stream resizes, fixed for its life. [`new`](Self::new) has what is usual; change what should be
/// otherwise:
///
/// ```
/// # use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
/// # use resized_protocol::message::{Filter, StreamSpec};
/// # use resized_protocol::placement::Framing;
/// let camera = FrameSpec::new(PixelFormat::Nv12, Extent::new(1920, 1080));
/// let mut spec = StreamSpec::new(camera, Extent::new(640, 640)).with_format(PixelFormat::Rgb24);
/// spec.framing = Framing::letterbox([114; 3]);
/// spec.filter = Filter::Lanczos3;
/// spec.slots = 8;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct StreamSpec {
    /// Frames that the client writes.
    pub source: FrameSpec,
    /// Frames that the daemon writes, in any format and colour: who changes the format by hand has a
    /// colour to change, too, which [`with_format`](Self::with_format) does.
    pub destination: FrameSpec,
    /// The part of the source that is resized; all of it if `None`.
    pub crop: Option<Crop>,
    /// How it becomes a frame of another shape.
    pub framing: Framing,
    /// How source samples become destination samples.
    pub filter: Filter,
    /// What opacity means; without meaning for sources that have none.
    pub alpha: Alpha,
    /// What a tensor's numbers are; without meaning for other destinations.
    pub normalisation: Normalisation,
    /// Frames that may be in flight at once, 1..=[`MAX_SLOTS`].
    pub slots: u32,
    /// Its share of the daemon's time among its user's streams, while more waits than can be done:
    /// 1..=[`MAX_WEIGHT`]. A stream of weight 2 gets twice as much as one of weight 1.
    pub weight: u32,
    /// How long after its submission a frame is still worth beginning: one that no device has taken by
    /// then completes as [`Status::Late`](super::Status::Late). For live video, where the latest frame wins.
    pub deadline: Option<Duration>,
    /// Whether frames are JPEGs: through a bridge they may be.
    pub coding: Coding,
}

impl StreamSpec {
    /// Slots of a stream that does not say how many.
    pub const SLOTS: u32 = 4;

    /// Resizes frames of `source` to `destination`, bicubic, format and colour unchanged.
    pub const fn new(source: FrameSpec, destination: Extent) -> Self {
        Self {
            source,
            destination: FrameSpec { extent: destination, ..source },
            crop: None,
            framing: Framing::Stretch,
            filter: Filter::Bicubic,
            alpha: Alpha::Apart,
            normalisation: Normalisation { mean: [0.0; 3], scale: [1.0 / 255.0; 3] },
            slots: Self::SLOTS,
            weight: 1,
            deadline: None,
            coding: Coding::RAW,
        }
    }

    /// Results of another format. What both formats have of a colour stays the source's; the rest is
    /// what is [usual](FrameSpec::new) for the new one. Whatever the destination's colour was is lost, so
    /// set that afterwards.
    ///
    /// | source | results | colour |
    /// | --- | --- | --- |
    /// | NV12, limited range | RGB | full range |
    /// | RGB | I420 | limited range, and the matrix usual for its rows |
    /// | I420 | GRAY8 | the same luma, so the same matrix; full range |
    /// | both subsampled, or both RGB | | as it was |
    #[must_use]
    pub const fn with_format(self, format: PixelFormat) -> Self {
        let Self { source, destination: FrameSpec { extent, .. }, .. } = self;
        let usual = FrameSpec::new(format, extent);
        let both_luma = source.format.has_luma() && format.has_luma();
        let alike = source.format.has_luma() == format.has_luma()
            && source.format.is_subsampled() == format.is_subsampled();
        let destination = match (alike, both_luma) {
            (true, _) => FrameSpec { format, extent, ..source },
            (false, true) => FrameSpec { matrix: source.matrix, ..usual },
            (false, false) => usual,
        };
        Self { destination, ..self }
    }

    /// Which part of the source becomes which part of the destination.
    pub fn placement(&self) -> Result<Placement, CropError> {
        Placement::new(self.source.extent, self.crop, self.framing, &self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Matrix, Range, Siting};
    use crate::tensor::Tensor;

    const HIGH: Extent = Extent::new(1920, 1080);
    const LOW: Extent = Extent::new(640, 360);

    fn to(source: FrameSpec, format: PixelFormat) -> FrameSpec {
        let destination = StreamSpec::new(source, LOW).with_format(format).destination;
        assert_eq!((destination.format, destination.extent), (format, LOW));
        destination
    }

    #[test]
    fn another_format_has_its_usual_range() {
        use PixelFormat::{Bgra, Gray8, I420, Nv12, Rgb24};
        for (from, into, range) in [
            (Nv12, Rgb24, Range::Full),
            (Nv12, Gray8, Range::Full),
            (Rgb24, Nv12, Range::Limited),
            (Gray8, I420, Range::Limited),
            (Bgra, Gray8, Range::Full),
        ] {
            assert_eq!(to(FrameSpec::new(from, HIGH), into).range, range, "{from:?} {into:?}");
        }
        // As most take frames of so many rows.
        assert_eq!(to(FrameSpec::new(Rgb24, HIGH), I420), FrameSpec::new(I420, LOW));
    }

    #[test]
    fn what_both_formats_have_stays() {
        use PixelFormat::{Bgra, Gray8, I420, P010, Rgb24};
        assert_eq!(to(FrameSpec::jpeg(I420, HIGH), P010), FrameSpec::jpeg(P010, LOW));
        let odd = |format| FrameSpec {
            range: Range::Limited,
            siting: Siting::Centre,
            matrix: Matrix::Bt2020,
            ..FrameSpec::new(format, HIGH)
        };
        assert_eq!(to(odd(Rgb24), Bgra).range, Range::Limited);
        assert_eq!(to(odd(Gray8), Gray8), FrameSpec { extent: LOW, ..odd(Gray8) });
        // The luma of one is that of the other, and not its range.
        let gray = to(odd(I420), Gray8);
        assert_eq!((gray.matrix, gray.range), (Matrix::Bt2020, Range::Full));
    }

    #[test]
    fn there_and_back_is_as_it_was() {
        let tensor = Tensor::default();
        let plain = StreamSpec::new(FrameSpec::new(PixelFormat::I420, HIGH), LOW);
        for format in PixelFormat::EIGHT_BIT.into_iter().chain([PixelFormat::Tensor(tensor)]) {
            assert_eq!(plain.with_format(format).with_format(PixelFormat::I420), plain);
        }
    }
}
