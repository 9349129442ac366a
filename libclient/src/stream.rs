//! Owns an open stream as the caller has it: loans its slots, and submits several at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::StreamSpec;

use crate::connection::{Connection, State};
use crate::handle::Handle;
use crate::{Error, Pending, Slot};

/// A stream of frames of one spec. Clones share it. It closes when the last clone, slot, hold, pending
/// and frame of it is dropped.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(connection: Arc<Connection>, stream: u32, spec: &StreamSpec) -> Self {
        Self { handle: Arc::new(Handle::new(connection, stream, *spec)) }
    }

    /// Takes a free slot, waiting until there is one. Slots become free when a [`Frame`](crate::Frame)
    /// or [`Slot`] is dropped; a thread that holds all of them itself would wait forever.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn loan(&self) -> Result<Slot, Error> {
        let handle = &self.handle;
        let lease = handle.connection.wait(|state| handle.look_for_lease(state))??;
        Ok(Slot::new(Arc::clone(handle), lease))
    }

    /// As [`loan`](Self::loan), for so long at the most: then there is none.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Option<Slot>, Error> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.loan().map(Some);
        };
        let handle = &self.handle;
        let look = |state: &mut State| handle.look_for_lease(state);
        let lease = handle.connection.wait_by(Some(deadline), look)?.transpose()?;
        Ok(lease.map(|lease| Slot::new(Arc::clone(handle), lease)))
    }

    /// Takes a free slot if there is one, or if what has arrived brings one.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn try_loan(&self) -> Result<Option<Slot>, Error> {
        let handle = &self.handle;
        let lease = handle.connection.at_once(|state| handle.look_for_lease(state))?;
        Ok(lease.transpose()?.map(|lease| Slot::new(Arc::clone(handle), lease)))
    }

    /// Submits several slots of this stream in one message, in that order, as [`Slot::submit`] does one.
    ///
    /// # Panics
    ///
    /// If a slot belongs to another stream.
    ///
    /// # Errors
    ///
    /// Those of [`Slot::submit`], for all of them.
    pub fn submit_all(&self, slots: Vec<Slot>) -> Result<Vec<Pending>, Error> {
        // Before any is taken apart: whoever survives the panic has all of them back.
        assert!(slots.iter().all(|slot| slot.is_of(&self.handle)), "a slot of another stream");
        let loans = slots.into_iter().map(Slot::into_loan).collect();
        Pending::submit(&self.handle, loans)
    }
}
