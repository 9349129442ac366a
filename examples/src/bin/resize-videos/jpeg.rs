//! Owns the writing of resized frames to JPEG files, straight from the planes in their slots.

use std::sync::Arc;

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use crossbeam_utils::sync::WaitGroup;
use resized_client::Frame;
use turbojpeg::{
    Compressor, Image, OutputBuf, PixelFormat, Subsamp, YuvPlanesImage, compressed_buf_len,
};

use crate::folder::Folder;
use crate::progress::Track;
use crate::stop::Stop;

/// A resized frame to be written. Its slot is free again as soon as it is.
pub(crate) struct Work {
    pub(crate) frame: Frame,
    /// Counted from one.
    pub(crate) number: u64,
    pub(crate) target: Arc<Target>,
    /// Dropped with the rest: then this frame is over.
    pub(crate) written: WaitGroup,
}

/// What the frames of one instance have in common.
pub(crate) struct Target {
    pub(crate) folder: Folder,
    pub(crate) track: Track,
}

/// Writes frames until there are no more. After a failure it only lets go of them.
pub(crate) fn write_all(work: Receiver<Work>, quality: i32, stop: &Stop) {
    let mut encoder = match Encoder::new(quality) {
        Ok(encoder) => Some(encoder),
        Err(error) => {
            stop.fail(error);
            None
        }
    };
    for Work { frame, number, target, written } in work {
        if let Some(encoder) = encoder.as_mut().filter(|_| !stop.has_failed()) {
            let done = encoder.encode(&frame).and_then(|jpeg| target.folder.write(number, jpeg));
            match done {
                Ok(()) => target.track.advance(),
                Err(error) => stop.fail(error),
            }
        }
        drop((frame, written));
    }
}

/// A JPEG compressor and the buffers that it uses for each frame.
struct Encoder {
    compressor: Compressor,
    jpeg: Vec<u8>,
    /// The luma of a frame with an odd side.
    luma: Vec<u8>,
}

impl Encoder {
    fn new(quality: i32) -> Result<Self> {
        let mut compressor = Compressor::new().context("can't make a JPEG compressor")?;
        compressor.set_quality(quality).context("can't set the JPEG quality")?;
        Ok(Self { compressor, jpeg: Vec::new(), luma: Vec::new() })
    }

    fn encode(&mut self, frame: &Frame) -> Result<&[u8]> {
        let subsamp = match frame.layout().planes().len() {
            1 => Subsamp::Gray,
            _ => Subsamp::Sub2x2,
        };
        let luma = frame.layout().planes()[0];
        let (width, height) = (luma.extent.width as usize, luma.extent.height as usize);
        let longest = compressed_buf_len(width, height, subsamp)?;
        if self.jpeg.len() < longest {
            self.jpeg.resize(longest, 0);
        }
        let mut output = OutputBuf::borrowed(&mut self.jpeg);
        if subsamp == Subsamp::Gray {
            let image = Image {
                pixels: frame.plane(0),
                width,
                pitch: luma.stride,
                height,
                format: PixelFormat::GRAY,
            };
            self.compressor.set_subsamp(subsamp)?;
            self.compressor.compress(image, &mut output)
        } else {
            let chroma = frame.layout().planes()[1];
            // TurboJPEG reads whole blocks of 2x2 pixels.
            let (y_plane, y_stride) = match (width % 2, height % 2) {
                (0, 0) => (frame.plane(0), luma.stride),
                _ => (even(&mut self.luma, frame), width.next_multiple_of(2)),
            };
            let image = YuvPlanesImage {
                y_plane,
                u_plane: frame.plane(1),
                v_plane: frame.plane(2),
                width,
                height,
                y_stride,
                u_stride: chroma.stride,
                v_stride: chroma.stride,
                subsamp,
            };
            self.compressor.compress_yuv_planes(&image, &mut output)
        }
        .context("can't compress a frame to JPEG")?;
        let len = output.len();
        drop(output);
        Ok(&self.jpeg[..len])
    }
}

/// The luma of a frame, its last column and row repeated where that makes the sides even.
fn even<'a>(buffer: &'a mut Vec<u8>, frame: &Frame) -> &'a [u8] {
    let plane = frame.layout().planes()[0];
    let (width, rows) = (plane.row_bytes(), plane.rows());
    buffer.clear();
    for row in 0..rows.next_multiple_of(2) {
        let row = &frame.plane(0)[row.min(rows - 1) * plane.stride..][..width];
        buffer.extend_from_slice(row);
        buffer.extend_from_slice(&row[row.len() - width % 2..]);
    }
    buffer
}
