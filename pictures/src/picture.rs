//! Owns one picture's way: recognised, measured, decoded into a slot, resized, encoded.
//!
//! Invariant: nothing is decoded, and nothing allocated for pixels, whose header says more of them
//! than are allowed.

use std::borrow::Cow;
use std::fmt;

use image::DynamicImage;
use image::metadata::Orientation;
use resized_client::{
    Alpha, Client, Crop, Extent, Filter, Frame, FrameSpec, Framing, KeptStreams, PixelFormat,
    Quality, Slot, StreamSpec,
};
use resized_jpeg::{Encoder, Pixels};
use turbojpeg::{Image, Subsamp};

use crate::error::PictureError;
use crate::geometry::{Plan, Wish};
use crate::jpeg::{self, Jpeg};
use crate::raster::{self, Raster};
use crate::wish::{Format, Size};

/// Streams that a desk keeps open: photographs are upright or not, of a camera or another.
const STREAMS: usize = 4;

/// Of a stream's ring, for each pixel, and of what is made of each pixel of its result at the most:
/// packed, turned, laid on paper, encoded.
const PIXEL_BYTES: u64 = 4;
const RESULT_BYTES: u64 = 4 * PIXEL_BYTES;

/// What is asked for of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which part is to become how large.
    pub wish: Wish,
    /// How pixels are resampled.
    pub filter: Filter,
    /// Of a JPEG that is made.
    pub quality: Quality,
    /// Of the result; `None` for the picture's own.
    pub format: Option<Format>,
}

impl Settings {
    /// All of the picture, as large as it can be within the size, bicubic, and in its own format.
    pub const fn new(size: Size) -> Self {
        let (wish, filter, quality) = (Wish::new(size), Filter::Bicubic, Quality::DEFAULT);
        Self { wish, filter, quality, format: None }
    }
}

/// What is taken, whatever is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most pixels of a picture that is read.
    pub pixels: u64,
    /// Most pixels of a picture that is made.
    pub made: u64,
    /// Most passes over the picture in a progressive JPEG, each of which is decoded over all of it;
    /// sensible ones have ten.
    pub scans: u32,
}

impl Default for Limits {
    /// What a program may take of strangers: 200 megapixels to read, 64 to make, 64 passes.
    fn default() -> Self {
        Self { pixels: 200_000_000, made: 64_000_000, scans: 64 }
    }
}

/// A resized picture.
#[derive(Debug)]
pub struct Picture<'a> {
    /// Encoded.
    pub bytes: Cow<'a, [u8]>,
    /// How.
    pub format: Format,
    /// Its size.
    pub extent: Extent,
}

/// What a file has, and its result does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// All but the first picture of an animation.
    Pictures,
    /// All but the upper 8 of so many bits a channel.
    Depth(u64),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pictures => f.write_str("only the first picture of the animation is kept"),
            Self::Depth(all) => write!(f, "only 8 of {all} bits a channel are kept"),
        }
    }
}

/// Resizes one picture after the other. Each thread has one.
pub struct Desk {
    limits: Limits,
    streams: KeptStreams,
    encoder: Encoder,
    over: Box<dyn Fn() -> bool + Send>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A picture that was recognised.
enum Source<'a> {
    Jpeg(Jpeg<'a>),
    Raster(Raster<'a>, Format),
}

/// A picture whose header was read, and what will become of it.
pub struct Planned<'a> {
    source: Source<'a>,
    plan: Plan,
    orientation: Orientation,
    profile: Option<Vec<u8>>,
    spec: StreamSpec,
    format: Format,
    quality: Quality,
}

impl fmt::Debug for Planned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Planned<'_> {
    /// Most memory that making it takes, here and in the daemon: the decoder's, the stream's, the
    /// result's.
    pub fn bytes(&self) -> u64 {
        let decoder = match &self.source {
            Source::Jpeg(jpeg) => jpeg.decoder_bytes(),
            Source::Raster(raster, _) => raster.decoder_bytes(),
        };
        decoder + ring_bytes(&self.spec) + RESULT_BYTES * self.plan.result.pixels()
    }

    /// What of the file will be lost, beside metadata and size.
    pub fn losses(&self) -> Vec<Loss> {
        match &self.source {
            Source::Jpeg(_) => Vec::new(),
            Source::Raster(raster, _) => raster.losses().collect(),
        }
    }
}

impl Desk {
    /// A desk that has its pictures resized by that client's daemon.
    pub fn new(client: Client, limits: Limits) -> Result<Self, PictureError> {
        let streams = KeptStreams::new(client, STREAMS);
        Ok(Self { limits, streams, encoder: Encoder::new()?, over: Box::new(|| false) })
    }

    /// Resizes a picture.
    pub fn resize(
        &mut self,
        file: &[u8],
        settings: &Settings,
    ) -> Result<Picture<'_>, PictureError> {
        let planned = self.plan(file, settings)?;
        self.make(planned)
    }

    /// Reads a picture's header, and says what will become of it.
    pub fn plan<'a>(
        &mut self,
        file: &'a [u8],
        settings: &Settings,
    ) -> Result<Planned<'a>, PictureError> {
        let mut source = Source::recognise(file, self.limits.scans)?;
        let (extent, limit) = (source.extent(), self.limits.pixels);
        if extent.pixels() > limit {
            return Err(PictureError::Pixels { extent, limit });
        }
        let (orientation, profile) = source.take_metadata();
        let plan = Plan::new(&settings.wish, extent, orientation, source.shrinks())?;
        let (extent, limit) = (plan.result, self.limits.made);
        if extent.pixels() > limit {
            return Err(PictureError::Made { extent, limit });
        }
        let format = settings.format.unwrap_or(source.file_format());
        let spec = stream_spec(&source, &plan, orientation, format, settings.filter);
        let quality = settings.quality;
        let profile = profile.filter(|profile| fits(profile, spec.destination.format, format));
        Ok(Planned { source, plan, orientation, profile, spec, format, quality })
    }

    /// The same, but whoever waits for the daemon asks twenty times a second whether that is
    /// [over](PictureError::Over).
    #[must_use]
    pub fn until(self, over: impl Fn() -> bool + Send + 'static) -> Self {
        Self { over: Box::new(over), ..self }
    }

    /// Resizes a picture whose header was read.
    pub fn make(&mut self, planned: Planned<'_>) -> Result<Picture<'_>, PictureError> {
        let Planned { source, plan, orientation, profile, spec, format, quality } = planned;
        let over = &self.over;
        let stream = self.streams.stream_until(&spec, over)?.ok_or(PictureError::Over)?;
        let mut slot = stream.loan_until(over)?.ok_or(PictureError::Over)?;
        source.decode(&plan, &mut slot)?;
        let frame = slot.submit()?.wait_until(over)?.map_err(|_| PictureError::Over)?;
        let made = Made { frame: &frame, spec: spec.destination, orientation, profile };
        let bytes = match format {
            Format::Jpeg => made.jpeg(&mut self.encoder, quality)?,
            Format::Png => raster::to_png(&made.upright(), made.profile)?.into(),
            Format::Webp => raster::to_webp(&made.upright(), made.profile)?.into(),
        };
        Ok(Picture { bytes, format, extent: plan.result })
    }

    /// Gives back what is kept for the pictures after this one, beyond so many bytes of streams and of
    /// buffers.
    pub fn trim(&mut self, bytes: u64) {
        let mut left = bytes;
        self.streams.trim(|spec| match left.checked_sub(ring_bytes(spec)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        self.encoder.trim(bytes);
    }
}

fn ring_bytes(spec: &StreamSpec) -> u64 {
    PIXEL_BYTES * (spec.source.extent.pixels() + spec.destination.extent.pixels())
}

/// Whether a colour profile may be said to be that of such a result: one of grays is none of colours
/// (ICC.1, 7.2.6), which all of a WebP's pixels are.
fn fits(profile: &[u8], made: PixelFormat, format: Format) -> bool {
    let is_of_gray = profile.get(16..20) == Some(b"GRAY");
    !is_of_gray || (made == PixelFormat::Gray8 && format != Format::Webp)
}

fn stream_spec(
    source: &Source<'_>,
    plan: &Plan,
    orientation: Orientation,
    format: Format,
    filter: Filter,
) -> StreamSpec {
    let from = source.spec(plan.shrink);
    // What gray has room for is not this.
    let is_coloured = match plan.framing {
        Framing::Fit { pad: [red, green, blue], .. } => red != green || green != blue,
        Framing::Fill | Framing::Stretch => false,
    };
    let shown = match from.format {
        PixelFormat::Gray8 if is_coloured => PixelFormat::Rgb24,
        format => format,
    };
    let to = match (shown, format) {
        // What has to be turned afterwards is turned pixel by pixel.
        (PixelFormat::I420 | PixelFormat::Rgb24, Format::Jpeg)
            if orientation == Orientation::NoTransforms =>
        {
            PixelFormat::I420
        }
        (PixelFormat::I420, _) => PixelFormat::Rgb24,
        (same, _) => same,
    };
    let mut spec = StreamSpec::new(from, plan.destination);
    spec.destination = FrameSpec::jpeg(to, plan.destination);
    spec.crop = Some(plan.crop).filter(|&crop| crop != Crop::whole(from.extent));
    spec.framing = plan.framing;
    spec.filter = filter;
    spec.alpha = Alpha::Weighs;
    spec.slots = 1;
    spec
}

impl<'a> Source<'a> {
    fn recognise(file: &'a [u8], scans: u32) -> Result<Self, PictureError> {
        Ok(match file {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg(Jpeg::new(file, scans)?),
            [0x89, b'P', b'N', b'G', ..] => Self::Raster(Raster::png(file)?, Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
                Self::Raster(Raster::webp(file)?, Format::Webp)
            }
            _ => return Err(PictureError::Unknown),
        })
    }

    /// Pixels as stored.
    fn extent(&self) -> Extent {
        match self {
            Self::Jpeg(jpeg) => jpeg.extent(),
            Self::Raster(raster, _) => raster.extent(),
        }
    }

    fn take_metadata(&mut self) -> (Orientation, Option<Vec<u8>>) {
        match self {
            Self::Jpeg(jpeg) => (jpeg.orientation, jpeg.profile.take()),
            Self::Raster(raster, _) => (raster.orientation, raster.profile.take()),
        }
    }

    const fn file_format(&self) -> Format {
        match self {
            Self::Jpeg(_) => Format::Jpeg,
            Self::Raster(_, format) => *format,
        }
    }

    const fn shrinks(&self) -> &'static [u32] {
        match self {
            Self::Jpeg(jpeg) => jpeg.shrinks(),
            Self::Raster(..) => &[1],
        }
    }

    fn spec(&self, shrink: u32) -> FrameSpec {
        match self {
            Self::Jpeg(jpeg) => jpeg.spec(shrink),
            Self::Raster(raster, _) => FrameSpec::jpeg(raster.format(), raster.extent()),
        }
    }

    fn decode(self, plan: &Plan, slot: &mut Slot) -> Result<(), PictureError> {
        match self {
            Self::Jpeg(jpeg) => jpeg.decode(plan.shrink, slot),
            Self::Raster(raster, _) => raster.decode(slot),
        }
    }
}

/// A resized frame, and what belongs to it.
struct Made<'a> {
    frame: &'a Frame,
    spec: FrameSpec,
    orientation: Orientation,
    profile: Option<Vec<u8>>,
}

impl Made<'_> {
    fn upright(&self) -> DynamicImage {
        raster::upright(self.frame, self.spec.format, self.orientation)
    }

    fn jpeg<'e>(
        &self,
        encoder: &'e mut Encoder,
        quality: Quality,
    ) -> Result<Cow<'e, [u8]>, PictureError> {
        let (format, layout, frame) = (self.spec.format, self.frame.layout(), self.frame.output());
        let as_it_is = matches!(format, PixelFormat::Gray8 | PixelFormat::I420)
            && self.orientation == Orientation::NoTransforms;
        let jpeg = match Pixels::of(format, layout, frame, CHROMA) {
            Some(pixels) if as_it_is => encoder.encode(&pixels, quality, None)?,
            _ => {
                let image = raster::on_paper(self.upright());
                encoder.encode(&Pixels::Plane(packed(&image), CHROMA), quality, None)?
            }
        };
        Ok(match &self.profile {
            Some(profile) => jpeg::with_profile(jpeg, profile).into(),
            None => jpeg.into(),
        })
    }
}

/// Of a JPEG that is made: what nearly all cameras and cutters write.
const CHROMA: Subsamp = Subsamp::Sub2x2;

/// A picture of gray or of colours, as it is compressed.
fn packed(image: &DynamicImage) -> Image<&[u8]> {
    let (format, channels) = match image {
        DynamicImage::ImageLuma8(_) => (turbojpeg::PixelFormat::GRAY, 1),
        _ => (turbojpeg::PixelFormat::RGB, 3),
    };
    let (width, height) = (image.width() as usize, image.height() as usize);
    Image { pixels: image.as_bytes(), width, pitch: channels * width, height, format }
}
