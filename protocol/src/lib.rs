//! What a `resized` daemon and its clients agree on, and nothing else: no runtime, no policy.
//!
//! One frame walks through these files in this order:
//!
//! 1. [`message`]: a client says hello and opens a stream; the [`StreamSpec`](message::StreamSpec)
//!    fixes format, extents, colour and filter for every frame of it.
//! 2. [`frame`] and [`tensor`]: both ends compute the same [`FrameLayout`](frame::FrameLayout) from it,
//!    with checked arithmetic: where each plane of a frame lies. [`placement`]: which part of the source
//!    becomes which part of the destination.
//! 3. [`shm`]: the daemon creates a [`Region`](shm::Region) of shared memory, divided by a
//!    [`RingLayout`](shm::RingLayout) into slots of one input and one output frame each.
//! 4. [`fdpass`]: the region's descriptor travels to the client over the Unix socket, where [`arrivals`]
//!    has it go with its message.
//! 5. [`codec`]: from then on only small messages travel: *submit slot 3*, *slot 3 completed*.
//!
//! Pixels never travel, except to and from other machines: [`remote`]. The daemon never receives a
//! descriptor, a segment's name or a pointer: only numbers, which it copies, checks once, and then
//! relies on.

pub mod arrivals;
pub mod codec;
pub mod coding;
pub mod fdpass;
pub mod frame;
pub mod message;
pub mod placement;
pub mod remote;
pub mod shm;
pub mod stats;
pub mod tensor;

#[cfg(test)]
#[path = "../../daemon/tests/common/skip.rs"]
mod skip;

use std::sync::LazyLock;

/// Version of the wire format. Both ends must speak the same one.
///
/// Raised with every change to the bytes that `tests/golden.rs` pins, and to where the slots of a
/// ring lie and how long it is.
pub const VERSION: u16 = 7;

/// As `--version` says it: that of all programs and crates, and that of the protocol, by which daemons
/// and clients understand each other or do not.
pub static VERSIONS: LazyLock<String> =
    LazyLock::new(|| format!("{} (protocol {VERSION})", env!("CARGO_PKG_VERSION")));
