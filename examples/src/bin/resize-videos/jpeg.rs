//! Owns the writing of resized frames to JPEG files, straight from the planes in their slots.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use crossbeam_utils::sync::WaitGroup;
use resized_client::{Frame, FrameLayout, PixelFormat, Quality};
use resized_jpeg::{Encoder, Pixels};
use turbojpeg::Subsamp;

use crate::folder::Folder;
use crate::notes::{Pace, Times};
use crate::progress::Track;
use crate::shape::Sheet;
use crate::stop::Stop;
use crate::turn::Turn;

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
    turn: Turn,
    sheet: Option<Sheet>,
    /// When the instance started.
    start: Instant,
    /// Of the pictures that are written.
    notes: Mutex<(Times, Pace)>,
}

impl Target {
    pub(crate) fn new(
        folder: Folder,
        track: Track,
        start: Instant,
        turn: Turn,
        sheet: Option<Sheet>,
    ) -> Result<Self> {
        let notes = Mutex::new((Times::new()?, Pace::new()));
        Ok(Self { track, folder, turn, sheet, start, notes })
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
pub(crate) fn write_all(work: Receiver<Work>, quality: Quality, stop: &Stop) {
    let mut encoder = match Encoder::new().context("can't make a JPEG compressor") {
        Ok(encoder) => Some(encoder),
        Err(error) => {
            stop.fail(error);
            None
        }
    };
    let mut upright = Vec::new();
    for Work { frame, number, decoded, target, written } in work {
        if let Some(encoder) = encoder.as_mut().filter(|_| !stop.has_failed()) {
            let jpeg = compress(&frame, &target, &mut upright, encoder, quality);
            let done = jpeg.and_then(|jpeg| target.folder.write(number, jpeg));
            match done {
                Ok(()) => target.advance(decoded),
                Err(error) => stop.fail(error),
            }
        }
        drop((frame, written));
    }
}

/// The JPEG of a frame, by way of `upright` if it lies on its side or is laid on a sheet.
fn compress<'a>(
    frame: &Frame,
    &Target { turn, sheet, .. }: &Target,
    upright: &mut Vec<u8>,
    encoder: &'a mut Encoder,
    quality: Quality,
) -> Result<&'a [u8]> {
    let stored = frame.layout();
    // Of one plane it is gray; the daemon gives nothing else here.
    let planes = stored.planes();
    let format = if planes.len() == 1 { PixelFormat::Gray8 } else { PixelFormat::I420 };
    let turned;
    let (layout, samples) = if turn == Turn::default() && sheet.is_none() {
        (stored, frame.output())
    } else {
        let extent = turn.extent(planes[0].extent);
        turned = FrameLayout::new(format, sheet.map_or(extent, |sheet| sheet.extent))?;
        upright.resize(turned.len(), 0);
        if let Some(sheet) = sheet {
            sheet.fill(&turned, upright);
        }
        let place = sheet.map_or((0, 0), |sheet| sheet.place(extent));
        turn.frame(stored, frame.output(), &turned, place, upright);
        (&turned, upright.as_slice())
    };
    let pixels = Pixels::of(format, layout, samples, Subsamp::Sub2x2);
    let pixels = pixels.context("no JPEG is made of frames of this format")?;
    encoder.encode(&pixels, quality, None).context("can't compress a frame to JPEG")
}
