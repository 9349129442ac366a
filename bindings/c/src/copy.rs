//! Owns the copies between a slot and the caller's memory.
//!
//! Invariant: all that the caller gave is measured against the frames before anything is copied.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use resized_client::{Frame, FrameLayout, Slot};

use crate::memory::Rows;
use crate::status::Failure;

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
pub(crate) unsafe fn measured(
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
pub(crate) fn planes(
    layout: &FrameLayout,
    planes: usize,
    name: &'static str,
) -> Result<(), Failure> {
    let wanted = layout.planes().len();
    match layout.is_coded() {
        true => Err(Failure::Coding),
        false if planes != wanted => Err(Failure::Planes { name, planes, wanted }),
        false => Ok(()),
    }
}
