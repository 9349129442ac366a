//! Owns an open stream as the caller has it: loans its slots, and submits several at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::StreamSpec;

use crate::connection::{ENDLESS, State, until_over};
use crate::handle::Handle;
use crate::mapped::Mapped;
use crate::{Error, Frame, Pending, Slot};

/// A stream of frames of one spec. Clones share it. It closes when the last clone, slot, hold, pending
/// and frame of it is dropped.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Takes a free slot, waiting until there is one. Slots become free when a [`Frame`] or [`Slot`] is
    /// dropped; a thread that holds all of them itself would wait forever.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn loan(&self) -> Result<Slot, Error> {
        Ok(self.loan_by(None)?.expect(ENDLESS))
    }

    /// As [`loan`](Self::loan), for so long at the most: then there is none.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn loan_timeout(&self, timeout: Duration) -> Result<Option<Slot>, Error> {
        self.loan_by(Instant::now().checked_add(timeout))
    }

    /// As [`loan`](Self::loan), unless that is `over` before, which is asked every 50 ms: then there is
    /// none.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn loan_until(&self, over: impl FnMut() -> bool) -> Result<Option<Slot>, Error> {
        until_over(|deadline| self.loan_by(Some(deadline)), over)
    }

    fn loan_by(&self, deadline: Option<Instant>) -> Result<Option<Slot>, Error> {
        let handle = &self.handle;
        let look = |state: &mut State| handle.look_for_lease(state);
        let lease = handle.connection.wait_by(deadline, look)?.transpose()?;
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

    /// What it does with its frames, as it was opened.
    pub fn spec(&self) -> &StreamSpec {
        self.handle.spec()
    }

    /// Whether one of its frames [failed](Error::Failed), as far as messages have been read: if that was since its
    /// ring's memory is gone, all others will. Whoever keeps it for frames to come had better open another of its
    /// spec. After a change of daemons it has another ring, in which nothing has failed yet.
    pub fn has_failed(&self) -> bool {
        self.handle.has_failed()
    }

    /// Submits a frame, which is copied into a free slot: [packed](Slot::write_packed), or a
    /// [JPEG](Slot::write_jpeg) where the stream takes those. Waits for a slot as [`loan`](Self::loan) does.
    ///
    /// # Errors
    ///
    /// [`PackedLen`](Error::PackedLen) and [`JpegLen`](Error::JpegLen); else [fatal](Error::is_fatal) ones.
    pub fn submit(&self, frame: &[u8]) -> Result<Pending, Error> {
        let mut slot = self.loan()?;
        slot.write(frame)?;
        slot.submit()
    }

    /// As [`submit`](Self::submit), and waits for the result.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit) and of [`Pending::wait`].
    pub fn resize(&self, frame: &[u8]) -> Result<Frame, Error> {
        self.submit(frame)?.wait()
    }

    /// Resizes one frame after another, several at once: the next are copied and submitted while the
    /// caller is at a result. Results come in the order of their frames, each with its own error.
    ///
    /// A result is a slot. Each that is kept is one frame less in flight, and who keeps as many as the
    /// stream has slots waits for ever. So does who asks for another slot of the stream between two results,
    /// for all are this iterator's then, or the caller's last result: to resize something else meanwhile, open
    /// another stream of the same spec, or drop the result first. To keep all results, copy:
    ///
    /// ```no_run
    /// # use resized_client::{Error, Stream};
    /// # fn all(stream: &Stream, frames: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
    /// let results = stream.map(frames).map(|frame| Ok(frame?.to_packed()));
    /// results.collect()
    /// # }
    /// ```
    ///
    /// Before the first result it takes as many frames as there are slots: where they come slowly, as
    /// a camera's do, [`submit`](Self::submit) each as it comes. Dropped, it cancels what is in flight.
    ///
    /// # Errors
    ///
    /// Of each frame, those of [`resize`](Self::resize).
    pub fn map<I>(&self, frames: I) -> impl Iterator<Item = Result<Frame, Error>> + use<I>
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        Mapped::new(self.clone(), frames.into_iter())
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
        Pending::submit_all(&self.handle, loans)
    }
}
