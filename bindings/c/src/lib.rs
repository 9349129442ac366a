//! The client of the `resized` daemon for C and for what speaks C: `include/resized.h`,
//! libresized.so, libresized.a.
//!
//! A frame walks through these files in this order: [`spec`](resized_stream_spec_init) says what a
//! stream resizes, [`client`](resized_connect) finds the daemon, [`stream`](resized_stream_open)
//! loans a [`slot`](resized_slot_plane), which is written, submitted, waited for, read and
//! released (`cell` says when which). [`resize`](resized_resize) does all of that in one call, on a
//! stream that is kept, with a `copy` in and a `copy` out. What they share: `abi`, the types of
//! the header; `status`, how a call ends; `handles`, what C holds instead of objects; `memory`, the
//! only place that touches memory of the caller's.
//!
//! Knows nothing of how frames are resized or travel: that is `resized-client`'s.
//!
//! Invariants: no panic leaves a function; a handle is a number that is looked up, never an address
//! that is followed, so a stale or made-up one is refused; nothing is written through a pointer
//! that is NULL or not aligned; whatever a function was given is checked before it does anything.
//!
//! The header is this crate's documentation for who uses it, `docs/c.md` a guide to it. All
//! functions here are `unsafe` for one reason, which the header says in C's terms: a pointer is
//! NULL or points to what its type says, as much of it as the length beside it says, and nobody
//! else writes there during the call.

// Said above, and in the header, once.
#![allow(clippy::missing_safety_doc)]

mod abi;
mod cell;
mod client;
mod copy;
mod handles;
mod memory;
mod resize;
mod slot;
mod spec;
mod status;
mod stream;

pub use abi::{
    Align, Alpha, Arrangement, ChannelOrder, Crop, Element, Filter, Format, FrameSpec, Framing,
    Matrix, Placement, Plane, Range, Receipt, Rectangle, Siting, StreamSpec, Subsampling, View,
};
pub use client::{
    ClientHandle, resized_connect, resized_connect_with, resized_device_name, resized_disconnect,
};
pub use resize::{resized_resize, resized_resize_packed};
pub use slot::{
    SlotHandle, resized_placement_to_source, resized_slot_crop, resized_slot_jpeg,
    resized_slot_placement, resized_slot_plane, resized_slot_read, resized_slot_receipt,
    resized_slot_release, resized_slot_submit, resized_slot_view, resized_slot_wait,
    resized_slot_write, resized_slot_write_jpeg,
};
pub use spec::{
    resized_stream_spec_init, resized_stream_spec_lengths, resized_stream_spec_with_format,
};
pub use status::{Status, resized_last_error, resized_status_name, resized_version};
pub use stream::{StreamHandle, resized_stream_close, resized_stream_loan, resized_stream_open};
