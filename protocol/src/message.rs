//! Owns the messages: what may be said on a connection, by whom, and in what order.
//!
//! Knows no bytes (that is [`codec`](crate::codec)'s part) and no sockets.
//!
//! A client opens with [`Request::Hello`]. Every request but the submits and `Cancel` is answered
//! by one [`Reply`], in the order of the requests. Every submitted slot is answered by one
//! [`Completion`], in any order, unless its stream is closed first.
//!
//! Two kinds of failure: a [`Refusal`] is a reply and the session lives on; a [`Violation`] is
//! something that no honest client sends, and the daemon names it and hangs up.

use std::str::FromStr;
use std::time::Duration;

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::codec::CodecError;
use crate::coding::{Coding, CodingError};
use crate::frame::{Extent, FrameError, FrameSpec, PixelFormat};
use crate::placement::{Crop, CropError, Framing, Placement};
use crate::shm::RingLayout;
use crate::stats::{ClientStats, Stats, StreamStats};
use crate::tensor::Normalisation;

/// Most slots a stream may have.
pub const MAX_SLOTS: u32 = 256;

/// Largest weight a stream may have.
pub const MAX_WEIGHT: u32 = 100;

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

/// Reconstruction filter. All but `Nearest` widen with the ratio when shrinking, so that nothing
/// aliases. Where nothing changes in a direction, neither length nor siting, none of them does
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Filter {
    /// The source sample whose centre is nearest; never antialiased.
    Nearest,
    /// Triangle.
    Bilinear,
    /// Catmull-Rom: the cubic with B = 0, C = 1/2.
    Bicubic,
    /// Sinc windowed by a sinc, three lobes.
    Lanczos3,
    /// Mean over the exact area that a destination pixel covers.
    Area,
    /// Mitchell and Netravali's: the cubic with B = C = 1/3. Softer than Catmull-Rom, rings less.
    Mitchell,
}

impl Filter {
    /// Every filter, in wire order.
    pub const ALL: [Self; 6] =
        [Self::Nearest, Self::Bilinear, Self::Bicubic, Self::Lanczos3, Self::Area, Self::Mitchell];

    /// What it is called on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos3 => "lanczos3",
            Self::Area => "area",
            Self::Mitchell => "mitchell",
        }
    }
}

/// There is no filter of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no filter")]
pub struct UnknownFilter(String);

impl FromStr for Filter {
    type Err = UnknownFilter;

    fn from_str(name: &str) -> Result<Self, UnknownFilter> {
        let found = Self::ALL.into_iter().find(|filter| filter.name() == name);
        found.ok_or_else(|| UnknownFilter(name.to_owned()))
    }
}

/// What opacity means to the colours of a source that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Alpha {
    /// Nothing: it is resized like a colour. Faster.
    #[default]
    Apart,
    /// Colours count by it, so that what is transparent does not bleed into what is not. Where all is
    /// transparent the colour is black.
    Weighs,
}

/// What a stream resizes, fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct StreamSpec {
    /// Frames that the client writes.
    pub source: FrameSpec,
    /// Frames that the daemon writes, in any format and colour.
    pub destination: FrameSpec,
    /// The part of the source that is resized; all of it if `None`.
    pub crop: Option<Crop>,
    /// How it becomes a frame of another shape.
    pub framing: Framing,
    /// How source samples become destination samples.
    pub filter: Filter,
    /// What opacity means; without meaning for sources that have none.
    pub alpha: Alpha,
    /// What a tensor's numbers are; without meaning for other destinations.
    pub normalisation: Normalisation,
    /// Frames that may be in flight at once, 1..=[`MAX_SLOTS`].
    pub slots: u32,
    /// Its part of what its user is given while more waits than can be done, beside that user's other
    /// streams: 1..=[`MAX_WEIGHT`].
    pub weight: u32,
    /// How long after its submission a frame is still worth beginning: one that no device has taken by
    /// then completes as [`Status::Late`]. For live video, where the latest frame wins.
    pub deadline: Option<Duration>,
    /// Whether frames are JPEGs: through a bridge they may be.
    pub coding: Coding,
}

impl StreamSpec {
    /// Slots of a stream that does not say how many.
    pub const SLOTS: u32 = 4;

    /// Resizes frames of `source` to `destination`, bicubic, colour unchanged.
    pub const fn new(source: FrameSpec, destination: Extent) -> Self {
        Self {
            source,
            destination: FrameSpec { extent: destination, ..source },
            crop: None,
            framing: Framing::Stretch,
            filter: Filter::Bicubic,
            alpha: Alpha::Apart,
            normalisation: Normalisation { mean: [0.0; 3], scale: [1.0 / 255.0; 3] },
            slots: Self::SLOTS,
            weight: 1,
            deadline: None,
            coding: Coding::RAW,
        }
    }

    /// Which part of the source becomes which part of the destination.
    pub fn placement(&self) -> Result<Placement, CropError> {
        Placement::new(self.source.extent, self.crop, self.framing, &self.destination)
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
    /// All that can do it failed at it, or the only one twice; the output frame is undefined.
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
    #[error("{asked} {what} asked for, of the {limit} {} {left} are left", .whose.may())]
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
    /// The system could not allocate the region.
    #[error("the system could not allocate the ring: {}", nix::errno::Errno::from_raw(*.errno).desc())]
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
    #[error("the bridge takes only who has its token, by $RESIZED_TOKEN_FILE")]
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

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::Slots => "slots",
            Self::RingBytes => "bytes for rings",
        })
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
