//! Owns the submitting of slots, a submitted frame until it is done, and the resized frame until it is
//! dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::coding::{self, PREFIX};
use resized_protocol::frame::{FrameLayout, PixelFormat};
use resized_protocol::message::{Completion, Request};
use resized_protocol::placement::{Crop, Placement};
use resized_protocol::shm::Lease;
use resized_protocol::tensor::{Element, Tensor};

use crate::Error;
use crate::connection::{STEP, Source, State, Wait};
use crate::handle::Handle;
use crate::slot::check_rows;
use crate::slots::Loan;

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
    const fn new(handle: Arc<Handle>, slot: u32, crop: Option<Crop>) -> Self {
        Self { handle, slot, crop, over: false }
    }

    /// Gives slots of a stream to the daemon, in that order. One that is gone is not waited for:
    /// the frames are then pending until another has them.
    pub(crate) fn submit(handle: &Arc<Handle>, loans: Vec<Loan>) -> Result<Vec<Self>, Error> {
        if loans.is_empty() {
            return Ok(Vec::new());
        }
        let pending = |loan: &Loan| Self::new(Arc::clone(handle), loan.lease.slot(), loan.crop);
        let pendings = loans.iter().map(pending).collect();
        let (era, request) = {
            // Before the request: a completion may arrive before `tell` returns.
            let mut state = handle.connection.state();
            (state.era(), state.slots(handle.stream)?.submit(loans))
        };
        handle.connection.tell(era, &request)?;
        handle.connection.state().check()?;
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
        let handle = Arc::clone(&self.handle);
        handle.connection.wait(|state| self.look(state))?
    }

    /// As [`wait`](Self::wait), for so long at the most: then the pending is given back as the
    /// inner error. What has arrived is looked at even if there is no time to wait. While a daemon
    /// that went away is [looked for](crate::Reconnect), frames are as pending as before.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Frame, Self>, Error> {
        let Some(deadline) = Instant::now().checked_add(timeout) else {
            return self.wait().map(Ok);
        };
        let handle = Arc::clone(&self.handle);
        let waited = handle.connection.wait_by(Some(deadline), |state| self.look(state))?;
        waited.map_or(Ok(Err(self)), |frame| frame.map(Ok))
    }

    /// As [`wait`](Self::wait), unless that is `over` before, which is asked every 50 ms: then the pending
    /// is given back as the inner error.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_until(
        mut self,
        mut over: impl FnMut() -> bool,
    ) -> Result<Result<Frame, Self>, Error> {
        loop {
            match self.wait_timeout(STEP)? {
                Err(again) if !over() => self = again,
                ended => return Ok(ended),
            }
        }
    }

    /// Whether [`wait`](Self::wait) would return at once, as far as messages have been read: only
    /// threads that wait read them.
    pub fn is_ready(&self) -> bool {
        let mut state = self.handle.connection.state();
        state.slots(self.handle.stream).is_ok_and(|slots| slots.is_ready(self.slot))
    }

    fn look(&mut self, state: &mut State) -> Wait<Result<Frame, Error>> {
        let taken = match state.slots(self.handle.stream).map(|slots| slots.take_ready(self.slot)) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Wait::For(Source::Message),
            Err(error) => Err(error),
        };
        self.over = true;
        Wait::Over(taken.map(|(lease, completion)| Frame {
            handle: Arc::clone(&self.handle),
            lease: Some(lease),
            crop: self.crop,
            completion,
        }))
    }
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
    let found = any_by(pendings, None)?;
    Ok(found.expect("who waits without a deadline finds something"))
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

/// How a frame was resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Index of the device in [`Client::devices`](crate::Client::devices); [`Frame::device`] is its name.
    pub device: u16,
    /// From submission until a device took the frame.
    pub queued: Duration,
    /// From then until it was done.
    pub worked: Duration,
}

/// A resized frame. Dropping it frees its slot.
#[must_use = "a frame that is dropped is lost, and its slot free again"]
#[derive(Debug)]
pub struct Frame {
    handle: Arc<Handle>,
    /// `None` only while `drop` takes it away.
    lease: Option<Lease>,
    crop: Option<Crop>,
    completion: Completion,
}

impl Frame {
    fn lease(&self) -> &Lease {
        self.lease.as_ref().expect("a frame holds its lease")
    }

    /// Where the planes of the resized frame lie in [`output`](Self::output).
    pub fn layout(&self) -> &FrameLayout {
        self.lease().layout().output()
    }

    /// The whole resized frame, to the end of its last row. It begins on a page; a tensor is dense.
    pub fn output(&self) -> &[u8] {
        &self.lease().output()[..self.layout().rows_len()]
    }

    /// The whole resized frame, to be changed where it lies: the daemon no longer looks at it.
    pub fn output_mut(&mut self) -> &mut [u8] {
        let len = self.layout().rows_len();
        &mut self.lease.as_mut().expect("a frame holds its lease").output_mut()[..len]
    }

    /// The numbers of a tensor of [`Element::F32`], as they lie in [`output`](Self::output); `None`
    /// of any other frame.
    pub fn f32s(&self) -> Option<&[f32]> {
        match self.handle.spec().destination.format {
            PixelFormat::Tensor(Tensor { element: Element::F32, .. }) => {
                bytemuck::try_cast_slice(self.output()).ok()
            }
            _ => None,
        }
    }

    /// One plane of the resized frame: from its first row to the end of its last, rows
    /// `layout().planes()[index].stride` bytes apart.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    pub fn plane(&self, index: usize) -> &[u8] {
        let plane = self.layout().planes()[index];
        &self.output()[plane.offset..][..plane.stride * plane.rows()]
    }

    /// The rows of one plane of the resized frame: each as long as its pixels, without the padding behind
    /// them.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    pub fn rows(&self, index: usize) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        let plane = self.layout().planes()[index];
        let rows = self.plane(index).chunks_exact(plane.stride);
        rows.map(move |row| &row[..plane.row_bytes()])
    }

    /// Copies one plane of the resized frame into rows that begin `stride` bytes apart, as other
    /// libraries' pictures have them. What lies between them stays as it is, and the last row need
    /// not have any of it.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    ///
    /// # Errors
    ///
    /// [`Stride`](Error::Stride), [`PlaneLen`](Error::PlaneLen): nothing was written.
    pub fn read_plane(&self, index: usize, into: &mut [u8], stride: usize) -> Result<(), Error> {
        check_rows(&self.layout().planes()[index], into, stride)?;
        for (row, to) in self.rows(index).zip(into.chunks_mut(stride)) {
            to[..row.len()].copy_from_slice(row);
        }
        Ok(())
    }

    /// The resized frame of a stream that gives [JPEGs](resized_protocol::coding::Coding).
    ///
    /// # Panics
    ///
    /// If the stream gives planes of samples.
    pub fn jpeg(&self) -> &[u8] {
        assert!(self.layout().is_coded(), "a JPEG of a stream that gives planes of samples");
        coding::whole(self.output()).map_or(&[], |coded| &coded[PREFIX..])
    }

    /// The resized frame tightly packed: plane after plane, row after row, without padding.
    ///
    /// # Panics
    ///
    /// If the stream gives JPEGs.
    pub fn to_packed(&self) -> Vec<u8> {
        assert!(!self.layout().is_coded(), "samples of a stream that gives JPEGs");
        let mut packed = Vec::with_capacity(self.layout().packed_len());
        for index in 0..self.layout().planes().len() {
            self.rows(index).for_each(|row| packed.extend_from_slice(row));
        }
        packed
    }

    /// Which part of the source became which part of this frame: what a letterbox left of it, and how
    /// boxes found there are [mapped back](Placement::to_source).
    pub fn placement(&self) -> Placement {
        let placement = self.handle.placement(self.crop);
        placement.expect("a crop that the daemon or `Slot::set_crop` has checked")
    }

    /// Which device did it, and how long it took.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            device: self.completion.device,
            queued: Duration::from_nanos(self.completion.queued_ns),
            worked: Duration::from_nanos(self.completion.worked_ns),
        }
    }

    /// The name of the device that did it; `None` if it is not known any more: its daemon is gone, or its
    /// stream.
    pub fn device(&self) -> Option<String> {
        let mut state = self.handle.connection.state();
        let slots = state.slots(self.handle.stream).ok()?;
        let is_current = slots.is_current(self.lease().slot());
        let name = state.devices().get(usize::from(self.completion.device));
        name.filter(|_| is_current).cloned()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.handle.free(lease);
        }
    }
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
