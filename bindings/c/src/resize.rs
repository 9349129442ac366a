//! Owns resizing in one call.
//!
//! Invariant: a call holds one slot at the most, so calls that wait for each other's slots come to
//! an end.
#![allow(unsafe_code)]

use resized_client::StreamSpec;

use crate::abi::{self, Plane, View};
use crate::client::{CLIENTS, ClientHandle, Connected};
use crate::copy::{drain, fill, measured, packed, planes};
use crate::memory::{self, Rows};
use crate::spec;
use crate::status::{Failure, Status, call};

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
    let mut slot = client.kept.stream(spec)?.loan()?;
    // SAFETY: a slot's layout is that of its stream's spec.
    unsafe { fill(&mut slot, source) };
    let frame = slot.submit()?.wait()?;
    // SAFETY: likewise.
    unsafe { drain(&frame, destination) };
    Ok(())
}
