//! Owns an open stream: loans its slots, and closes it when the last who holds a part of it is gone.

use std::sync::Arc;

use resized_protocol::message::{Refusal, Request, StreamSpec};
use resized_protocol::placement::Placement;
use resized_protocol::shm::Lease;

use crate::connection::{Connection, Wait};
use crate::{Error, Pending, Slot};

/// A stream of frames of one spec. Clones share it. It closes when the last clone, slot, hold, pending
/// and frame of it is dropped.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: Arc<Handle>,
    placement: Placement,
}

/// What a stream's slots, pendings and frames share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) connection: Arc<Connection>,
    pub(crate) stream: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.remove_stream(self.stream);
        // If the connection is gone, so is the stream.
        let _ = self.connection.tell_and_forget(&Request::Close { stream: self.stream });
    }
}

impl Stream {
    pub(crate) fn new(
        connection: Arc<Connection>,
        stream: u32,
        spec: &StreamSpec,
    ) -> Result<Self, Error> {
        let handle = Arc::new(Handle { connection, stream });
        let placement = spec.placement().map_err(Refusal::from)?;
        Ok(Self { handle, placement })
    }

    /// Which part of the source becomes which part of the destination: what a letterbox left of it, and
    /// how boxes found there are [mapped back](Placement::to_source).
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Takes a free slot, waiting until there is one. Slots become free when a [`Frame`](crate::Frame)
    /// or [`Slot`] is dropped; a thread that holds all of them itself would wait forever.
    pub fn loan(&self) -> Result<Slot, Error> {
        let handle = &self.handle;
        let lease = handle.connection.wait(|state| match state.slots(handle.stream) {
            Err(error) => Wait::Over(Err(error)),
            Ok(slots) => match slots.loan() {
                Some(lease) => Wait::Over(Ok(lease)),
                None if slots.any_abandoned() => Wait::Message,
                None => Wait::Thread,
            },
        })??;
        Ok(Slot::new(Arc::clone(handle), lease))
    }

    /// Takes a free slot if there is one.
    pub fn try_loan(&self) -> Result<Option<Slot>, Error> {
        let mut state = self.handle.connection.state();
        let lease = state.slots(self.handle.stream)?.loan();
        Ok(lease.map(|lease| Slot::new(Arc::clone(&self.handle), lease)))
    }

    /// Submits several slots of this stream in one message, in that order.
    ///
    /// # Panics
    ///
    /// If a slot belongs to another stream.
    pub fn submit_all(&self, slots: Vec<Slot>) -> Result<Vec<Pending>, Error> {
        let leases = slots.into_iter().map(|slot| {
            assert!(slot.is_of(&self.handle), "a slot of another stream");
            slot.into_lease()
        });
        self.handle.submit(leases.collect())
    }
}

impl Handle {
    /// Gives the slots to the daemon.
    pub(crate) fn submit(self: &Arc<Self>, leases: Vec<Lease>) -> Result<Vec<Pending>, Error> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<u32> = leases.iter().map(Lease::slot).collect();
        {
            // Before the request: a completion may arrive before `tell` returns.
            let mut state = self.connection.state();
            let slots = state.slots(self.stream)?;
            leases.into_iter().for_each(|lease| slots.submit(lease));
        }
        let request = Request::Submit { stream: self.stream, slots: numbers };
        self.connection.tell(&request)?;
        let Request::Submit { slots, .. } = request else { return Ok(Vec::new()) };
        Ok(slots.into_iter().map(|slot| Pending::new(Arc::clone(self), slot)).collect())
    }
}
