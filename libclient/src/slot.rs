//! Owns a loaned slot: where a client writes its frame, and the hold on a slot that is read for
//! longer.

use std::sync::Arc;

use resized_protocol::coding;
use resized_protocol::frame::{FrameLayout, Plane};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{Lease, Region};

use crate::handle::Handle;
use crate::slots::Loan;
use crate::{Error, Pending};

/// A loaned slot of a stream. Its memory is shared with the daemon, which touches it only after
/// [`submit`](Self::submit). Dropped without that, it is free again.
#[must_use = "a slot that is dropped is free again, unsubmitted"]
#[derive(Debug)]
pub struct Slot {
    handle: Arc<Handle>,
    /// `None` only while `submit` and `drop` take it away.
    loan: Option<Loan>,
}

impl Slot {
    pub(crate) fn new(handle: Arc<Handle>, lease: Lease) -> Self {
        Self { handle, loan: Some(Loan { lease, crop: None }) }
    }

    pub(crate) fn is_of(&self, handle: &Arc<Handle>) -> bool {
        Arc::ptr_eq(&self.handle, handle)
    }

    fn lease(&self) -> &Lease {
        &self.loan.as_ref().expect("a slot holds its lease until it is submitted").lease
    }

    fn loan_mut(&mut self) -> &mut Loan {
        self.loan.as_mut().expect("a slot holds its lease until it is submitted")
    }

    pub(crate) fn into_loan(mut self) -> Loan {
        self.take_loan()
    }

    fn take_loan(&mut self) -> Loan {
        self.loan.take().expect("a slot holds its lease until it is submitted")
    }

    /// Has a part of this frame resized in place of the stream's crop. Preparing a crop takes the
    /// daemon 0.2 to 0.8 ms at 1080p; frames in a row that have the same share it. Refused if the
    /// crop is not within the source frame.
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused): the crop is not within the source frame; the one before stays.
    pub fn set_crop(&mut self, crop: Crop) -> Result<(), Error> {
        self.handle.placement(Some(crop))?;
        self.loan_mut().crop = Some(crop);
        Ok(())
    }

    /// Where the planes of the source frame lie in [`input_mut`](Self::input_mut).
    pub fn layout(&self) -> &FrameLayout {
        self.lease().layout().input()
    }

    /// The whole source frame, to be written, and what a decoder may touch behind its last row:
    /// `layout().len()` bytes, those of an earlier frame, or zero.
    pub fn input_mut(&mut self) -> &mut [u8] {
        self.loan_mut().lease.input_mut()
    }

    /// One plane of the source frame, to be written: from its first row to the end of its last, rows
    /// `layout().planes()[index].stride` bytes apart.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    pub fn plane_mut(&mut self, index: usize) -> &mut [u8] {
        let plane = self.layout().planes()[index];
        &mut self.input_mut()[plane.offset..][..plane.stride * plane.rows()]
    }

    /// The rows of one plane of the source frame, to be written: each as long as its pixels, without the
    /// padding behind them.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    pub fn rows_mut(
        &mut self,
        index: usize,
    ) -> impl DoubleEndedIterator<Item = &mut [u8]> + ExactSizeIterator {
        let plane = self.layout().planes()[index];
        let rows = self.plane_mut(index).chunks_exact_mut(plane.stride);
        rows.map(move |row| &mut row[..plane.row_bytes()])
    }

    /// Writes one plane of the source frame from rows that begin `stride` bytes apart, as decoders' and
    /// other libraries' pictures have them. What lies between them is not read, and the last row
    /// need not have any of it.
    ///
    /// # Panics
    ///
    /// If the format has no such plane.
    ///
    /// # Errors
    ///
    /// [`Stride`](Error::Stride), [`PlaneLen`](Error::PlaneLen): nothing was written.
    pub fn write_plane(&mut self, index: usize, bytes: &[u8], stride: usize) -> Result<(), Error> {
        check_rows(&self.layout().planes()[index], bytes, stride)?;
        for (row, from) in self.rows_mut(index).zip(bytes.chunks(stride)) {
            row.copy_from_slice(&from[..row.len()]);
        }
        Ok(())
    }

    /// Writes the source frame from tightly packed bytes: plane after plane, row after row, without
    /// padding.
    ///
    /// # Panics
    ///
    /// If the stream takes JPEGs.
    ///
    /// # Errors
    ///
    /// [`PackedLen`](Error::PackedLen): nothing was written.
    pub fn write_packed(&mut self, packed: &[u8]) -> Result<(), Error> {
        assert!(!self.layout().is_coded(), "samples for a stream that takes JPEGs");
        let expected = self.layout().packed_len();
        if packed.len() != expected {
            return Err(Error::PackedLen { expected, found: packed.len() });
        }
        let mut rest = packed;
        for index in 0..self.layout().planes().len() {
            for row in self.rows_mut(index) {
                let (from, behind) = rest.split_at(row.len());
                row.copy_from_slice(from);
                rest = behind;
            }
        }
        Ok(())
    }

    /// Writes the source frame of a stream that takes [JPEGs](resized_protocol::coding::Coding).
    ///
    /// # Panics
    ///
    /// If the stream takes planes of samples.
    ///
    /// # Errors
    ///
    /// [`JpegLen`](Error::JpegLen): nothing was written.
    pub fn write_jpeg(&mut self, jpeg: &[u8]) -> Result<(), Error> {
        let layout = self.layout();
        assert!(layout.is_coded(), "a JPEG for a stream that takes planes of samples");
        let (longest, len) = (layout.longest_coded(), layout.rows_len());
        match coding::put(jpeg, &mut self.input_mut()[..len]) {
            true => Ok(()),
            false => Err(Error::JpegLen { longest, found: jpeg.len() }),
        }
    }

    /// Writes the source frame as the stream takes it: packed, or a JPEG.
    pub(crate) fn write(&mut self, frame: &[u8]) -> Result<(), Error> {
        match self.layout().is_coded() {
            true => self.write_jpeg(frame),
            false => self.write_packed(frame),
        }
    }

    /// Holds the slot: whatever becomes of it, it is not loaned again before the hold is dropped.
    ///
    /// For who reads the source frame longer than the daemon does, such as a decoder that predicts
    /// later frames from it.
    ///
    /// # Errors
    ///
    /// None, as long as the stream is open, which the slot sees to.
    pub fn hold(&mut self) -> Result<Hold, Error> {
        let handle = Arc::clone(&self.handle);
        let (slot, mapping) = (self.lease().slot(), self.lease().mapping());
        handle.connection.state().slots(handle.stream)?.hold(slot);
        Ok(Hold { handle, slot, _mapping: mapping })
    }

    /// Gives the slot to the daemon, which resizes the frame as soon as a device is free. Does not
    /// wait for a daemon that went away: the frame is pending until [another](crate::Reconnect) has
    /// it. Waits for one that reads nothing, once some hundred messages are on their way to it.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones: the frame is lost.
    pub fn submit(mut self) -> Result<Pending, Error> {
        let loan = self.take_loan();
        Pending::submit(&self.handle, loan)
    }
}

/// That all rows of a plane are in these bytes, a stride apart.
pub(crate) fn check_rows(plane: &Plane, bytes: &[u8], stride: usize) -> Result<(), Error> {
    let (rows, row_bytes, found) = (plane.rows(), plane.row_bytes(), bytes.len());
    if stride < row_bytes {
        return Err(Error::Stride { row_bytes, stride });
    }
    let end = stride.checked_mul(rows - 1).and_then(|last| last.checked_add(row_bytes));
    match end.is_some_and(|end| end <= found) {
        true => Ok(()),
        false => Err(Error::PlaneLen { rows, row_bytes, stride, found }),
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.handle.free(loan.lease);
        }
    }
}

/// Keeps a slot from being loaned again. While it lives the source frame stays mapped, at its address,
/// and once the slot is submitted or dropped nobody is given its bytes. From [`Slot::hold`].
#[must_use = "a hold that is dropped holds nothing"]
#[derive(Debug)]
pub struct Hold {
    /// The ring may be another by now, but not under who reads this one. It goes before the daemon hears that the stream is over.
    _mapping: Arc<Region>,
    handle: Arc<Handle>,
    slot: u32,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.handle.connection.state();
        if let Ok(slots) = state.slots(self.handle.stream) {
            slots.release(self.slot);
        }
        self.handle.connection.wake(state);
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, PixelFormat};

    use super::*;

    #[test]
    fn the_blame_is_on_what_is_wrong() {
        let layout = FrameLayout::new(PixelFormat::Gray8, Extent::new(1280, 720)).unwrap();
        let said = |len: usize, stride: usize| {
            check_rows(&layout.planes()[0], &vec![0; len], stride)
                .map_err(|error| error.to_string())
        };
        assert_eq!(said(1280 * 720, 1280), Ok(()));
        let stride = "rows of 1280 bytes can't begin 640 bytes apart";
        assert_eq!(said(1280 * 720, 640), Err(stride.to_owned()));
        let len = "720 rows of 1280 bytes, 1280 bytes apart, are not in the 9 bytes given";
        assert_eq!(said(9, 1280), Err(len.to_owned()));
    }
}
