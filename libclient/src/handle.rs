//! Owns what the parts of an open stream (its slots, pendings and frames) share: the stream's
//! number, whose it is, and what becomes of a slot that is loaned or given back.
//!
//! Invariant: the stream is closed once, when the last holder of a part of it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resized_protocol::message::{Refusal, StreamSpec};
use resized_protocol::placement::{Crop, Placement};
use resized_protocol::shm::Lease;

use crate::Error;
use crate::connection::{Connection, Source, State, Wait};

/// What a stream's slots, pendings and frames share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) connection: Arc<Connection>,
    pub(crate) stream: u32,
    spec: StreamSpec,
    /// As its slots have it.
    failed: Arc<AtomicBool>,
}

impl Handle {
    pub(crate) const fn new(
        connection: Arc<Connection>,
        stream: u32,
        spec: StreamSpec,
        failed: Arc<AtomicBool>,
    ) -> Self {
        Self { connection, stream, spec, failed }
    }

    /// Whether a frame failed in the ring that there is now. Takes no lock.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) const fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    /// A slot to be loaned, or what will bring one.
    pub(crate) fn look_for_lease(&self, state: &mut State) -> Wait<Result<Lease, Error>> {
        match state.slots(self.stream) {
            Err(error) => Wait::Over(Err(error)),
            Ok(slots) => match slots.loan() {
                Some(lease) => Wait::Over(Ok(lease)),
                None if slots.any_abandoned() => Wait::For(Source::Either),
                None => Wait::For(Source::Thread),
            },
        }
    }

    /// Makes a slot free and wakes who waits for one.
    pub(crate) fn free(&self, lease: Lease) {
        let mut state = self.connection.state();
        if let Ok(slots) = state.slots(self.stream) {
            slots.free(lease);
        }
        self.connection.wake(state);
    }

    /// Where the picture of a frame with that crop, or else the stream's, lies.
    pub(crate) fn placement(&self, crop: Option<Crop>) -> Result<Placement, Error> {
        let spec = StreamSpec { crop: crop.or(self.spec.crop), ..self.spec };
        Ok(spec.placement().map_err(Refusal::from)?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.close(self.stream);
    }
}
