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
    /// Planes of a frame that can't be compressed from its slot as it is.
    copy: [Vec<u8>; 3],
}

impl Encoder {
    fn new(quality: i32) -> Result<Self> {
        let mut compressor = Compressor::new().context("can't make a JPEG compressor")?;
        compressor.set_quality(quality).context("can't set the JPEG quality")?;
        Ok(Self { compressor, jpeg: Vec::new(), copy: Default::default() })
    }

    fn encode(&mut self, frame: &Frame) -> Result<&[u8]> {
        let gray = frame.layout().planes().len() == 1;
        let subsamp = if gray { Subsamp::Gray } else { Subsamp::Sub2x2 };
        let extent = frame.layout().planes()[0].extent;
        let longest = compressed_buf_len(extent.width as usize, extent.height as usize, subsamp)?;
        if self.jpeg.len() < longest {
            self.jpeg.resize(longest, 0);
        }
        let mut output = OutputBuf::borrowed(&mut self.jpeg);
        if gray {
            self.compressor.set_subsamp(subsamp)?;
            self.compressor.compress(gray_image(frame), &mut output)
        } else {
            let image = colour_image(frame, &mut self.copy);
            self.compressor.compress_yuv_planes(&image, &mut output)
        }
        .context("can't compress a frame to JPEG")?;
        let len = output.len();
        drop(output);
        Ok(&self.jpeg[..len])
    }
}

fn gray_image(frame: &Frame) -> Image<&[u8]> {
    let plane = frame.layout().planes()[0];
    Image {
        pixels: frame.plane(0),
        width: plane.extent.width as usize,
        pitch: plane.stride,
        height: plane.extent.height as usize,
        format: PixelFormat::GRAY,
    }
}

/// The planes as they lie in the slot, if they can be had so.
fn colour_image<'a>(frame: &'a Frame, copy: &'a mut [Vec<u8>; 3]) -> YuvPlanesImage<&'a [u8]> {
    let planes = frame.layout().planes();
    let (luma, chroma) = (planes[0], planes[1]);
    let (width, height) = (luma.row_bytes(), luma.rows());
    let mut image = YuvPlanesImage {
        y_plane: frame.plane(0),
        u_plane: frame.plane(1),
        v_plane: frame.plane(2),
        width,
        height,
        y_stride: luma.stride,
        u_stride: chroma.stride,
        v_stride: chroma.stride,
        subsamp: Subsamp::Sub2x2,
    };
    // TurboJPEG reads whole blocks of 2x2 pixels.
    if width % 2 != 0 || height % 2 != 0 {
        copy_even(frame, copy);
        let [y, cb, cr] = copy;
        let (y_stride, chroma_stride) = (2 * chroma.row_bytes(), chroma.row_bytes());
        (image.y_plane, image.u_plane, image.v_plane) = (y, cb, cr);
        (image.y_stride, image.u_stride, image.v_stride) = (y_stride, chroma_stride, chroma_stride);
    }
    image
}

/// Copies the planes without padding, but with the last column and row of luma repeated where that
/// makes its sides even.
fn copy_even(frame: &Frame, copy: &mut [Vec<u8>; 3]) {
    for (index, (plane, copy)) in frame.layout().planes().iter().zip(copy).enumerate() {
        let (width, rows) = (plane.row_bytes(), plane.rows());
        let (odd, even_rows) = match index {
            0 => (width % 2, rows.next_multiple_of(2)),
            _ => (0, rows),
        };
        copy.clear();
        for row in 0..even_rows {
            let row = &frame.plane(index)[row.min(rows - 1) * plane.stride..][..width];
            copy.extend_from_slice(row);
            copy.extend_from_slice(&row[width - odd..]);
        }
    }
}
