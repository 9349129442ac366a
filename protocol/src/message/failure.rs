//! Owns what the daemon says where it does not do as it was asked.
//!
//! Two kinds of failure: a [`Refusal`] is a reply and the session lives on; a [`Violation`] is
//! something that no honest client sends, and the daemon names it and hangs up ([`Goodbye`]).

use bincode::{Decode, Encode};
use nix::errno::Errno;
use thiserror::Error;

use super::{MAX_SLOTS, MAX_WEIGHT};
use crate::codec::CodecError;
use crate::coding::CodingError;
use crate::frame::{Extent, FrameError, PixelFormat};
use crate::placement::{Crop, CropError};

/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Error, Encode, Decode)]
pub enum Refusal {
    /// Client and daemon speak different versions.
    #[error("the daemon speaks protocol version {daemon}, this client {client}")]
    Version {
        /// The daemon's version.
        daemon: u16,
        /// The version in the hello.
        client: u16,
    },
    /// The daemon serves its own user and root only.
    #[error("the daemon does not serve user {uid}: it was started with --peers owner")]
    User {
        /// The client's user.
        uid: u32,
    },
    /// The source frame can't be laid out.
    #[error("source frame: {0}")]
    Source(FrameError),
    /// The destination frame can't be laid out.
    #[error("destination frame: {0}")]
    Destination(FrameError),
    /// The format of the source is for destinations only.
    #[error("frames of {0:?} can't be resized, only made")]
    Format(PixelFormat),
    /// The crop is empty or not within the source frame.
    #[error("{}", CropError { crop: *.crop, extent: *.extent })]
    Crop {
        /// As asked for.
        crop: Crop,
        /// The source frame's.
        extent: Extent,
    },
    /// A number of the normalisation is not finite.
    #[error("a number of the normalisation is not finite")]
    Normalisation,
    /// Zero slots, or too many.
    #[error("{asked} slots asked for, a stream has 1 to {MAX_SLOTS}")]
    Slots {
        /// As asked.
        asked: u32,
    },
    /// The ring's size does not fit this machine's addresses.
    #[error("the ring does not fit the daemon's addresses")]
    Overflow,
    /// A weight of zero, or too large.
    #[error("a weight of {asked} asked for, a stream has 1 to {MAX_WEIGHT}")]
    Weight {
        /// As asked.
        asked: u32,
    },
    /// More than is left of what there is a limit to.
    #[error(
        "{}, and {} of the {} {} are left",
        .what.asked(*.asked), .what.count(*.left), .what.count(*.limit), .whose.may()
    )]
    Quota {
        /// Whose limit it is.
        whose: Whose,
        /// Of what.
        what: Resource,
        /// As asked for.
        asked: u64,
        /// What is left.
        left: u64,
        /// The limit.
        limit: u64,
    },
    /// The system has no memory for the ring, or it could not be passed or mapped: for want of descriptors, say. The daemon's
    /// system, the bridge's or, through a bridge, the client's own.
    #[error("the system could not make, pass or map the ring: {}", Errno::from_raw(*.errno).desc())]
    System {
        /// The system's error number.
        errno: i32,
    },
    /// The daemon was not started with `--allow-named-segments`, or the client is another user.
    #[error("named segments are for the daemon's own user, and only with --allow-named-segments")]
    NamedSegments,
    /// No device could take the stream.
    #[error("no device of the daemon can resize this stream")]
    Device,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// The bridge takes nobody without a token that it knows.
    #[error(
        "the bridge takes only who has its token: $RESIZED_TOKEN_FILE names no file, or one with another"
    )]
    Token,
    /// The bridge can't reach its daemon.
    #[error("the bridge's daemon can't be reached")]
    Unreachable,
    /// Frames should be JPEGs, at a daemon's own socket.
    #[error(
        "a daemon takes and gives planes of samples only: JPEGs are for streams through a bridge"
    )]
    Coded,
    /// Frames can't be JPEGs of that kind.
    #[error(transparent)]
    Coding(#[from] CodingError),
}

impl From<CropError> for Refusal {
    fn from(CropError { crop, extent }: CropError) -> Self {
        Self::Crop { crop, extent }
    }
}

/// What there are limits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Resource {
    /// Connections at the same time.
    Connections,
    /// Streams open at the same time.
    Streams,
    /// Slots of all of them: frames that may be in flight at the same time.
    Slots,
    /// Bytes of shared memory in their rings.
    RingBytes,
}

impl Resource {
    /// That so much of it was asked for.
    fn asked(self, asked: u64) -> String {
        match (self, asked) {
            (Self::Connections, 1) => "another connection is asked for".to_owned(),
            (Self::Streams, 1) => "another stream is asked for".to_owned(),
            (Self::Connections, asked) => format!("{asked} connections are asked for"),
            (Self::Streams, asked) => format!("{asked} streams are asked for"),
            (Self::Slots, asked) => format!("{asked} slots are asked for"),
            (Self::RingBytes, asked) => format!("{} for rings are asked for", self.count(asked)),
        }
    }

    /// So much of it.
    fn count(self, count: u64) -> String {
        match self {
            Self::RingBytes => format!("{:.2} MiB", count as f64 / f64::from(1 << 20)),
            Self::Connections | Self::Streams | Self::Slots => count.to_string(),
        }
    }
}

/// Whose a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Whose {
    /// That of each user: what all its clients have counts.
    User,
    /// The daemon's, over all users.
    Daemon,
    /// The machine's: what it has to give now.
    Machine,
    /// The bridge's, over all that come through it.
    Bridge,
    /// That of each connection through the bridge.
    Connection,
}

impl Whose {
    const fn may(self) -> &'static str {
        match self {
            Self::User => "that a user may have",
            Self::Daemon => "that the daemon may have",
            Self::Machine => "that the machine has",
            Self::Bridge => "that the bridge may have",
            Self::Connection => "that a connection may have",
        }
    }
}

/// Why the daemon hangs up.
#[derive(Clone, Debug, PartialEq, Error, Encode, Decode)]
pub enum Goodbye {
    /// The daemon is stopping; everything submitted before has been completed.
    #[error("the daemon stopped")]
    Stopping,
    /// The client broke the protocol.
    #[error("the daemon hung up on a violation of the protocol: {0}")]
    Violation(Violation),
    /// The connection is not taken.
    #[error("the daemon does not take the connection: {0}")]
    Refused(Refusal),
    /// No hello came in time, or not the rest of a message.
    #[error("the daemon hung up: it waited too long for a hello, or for the rest of a message")]
    Silence,
}

/// Something that no honest client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Encode, Decode)]
pub enum Violation {
    /// The bytes are no request.
    #[error("{0}")]
    Codec(CodecError),
    /// The first request was not a hello.
    #[error("the first request was not a hello")]
    NoHello,
    /// A second hello.
    #[error("a second hello")]
    SecondHello,
    /// There is no such stream.
    #[error("stream {0} is not open")]
    UnknownStream(u32),
    /// The stream has no such slot.
    #[error("slot {slot} is not in stream {stream}")]
    UnknownSlot {
        /// The stream.
        stream: u32,
        /// The slot.
        slot: u32,
    },
    /// The slot is already in flight.
    #[error("slot {slot} of stream {stream} was submitted twice")]
    SlotBusy {
        /// The stream.
        stream: u32,
        /// The slot.
        slot: u32,
    },
    /// A submit without slots.
    #[error("a submit without slots")]
    EmptySubmit,
    /// A crop that is empty or not within the source frame: clients check it before.
    #[error("slot {slot} of stream {stream} was submitted with a crop outside of its frame")]
    Crop {
        /// The stream.
        stream: u32,
        /// The slot.
        slot: u32,
    },
    /// A new stream's number is not greater than those before it.
    #[error("stream number {0} was opened out of turn")]
    StreamNumber(u32),
    /// A JPEG of more bytes than there may be.
    #[error("a frame of stream {stream} is said to have {len} bytes")]
    CodedLen {
        /// The stream.
        stream: u32,
        /// As said.
        len: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_did_not_do_is_not_said_to_be_its_memory() {
        let refusal = Refusal::System { errno: Errno::ETOOMANYREFS as i32 }.to_string();
        assert!(refusal.ends_with(Errno::ETOOMANYREFS.desc()), "{refusal}");
        assert!(!refusal.contains("allocate") && !refusal.contains("memory"), "{refusal}");
    }
}
