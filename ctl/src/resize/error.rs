//! Owns the reasons why a file is not resized.

use std::io;
use std::path::PathBuf;

use resized_client::Extent;
use resized_pictures::PictureError;
use thiserror::Error;

/// Why a file is not resized. Which one it is, says who reports it. What the system says is quoted,
/// and so no source.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// It can't be read.
    #[error("can't read it: {0}")]
    Read(io::Error),
    /// It is a folder.
    #[error("it is a folder: name its pictures, {}", .0.join("*.jpg").display())]
    Folder(PathBuf),
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is too large to be read.
    #[error("it has more than {0} bytes")]
    Long(u64),
    /// Its header says more pixels than are decoded.
    #[error("it has {extent} pixels, more than --max-megapixels {limit} allows")]
    Pixels {
        /// As the header says.
        extent: Extent,
        /// In millions.
        limit: u64,
    },
    /// It is no picture, or none that can be resized.
    #[error(transparent)]
    Picture(PictureError),
    /// The result can't be written.
    #[error("can't write {}: {error}", .path.display())]
    Write {
        /// The result's file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl From<PictureError> for FileError {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Pixels { extent, limit } => {
                Self::Pixels { extent, limit: limit / 1_000_000 }
            }
            error => Self::Picture(error),
        }
    }
}

impl FileError {
    /// Whether the next file would fail for the same reason.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Picture(error) if error.is_final())
    }
}
