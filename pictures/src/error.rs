//! Owns the reasons why a picture is not resized.

use resized_client::{Extent, MAX_SIDE};
use thiserror::Error;

/// Why a picture is not resized. Which one it is, says who reports it.
#[derive(Debug, Error)]
pub enum PictureError {
    /// Its first bytes are of none of the formats.
    #[error("it is no JPEG, PNG or WebP file")]
    Unknown,
    /// The header says more pixels than are decoded.
    #[error("it has {extent} pixels, and no more than {limit} are read")]
    Pixels {
        /// As the header says.
        extent: Extent,
        /// How many are allowed.
        limit: u64,
    },
    /// The JPEG can't be decoded, or no JPEG made of the result.
    #[error("{}", .0.to_string().trim_start_matches("TurboJPEG error: "))]
    Jpeg(turbojpeg::Error),
    /// The PNG or WebP can't be decoded, or none made of the result.
    #[error(transparent)]
    Image(#[from] image::ImageError),
    /// The WebP is not what it says, which costs more to find out by decoding it.
    #[error("its chunks or its frame are not as large as it says")]
    Dishonest,
    /// The JPEG's colours are inks.
    #[error("its colours are CMYK, for print: only pictures for screens are resized")]
    Inks,
    /// The crop is not within the picture.
    #[error("the crop is not within its {upright} pixels")]
    Crop {
        /// The picture's, upright.
        upright: Extent,
    },
    /// A side of the result would be too long.
    #[error("it would become {0}, and a picture has at most {MAX_SIDE} pixels a side")]
    Result(Extent),
    /// The result would have more pixels than are made.
    #[error("it would become {extent}, and no more than {limit} pixels are made")]
    Made {
        /// As asked for.
        extent: Extent,
        /// How many are allowed.
        limit: u64,
    },
    /// Nobody waits for the daemon any more, as [`Desk::until`](crate::Desk::until) has it.
    #[error("the daemon was not waited for")]
    Over,
    /// The daemon does not resize it, or is gone.
    #[error(transparent)]
    Daemon(#[from] resized_client::Error),
}

impl From<turbojpeg::Error> for PictureError {
    /// No source: its text is the error's own, but for the name of the library.
    fn from(error: turbojpeg::Error) -> Self {
        Self::Jpeg(error)
    }
}

impl PictureError {
    /// Whether the next picture would fail for the same reason.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Daemon(error) if error.is_fatal())
    }
}

#[cfg(test)]
mod tests {
    use resized_client::{Breach, Error, Refusal};

    use super::*;

    #[test]
    fn only_an_end_of_the_connection_is_one_for_the_next_picture() {
        let is_final = |error| PictureError::from(error).is_final();
        for error in [Error::Refused(Refusal::Device), Error::Failed, Error::Unreadable] {
            assert!(!is_final(error.clone()), "{error}");
        }
        for error in [Error::Disconnected, Error::Silent, Error::Unexpected(Breach::OtherReply)] {
            assert!(is_final(error.clone()), "{error}");
        }
        assert!(!PictureError::Unknown.is_final());
    }
}
