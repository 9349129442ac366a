//! Owns an open stream: loans its slots, and closes it when the last who holds a part of it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::{Refusal, StreamSpec};
use resized_protocol::placement::{Crop, Placement};
use resized_protocol::shm::Lease;

use crate::connection::{Connection, State, Wait};
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
        self.connection.close(self.stream);
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
        let lease = handle.connection.wait(|state| handle.look_for_lease(state))??;
        Ok(Slot::new(Arc::clone(handle), lease))
    }

    /// As [`loan`](Self::loan), for so long at the most: then there is none.
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Option<Slot>, Error> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.loan().map(Some);
        };
        let handle = &self.handle;
        let look = |state: &mut State| handle.look_for_lease(state);
        let lease = handle.connection.wait_until(deadline, look)?.transpose()?;
        Ok(lease.map(|lease| Slot::new(Arc::clone(handle), lease)))
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
    fn look_for_lease(&self, state: &mut State) -> Wait<Result<Lease, Error>> {
        match state.slots(self.stream) {
            Err(error) => Wait::Over(Err(error)),
            Ok(slots) => match slots.loan() {
                Some(lease) => Wait::Over(Ok(lease)),
                None if slots.any_abandoned() => Wait::Message,
                None => Wait::Thread,
            },
        }
    }

    /// Gives the slots to the daemon.
    pub(crate) fn submit(self: &Arc<Self>, loans: Vec<Loan>) -> Result<Vec<Pending>, Error> {
        if loans.is_empty() {
            return Ok(Vec::new());
        }
        let pending = |loan: &Loan| Pending::new(Arc::clone(self), loan.lease.slot(), loan.crop);
        let pendings = loans.iter().map(pending).collect();
        let (era, request) = {
            // Before the request: a completion may arrive before `tell` returns.
            let mut state = self.connection.state();
            (state.era(), state.slots(self.stream)?.submit(loans))
        };
        self.connection.tell(era, &request)?;
        Ok(pendings)
    }

    /// Where the picture of a frame with that crop, or else the stream's, lies.
    pub(crate) fn placement(&self, crop: Option<Crop>) -> Result<Placement, Error> {
        let spec = StreamSpec { crop: crop.or(self.spec.crop), ..self.spec };
        Ok(spec.placement().map_err(Refusal::from)?)
    }
}
