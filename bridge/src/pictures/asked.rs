//! Owns what the headers of a request ask for, in the words of the command line.
//!
//! Headers of other names are none of ours: they may be a tracer's.

use std::str::FromStr;

use async_nats::HeaderMap;
use resized_client::{Filter, Quality, UnknownQuality};
use resized_pictures::{
    Colour, Format, Mode, Settings, Size, SizeError, UnknownColour, UnknownFormat, UnknownMode,
    Wish,
};
use resized_protocol::message::UnknownFilter;
use thiserror::Error;

/// Why the headers of a request ask for nothing that can be done.
#[derive(Debug, Error)]
pub(super) enum HeaderError {
    #[error("a header Size is needed, such as 640x360")]
    NoSize,
    #[error("there is more than one header {0}")]
    Twice(&'static str),
    #[error("Size: {0}")]
    Size(#[from] SizeError),
    #[error("Mode: {0}")]
    Mode(#[from] UnknownMode),
    #[error("Pad: {0}")]
    Pad(#[from] UnknownColour),
    #[error("Pad: only where Mode is fit")]
    NoPad,
    #[error("Filter: {0}")]
    Filter(#[from] UnknownFilter),
    #[error("Quality: {0}")]
    Quality(#[from] UnknownQuality),
    #[error("Format: {0}")]
    Format(#[from] UnknownFormat),
}

/// What becomes of the picture of a request with these headers.
pub(super) fn settings(headers: Option<&HeaderMap>) -> Result<Settings, HeaderError> {
    let size: Size = read(headers, "Size")?.ok_or(HeaderError::NoSize)??;
    let mode = read::<Mode>(headers, "Mode")?.transpose()?.unwrap_or_default();
    let mode = match read::<Colour>(headers, "Pad")?.transpose()? {
        None => mode,
        Some(colour) => mode.padded(colour).ok_or(HeaderError::NoPad)?,
    };
    let filter = read::<Filter>(headers, "Filter")?.transpose()?.unwrap_or(Filter::Bicubic);
    let quality = read::<Quality>(headers, "Quality")?.transpose()?.unwrap_or_default();
    let format = read::<Format>(headers, "Format")?.transpose()?;
    Ok(Settings { wish: Wish { mode, ..Wish::new(size) }, filter, quality, format })
}

/// The value of the header of that name, if there is one. Clients write names in the case that they
/// like.
fn read<T: FromStr>(
    headers: Option<&HeaderMap>,
    name: &'static str,
) -> Result<Option<Result<T, T::Err>>, HeaderError> {
    let of_name = |found: &str| found.eq_ignore_ascii_case(name);
    let mut values = headers
        .into_iter()
        .flat_map(HeaderMap::iter)
        .filter(|(found, _)| of_name(found.as_ref()))
        .flat_map(|(_, values)| values);
    let value = values.next().map(|value| value.as_str().trim().parse());
    match values.next() {
        None => Ok(value),
        Some(_) => Err(HeaderError::Twice(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Result<Settings, String> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        settings(Some(&map)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_size_is_enough() {
        let Settings { wish, filter, quality, format } = asked(&[("Size", "640x")]).unwrap();
        assert_eq!((wish.size, wish.mode), (Size::Width(640), Mode::Fit));
        assert_eq!((filter, quality, format), (Filter::Bicubic, Quality::DEFAULT, None));
        assert!(matches!(settings(None), Err(HeaderError::NoSize)));
        let Settings { wish, .. } = asked(&[("Size", "8x8"), ("Pad", "ff0080")]).unwrap();
        assert_eq!(wish.mode, Mode::Pad(Colour([255, 0, 128])));
    }

    #[test]
    fn names_have_any_case_and_values_the_command_lines() {
        let settings = asked(&[
            ("size", " 64x36 "),
            ("MODE", "fill"),
            ("Filter", "lanczos3"),
            ("Quality", "7"),
            ("Format", "png"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        let Settings { wish, filter, quality, format } = settings.unwrap();
        assert_eq!(
            (wish.mode, filter, quality),
            (Mode::Fill, Filter::Lanczos3, Quality::new(7).unwrap())
        );
        assert_eq!(format, Some(Format::Png));
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        for (header, said) in [
            (
                ("Size", "640"),
                "Size: write WIDTHxHEIGHT, like 640x360, or 640x for the width alone",
            ),
            (("Size", "0x1"), "Size: a picture has at least one pixel"),
            (("Mode", "Fill"), "Mode: 'Fill' is no mode: fit, fill or stretch"),
            (
                ("Pad", "white"),
                "Pad: 'white' is no colour: write six hexadecimal digits, RRGGBB, like ffffff for white",
            ),
            (("Filter", "cubic"), "Filter: 'cubic' is no filter"),
            (
                ("Quality", "101"),
                "Quality: '101' is no quality of a JPEG: write a number from 1 to 100",
            ),
            (
                ("Quality", "high"),
                "Quality: 'high' is no quality of a JPEG: write a number from 1 to 100",
            ),
            (("Format", "gif"), "Format: 'gif' is no format: jpeg, png or webp"),
            (("siZe", "1x1"), "there is more than one header Size"),
        ] {
            let headers = match header.0 {
                "Size" => vec![header],
                _ => vec![("Size", "2x2"), header],
            };
            assert_eq!(asked(&headers).unwrap_err(), said);
        }
        let padded = asked(&[("Size", "2x2"), ("Mode", "fill"), ("Pad", "ffffff")]);
        assert_eq!(padded.unwrap_err(), "Pad: only where Mode is fit");
    }
}
