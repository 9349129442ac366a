//! Owns the errors of this crate but those of finding an endpoint.
//!
//! Invariant: an error that another one quotes is no source of it, or who prints both would say it twice.
//!
//! [`Error`] is not `non_exhaustive`: bindings have a status or an exception for each kind, and one
//! more must not become another's unseen. For whoever else matches all, it is a new minor version.

use std::io;
use std::sync::Arc;

use resized_protocol::codec::CodecError;
use resized_protocol::message::{Goodbye, Refusal};
use resized_protocol::shm::RegionError;
use thiserror::Error;

use crate::{Endpoint, EndpointError};

/// Why a call failed. A daemon that goes away is no reason while it may [come
/// back](crate::Reconnect). After some errors the connection lives on; after others, which any call
/// may end with that sends or waits, later calls on it [fail too](Self::is_fatal).
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// There is no endpoint to connect to.
    #[error("{0}")]
    Endpoint(EndpointError),
    /// Nobody answers at the endpoint, or says welcome in as much time as [`Reconnect`](crate::Reconnect) gives, ten seconds
    /// at the least; or nobody whom the client understands, trusts or may reach.
    #[error("can't connect to {endpoint}: {error}")]
    Connect {
        /// As given.
        endpoint: Endpoint,
        /// The system's error, or what it amounts to.
        error: Arc<io::Error>,
    },
    /// Who is at the other end does not say the rest of a message for ten seconds or, where the socket was
    /// connected already, welcome.
    #[error("the daemon does not answer")]
    Silent,
    /// The daemon did not grant the request.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The frame to write is not as long as the stream's source frames.
    #[error("a packed frame of {expected} bytes is needed, {found} were given")]
    PackedLen {
        /// Bytes of a packed source frame.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The JPEG to write is longer than the stream's source frames may be.
    #[error("a JPEG of {found} bytes was given, the stream takes {longest} at the most")]
    JpegLen {
        /// Most bytes.
        longest: usize,
        /// Bytes given.
        found: usize,
    },
    /// The rows of a plane to write, or to read into, would lie upon one another.
    #[error("rows of {row_bytes} bytes can't begin {stride} bytes apart")]
    Stride {
        /// Bytes of a row, without padding.
        row_bytes: usize,
        /// Bytes from one row to the next, as given.
        stride: usize,
    },
    /// The rows of a plane to write, or to read into, are not all there.
    #[error(
        "{rows} rows of {row_bytes} bytes, {stride} bytes apart, are not in the {found} bytes given"
    )]
    PlaneLen {
        /// Rows of the plane.
        rows: usize,
        /// Bytes of a row, without padding.
        row_bytes: usize,
        /// Bytes from one row to the next, as given.
        stride: usize,
        /// Bytes given.
        found: usize,
    },
    /// The frame was no JPEG, or not one of the stream's extent.
    #[error("the frame is no JPEG of the stream's extent, or of a kind that is not read")]
    Unreadable,
    /// All devices that can do it failed at this frame, or the only one twice; or its result has more
    /// bytes as a JPEG than as samples; or the memory of the stream's ring is gone, and then all its
    /// frames fail: see [`Stream::has_failed`](crate::Stream::has_failed).
    #[error(
        "the daemon failed to resize the frame; where it fails at all of a stream, open that anew"
    )]
    Failed,
    /// The daemon did not begin this frame before the stream's deadline, and dropped it.
    #[error("the frame waited longer than its stream's deadline")]
    Late,
    /// The daemon ended the connection and said why.
    #[error("{0}")]
    Goodbye(Goodbye),
    /// The daemon went away without a word.
    #[error("the daemon closed the connection")]
    Disconnected,
    /// The daemon went away and none was found in its place within the time given for that.
    #[error("lost the daemon ({lost}), and did not find it again in {tried} attempts: {last}")]
    GivenUp {
        /// How the connection ended.
        lost: Box<Error>,
        /// Attempts to connect again.
        tried: u32,
        /// Why the last one failed.
        last: Box<Error>,
    },
    /// The socket failed.
    #[error("connection to the daemon: {0}")]
    Socket(Arc<io::Error>),
    /// The stream's shared memory can't be mapped.
    #[error("can't map the stream's shared memory: {0}")]
    Region(Arc<RegionError>),
    /// The daemon's bytes are no message.
    #[error("the daemon sent {0}")]
    Codec(CodecError),
    /// The daemon said something that it may not say here.
    #[error("the daemon broke the protocol: {0}")]
    Unexpected(Breach),
}

/// What nobody may say who keeps to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Breach {
    /// A reply of another kind than the request has.
    #[error("another reply than was asked for")]
    OtherReply,
    /// A reply while no request has none.
    #[error("a reply to nothing")]
    ReplyToNothing,
    /// A completion of a slot that is not the daemon's.
    #[error("a completion of a slot that was not submitted")]
    NotSubmitted,
    /// A stream opened, or closed, that is none of those for which that was asked.
    #[error("another stream than was asked for")]
    OtherStream,
    /// A ring whose slots lie elsewhere than the stream's spec has them.
    #[error("a ring of another layout than its stream's")]
    RingLayout,
    /// A stream opened with nothing to map.
    #[error("a stream without a descriptor")]
    NoDescriptor,
    /// A ring in a named segment, which has no seals, for a client that did not ask for one.
    #[error("a named segment that was not asked for")]
    NamedSegment,
    /// A list that begins again.
    #[error("a page of a list that was there before")]
    PageAgain,
    /// A result that does not fit its slot.
    #[error("a frame longer than its slot")]
    FrameLen,
    /// A stream or a submission without slots, where this crate is at fault itself.
    #[error("a stream without slots")]
    NoSlots,
}

impl Error {
    /// Whether the connection is over, and later calls on it fail, too; or, with `Unexpected`, not
    /// to be relied on. Otherwise it lives on, and other frames and streams are no worse off.
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::PackedLen { .. }
            | Self::JpegLen { .. }
            | Self::Stride { .. }
            | Self::PlaneLen { .. }
            | Self::Unreadable
            | Self::Failed
            | Self::Late
            | Self::Region(_) => false,
            Self::Endpoint(_)
            | Self::Connect { .. }
            | Self::Silent
            | Self::Goodbye(_)
            | Self::Disconnected
            | Self::GivenUp { .. }
            | Self::Socket(_)
            | Self::Codec(_)
            | Self::Unexpected(_) => true,
        }
    }

    /// Whether a stream was refused that might be granted if others were closed, or its ring could not
    /// be mapped for want of what they take of this process.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Refused(Refusal::Quota { asked, limit, .. }) => *asked <= *limit,
            Self::Refused(Refusal::System { .. }) => true,
            Self::Region(error) => error.errno().is_some(),
            _ => false,
        }
    }
}

impl From<EndpointError> for Error {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Socket(Arc::new(error))
    }
}

impl From<RegionError> for Error {
    fn from(error: RegionError) -> Self {
        Self::Region(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use resized_protocol::coding::CodingError;

    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let endpoint = Endpoint::Unix("/nowhere".into());
        let error = Arc::new(io::ErrorKind::PermissionDenied.into());
        let malformed = "nowhere".parse::<Endpoint>().unwrap_err();
        for error in [
            Error::Connect { endpoint, error },
            Error::Endpoint(EndpointError::Variable(Box::new(malformed))),
            Error::Refused(Refusal::Slots { asked: 0 }),
            Error::Refused(CodingError::Quality(0).into()),
            Error::Codec(CodecError::TooLong),
            Error::Unexpected(Breach::NoSlots),
            Error::from(RegionError::System { call: "mmap", errno: nix::errno::Errno::ENOMEM }),
        ] {
            assert!(error.source().is_none(), "{error}: and again {:?}", error.source());
        }
    }

    #[test]
    fn a_ring_that_can_not_be_mapped_ends_no_connection() {
        let region = RegionError::System { call: "mmap", errno: nix::errno::Errno::ENOMEM };
        assert!(!Error::from(region).is_fatal());
        assert!(Error::Disconnected.is_fatal());
    }
}
