//! Owns the words for what may be asked of a picture: its size, what becomes of another shape, its
//! format.

use std::fmt;
use std::str::FromStr;

use resized_client::{Extent, MAX_SIDE};
use thiserror::Error;

/// Size asked for, in pixels, one side of which may follow from the picture's shape: `640x360`, `640x`,
/// `x360`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Both sides.
    Box(Extent),
    /// The width alone.
    Width(u32),
    /// The height alone.
    Height(u32),
}

impl Size {
    /// Most pixels of either side; `u32::MAX` of one that follows.
    pub const fn most(self) -> Extent {
        match self {
            Self::Box(extent) => extent,
            Self::Width(width) => Extent::new(width, u32::MAX),
            Self::Height(height) => Extent::new(u32::MAX, height),
        }
    }
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// There is no `x` in it, be it a capital.
    #[error("write WIDTHxHEIGHT, like 640x360, or 640x for the width alone")]
    Form,
    /// It is a share.
    #[error("'{0}' is a share: a size is in pixels, like 640x360, or 640x for the width alone")]
    Share(String),
    /// A side is no number.
    #[error("'{0}' is no number of pixels")]
    Number(String),
    /// A side is zero.
    #[error("a picture has at least one pixel")]
    Zero,
    /// A side is longer than frames may be.
    #[error("a picture has at most {MAX_SIDE} pixels a side, and {0} are too many")]
    Long(String),
    /// Neither side is given.
    #[error("one side must be given")]
    Neither,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Box(extent) => extent.fmt(f),
            Self::Width(side) => write!(f, "{side}x"),
            Self::Height(side) => write!(f, "x{side}"),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text.ends_with('%') {
            return Err(SizeError::Share(text.to_owned()));
        }
        let (width, height) = text.split_once(['x', 'X']).ok_or(SizeError::Form)?;
        match (side(width)?, side(height)?) {
            (Some(width), Some(height)) => Ok(Self::Box(Extent::new(width, height))),
            (Some(width), None) => Ok(Self::Width(width)),
            (None, Some(height)) => Ok(Self::Height(height)),
            (None, None) => Err(SizeError::Neither),
        }
    }
}

fn side(text: &str) -> Result<Option<u32>, SizeError> {
    // As FFmpeg has it, where the last makes a side even, of which JPEGs have no need.
    if matches!(text, "" | "-1" | "-2") {
        return Ok(None);
    }
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    match text.parse() {
        Ok(0) => Err(SizeError::Zero),
        Ok(side) if side <= MAX_SIDE => Ok(Some(side)),
        Err(_) if !is_number => Err(SizeError::Number(text.to_owned())),
        _ => Err(SizeError::Long(text.to_owned())),
    }
}

/// What becomes of a picture whose shape is not that of the size asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As large as it can be within the size; one side may be shorter.
    #[default]
    Fit,
    /// Exactly the size, where both sides are given: as `Fit`, in the middle of that colour.
    Pad(Colour),
    /// Exactly the size; what is too much is cut off evenly at both ends.
    Fill,
    /// Exactly the size; the shape changes.
    Stretch,
}

/// There is no mode of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no mode: fit, fill or stretch")]
pub struct UnknownMode(String);

impl Mode {
    /// Every mode that has a name; padded it has that of `Fit`.
    pub const ALL: [Self; 3] = [Self::Fit, Self::Fill, Self::Stretch];

    /// What it is called on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fit | Self::Pad(_) => "fit",
            Self::Fill => "fill",
            Self::Stretch => "stretch",
        }
    }

    /// Padded with that colour. None of those that leave nothing to pad.
    pub fn padded(self, colour: Colour) -> Option<Self> {
        matches!(self, Self::Fit | Self::Pad(_)).then_some(Self::Pad(colour))
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| UnknownMode(name.to_owned()))
    }
}

/// Red, green and blue: `ffffff`, or `#ffffff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

/// The text is no colour.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no colour: write six hexadecimal digits, RRGGBB, like ffffff for white")]
pub struct UnknownColour(String);

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([red, green, blue]) = self;
        write!(f, "{red:02x}{green:02x}{blue:02x}")
    }
}

impl FromStr for Colour {
    type Err = UnknownColour;

    fn from_str(text: &str) -> Result<Self, UnknownColour> {
        let unknown = || UnknownColour(text.to_owned());
        // A sign would be read, too.
        let number = text.strip_prefix('#').unwrap_or(text);
        let digits = number.len() == 6 && number.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u32::from_str_radix(number, 16).ok().filter(|_| digits).ok_or_else(unknown)?;
        let [_, colour @ ..] = number.to_be_bytes();
        Ok(Self(colour))
    }
}

/// Formats of encoded pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ITU-T T.81, with loss.
    Jpeg,
    /// W3C's, without loss.
    Png,
    /// Read with and without loss, written without.
    Webp,
}

/// There is no format of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no format: jpeg, png or webp")]
pub struct UnknownFormat(String);

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Webp];

    /// What it is called on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        let found = found.or((name == "jpg").then_some(Self::Jpeg));
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_may_be_left_out() {
        for (text, expected) in [
            ("640x360", Size::Box(Extent::new(640, 360))),
            ("640x", Size::Width(640)),
            ("640x-1", Size::Width(640)),
            ("640x-2", Size::Width(640)),
            ("x360", Size::Height(360)),
            ("-1x360", Size::Height(360)),
            ("640X360", Size::Box(Extent::new(640, 360))),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), expected, "{text}");
            assert_eq!(expected.to_string().parse::<Size>().unwrap(), expected);
        }
        for text in [
            "",
            "640",
            "x",
            "0x1",
            "-1x-1",
            "-3x3",
            "50%",
            "50%x50%",
            "1x2x3",
            "1x2X3",
            "axb",
            "16385x1",
            "99999999999x1",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for (text, said) in [
            ("640", "write WIDTHxHEIGHT, like 640x360, or 640x for the width alone"),
            (
                "50%",
                "'50%' is a share: a size is in pixels, like 640x360, or 640x for the width alone",
            ),
            ("20000x1", "a picture has at most 16384 pixels a side, and 20000 are too many"),
            (
                "1x9999999999",
                "a picture has at most 16384 pixels a side, and 9999999999 are too many",
            ),
        ] {
            assert_eq!(text.parse::<Size>().unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert_eq!("jpg".parse(), Ok(Format::Jpeg));
        assert_eq!("0aFf80".parse(), Ok(Colour([10, 255, 128])));
        assert_eq!("#0aff80".parse(), Ok(Colour([10, 255, 128])));
        assert_eq!(Colour([10, 255, 128]).to_string(), "0aff80");
        for text in ["", "fff", "#fff", "##0aff80", "+fffff", "fffffff", "white!"] {
            assert_eq!(text.parse::<Colour>(), Err(UnknownColour(text.to_owned())));
        }
        assert_eq!("Fit".parse::<Mode>(), Err(UnknownMode("Fit".to_owned())));
        assert_eq!("gif".parse::<Format>(), Err(UnknownFormat("gif".to_owned())));
    }
}
