//! Owns an open stream: loans its slots, and closes it when the last who holds a part of it is gone.

use std::sync::Arc;

use resized_protocol::message::{Cropped, Refusal, Request, StreamSpec};
use resized_protocol::placement::{Crop, Placement};

use crate::connection::{Connection, Wait};
use crate::slot::Loan;
use crate::{Error, Pending, Slot};

/// A stream of frames of one spec. Clones share it. It closes when the last clone, slot, hold, pending
/// and frame of it is dropped.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: Arc<Handle>,
}

/// What a stream's slots, pendings and frames share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) connection: Arc<Connection>,
    pub(crate) stream: u32,
    pub(crate) spec: StreamSpec,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.remove_stream(self.stream);
        // If the connection is gone, so is the stream.
        let _ = self.connection.tell_and_forget(&Request::Close { stream: self.stream });
    }
}

impl Stream {
    pub(crate) fn new(connection: Arc<Connection>, stream: u32, spec: &StreamSpec) -> Self {
        Self { handle: Arc::new(Handle { connection, stream, spec: *spec }) }
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
        let loans = slots.into_iter().map(|slot| {
            assert!(slot.is_of(&self.handle), "a slot of another stream");
            slot.into_loan()
        });
        self.handle.submit(loans.collect())
    }
}

impl Handle {
    /// Gives the slots to the daemon.
    pub(crate) fn submit(self: &Arc<Self>, loans: Vec<Loan>) -> Result<Vec<Pending>, Error> {
        if loans.is_empty() {
            return Ok(Vec::new());
        }
        let request = self.request(&loans);
        let submitted = |loan: &Loan| (loan.lease.slot(), loan.crop);
        let submitted: Vec<_> = loans.iter().map(submitted).collect();
        {
            // Before the request: a completion may arrive before `tell` returns.
            let mut state = self.connection.state();
            let slots = state.slots(self.stream)?;
            loans.into_iter().for_each(|loan| slots.submit(loan.lease));
        }
        self.connection.tell(&request)?;
        let pending = |(slot, crop)| Pending::new(Arc::clone(self), slot, crop);
        Ok(submitted.into_iter().map(pending).collect())
    }

    fn request(&self, loans: &[Loan]) -> Request {
        let stream = self.stream;
        if loans.iter().all(|loan| loan.crop.is_none()) {
            return Request::Submit {
                stream,
                slots: loans.iter().map(|l| l.lease.slot()).collect(),
            };
        }
        let common = self.spec.crop.unwrap_or(Crop::whole(self.spec.source.extent));
        let slot =
            |loan: &Loan| Cropped { slot: loan.lease.slot(), crop: loan.crop.unwrap_or(common) };
        Request::SubmitCropped { stream, slots: loans.iter().map(slot).collect() }
    }

    /// Where the picture of a frame with that crop, or else the stream's, lies.
    pub(crate) fn placement(&self, crop: Option<Crop>) -> Result<Placement, Error> {
        let spec = StreamSpec { crop: crop.or(self.spec.crop), ..self.spec };
        Ok(spec.placement().map_err(Refusal::from)?)
    }
}
