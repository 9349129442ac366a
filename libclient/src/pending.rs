//! Owns a frame from its slot's submission until it is done.
//!
//! Invariant: a slot that the daemon has given back is its frame's, or free where the frame failed or
//! its pending is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Request};
use resized_protocol::placement::Crop;
use resized_protocol::shm::Lease;

use crate::connection::{ENDLESS, Source, State, Wait, until_over};
use crate::handle::Handle;
use crate::slots::Loan;
use crate::{Error, Frame};

/// A submitted frame. Dropping it cancels: the frame is not resized if it still waits for a device
/// when the daemon hears of it, and its slot becomes free. That waits for nobody: a daemon that
/// reads nothing, or is being told something for long by another thread, is not asked to leave the
/// frame.
#[must_use = "a frame is given up when its pending is dropped"]
#[derive(Debug)]
pub struct Pending {
    handle: Arc<Handle>,
    slot: u32,
    crop: Option<Crop>,
    /// The frame was fetched: there is nothing to cancel.
    over: bool,
}

impl Pending {
    fn new(handle: &Arc<Handle>, loan: &Loan) -> Self {
        let handle = Arc::clone(handle);
        Self { handle, slot: loan.lease.slot(), crop: loan.crop, over: false }
    }

    /// Gives a slot of a stream to the daemon. One that is gone is not waited for: the frame is then
    /// pending until another has it.
    pub(crate) fn submit(handle: &Arc<Handle>, loan: Loan) -> Result<Self, Error> {
        let pending = Self::new(handle, &loan);
        hand_over(handle, [loan])?;
        Ok(pending)
    }

    /// As [`submit`](Self::submit), for several slots in one message, in that order.
    pub(crate) fn submit_all(handle: &Arc<Handle>, loans: Vec<Loan>) -> Result<Vec<Self>, Error> {
        if loans.is_empty() {
            return Ok(Vec::new());
        }
        let pendings = loans.iter().map(|loan| Self::new(handle, loan)).collect();
        hand_over(handle, loans)?;
        Ok(pendings)
    }

    /// Waits until the frame is resized. Called on pendings in the order of their submission it gives
    /// results in that order; [`wait_any`] says which is done.
    ///
    /// # Errors
    ///
    /// [`Failed`](Error::Failed), [`Late`](Error::Late) and [`Unreadable`](Error::Unreadable) are this frame's
    /// alone, and its slot is free again. Else [fatal](Error::is_fatal) ones.
    pub fn wait(mut self) -> Result<Frame, Error> {
        Ok(self.by(None)?.expect(ENDLESS))
    }

    /// As [`wait`](Self::wait), for so long at the most: then the pending is given back as the
    /// inner error. What has arrived is looked at even if there is no time to wait. While a daemon
    /// that went away is [looked for](crate::Reconnect), frames are as pending as before.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Frame, Self>, Error> {
        Ok(self.by(Instant::now().checked_add(timeout))?.ok_or(self))
    }

    /// As [`wait`](Self::wait), unless that is `over` before, which is asked every 50 ms: then the pending
    /// is given back as the inner error.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_until(mut self, over: impl FnMut() -> bool) -> Result<Result<Frame, Self>, Error> {
        Ok(until_over(|deadline| self.by(Some(deadline)), over)?.ok_or(self))
    }

    /// Whether [`wait`](Self::wait) would return at once, as far as messages have been read: only
    /// threads that wait read them.
    pub fn is_ready(&self) -> bool {
        let mut state = self.handle.connection.state();
        state.slots(self.handle.stream).is_ok_and(|slots| slots.is_ready(self.slot))
    }

    fn by(&mut self, deadline: Option<Instant>) -> Result<Option<Frame>, Error> {
        let found = self.handle.connection.wait_by(deadline, |state| self.look(state))?;
        self.over = found.is_some();
        Ok(found.transpose()?.map(|(lease, completion)| {
            Frame::new(Arc::clone(&self.handle), lease, self.crop, completion)
        }))
    }

    fn look(&self, state: &mut State) -> Wait<Result<(Lease, Completion), Error>> {
        match state.slots(self.handle.stream).map(|slots| slots.take_ready(self.slot)) {
            Ok(Some(taken)) => Wait::Over(taken),
            Ok(None) => Wait::For(Source::Message),
            Err(error) => Wait::Over(Err(error)),
        }
    }
}

/// Submits slots.
fn hand_over(
    handle: &Handle,
    loans: impl AsRef<[Loan]> + IntoIterator<Item = Loan>,
) -> Result<(), Error> {
    let (era, request) = {
        // Before the request: a completion may arrive before `tell` returns.
        let mut state = handle.connection.state();
        (state.era(), state.slots(handle.stream)?.submit(loans))
    };
    handle.connection.tell(era, &request)?;
    handle.connection.state().check()
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Handle { connection, stream, .. } = &*self.handle;
        let (era, ready) = {
            let mut state = connection.state();
            (state.era(), state.slots(*stream).is_ok_and(|slots| slots.is_ready(self.slot)))
        };
        if !ready {
            // First: once abandoned, the slot may be submitted again, and this must not cancel that.
            connection.suggest(era, &Request::Cancel { stream: *stream, slot: self.slot });
        }
        let mut state = connection.state();
        if let Ok(slots) = state.slots(*stream) {
            slots.abandon(self.slot);
        }
        connection.wake(state);
    }
}

/// Waits until one of the frames is resized, or will not be, and says which: its [`wait`](Pending::wait) then
/// returns at once. They may be of several streams of one client. An error is none of a frame's, but the
/// connection's. More than one thread may wait, also for the same frames.
///
/// ```no_run
/// # use std::collections::VecDeque;
/// # use resized_client::{Error, Frame, Pending, wait_any};
/// /// Hands out results as they come, each with the number of its frame.
/// fn as_they_come(
///     mut begun: VecDeque<(usize, Pending)>,
///     done: impl Fn(usize, Frame),
/// ) -> Result<(), Error> {
///     while !begun.is_empty() {
///         let index = wait_any(begun.iter().map(|(_, pending)| pending))?;
///         if let Some((number, pending)) = begun.remove(index) {
///             done(number, pending.wait()?);
///         }
///     }
///     Ok(())
/// }
/// ```
///
/// # Panics
///
/// If there is none, or if they are of several clients.
///
/// # Errors
///
/// [Fatal](Error::is_fatal) ones.
pub fn wait_any<'a>(pendings: impl IntoIterator<Item = &'a Pending>) -> Result<usize, Error> {
    Ok(any_by(pendings, None)?.expect(ENDLESS))
}

/// As [`wait_any`], for so long at the most: then there is none.
///
/// # Panics
///
/// As [`wait_any`]: none of none would be said at once, again and again.
///
/// # Errors
///
/// [Fatal](Error::is_fatal) ones.
pub fn wait_any_timeout<'a>(
    pendings: impl IntoIterator<Item = &'a Pending>,
    timeout: Duration,
) -> Result<Option<usize>, Error> {
    any_by(pendings, Instant::now().checked_add(timeout))
}

/// Which of the frames is done, if one is by then.
fn any_by<'a>(
    pendings: impl IntoIterator<Item = &'a Pending>,
    deadline: Option<Instant>,
) -> Result<Option<usize>, Error> {
    // Whoever walks over them may lock the connection, so none does while it is locked.
    let pendings: Vec<&Pending> = pendings.into_iter().collect();
    let connection = &pendings.first().expect("no frames to wait for").handle.connection;
    let same = |pending: &&Pending| Arc::ptr_eq(&pending.handle.connection, connection);
    assert!(pendings.iter().all(same), "frames of several clients");
    connection.wait_by(deadline, |state| {
        let is_done = |pending: &&Pending| {
            state.slots(pending.handle.stream).is_ok_and(|slots| slots.is_ready(pending.slot))
        };
        pendings.iter().position(is_done).map_or(Wait::For(Source::Message), Wait::Over)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no frames to wait for")]
    fn none_is_not_waited_for() {
        let _ = wait_any([]);
    }

    #[test]
    #[should_panic(expected = "no frames to wait for")]
    fn none_is_not_waited_for_with_a_time_out() {
        let _ = wait_any_timeout([], Duration::ZERO);
    }
}
