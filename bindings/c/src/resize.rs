//! Owns resizing in one call, the streams that are kept for it, and the copies between a slot and
//! the caller's memory.
//!
//! Invariants: a call holds one slot at the most, so calls that wait for each other's slots come to
//! an end; all that the caller gave is measured against the frames before anything is copied; no
//! stream is refused for those that are kept.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use resized_client::{Client, Error, Frame, FrameLayout, Refusal, Slot, Stream, StreamSpec};

use crate::abi::{self, Plane, View};
use crate::client::Connected;
use crate::handles::{CLIENTS, ClientHandle};
use crate::memory::{self, Rows};
use crate::spec;
use crate::status::{Failure, Status, call};

/// Streams that a client keeps open: programs resize pictures of a kind or two.
const STREAMS: usize = 4;

/// A client's streams for frames in one call. The one used last is the last.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<(StreamSpec, Stream)>>);

impl Kept {
    fn streams(&self) -> MutexGuard<'_, Vec<(StreamSpec, Stream)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self, client: &Client, spec: &StreamSpec) -> Result<Stream, Failure> {
        if let Some(stream) = self.find(spec) {
            return Ok(stream);
        }
        // Without the lock: it may take milliseconds. Two threads may open one for the same spec.
        let stream = self.open(client, spec)?;
        let oldest = {
            let mut streams = self.streams();
            streams.push((*spec, stream.clone()));
            (streams.len() > STREAMS).then(|| streams.remove(0))
        };
        drop(oldest);
        Ok(stream)
    }

    /// Opens a stream, for which those that are kept make room.
    pub(crate) fn open(&self, client: &Client, spec: &StreamSpec) -> Result<Stream, Error> {
        match client.open(spec) {
            Err(Error::Refused(Refusal::Quota { .. } | Refusal::System { .. }))
                if self.let_go() =>
            {
                client.open(spec)
            }
            opened => opened,
        }
    }

    /// Closes all that no other thread uses. False: there were none.
    fn let_go(&self) -> bool {
        let streams = std::mem::take(&mut *self.streams());
        !streams.is_empty()
    }

    fn find(&self, spec: &StreamSpec) -> Option<Stream> {
        let mut streams = self.streams();
        let at = streams.iter().rposition(|(kept, _)| kept == spec)?;
        let found = streams.remove(at);
        let stream = found.1.clone();
        streams.push(found);
        Some(stream)
    }
}

/// Resizes one frame from and into planes of the caller's memory, in the order of the format's
/// planes; of those, data, len and stride count. For a frame now and then, or where pixels have to
/// lie in certain memory: both frames are copied, which a stream's slots are not. The last four
/// streams are kept until resized_disconnect, or until another is not granted beside them, so
/// frames that are resized alike open none. Source and destination may be the same memory: the one
/// is read before the other is written. Waits as long as it takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_resize(
    client: *mut ClientHandle,
    spec: *const abi::StreamSpec,
    source: *const View,
    source_planes: usize,
    destination: *const Plane,
    destination_planes: usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let spec = unsafe { spec::read(spec) }?;
        let (from, to) = spec::layouts(&spec)?;
        planes(&from, source_planes, "source")?;
        planes(&to, destination_planes, "destination")?;
        // SAFETY: the caller's promise.
        let (source, destination) = unsafe {
            (
                memory::array(source, source_planes, "source")?,
                memory::array(destination, destination_planes, "destination")?,
            )
        };
        let source = source.iter().map(|view| (view.data.cast_mut(), view.len, view.stride));
        let destination = destination.iter().map(|plane| (plane.data, plane.len, plane.stride));
        // SAFETY: the caller's promise: what is said of the planes is so.
        let (source, destination) = unsafe {
            (measured(&from, source, "source")?, measured(&to, destination, "destination")?)
        };
        let client = CLIENTS.find(client)?;
        // SAFETY: measured against the layouts of the spec's frames.
        unsafe { resize(&client, &spec, &source, &destination) }
    })
}

/// As resized_resize, from and into bytes without any padding: plane after plane, row after row.
/// There must be as many as resized_stream_spec_lengths says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_resize_packed(
    client: *mut ClientHandle,
    spec: *const abi::StreamSpec,
    source: *const u8,
    source_len: usize,
    destination: *mut u8,
    destination_len: usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let spec = unsafe { spec::read(spec) }?;
        let (from, to) = spec::layouts(&spec)?;
        // SAFETY: the caller's promise: they are as long as is said.
        let (source, destination) = unsafe {
            (
                packed(&from, source.cast_mut(), source_len, "source")?,
                packed(&to, destination, destination_len, "destination")?,
            )
        };
        let client = CLIENTS.find(client)?;
        // SAFETY: measured against the layouts of the spec's frames.
        unsafe { resize(&client, &spec, &source, &destination) }
    })
}

/// # Safety
///
/// The rows are those of the spec's frames.
unsafe fn resize(
    client: &Connected,
    spec: &StreamSpec,
    source: &[Rows],
    destination: &[Rows],
) -> Result<(), Failure> {
    let mut slot = client.kept.stream(&client.client, spec)?.loan()?;
    // SAFETY: a slot's layout is that of its stream's spec.
    unsafe { fill(&mut slot, source) };
    let frame = slot.submit()?.wait()?;
    // SAFETY: likewise.
    unsafe { drain(&frame, destination) };
    Ok(())
}

/// Writes a slot's source frame.
///
/// # Safety
///
/// The rows are those of the slot's layout.
pub(crate) unsafe fn fill(slot: &mut Slot, source: &[Rows]) {
    for (index, rows) in source.iter().enumerate() {
        let plane = slot.layout().planes()[index];
        let to = NonNull::from(slot.plane_mut(index));
        // SAFETY: as promised; a plane's slice ends with its last row, and is the slot's to write.
        unsafe { rows.read(plane.row_bytes(), to, plane.stride) };
    }
}

/// Copies a result out.
///
/// # Safety
///
/// The rows are those of the frame's layout.
pub(crate) unsafe fn drain(frame: &Frame, destination: &[Rows]) {
    for (index, rows) in destination.iter().enumerate() {
        let plane = frame.layout().planes()[index];
        let from = NonNull::from(frame.plane(index));
        // SAFETY: as promised; a plane's slice ends with its last row.
        unsafe { rows.write(plane.row_bytes(), from, plane.stride) };
    }
}

/// The planes of a frame without padding.
///
/// # Safety
///
/// A pointer that is not NULL is good for `len` bytes, for as long as the rows are used.
pub(crate) unsafe fn packed(
    layout: &FrameLayout,
    start: *mut u8,
    len: usize,
    name: &'static str,
) -> Result<Vec<Rows>, Failure> {
    if layout.is_coded() {
        return Err(Failure::Coding);
    }
    let wanted = layout.packed_len();
    if len != wanted {
        return Err(Failure::Length { name, found: len, wanted });
    }
    NonNull::new(start).ok_or(Failure::Null(name))?;
    let mut offset = 0;
    let planes = layout.planes().iter().map(|plane| {
        let (row, len) = (plane.row_bytes(), plane.row_bytes() * plane.rows());
        let found = (start.wrapping_add(offset), len, row);
        offset += len;
        found
    });
    // SAFETY: as promised; the planes' lengths add up to `len`.
    unsafe { measured(layout, planes, name) }
}

/// The planes of a frame, each an address, a length and a stride.
///
/// # Safety
///
/// An address that is not NULL is good for that length, for as long as the rows are used.
unsafe fn measured(
    layout: &FrameLayout,
    planes: impl Iterator<Item = (*mut u8, usize, usize)>,
    name: &'static str,
) -> Result<Vec<Rows>, Failure> {
    let mut rows = Vec::with_capacity(layout.planes().len());
    for (index, (plane, (data, found, stride))) in layout.planes().iter().zip(planes).enumerate() {
        let row = plane.row_bytes();
        if stride < row {
            return Err(Failure::Stride { name, index, stride, row });
        }
        // The last row may end with its pixels.
        let before = stride.checked_mul(plane.rows() - 1);
        let wanted = before.and_then(|before| before.checked_add(row)).unwrap_or(usize::MAX);
        if found < wanted {
            return Err(Failure::PlaneLength { name, index, found, wanted });
        }
        // SAFETY: as promised, and it is long enough for as many rows.
        rows.push(unsafe { Rows::new(data, stride, name) }?);
    }
    Ok(rows)
}

/// Whether a frame has so many planes.
fn planes(layout: &FrameLayout, planes: usize, name: &'static str) -> Result<(), Failure> {
    let wanted = layout.planes().len();
    match layout.is_coded() {
        true => Err(Failure::Coding),
        false if planes != wanted => Err(Failure::Planes { name, planes, wanted }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use resized::{Devices, Limits, Options, Server};
    use resized_client::{Extent, FrameSpec, PixelFormat};

    use super::*;

    #[test]
    fn no_stream_is_refused_for_those_that_are_kept() {
        let limits = Limits { streams: 2, ..Limits::default() };
        let options = Options { devices: Devices::Cpu, limits, ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let spec = |side| {
            let extent = Extent::new(side, side);
            StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent)
        };
        let kept = Kept::default();
        for side in [1, 2, 3, 4, 1, 2, 3, 4] {
            let frame = kept.stream(&client, &spec(side)).unwrap().loan().unwrap();
            frame.submit().unwrap().wait().unwrap();
        }
        // The caller's own are not closed for one that would be kept.
        let _own = [5, 6].map(|side| kept.open(&client, &spec(side)).unwrap());
        let refused = kept.stream(&client, &spec(7)).unwrap_err();
        let quota = |error: &Error| matches!(error, Error::Refused(Refusal::Quota { .. }));
        assert!(matches!(&refused, Failure::Client(error) if quota(error)), "{refused}");
    }
}
