//! Owns the reasons why a picture is not resized.

use std::io;
use std::path::PathBuf;

use resized_client::{Extent, MAX_SIDE};
use thiserror::Error;

/// Why a picture is not resized. Which one it is, says who reports it.
#[derive(Debug, Error)]
pub(crate) enum PictureError {
    /// The file can't be read.
    #[error("can't read it: {0}")]
    Read(#[source] io::Error),
    /// The file is too large to be read.
    #[error("it has more than {0} bytes")]
    Long(u64),
    /// The file's first bytes are of none of the formats.
    #[error("it is no JPEG, PNG or WebP file")]
    Unknown,
    /// The header says more pixels than are decoded.
    #[error("it has {extent} pixels, more than --max-megapixels {limit} allows")]
    Pixels {
        /// As the header says.
        extent: Extent,
        /// In millions.
        limit: u64,
    },
    /// The JPEG can't be decoded, or no JPEG made of the result.
    #[error("{}", .0.to_string().trim_start_matches("TurboJPEG error: "))]
    Jpeg(#[from] turbojpeg::Error),
    /// The PNG or WebP can't be decoded, or none made of the result.
    #[error("{0}")]
    Image(#[from] image::ImageError),
    /// The JPEG's colours are inks.
    #[error("its colours are CMYK, for print: only pictures for screens are resized")]
    Inks,
    /// The crop is not within the picture.
    #[error("the crop is not within its {upright} pixels")]
    Crop {
        /// The picture's, upright.
        upright: Extent,
    },
    /// The result would be too large.
    #[error("it would become {0}, and a picture has at most {MAX_SIDE} pixels a side")]
    Result(Extent),
    /// The daemon does not resize it, or is gone.
    #[error("{0}")]
    Daemon(#[from] resized_client::Error),
    /// The result can't be written.
    #[error("can't write {}: {source}", .path.display())]
    Write {
        /// The result's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl PictureError {
    /// Whether the next picture would fail for the same reason.
    pub(crate) const fn is_final(&self) -> bool {
        use resized_client::Error::{Failed, Refused};
        matches!(self, Self::Daemon(error) if !matches!(error, Refused(_) | Failed))
    }
}
