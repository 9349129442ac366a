//! Owns the way from a decoded frame to one that the daemon knows: which format, which colour, and the
//! copy into a slot.
//!
//! What the daemon knows is taken as it is, and becomes eight bits of luma and chroma, or luma
//! alone, as it is resized; libswscale brings all else to one of those first, at its own size.

use anyhow::{Context, Result};
use ffmpeg_next::Rational;
use ffmpeg_next::color;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{self, Flags};
use ffmpeg_next::util::chroma::Location;
use ffmpeg_next::util::frame;
use resized_client::{Extent, FrameSpec, Matrix, PixelFormat, Range, Siting, Slot};

/// Turns frames into pictures; keeps what converting the last one took, for the next.
pub(crate) struct Converter {
    /// Of the samples of all frames, where the file says so.
    aspect: Option<f64>,
    scaler: Option<scaling::Context>,
    converted: Option<frame::Video>,
}

/// A frame that the daemon knows.
pub(crate) struct Picture<'a> {
    frame: &'a frame::Video,
    spec: FrameSpec,
    aspect: f64,
}

impl Converter {
    /// For frames whose samples have this aspect; none if each frame says so itself.
    pub(crate) fn new(aspect: Option<f64>) -> Self {
        Self { aspect, scaler: None, converted: None }
    }

    /// The frame as a picture.
    pub(crate) fn picture<'a>(&'a mut self, frame: &'a frame::Video) -> Result<Picture<'a>> {
        let family = Family::of(frame.format());
        let known = known(frame.format()).filter(|_| !is_upside_down(frame));
        let spec = FrameSpec {
            format: known.unwrap_or(family.format()),
            extent: Extent::new(frame.width(), frame.height()),
            range: family.range(frame.color_range()),
            siting: siting(frame),
            matrix: family.matrix(frame.color_space()),
        };
        let aspect = self.aspect.or_else(|| sample_aspect(frame.aspect_ratio())).unwrap_or(1.0);
        if known.is_some() {
            return Ok(Picture { frame, spec, aspect });
        }
        let frame = self.convert(frame, family.pixel())?;
        Ok(Picture { frame, spec, aspect })
    }

    fn convert(&mut self, frame: &frame::Video, target: Pixel) -> Result<&frame::Video> {
        let (pixel, width, height) = (frame.format(), frame.width(), frame.height());
        let wanted = scaling::context::Definition { format: pixel, width, height };
        if self
            .scaler
            .as_ref()
            .is_none_or(|scaler| *scaler.input() != wanted || scaler.output().format != target)
        {
            let flags = Flags::BICUBIC | Flags::ACCURATE_RND | Flags::FULL_CHR_H_INP;
            let scaler = scaling::Context::get(pixel, width, height, target, width, height, flags)
                .with_context(|| format!("FFmpeg can't convert {pixel:?} frames"))?;
            self.scaler = Some(scaler);
            self.converted = None;
        }
        let converted = self.converted.get_or_insert_with(frame::Video::empty);
        if let Some(scaler) = &mut self.scaler {
            scaler.run(frame, converted).with_context(|| format!("converting {pixel:?} frames"))?;
        }
        Ok(converted)
    }
}

impl Picture<'_> {
    /// What it is.
    pub(crate) fn spec(&self) -> FrameSpec {
        self.spec
    }

    /// What it should be resized to for a JPEG file, but for its extent: those hold BT.601 in full
    /// range and centred chroma, whatever the video has.
    pub(crate) fn destination(&self) -> FrameSpec {
        let format = match self.spec.format {
            PixelFormat::Gray8 => PixelFormat::Gray8,
            _ => PixelFormat::I420,
        };
        FrameSpec::jpeg(format, self.spec.extent)
    }

    /// How many times wider than high its samples are.
    pub(crate) fn aspect(&self) -> f64 {
        self.aspect
    }

    /// Writes it into the upper left corner of a slot, of a stream with this picture's format.
    pub(crate) fn copy_to(&self, slot: &mut Slot) {
        for index in 0..slot.layout().planes().len() {
            let plane = slot.layout().planes()[index];
            let (from, from_stride) = (self.frame.data(index), self.frame.stride(index));
            let to = slot.plane_mut(index);
            if from_stride == plane.stride {
                let bytes = to.len().min(from.len());
                to[..bytes].copy_from_slice(&from[..bytes]);
                continue;
            }
            let rows = to.chunks_exact_mut(plane.stride).zip(from.chunks(from_stride));
            for (to, from) in rows {
                let bytes = plane.row_bytes().min(from.len());
                to[..bytes].copy_from_slice(&from[..bytes]);
            }
        }
    }
}

/// The daemon's name of a format, if it has one.
pub(crate) fn known(pixel: Pixel) -> Option<PixelFormat> {
    match pixel {
        Pixel::GRAY8 => Some(PixelFormat::Gray8),
        Pixel::YUV420P | Pixel::YUVJ420P => Some(PixelFormat::I420),
        Pixel::YUV420P10LE => Some(PixelFormat::I420P10),
        Pixel::NV12 => Some(PixelFormat::Nv12),
        Pixel::RGB24 => Some(PixelFormat::Rgb24),
        Pixel::BGR24 => Some(PixelFormat::Bgr24),
        Pixel::RGBA => Some(PixelFormat::Rgba),
        Pixel::BGRA => Some(PixelFormat::Bgra),
        _ => None,
    }
}

/// A sample aspect ratio as a number; FFmpeg says, by 0/1, where none is known. What a file says of it
/// goes before what its coded video says, as with `av_guess_sample_aspect_ratio`.
pub(crate) fn sample_aspect(ratio: Rational) -> Option<f64> {
    let is_known = ratio.numerator() > 0 && ratio.denominator() > 0;
    is_known.then(|| f64::from(ratio))
}

/// Formats that libswscale makes the same one of.
#[derive(Clone, Copy)]
enum Family {
    Gray,
    /// Luma and chroma; a tag tells the range.
    Yuv,
    /// Luma and chroma; FFmpeg says by the format itself that the range is full.
    FullYuv,
    Rgb,
}

impl Family {
    fn of(pixel: Pixel) -> Self {
        let name = pixel.descriptor().map_or("", |descriptor| descriptor.name());
        let begins_with = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        if begins_with(&["gray", "mono", "ya"]) {
            Self::Gray
        } else if begins_with(&["yuvj"]) {
            Self::FullYuv
        } else if begins_with(&[
            "yu", "yv", "y2", "uy", "vuy", "ayuv", "nv", "p0", "p2", "p4", "xv",
        ]) {
            Self::Yuv
        } else {
            Self::Rgb
        }
    }

    /// FFmpeg's name of the format that is made of them. Between formats of one range libswscale
    /// leaves the samples' range alone; from RGB it makes the range that the name says.
    fn pixel(self) -> Pixel {
        match self {
            Self::Gray => Pixel::GRAY8,
            Self::Yuv => Pixel::YUV420P,
            Self::FullYuv | Self::Rgb => Pixel::YUVJ420P,
        }
    }

    /// The daemon's name of that.
    fn format(self) -> PixelFormat {
        match self {
            Self::Gray => PixelFormat::Gray8,
            Self::Yuv | Self::FullYuv | Self::Rgb => PixelFormat::I420,
        }
    }

    /// The matrix it then has. Video that does not say is taken to have BT.601, as FFmpeg does.
    fn matrix(self, tag: color::Space) -> Matrix {
        match (self, tag) {
            // libswscale makes BT.601 of RGB.
            (Self::Gray | Self::Rgb, _) => Matrix::Bt601,
            // SMPTE 240M is nearly the same: its share of blue is 0.087 instead of 0.072.
            (Self::Yuv | Self::FullYuv, color::Space::BT709 | color::Space::SMPTE240M) => {
                Matrix::Bt709
            }
            (Self::Yuv | Self::FullYuv, color::Space::BT2020NCL) => Matrix::Bt2020,
            (Self::Yuv | Self::FullYuv, _) => Matrix::Bt601,
        }
    }

    /// The range it then has.
    fn range(self, tag: color::Range) -> Range {
        match (self, tag) {
            (Self::FullYuv | Self::Rgb, _) | (_, color::Range::JPEG) => Range::Full,
            (Self::Gray, color::Range::Unspecified) => Range::Full,
            (Self::Gray | Self::Yuv, _) => Range::Limited,
        }
    }
}

/// Where the chroma samples lie, after a conversion too.
fn siting(frame: &frame::Video) -> Siting {
    let halved = frame.format().descriptor().is_some_and(|format| format.log2_chroma_w() == 1);
    match frame.chroma_location() {
        // libswscale puts chroma that it thins out midway between two samples of luma.
        _ if !halved => Siting::Centre,
        Location::Center | Location::Top | Location::Bottom => Siting::Centre,
        Location::Left | Location::TopLeft | Location::BottomLeft | Location::Unspecified => {
            Siting::Left
        }
    }
}

/// Some decoders give rows from the last to the first, by a negative stride.
fn is_upside_down(frame: &frame::Video) -> bool {
    (0..frame.planes()).any(|plane| frame.stride(plane) > isize::MAX as usize)
}
