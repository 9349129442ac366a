//! Owns PNG and WebP files, and turning pictures upright: all that is done by pixel, tightly packed.

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngDecoder, PngEncoder};
use image::codecs::webp::{WebPDecoder, WebPEncoder};
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageEncoder, Limits, RgbImage,
    RgbaImage,
};
use resized_client::{Extent, Frame, PixelFormat, Slot};

use crate::error::PictureError;
use crate::jpeg::EXIF;
use crate::picture::Loss;
use crate::webp;

/// Bytes for each pixel that decoding may take: sixteen bits of four channels, what eight are made
/// of, and the decoder's own.
const PIXEL_BYTES: u64 = 24;

/// What decoding may take beside that.
const DECODER_BYTES: u64 = 16 << 20;

/// A file whose header was read.
pub(crate) struct Raster<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Vec<u8>>,
    /// Its first picture is decoded.
    is_animated: bool,
}

impl<'a> Raster<'a> {
    /// Reads the header of a PNG.
    pub(crate) fn png(file: &'a [u8]) -> Result<Self, PictureError> {
        let decoder = PngDecoder::with_limits(Cursor::new(file), limits(0))?;
        let is_animated = decoder.is_apng()?;
        Self::new(Box::new(decoder), is_animated)
    }

    /// Reads the header of a WebP.
    pub(crate) fn webp(file: &'a [u8]) -> Result<Self, PictureError> {
        let decoder = WebPDecoder::new(Cursor::new(file))?;
        let (width, height) = decoder.dimensions();
        if !webp::is_honest(file, Extent::new(width, height)) {
            return Err(PictureError::Dishonest);
        }
        let is_animated = decoder.has_animation();
        Self::new(Box::new(decoder), is_animated)
    }

    fn new(
        mut decoder: Box<dyn ImageDecoder + 'a>,
        is_animated: bool,
    ) -> Result<Self, PictureError> {
        // Metadata that can't be understood is as if it were not there.
        let exif = decoder.exif_metadata().unwrap_or_default();
        let orientation = exif.and_then(|exif| {
            // Some write what begins a JPEG's segment.
            Orientation::from_exif_chunk(exif.strip_prefix(EXIF).unwrap_or(&exif))
        });
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        let profile = decoder.icc_profile().unwrap_or_default();
        Ok(Self { decoder, orientation, profile, is_animated })
    }

    /// What of it is not decoded.
    pub(crate) fn losses(&self) -> impl Iterator<Item = Loss> {
        let bits = 8 * u64::from(self.decoder.color_type().bytes_per_pixel())
            / u64::from(self.decoder.color_type().channel_count());
        let pictures = self.is_animated.then_some(Loss::Pictures);
        pictures.into_iter().chain((bits > 8).then_some(Loss::Depth(bits)))
    }

    /// Pixels as stored.
    pub(crate) fn extent(&self) -> Extent {
        let (width, height) = self.decoder.dimensions();
        Extent::new(width, height)
    }

    /// What it is decoded to.
    pub(crate) fn format(&self) -> PixelFormat {
        match self.decoder.color_type() {
            ColorType::L8 | ColorType::L16 => PixelFormat::Gray8,
            color if color.has_alpha() => PixelFormat::Rgba,
            _ => PixelFormat::Rgb24,
        }
    }

    /// Most memory that decoding takes: pixels as they are stored, and what they are made of or become.
    /// Most has an animated WebP, a canvas, a frame, and the frame's planes.
    pub(crate) fn decoder_bytes(&self) -> u64 {
        self.decoder.total_bytes().saturating_add(10 * self.extent().pixels())
    }

    /// Decodes it into a slot of a stream of its format and extent.
    pub(crate) fn decode(mut self, slot: &mut Slot) -> Result<(), PictureError> {
        let format = self.format();
        self.decoder.set_limits(limits(self.extent().pixels()))?;
        let image = DynamicImage::from_decoder(self.decoder)?;
        slot.write_packed(&match format {
            PixelFormat::Gray8 => image.into_luma8().into_raw(),
            PixelFormat::Rgba => image.into_rgba8().into_raw(),
            _ => image.into_rgb8().into_raw(),
        })?;
        Ok(())
    }
}

fn limits(pixels: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_BYTES + PIXEL_BYTES * pixels);
    limits
}

/// A resized frame, turned upright. Its format is `Gray8`, `Rgb24` or `Rgba`.
pub(crate) fn upright(
    frame: &Frame,
    format: PixelFormat,
    orientation: Orientation,
) -> DynamicImage {
    let Extent { width, height } = frame.layout().planes()[0].extent;
    let packed = frame.to_packed();
    let mut image = match format {
        PixelFormat::Gray8 => GrayImage::from_raw(width, height, packed).map(DynamicImage::from),
        PixelFormat::Rgba => RgbaImage::from_raw(width, height, packed).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, packed).map(DynamicImage::from),
    }
    .expect("as many bytes as the frame's format has");
    image.apply_orientation(orientation);
    image
}

/// What lies behind transparent pixels, where a format knows none.
const PAPER: u32 = 255;

/// As it looks on white paper.
pub(crate) fn on_paper(image: DynamicImage) -> DynamicImage {
    let DynamicImage::ImageRgba8(image) = image else { return image };
    let over = ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
        let image::Rgba([red, green, blue, opacity]) = *image.get_pixel(x, y);
        let opacity = u32::from(opacity);
        let mixed = |colour: u8| {
            ((u32::from(colour) * opacity + PAPER * (255 - opacity) + 127) / 255) as u8
        };
        image::Rgb([red, green, blue].map(mixed))
    });
    DynamicImage::ImageRgb8(over)
}

/// The picture as a PNG.
pub(crate) fn to_png(
    image: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive);
    write(image, profile, encoder)?;
    Ok(file)
}

/// The picture as a WebP, without loss: who wrote the encoder has no other.
pub(crate) fn to_webp(
    image: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    write(image, profile, WebPEncoder::new_lossless(&mut file))?;
    Ok(file)
}

fn write(
    image: &DynamicImage,
    profile: Option<Vec<u8>>,
    mut encoder: impl ImageEncoder,
) -> Result<(), PictureError> {
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).map_err(image::ImageError::Unsupported)?;
    }
    encoder.write_image(image.as_bytes(), image.width(), image.height(), image.color().into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webp_whose_frame_is_another_than_its_canvas_is_not_decoded() {
        // A container of 3x2 pixels (RFC 9649, 2.7) with a frame of 16383x16383 (RFC 6386, 9.1).
        let canvas = [&b"VP8X\x0a\0\0\0"[..], &[0; 4], &[2, 0, 0], &[1, 0, 0]].concat();
        let side = 16_383_u16.to_le_bytes();
        let frame =
            [&b"VP8 \x0e\0\0\0"[..], &[0, 0, 0, 0x9D, 1, 0x2A], &side, &side, &[7; 4]].concat();
        let body = [&b"WEBP"[..], &canvas, &frame].concat();
        let file = [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat();
        let refused = Raster::webp(&file).map(drop).unwrap_err();
        assert!(matches!(refused, PictureError::Dishonest), "{refused}");
    }

    #[test]
    fn transparent_pixels_show_the_paper() {
        let image =
            RgbaImage::from_fn(3, 1, |x, _| image::Rgba([200, 100, 0, [0, 128, 255][x as usize]]));
        let flat = on_paper(image.into()).into_rgb8();
        assert_eq!(flat.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(flat.get_pixel(1, 0).0, [227, 177, 127]);
        assert_eq!(flat.get_pixel(2, 0).0, [200, 100, 0]);
    }
}
