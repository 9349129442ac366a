//! Owns the writing of resized frames to JPEG files, straight from the planes in their slots.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use crossbeam_utils::sync::WaitGroup;
use resized_client::{Frame, PixelFormat};
use resized_jpeg::{Encoder, Pixels};
use turbojpeg::Subsamp;

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
    let mut encoder = match Encoder::new().context("can't make a JPEG compressor") {
        Ok(encoder) => Some(encoder),
        Err(error) => {
            stop.fail(error);
            None
        }
    };
    for Work { frame, number, decoded, target, written } in work {
        if let Some(encoder) = encoder.as_mut().filter(|_| !stop.has_failed()) {
            let jpeg = pixels(&frame).and_then(|pixels| {
                let jpeg = encoder.encode(&pixels, quality, None);
                jpeg.context("can't compress a frame to JPEG")
            });
            let done = jpeg.and_then(|jpeg| target.folder.write(number, jpeg));
            match done {
                Ok(()) => target.advance(decoded),
                Err(error) => stop.fail(error),
            }
        }
        drop((frame, written));
    }
}

/// Of one plane it is gray; the daemon gives nothing else here.
fn pixels(frame: &Frame) -> Result<Pixels<'_>> {
    let layout = frame.layout();
    let format = if layout.planes().len() == 1 { PixelFormat::Gray8 } else { PixelFormat::I420 };
    let pixels = Pixels::of(format, layout, frame.output(), Subsamp::Sub2x2);
    pixels.context("no JPEG is made of frames of this format")
}
