//! Encoded pictures, resized by a daemon: the bytes of a JPEG, PNG or WebP go in, those of another come out.
//!
//! ```no_run
//! use resized_client::Client;
//! use resized_pictures::{Desk, Limits, Settings};
//!
//! # fn thumbnail(photo: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
//! let mut desk = Desk::new(Client::discover()?, Limits::default())?;
//! let settings = Settings::new("640x360".parse()?);
//! let thumbnail = desk.resize(photo, &settings)?.bytes.into_owned();
//! # Ok(thumbnail)
//! # }
//! ```
//!
//! The walk of a picture is [`picture`](Desk)'s: `geometry` says which part of it becomes what, `jpeg`,
//! `raster` and `webp` know the formats, `wish` the words for what may be asked. Knows neither files nor
//! networks, and prints nothing.

mod error;
mod geometry;
mod jpeg;
mod picture;
mod raster;
mod webp;
mod wish;

pub use error::PictureError;
pub use geometry::Wish;
pub use picture::{Desk, Limits, Loss, Picture, Planned, Settings};
pub use wish::{Colour, Format, Mode, Size, SizeError, UnknownColour, UnknownFormat, UnknownMode};
