//! Owns FFmpeg's swscale, through frames of its own as its callers have them. Its defaults: one
//! thread, a cubic with C = 0.6, chroma centred, BT.601 in limited range beside RGB in full range.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};
use resized_protocol::frame::{FrameSpec, PixelFormat};
use resized_protocol::message::{Filter, StreamSpec};

use crate::frame::Frame;
use crate::turn::{Contender, timed};

pub(crate) struct Swscale {
    context: Context,
    source: Video,
    destination: Video,
    /// To read the destination out of its rows.
    packed: Frame,
}

impl Swscale {
    /// Where it converts it takes or makes chroma of half the width.
    pub(crate) fn open(work: &StreamSpec) -> Self {
        Self::with(work, Flags::empty())
    }

    /// Chroma at the full width, as ours.
    pub(crate) fn with_full_chroma(work: &StreamSpec) -> Self {
        Self::with(work, Flags::FULL_CHR_H_INT | Flags::FULL_CHR_H_INP)
    }

    fn with(work: &StreamSpec, chroma: Flags) -> Self {
        let filter = match work.filter {
            Filter::Bilinear => Flags::BILINEAR,
            Filter::Bicubic => Flags::BICUBIC,
            Filter::Lanczos3 => Flags::LANCZOS,
            filter => panic!("{filter:?} is not compared"),
        };
        let (mut source, destination) = (video(work.source), video(work.destination));
        let context = Context::get(
            source.format(),
            source.width(),
            source.height(),
            destination.format(),
            destination.width(),
            destination.height(),
            filter | chroma,
        );
        let picture = Frame::source(work);
        for (index, plane) in picture.planes().iter().enumerate() {
            let stride = source.stride(index);
            let rows = source.data_mut(index).chunks_mut(stride);
            for (to, from) in rows.zip(picture.plane(index).chunks_exact(plane.stride)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        let packed = Frame::empty(work.destination);
        Self { context: context.expect("a context"), source, destination, packed }
    }
}

fn video(spec: FrameSpec) -> Video {
    let format = match spec.format {
        PixelFormat::I420 => Pixel::YUV420P,
        PixelFormat::Nv12 => Pixel::NV12,
        PixelFormat::Rgb24 => Pixel::RGB24,
        format => panic!("{format:?} is not compared"),
    };
    Video::new(format, spec.extent.width, spec.extent.height)
}

impl Contender for Swscale {
    fn turn(&mut self) -> f64 {
        timed(|| self.context.run(&self.source, &mut self.destination).expect("a frame"))
    }

    fn made(&mut self) -> Option<Vec<f32>> {
        for (index, plane) in self.packed.planes().to_owned().iter().enumerate() {
            let rows = self.destination.data(index).chunks(self.destination.stride(index));
            let packed = self.packed.plane_mut(index).chunks_exact_mut(plane.stride);
            for (to, from) in packed.zip(rows) {
                to.copy_from_slice(&from[..plane.row_bytes()]);
            }
        }
        Some(self.packed.samples())
    }
}

/// `major.minor.micro`, of the library that runs.
pub(crate) fn version() -> String {
    let version = ffmpeg_next::software::scaling::version();
    format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}
