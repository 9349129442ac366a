//! Owns the writing of resized frames to JPEG files, straight from the planes in their slots.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use crossbeam_utils::sync::WaitGroup;
use resized_client::Frame;
use resized_jpeg::planes;
use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp, compressed_buf_len};

use crate::folder::Folder;
use crate::notes::{Pace, Times};
use crate::progress::Track;
use crate::stop::Stop;

/// A resized frame to be written. Its slot is free again as soon as it is.
pub(crate) struct Work {
    pub(crate) frame: Frame,
    /// Counted from one.
    pub(crate) number: u64,
    /// When the decoder gave it.
    pub(crate) decoded: Instant,
    pub(crate) target: Arc<Target>,
    /// Dropped with the rest: then this frame is over.
    pub(crate) written: WaitGroup,
}

/// What the frames of one instance have in common.
pub(crate) struct Target {
    pub(crate) track: Track,
    folder: Folder,
    /// When the instance started.
    start: Instant,
    /// Of the pictures that are written.
    notes: Mutex<(Times, Pace)>,
}

impl Target {
    pub(crate) fn new(folder: Folder, track: Track, start: Instant) -> Result<Self> {
        Ok(Self { track, folder, start, notes: Mutex::new((Times::new()?, Pace::new())) })
    }

    /// How long it took from decoding to writing, and how many were written when.
    pub(crate) fn notes(&self) -> (Times, Pace) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One more picture is written, of a frame that was decoded then.
    fn advance(&self, decoded: Instant) {
        let now = Instant::now();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.0.note(now - decoded);
        notes.1.note(now - self.start);
        drop(notes);
        self.track.advance();
    }
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
    for Work { frame, number, decoded, target, written } in work {
        if let Some(encoder) = encoder.as_mut().filter(|_| !stop.has_failed()) {
            let done = encoder.encode(&frame).and_then(|jpeg| target.folder.write(number, jpeg));
            match done {
                Ok(()) => target.advance(decoded),
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
    /// Luma that can't be compressed from its slot as it is.
    even: Vec<u8>,
}

impl Encoder {
    fn new(quality: i32) -> Result<Self> {
        let mut compressor = Compressor::new().context("can't make a JPEG compressor")?;
        compressor.set_quality(quality).context("can't set the JPEG quality")?;
        Ok(Self { compressor, jpeg: Vec::new(), even: Vec::new() })
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
            let image = planes(frame.layout(), frame.output(), &mut self.even);
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
