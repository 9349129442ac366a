//! Owns what a bridge and its remote clients say: the local conversation over a byte stream (TCP, or TLS
//! over it), with the pixels behind the messages that are about them.
//!
//! Knows no sockets. What is different from a daemon's socket:
//!
//! - The client's messages are [`Call`]s, the first a [`Call::Knock`]. The bridge's are a daemon's
//!   [`Message`](crate::message::Message)s.
//! - A ring is on both sides, of the layout that both compute of the stream's spec; there is no descriptor.
//! - Behind a submit follow the input frames of its slots, in its order; behind a completion that is
//!   [`Done`](crate::message::Status::Done) the slot's output frame. Of each
//!   [`rows_len`](crate::frame::FrameLayout::rows_len) bytes, padding between rows included: so a frame is
//!   one piece on both sides.
//! - Where a stream's frames are [coded](crate::coding) these are the number of their bytes, then the bytes.
//! - The clients and streams of the daemon are not shown: the answers to those requests are empty.
//!
//! A client has no more frames on the way than its streams have slots, so each side can hold the
//! other up just by not reading.

use bincode::{Decode, Encode};

use crate::message::Request;

/// Where bridges that have joined a NATS service are asked for a place: each that has room answers
/// with an [`Offer`], the others with an error in the headers that NATS services have for it, of
/// code 503.
pub const STREAM_SUBJECT: &str = "resized.stream";

/// Where those bridges take single pictures, one of them each: bytes of a JPEG, PNG or WebP, with
/// what becomes of it in headers. Answered by the picture made, or by an error in the headers that
/// NATS services have for it.
pub const PICTURE_SUBJECT: &str = "resized.picture";

/// A place at a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The bridge's [`VERSION`](crate::VERSION).
    pub version: u16,
    /// Where to connect: `tcp://HOST:PORT` or `tls://HOST:PORT`.
    pub endpoint: String,
    /// What to knock with. Good once, and soon.
    pub token: String,
    /// Connections that the bridge has room for, and memory for their rings.
    pub free: u32,
}

/// What a client says to a bridge.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Call {
    /// Once, first. Not answered: a bridge that does not take the client says goodbye.
    Knock {
        /// The client's [`VERSION`](crate::VERSION).
        version: u16,
        /// Which the bridge may want; empty if the client has none.
        token: String,
    },
    /// As to a daemon.
    Request(Request),
}
