//! Owns the messages: what may be said on a connection, by whom, and in what order.
//!
//! Knows no bytes (that is [`codec`](crate::codec)'s part) and no sockets.
//!
//! A client opens with [`Request::Hello`]. Every request but the submits and `Cancel` is answered
//! by one [`Reply`], in the order of the requests. Every submitted slot is answered by one
//! [`Completion`], in any order, unless its stream is closed first.
//!
//! What a stream is asked to be is in `spec`, what is refused and why in `failure`.

mod failure;
mod spec;

use bincode::{Decode, Encode};

use crate::placement::Crop;
use crate::shm::RingLayout;
use crate::stats::{ClientStats, Stats, StreamStats};

pub use failure::{Goodbye, Refusal, Resource, Violation, Whose};
pub use spec::{Alpha, Filter, MAX_SLOTS, MAX_WEIGHT, StreamSpec, UnknownFilter};

/// Characters that the daemon keeps of a client's name in [`Request::Hello`].
pub const MAX_NAME: usize = 64;

/// Abilities beside the base protocol: a bit each, offered by the client in [`Request::Hello`] and
/// answered by those of them that the daemon will use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Features(pub u64);

impl Features {
    /// Regions may be named segments ([`Backing::Named`]); off unless the daemon allows them.
    pub const NAMED_SEGMENTS: Self = Self(1);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that both have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Request {
    /// Opens the conversation, once. Answered by [`Reply::Welcome`].
    Hello {
        /// The client's [`VERSION`](crate::VERSION).
        version: u16,
        /// What the client can do.
        features: Features,
        /// For logs and figures; at most [`MAX_NAME`] characters are kept.
        name: String,
    },
    /// Opens a stream. Answered by [`Reply::Opened`], with the region's descriptor beside it.
    Open {
        /// Its number in this connection, of the client's choice: greater than all before it.
        stream: u32,
        /// What to resize.
        spec: StreamSpec,
        /// Ask for [`Backing::Named`] instead of a passed descriptor.
        named: bool,
    },
    /// Hands slots to the daemon, which owns them until their completions.
    Submit {
        /// Number of the stream.
        stream: u32,
        /// The slots, in the order in which they should be resized. Not empty.
        slots: Vec<u32>,
    },
    /// The client no longer wants this frame. If no device has taken it yet it completes as
    /// [`Status::Cancelled`] in its turn, else as if nothing had been said; a slot not in flight is
    /// ignored.
    Cancel {
        /// Number of the stream.
        stream: u32,
        /// The slot.
        slot: u32,
    },
    /// Closes a stream. Frames still in flight are given up without completions. Answered by
    /// [`Reply::Closed`].
    Close {
        /// Number of the stream.
        stream: u32,
    },
    /// Answered by [`Reply::Stats`].
    Stats,
    /// As `Submit`, each frame with a crop of its own.
    SubmitCropped {
        /// Number of the stream.
        stream: u32,
        /// The slots, in the order in which they should be resized. Not empty.
        slots: Vec<Cropped>,
    },
    /// Answered by [`Reply::Clients`]: those whose numbers are at least this, of the asking
    /// client's user; root and the daemon's own user see all.
    Clients {
        /// Zero, or one more than the last of the answer before.
        from: u64,
    },
    /// Answered by [`Reply::Streams`]: those of this client whose numbers are at least this, if the
    /// client may be seen.
    Streams {
        /// The client.
        client: u64,
        /// Zero, or one more than the last of the answer before.
        from: u32,
    },
}

/// A slot, and the part of its source that is resized.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct Cropped {
    /// The slot.
    pub slot: u32,
    /// In place of the stream's crop.
    pub crop: Crop,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Message {
    /// Answers the oldest unanswered request.
    Reply(Reply),
    /// A submitted slot is the client's again.
    Completed(Completion),
    /// The last message of a connection.
    Goodbye(Goodbye),
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Reply {
    /// To [`Request::Hello`].
    Welcome {
        /// The daemon's [`VERSION`](crate::VERSION).
        version: u16,
        /// Those of the client's features that may be used.
        features: Features,
        /// Names of the daemon's devices; [`Completion::device`] is an index into it.
        devices: Vec<String>,
    },
    /// To [`Request::Open`].
    Opened {
        /// Number of the stream, as asked for.
        stream: u32,
        /// Where the slots lie. Equals what the client computes from its own spec.
        ring: RingLayout,
        /// How to map the region.
        backing: Backing,
    },
    /// To [`Request::Close`].
    Closed {
        /// Number of the stream.
        stream: u32,
    },
    /// To [`Request::Stats`].
    Stats(Stats),
    /// To a request that can't be granted. The session lives on.
    Refused(Refusal),
    /// To [`Request::Clients`], in the order of their numbers, up to [`PAGE`](crate::stats::PAGE)
    /// of them.
    Clients(Vec<ClientStats>),
    /// To [`Request::Streams`], likewise.
    Streams(Vec<StreamStats>),
}

/// How a client maps a stream's region.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Backing {
    /// A sealed memfd, passed beside this message.
    Descriptor,
    /// A POSIX shared-memory segment of this name. Any process of the same user can open it, and it
    /// has no seals.
    Named(String),
}

/// How a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Status {
    /// The output frame of the slot is complete.
    Done,
    /// Given up before a device took it; the output frame is as it was.
    Cancelled,
    /// All that can do it failed at it, or the only one twice, or the ring's memory is gone; the output
    /// frame is undefined.
    Failed,
    /// Given up because no device had taken it before the stream's deadline; the output frame is as it
    /// was.
    Late,
    /// The input frame is no JPEG, or not one of the stream's extent; the output frame is as it
    /// was. Said by bridges only.
    Unreadable,
}

/// A submitted slot is the client's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Completion {
    /// Number of the stream.
    pub stream: u32,
    /// The slot.
    pub slot: u32,
    /// How it ended.
    pub status: Status,
    /// Index into [`Reply::Welcome`]'s devices of the one that did it.
    pub device: u16,
    /// Nanoseconds from submission until a device took the frame.
    pub queued_ns: u64,
    /// Nanoseconds from then until it was done.
    pub worked_ns: u64,
}
