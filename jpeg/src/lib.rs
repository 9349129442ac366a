//! Frames as libjpeg-turbo takes and gives them: an [`Encoder`] makes JPEGs of them, a [`Decoder`] makes
//! them of a JPEG, where they lie.
//!
//! Knows no slots and no files.

mod decoder;
mod encoder;
mod saved;
mod segments;

pub use decoder::Decoder;
pub use encoder::{Encoder, Pixels};
use resized_protocol::frame::{PixelFormat, Plane};
pub use saved::most_saved_bytes;
pub use segments::{Segments, is_decoded_whole};
use turbojpeg::Image;

/// A plane as libjpeg-turbo takes it.
pub fn image<T>(pixels: T, plane: &Plane, format: turbojpeg::PixelFormat) -> Image<T> {
    let (width, height) = (plane.extent.width as usize, plane.rows());
    Image { pixels, width, pitch: plane.stride, height, format }
}

/// What libjpeg-turbo calls a format of one plane; none if it has no name for it.
pub const fn packed(format: PixelFormat) -> Option<turbojpeg::PixelFormat> {
    Some(match format {
        PixelFormat::Gray8 => turbojpeg::PixelFormat::GRAY,
        PixelFormat::Rgb24 => turbojpeg::PixelFormat::RGB,
        PixelFormat::Bgr24 => turbojpeg::PixelFormat::BGR,
        PixelFormat::Rgba => turbojpeg::PixelFormat::RGBA,
        PixelFormat::Bgra => turbojpeg::PixelFormat::BGRA,
        _ => return None,
    })
}
