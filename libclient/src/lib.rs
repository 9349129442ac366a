//! Client of the `resized` daemon: resizes frames in shared memory, without copying them.
//!
//! ```no_run
//! use resized_client::{Client, Error, Extent, FrameSpec, PixelFormat, StreamSpec};
//!
//! # fn main() -> Result<(), Error> {
//! let client = Client::discover()?;
//! let source = FrameSpec::new(PixelFormat::Rgb24, Extent::new(1920, 1080));
//! let stream = client.open(&StreamSpec::new(source, Extent::new(640, 360)))?;
//!
//! // In one call, which copies the frame: tightly packed, no padding.
//! let frame = stream.resize(&vec![0; 1920 * 1080 * 3])?;
//! let small = frame.to_packed();
//!
//! // Or in steps, without a copy.
//! let mut slot = stream.loan()?; // a free slot of the ring, in memory shared with the daemon
//! for row in slot.rows_mut(0) {
//!     row.fill(255); // a camera or decoder writes here; plane_mut(0) is all rows, with their padding
//! }
//! let pending = slot.submit()?; // the daemon's now: a message of a few bytes; several may be in flight
//! let frame = pending.wait()?; // ours again, resized where it lies
//! for row in frame.rows(0) {
//!     println!("{:?}", &row[..3]);
//! } // the frame's drop frees the slot
//! # let _ = small;
//! # Ok(())
//! # }
//! ```
//!
//! [`Stream::map`] keeps several frames of an iterator in flight.
//!
//! What a frame becomes is the stream's to say: format and colour of the destination, a crop, and how
//! that meets another shape. Here a detector's input of 640 x 640, letterboxed, and the way back:
//!
//! ```no_run
//! # use resized_client::{Client, Error, Extent, FrameSpec, PixelFormat, StreamSpec};
//! use resized_client::{Framing, Tensor};
//!
//! # fn detect(client: &Client, video: FrameSpec, boxes: &[(f64, f64)]) -> Result<(), Error> {
//! let tensor = PixelFormat::Tensor(Tensor::default()); // planes of f32, red first
//! let mut spec = StreamSpec::new(video, Extent::new(640, 640)).with_format(tensor);
//! spec.framing = Framing::letterbox([114; 3]);
//! spec.normalisation.mean = [123.675, 116.28, 103.53];
//! spec.normalisation.scale = [0.01712, 0.01751, 0.01743];
//! let stream = client.open(&spec)?;
//!
//! let frame = stream.loan()?.submit()?.wait()?;
//! let numbers = frame.f32s(); // 3 x 640 x 640 of them, dense, page aligned; their bytes are frame.output()
//! for &corner in boxes {
//!     let (x, y) = frame.placement().to_source(corner); // in pixels of the video
//! #   let _ = (numbers, x, y);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Through a bridge (`tcp://`, `tls://`) frames may be JPEGs, in one direction or both:
//!
//! ```no_run
//! # use resized_client::{Client, Error, Extent, FrameSpec, PixelFormat, StreamSpec};
//! use resized_client::{Coding, Jpeg, Quality, Subsampling};
//!
//! # fn thumbnail(client: &Client, photo: &[u8]) -> Result<Vec<u8>, Error> {
//! let source = FrameSpec::jpeg(PixelFormat::I420, Extent::new(4000, 3000));
//! let mut spec = StreamSpec::new(source, Extent::new(400, 300));
//! let jpeg = Jpeg { quality: Quality::DEFAULT, subsampling: Subsampling::Both };
//! spec.coding = Coding { jpeg_in: true, jpeg_out: Some(jpeg) };
//! let stream = client.open(&spec)?;
//!
//! let frame = stream.resize(photo)?;
//! let thumbnail = frame.jpeg();
//! # Ok(thumbnail.to_vec())
//! # }
//! ```
//!
//! A frame walks through these files in this order: [`endpoint`](Endpoint) finds the daemon,
//! [`client`](Client) says hello and has a [`stream`](Stream) [opened](Opening), which loans a
//! [`slot`](Slot), which is submitted and becomes a [`pending`](Pending), which ends as a
//! [`frame`](Frame), whose drop frees the slot. Beside them: [`kept`](KeptStreams) keeps streams
//! for frames that come one at a time, `mapped` keeps several frames in flight, `handle` is what
//! these parts share of a stream, `slots` is the state of each slot, and `connection` decides who
//! writes and reads the socket.
//!
//! Everything blocks, for as long as it takes or until a time-out, and is thread-safe. No thread is
//! started except one for each connection to a bridge, and one where whoever finds that a daemon is
//! lost waits for a limited time, or looks in between, as `*_until` do. Otherwise whoever waits reads
//! the socket, for the others too. A daemon that dies or is replaced costs a pause, no frame: see
//! [`Reconnect`]. Frames in flight are bounded by the stream's slots, and so is memory.

#![warn(clippy::missing_errors_doc)]

mod client;
mod connection;
mod endpoint;
mod error;
mod frame;
mod handle;
mod kept;
mod link;
mod lock;
mod mapped;
mod opening;
mod pending;
mod places;
mod reconnect;
// Its wire and its rings are for the bridge, which is the other end: no part of what this crate promises.
#[allow(clippy::missing_errors_doc)]
#[doc(hidden)]
#[cfg(feature = "remote")]
pub mod remote;
mod slot;
mod slots;
mod stream;

pub use client::Client;
#[cfg(feature = "remote")]
pub use endpoint::Remote;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Breach, Error};
pub use frame::{Frame, Receipt};
pub use kept::KeptStreams;
#[doc(hidden)]
pub use kept::while_short;
pub use opening::Opening;
pub use pending::{Pending, wait_any, wait_any_timeout};
pub use reconnect::Reconnect;
#[doc(inline)]
#[cfg(feature = "remote")]
pub use remote::{Credentials, CredentialsError};
pub use resized_protocol::codec::CodecError;
pub use resized_protocol::coding::{
    Coding, CodingError, Jpeg, Quality, Subsampling, UnknownQuality,
};
pub use resized_protocol::frame::{
    Component, Extent, FrameError, FrameLayout, FrameSpec, MAX_SIDE, Matrix, PixelFormat, Plane,
    ROW_ALIGN, Range, Siting,
};
pub use resized_protocol::message::{
    Alpha, Filter, Goodbye, MAX_SLOTS, MAX_WEIGHT, Refusal, Resource, StreamSpec, UnknownFilter,
    Violation, Whose,
};
pub use resized_protocol::placement::{Align, Crop, CropError, Framing, Placement, Rectangle};
pub use resized_protocol::shm::RegionError;
pub use resized_protocol::stats::{ClientStats, DeviceStats, Histogram, Stats, StreamStats};
pub use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};
pub use slot::{Hold, Slot};
pub use stream::Stream;
