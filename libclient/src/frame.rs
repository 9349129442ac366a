//! Owns a resized frame until it is dropped, and what is known of its making.
//!
//! Knows no waiting. Invariant: a slot is free as soon as its frame is dropped, and until then nobody
//! else's.

use std::sync::Arc;
use std::time::Duration;

use resized_protocol::coding::{self, PREFIX};
use resized_protocol::frame::{FrameLayout, PixelFormat};
use resized_protocol::message::Completion;
use resized_protocol::placement::{Crop, Placement};
use resized_protocol::shm::Lease;
use resized_protocol::tensor::{Element, Tensor};

use crate::Error;
use crate::handle::Handle;
use crate::slot::check_rows;

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
    pub(crate) const fn new(
        handle: Arc<Handle>,
        lease: Lease,
        crop: Option<Crop>,
        completion: Completion,
    ) -> Self {
        Self { handle, lease: Some(lease), crop, completion }
    }

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
