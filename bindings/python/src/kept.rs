//! Owns the streams that a client keeps for resizing in one call.
//!
//! Invariants: no picture is refused for what is kept for others; none is given to a stream that has failed at
//! one, after which it may fail at all others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use resized_client::{StreamSpec, while_short};

use crate::connection::Connected;
use crate::error::raised;
use crate::frame::Share;
use crate::opened::Opened;

/// Streams that `resize` keeps open: of so many kinds of calls, the last.
const KEPT: usize = 8;

/// Slots of each, from its second frame on.
pub(crate) const KEPT_SLOTS: u32 = 4;

/// Frames for which a stream goes on with fewer slots before more are asked for again: what was short
/// may be there by then.
const FRAMES: u32 = 100;

/// A stream that `resize` keeps.
pub(crate) struct KeptStream {
    pub(crate) opened: Arc<Opened>,
    /// There is one more for each of its results that is seen.
    pub(crate) seen: Share,
    /// More slots were not to be had: frames that it goes on with those it has.
    goes_on: AtomicU32,
}

/// The streams that a client keeps.
#[derive(Default)]
pub(crate) struct Kept {
    /// The last used last.
    streams: Mutex<Vec<Arc<KeptStream>>>,
    /// How often any were closed. Held while that happens, for which others wait without the
    /// interpreter's lock: who closes a stream lets go of that, and takes it again.
    closings: Mutex<u64>,
}

impl Kept {
    /// The kept stream of that spec, opened if there is none: at first with one slot, since many
    /// pictures are the only ones of their size.
    pub(crate) fn stream(
        &self,
        py: Python<'_>,
        connected: &Arc<Connected>,
        spec: StreamSpec,
    ) -> PyResult<Arc<KeptStream>> {
        // In a forked child before any lock: of the parent's threads one may have had it.
        connected.client.get()?;
        let opened = match self.find(&spec) {
            Some(kept) if kept.has(spec.slots) => return Ok(kept),
            Some(kept) => match Opened::asked_for(py, connected, spec)? {
                // Whatever the reason: what there is will do.
                Err(error) if !error.is_fatal() => {
                    kept.goes_on.store(FRAMES, Ordering::Relaxed);
                    return Ok(kept);
                }
                asked => asked.map_err(raised)?,
            },
            None => {
                self.close_all_but(py, KEPT - 1);
                self.open(py, connected, StreamSpec { slots: spec.slots.min(1), ..spec })?
            }
        };
        let kept =
            Arc::new(KeptStream { opened, seen: Arc::default(), goes_on: AtomicU32::default() });
        // Dropped without the lock: a stream that closes has something to say.
        let dropped = {
            let mut all = self.lock();
            // Another thread may have opened one meanwhile: that goes too.
            let (mut dropped, others): (Vec<_>, Vec<_>) =
                all.drain(..).partition(|kept| is_of(kept, &spec));
            *all = others;
            dropped.extend((all.len() == KEPT).then(|| all.remove(0)));
            all.push(Arc::clone(&kept));
            dropped
        };
        drop(dropped);
        Ok(kept)
    }

    /// Opens a stream, for which those that are kept make room.
    pub(crate) fn open(
        &self,
        py: Python<'_>,
        connected: &Arc<Connected>,
        spec: StreamSpec,
    ) -> PyResult<Arc<Opened>> {
        connected.client.get()?;
        // An interruption is no answer of the client's, but ends the asking as one.
        let ask = || match Opened::asked_for(py, connected, spec) {
            Ok(asked) => asked.map(Ok),
            Err(interruption) => Ok(Err(interruption)),
        };
        let closings = *self.closings(py);
        while_short(ask, closings, || self.close_all_but(py, 0)).map_err(raised)?
    }

    /// Closes all but so many of those used last, and those that have failed, as soon as no other thread
    /// uses them and no result is of them. Returns how often any were closed so far.
    fn close_all_but(&self, py: Python<'_>, count: usize) -> u64 {
        let mut closings = self.closings(py);
        let closed = {
            let mut all = self.lock();
            let mut closed: Vec<_> = all.extract_if(.., |kept| kept.opened.has_failed()).collect();
            let over = all.len().saturating_sub(count);
            closed.extend(all.drain(..over));
            closed
        };
        if !closed.is_empty() {
            drop(closed);
            *closings += 1;
        }
        *closings
    }

    fn closings(&self, py: Python<'_>) -> MutexGuard<'_, u64> {
        self.closings.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, spec: &StreamSpec) -> Option<Arc<KeptStream>> {
        let mut all = self.lock();
        let index = all.iter().rposition(|kept| is_of(kept, spec) && !kept.opened.has_failed())?;
        all[index..].rotate_left(1);
        all.last().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<KeptStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptStream {
    /// Whether it has as many slots, or goes on with those it has.
    fn has(&self, slots: u32) -> bool {
        let one_less = |frames: u32| frames.checked_sub(1);
        self.opened.spec.slots >= slots
            || self.goes_on.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Whether it does what the spec says, with however many slots.
fn is_of(kept: &KeptStream, spec: &StreamSpec) -> bool {
    StreamSpec { slots: spec.slots, ..kept.opened.spec } == *spec
}
