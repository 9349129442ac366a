//! Owns streams that are kept open for frames that come one at a time, and of several kinds.
//!
//! Invariants: no more are kept than was said, even while another is opened, except one more for
//! each further thread that opens one at the same time; no stream is refused because of those that
//! are kept; none is given out once it [has failed](Stream::has_failed) at a frame, after which it may fail
//! at all others.

use std::sync::Mutex;

use crate::connection::ENDLESS;
use crate::lock::lock;
use crate::{Client, Error, Frame, Stream, StreamSpec};

/// How often a stream is asked for at the most. What can't be had at all is not to have others' closed
/// without end, while these keep new ones.
const TRIES: u32 = 8;

/// The streams of a client that were used last, for frames that come one at a time: most are of a
/// spec that one before was of, and need not wait for a stream to be opened.
///
/// ```no_run
/// use resized_client::{Client, Error, Extent, FrameSpec, KeptStreams, PixelFormat, StreamSpec};
///
/// /// Pictures of any sizes, from any threads; most are of a size that was there before.
/// fn thumbnail(streams: &KeptStreams, rgb: &[u8], size: Extent) -> Result<Vec<u8>, Error> {
///     let source = FrameSpec::new(PixelFormat::Rgb24, size);
///     let frame = streams.resize(&StreamSpec::new(source, Extent::new(320, 180)), rgb)?;
///     Ok(frame.to_packed()) // a copy: the frame's drop frees its slot
/// }
///
/// # fn main() -> Result<(), Error> {
/// let streams = KeptStreams::new(Client::discover()?, 8);
/// let small = thumbnail(&streams, &[0; 64 * 48 * 3], Extent::new(64, 48))?;
/// # let _ = small;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KeptStreams {
    client: Client,
    most: usize,
    /// The one used last is the last.
    streams: Mutex<Vec<(StreamSpec, Stream)>>,
    /// How often any were closed. Held while that happens.
    closings: Mutex<u64>,
}

impl KeptStreams {
    /// So many of that client, one at the least.
    pub fn new(client: Client, most: usize) -> Self {
        Self { client, most: most.max(1), streams: Mutex::default(), closings: Mutex::default() }
    }

    /// The stream of that spec, which is opened, and kept, if there is none that has not
    /// [failed](Stream::has_failed).
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`].
    pub fn stream(&self, spec: &StreamSpec) -> Result<Stream, Error> {
        let stream = self.had(spec, || self.client.open(spec).map(Some))?;
        Ok(stream.expect(ENDLESS))
    }

    /// As [`stream`](Self::stream), unless that is `over` before one is open, which is asked every 50 ms:
    /// then there is none.
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`].
    pub fn stream_until(
        &self,
        spec: &StreamSpec,
        over: impl Fn() -> bool,
    ) -> Result<Option<Stream>, Error> {
        self.had(spec, || Ok(self.client.opening(spec).wait_until(&over)?.ok()))
    }

    /// The stream of that spec; if there is none, the one that is opened, which is kept.
    fn had(
        &self,
        spec: &StreamSpec,
        open: impl Fn() -> Result<Option<Stream>, Error>,
    ) -> Result<Option<Stream>, Error> {
        if let Some(stream) = self.find(spec) {
            return Ok(Some(stream));
        }
        self.close_all_but(self.most - 1);
        // Without the lock: it may take milliseconds.
        let Some(stream) = self.open_by(open)? else { return Ok(None) };
        let mut streams = lock(&self.streams);
        // Two threads may have opened one; the first is kept.
        if !streams.iter().any(|(kept, stream)| kept == spec && !stream.has_failed()) {
            streams.push((*spec, stream.clone()));
        }
        drop(streams);
        self.close_all_but(self.most);
        Ok(Some(stream))
    }

    /// Resizes a frame by the stream of that spec, as [`Stream::resize`] does. A result is a slot: copy
    /// those that you keep ([`Frame::to_packed`]). Who keeps as many as the spec has slots waits for
    /// another for ever.
    ///
    /// # Errors
    ///
    /// Those of [`stream`](Self::stream) and [`Stream::resize`].
    pub fn resize(&self, spec: &StreamSpec, frame: &[u8]) -> Result<Frame, Error> {
        self.stream(spec)?.resize(frame)
    }

    /// Opens a stream that is not kept, but for which those that are make room: all are closed
    /// where it is [not to be had](Error::is_shortage) beside them.
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`].
    pub fn open(&self, spec: &StreamSpec) -> Result<Stream, Error> {
        self.open_by(|| self.client.open(spec))
    }

    fn open_by<T>(&self, ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        let closings = *lock(&self.closings);
        while_short(ask, closings, || self.close_all_but(0))
    }

    /// Asks of each, from the one used last on, whether to keep it, and closes the first that is
    /// not kept and all used before.
    pub fn trim(&self, mut keep: impl FnMut(&StreamSpec) -> bool) {
        let count = lock(&self.streams).iter().rev().take_while(|(spec, _)| keep(spec)).count();
        self.close_all_but(count);
    }

    /// Closes all but so many of those used last, and those that have failed, as soon as nobody uses them.
    /// Returns how often any were closed so far.
    fn close_all_but(&self, count: usize) -> u64 {
        let mut closings = lock(&self.closings);
        let closed = {
            let mut streams = lock(&self.streams);
            let mut closed: Vec<_> =
                streams.extract_if(.., |(_, stream)| stream.has_failed()).collect();
            let over = streams.len().saturating_sub(count);
            closed.extend(streams.drain(..over));
            closed
        };
        // Without the lock on those that are kept: each has something to say to the daemon.
        if !closed.is_empty() {
            drop(closed);
            *closings += 1;
        }
        *closings
    }

    fn find(&self, spec: &StreamSpec) -> Option<Stream> {
        let mut streams = lock(&self.streams);
        let at = streams.iter().rposition(|(kept, stream)| kept == spec && !stream.has_failed())?;
        streams[at..].rotate_left(1);
        streams.last().map(|(_, stream)| stream.clone())
    }
}

/// Asks for a stream, and again where it is [not to be had](Error::is_shortage) beside those that are
/// kept: all are closed, which is to return how often any were so far. Before, that was `closings`.
///
/// For who keeps streams in a way of its own, as the Python package does.
///
/// # Errors
///
/// Those of what is asked.
#[doc(hidden)]
pub fn while_short<T>(
    ask: impl Fn() -> Result<T, Error>,
    mut closings: u64,
    close_all: impl Fn() -> u64,
) -> Result<T, Error> {
    for _ in 1..TRIES {
        match ask() {
            Err(error) if error.is_shortage() => {
                // Another thread may have closed them since this one asked.
                let now = close_all();
                if now == closings {
                    return Err(error);
                }
                closings = now;
            }
            answered => return answered,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::errno::Errno;
    use resized_protocol::shm::RegionError;

    use super::*;

    #[test]
    fn those_that_are_kept_make_room_for_a_ring_that_can_not_be_mapped() {
        let asked = Cell::new(0);
        let ask = || {
            let first = asked.replace(asked.get() + 1) == 0;
            let errno = Errno::ENOMEM;
            if first { Err(RegionError::System { call: "mmap", errno }.into()) } else { Ok(()) }
        };
        while_short(ask, 0, || 1).unwrap();
        assert_eq!(asked.get(), 2);
    }
}
