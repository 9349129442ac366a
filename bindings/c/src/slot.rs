//! Owns the functions about slots.
//!
//! Invariants: addresses that were given out stay mapped until the slot is submitted (source) or
//! released (result), and no slice of them is kept between calls.
#![allow(unsafe_code)]

use resized_client::{FrameLayout, Placement};

use crate::abi::{self, Crop, Plane, Receipt, View};
use crate::cell::Cell;
use crate::copy::{drain, fill, packed};
use crate::handles::Table;
use crate::memory::{self, Out};
use crate::spec;
use crate::status::{Ended, Failure, Status, call};

/// A slot of a stream: a source frame, and what becomes of it.
pub struct SlotHandle(());

pub(crate) static SLOTS: Table<SlotHandle, Cell> = Table::new("slot");

fn plane(layout: &FrameLayout, index: u32) -> Result<resized_client::Plane, Failure> {
    let (planes, index) = (layout.planes(), index as usize);
    if layout.is_coded() {
        return Err(Failure::Coding);
    }
    planes.get(index).copied().ok_or(Failure::Plane { index, planes: planes.len() })
}

/// Where to write a plane of a loaned slot's source frame. Good until the slot is submitted or
/// released. The bytes there are those of an earlier frame, or zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_plane(
    slot: *mut SlotHandle,
    index: u32,
    out: *mut Plane,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(out, "plane") }?;
        out.put(Plane::NONE);
        SLOTS.find(slot)?.while_loaned(|slot| {
            let plane = plane(slot.layout(), index)?;
            let rows = slot.plane_mut(index as usize);
            out.put(Plane::of(&plane, rows));
            Ok(())
        })
    })
}

/// Writes a loaned slot's source frame from bytes without any padding: plane after plane, row after
/// row. There must be as many as the frame has: see resized_stream_spec_lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_write(
    slot: *mut SlotHandle,
    bytes: *const u8,
    len: usize,
) -> Status {
    call(|| {
        SLOTS.find(slot)?.while_loaned(|slot| {
            // SAFETY: the caller's promise, see the crate's page: `len` bytes.
            let rows = unsafe { packed(slot.layout(), bytes.cast_mut(), len, "source frame") }?;
            // SAFETY: `packed` found the planes of this layout in them.
            unsafe { fill(slot, &rows) };
            Ok(())
        })
    })
}

/// Writes a loaned slot's source frame where the stream takes JPEGs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_write_jpeg(
    slot: *mut SlotHandle,
    jpeg: *const u8,
    len: usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let jpeg = unsafe { memory::bytes(jpeg, len, "jpeg") }?;
        SLOTS.find(slot)?.while_loaned(|slot| match slot.layout().is_coded() {
            true => Ok(slot.write_jpeg(jpeg)?),
            false => Err(Failure::Coding),
        })
    })
}

/// Has a part of a loaned slot's frame resized in place of the stream's crop. Preparing another
/// crop takes the daemon 0.2 to 0.8 ms at 1080p; frames in a row that have the same share it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_crop(slot: *mut SlotHandle, crop: *const Crop) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let crop = unsafe { memory::read(crop, "crop") }?.parse();
        SLOTS.find(slot)?.while_loaned(|slot| Ok(slot.set_crop(crop)?))
    })
}

/// Gives a loaned slot to the daemon, which resizes the frame as soon as a device is free. Several
/// slots may be submitted before the first is waited for. From here on until it is resized nobody
/// may touch its memory. A daemon that went away is not waited for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_submit(slot: *mut SlotHandle) -> Status {
    call(|| SLOTS.find(slot)?.submit())
}

/// Waits until a submitted slot is resized, timeout_ms milliseconds at the most; 0: not at all;
/// negative: for ever.
/// RESIZED_STATUS_TIMEOUT: it is not, and may be waited for again, or released. Any other failure
/// is the frame's, or the connection's: all that is left to do is to release it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_wait(slot: *mut SlotHandle, timeout_ms: i32) -> Status {
    call(|| SLOTS.find(slot)?.wait(spec::timeout(timeout_ms)).map(Ended::InTime))
}

/// Where a plane of a resized slot's result lies. Good until the slot is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_view(
    slot: *mut SlotHandle,
    index: u32,
    out: *mut View,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(out, "view") }?;
        out.put(View::NONE);
        SLOTS.find(slot)?.once_resized(|frame| {
            let plane = plane(frame.layout(), index)?;
            let rows = frame.plane(index as usize);
            out.put(View::of(&plane, rows));
            Ok(())
        })
    })
}

/// Copies a resized slot's result into a buffer, without any padding: plane after plane, row after
/// row. It must be as long as the frame is: see resized_stream_spec_lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_read(
    slot: *mut SlotHandle,
    buffer: *mut u8,
    len: usize,
) -> Status {
    call(|| {
        SLOTS.find(slot)?.once_resized(|frame| {
            // SAFETY: the caller's promise, see the crate's page: `len` bytes.
            let rows = unsafe { packed(frame.layout(), buffer, len, "result") }?;
            // SAFETY: `packed` found the planes of this layout in them.
            unsafe { drain(frame, &rows) };
            Ok(())
        })
    })
}

/// Where a resized slot's result lies if the stream gives JPEGs: one of len bytes. Good until the
/// slot is released. The other members of the view are zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_jpeg(slot: *mut SlotHandle, out: *mut View) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(out, "view") }?;
        out.put(View::NONE);
        SLOTS.find(slot)?.once_resized(|frame| match frame.layout().is_coded() {
            true => {
                let jpeg = frame.jpeg();
                out.put(View { data: jpeg.as_ptr(), len: jpeg.len(), ..View::NONE });
                Ok(())
            }
            false => Err(Failure::Coding),
        })
    })
}

/// Which part of a resized slot's source became which part of its result: what a letterbox left of
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_placement(
    slot: *mut SlotHandle,
    out: *mut abi::Placement,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(out, "placement") }?;
        SLOTS.find(slot)?.once_resized(|frame| {
            out.put(abi::Placement::of(&frame.placement()));
            Ok(())
        })
    })
}

/// Maps a point of a result back to the source, both in pixels from the upper left corner: where
/// something that was found in the resized picture is in the picture. x and y are replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_placement_to_source(
    placement: *const abi::Placement,
    x: *mut f64,
    y: *mut f64,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let (placement, from, outs) = unsafe {
            let outs = (Out::new(x, "x")?, Out::new(y, "y")?);
            let from = (memory::read(x, "x")?, memory::read(y, "y")?);
            (memory::read(placement, "placement")?, from, outs)
        };
        let placement: Placement = placement.parse();
        let to = placement.to_source(from);
        outs.0.put(to.0);
        outs.1.put(to.1);
        Ok(())
    })
}

/// How a resized slot was resized.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_receipt(slot: *mut SlotHandle, out: *mut Receipt) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(out, "receipt") }?;
        SLOTS.find(slot)?.once_resized(|frame| {
            let receipt = frame.receipt();
            let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            out.put(Receipt {
                queued_ns: ns(receipt.queued),
                worked_ns: ns(receipt.worked),
                device: receipt.device.into(),
                unused: 0,
            });
            Ok(())
        })
    })
}

/// Ends a slot's handle, once for each loan and at any stage: one that was only loaned is free
/// again, a result is given back, and one that was submitted is cancelled: it is not resized if the
/// daemon hears of that before a device takes it. RESIZED_STATUS_HANDLE: it was released before.
/// RESIZED_STATUS_STATE: another thread is submitting or waiting for it, and it is not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_slot_release(slot: *mut SlotHandle) -> Status {
    // Two threads that release it at once: one finds it closed.
    call(|| SLOTS.find(slot)?.release(|| SLOTS.close(slot).map(drop)))
}
