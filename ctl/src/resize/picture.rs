//! Owns one picture's way: read, recognised, measured, decoded into a slot, resized, written.
//!
//! Invariant: nothing is decoded whose header says more pixels than are allowed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::DynamicImage;
use image::metadata::Orientation;
use resized_client::{
    Alpha, Client, Crop, Extent, Filter, Frame, FrameSpec, PixelFormat, Slot, Stream, StreamSpec,
};

use super::error::PictureError;
use super::geometry::{Plan, Wish};
use super::jpeg::{self, Pixels};
use super::output;
use super::raster::{self, Raster};
use crate::args::Format;

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 30;

/// Streams that a thread keeps open: photographs are upright or not, of a camera or another.
const STREAMS: usize = 4;

/// What is the same for all pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) wish: Wish,
    pub(crate) filter: Filter,
    pub(crate) quality: i32,
    /// `None` for the picture's own.
    pub(crate) format: Option<Format>,
    pub(crate) max_megapixels: u64,
}

/// Resizes one picture after the other. Each thread has one.
pub(crate) struct Desk {
    settings: Settings,
    client: Client,
    /// The one used last is the last.
    streams: Vec<(StreamSpec, Stream)>,
    file: Vec<u8>,
    decoder: jpeg::Decoder,
    encoder: jpeg::Encoder,
}

/// A picture that was recognised.
enum Source<'a> {
    Jpeg(jpeg::Header),
    Raster(Raster<'a>, Format),
}

impl Desk {
    pub(crate) fn new(client: Client, settings: Settings) -> Result<Self, PictureError> {
        Ok(Self {
            settings,
            client,
            streams: Vec::new(),
            file: Vec::new(),
            decoder: jpeg::Decoder::new()?,
            encoder: jpeg::Encoder::new(settings.quality)?,
        })
    }

    /// Resizes the picture at `from` to the file `to`.
    pub(crate) fn resize(&mut self, from: &Path, to: &Path) -> Result<(), PictureError> {
        read(from, &mut self.file)?;
        let file = std::mem::take(&mut self.file);
        let done = self.resize_file(&file, to);
        self.file = file;
        done
    }

    fn resize_file(&mut self, file: &[u8], to: &Path) -> Result<(), PictureError> {
        let mut source = Source::recognise(file, &mut self.decoder)?;
        let stored = source.extent();
        let limit = self.settings.max_megapixels;
        if stored.pixels() > limit * 1_000_000 {
            return Err(PictureError::Pixels { extent: stored, limit });
        }
        let (orientation, profile) = source.take_metadata();
        let plan = Plan::new(&self.settings.wish, stored, orientation, source.shrinks())?;
        let format = self.settings.format.unwrap_or(source.file_format());
        let spec = self.stream_spec(&source, &plan, orientation, format);
        let mut slot = self.stream(&spec)?.loan()?;
        source.decode(file, &plan, &mut self.decoder, &mut slot)?;
        let frame = slot.submit()?.wait()?;
        let made = Made { frame: &frame, spec: spec.destination, orientation, profile };
        match format {
            Format::Jpeg => output::write(to, &made.jpeg(&mut self.encoder)?),
            Format::Png => output::write(to, &raster::to_png(&made.upright(), made.profile)?),
            Format::Webp => output::write(to, &raster::to_webp(&made.upright(), made.profile)?),
        }
    }

    fn stream_spec(
        &self,
        source: &Source<'_>,
        plan: &Plan,
        orientation: Orientation,
        format: Format,
    ) -> StreamSpec {
        let from = source.spec(plan.shrink);
        let to = match (from.format, format) {
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
        spec.filter = self.settings.filter;
        spec.alpha = Alpha::Weighs;
        spec.slots = 1;
        spec
    }

    fn stream(&mut self, spec: &StreamSpec) -> Result<Stream, PictureError> {
        let open = match self.streams.iter().position(|(open, _)| open == spec) {
            Some(index) => self.streams.remove(index),
            None => {
                if self.streams.len() == STREAMS {
                    self.streams.remove(0);
                }
                (*spec, self.client.open(spec)?)
            }
        };
        let stream = open.1.clone();
        self.streams.push(open);
        Ok(stream)
    }
}

fn read(path: &Path, file: &mut Vec<u8>) -> Result<(), PictureError> {
    file.clear();
    let bytes = File::open(path).and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(file));
    match bytes.map_err(PictureError::Read)? as u64 {
        0..=MAX_FILE => Ok(()),
        _ => Err(PictureError::Long(MAX_FILE)),
    }
}

impl<'a> Source<'a> {
    fn recognise(file: &'a [u8], decoder: &mut jpeg::Decoder) -> Result<Self, PictureError> {
        Ok(match file {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg(decoder.header(file)?),
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
            Self::Jpeg(header) => header.extent(),
            Self::Raster(raster, _) => raster.extent(),
        }
    }

    fn take_metadata(&mut self) -> (Orientation, Option<Vec<u8>>) {
        match self {
            Self::Jpeg(header) => (header.orientation, header.profile.take()),
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
            Self::Jpeg(header) => header.shrinks(),
            Self::Raster(..) => &[1],
        }
    }

    fn spec(&self, shrink: u32) -> FrameSpec {
        match self {
            Self::Jpeg(header) => header.spec(shrink),
            Self::Raster(raster, _) => FrameSpec::jpeg(raster.format(), raster.extent()),
        }
    }

    fn decode(
        self,
        file: &[u8],
        plan: &Plan,
        decoder: &mut jpeg::Decoder,
        slot: &mut Slot,
    ) -> Result<(), PictureError> {
        match self {
            Self::Jpeg(header) => decoder.decode(file, &header, plan.shrink, slot),
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
        encoder: &'e mut jpeg::Encoder,
    ) -> Result<std::borrow::Cow<'e, [u8]>, PictureError> {
        let as_it_is = matches!(self.spec.format, PixelFormat::Gray8 | PixelFormat::I420)
            && self.orientation == Orientation::NoTransforms;
        let jpeg = if as_it_is {
            encoder.encode(&Pixels::Frame(self.frame))?
        } else {
            let image = raster::on_paper(self.upright());
            let format = match image {
                DynamicImage::ImageLuma8(_) => PixelFormat::Gray8,
                _ => PixelFormat::Rgb24,
            };
            let extent = Extent::new(image.width(), image.height());
            encoder.encode(&Pixels::Packed(format, extent, image.as_bytes()))?
        };
        Ok(match &self.profile {
            Some(profile) => jpeg::with_profile(jpeg, profile).into(),
            None => jpeg.into(),
        })
    }
}
