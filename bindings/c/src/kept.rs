//! Owns the streams that a client keeps for [resizing in one call](crate::resized_resize).
//!
//! Invariant: no stream is refused for those that are kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use resized_client::{Client, Error, Refusal, Stream, StreamSpec};

use crate::status::Failure;

/// Streams that a client keeps open: programs resize pictures of a kind or two.
const STREAMS: usize = 4;

/// A client's streams for frames in one call. The one used last is the last.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<(StreamSpec, Stream)>>);

impl Kept {
    fn streams(&self) -> MutexGuard<'_, Vec<(StreamSpec, Stream)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stream(&self, client: &Client, spec: &StreamSpec) -> Result<Stream, Failure> {
        if let Some(stream) = self.find(spec) {
            return Ok(stream);
        }
        // Without the lock: it may take milliseconds. Two threads may open one for the same spec.
        let stream = self.open(client, spec)?;
        let oldest = {
            let mut streams = self.streams();
            streams.push((*spec, stream.clone()));
            (streams.len() > STREAMS).then(|| streams.remove(0))
        };
        drop(oldest);
        Ok(stream)
    }

    /// Opens a stream, for which those that are kept make room.
    pub(crate) fn open(&self, client: &Client, spec: &StreamSpec) -> Result<Stream, Error> {
        match client.open(spec) {
            Err(Error::Refused(Refusal::Quota { .. } | Refusal::System { .. }))
                if self.let_go() =>
            {
                client.open(spec)
            }
            opened => opened,
        }
    }

    /// Closes all that no other thread uses. False: there were none.
    fn let_go(&self) -> bool {
        let streams = std::mem::take(&mut *self.streams());
        !streams.is_empty()
    }

    fn find(&self, spec: &StreamSpec) -> Option<Stream> {
        let mut streams = self.streams();
        let at = streams.iter().rposition(|(kept, _)| kept == spec)?;
        let found = streams.remove(at);
        let stream = found.1.clone();
        streams.push(found);
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use resized::{Devices, Limits, Options, Server};
    use resized_client::{Extent, FrameSpec, PixelFormat};

    use super::*;

    #[test]
    fn no_stream_is_refused_for_those_that_are_kept() {
        let limits = Limits { streams: 2, ..Limits::default() };
        let options = Options { devices: Devices::Cpu, limits, ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let spec = |side| {
            let extent = Extent::new(side, side);
            StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent)
        };
        let kept = Kept::default();
        for side in [1, 2, 3, 4, 1, 2, 3, 4] {
            let frame = kept.stream(&client, &spec(side)).unwrap().loan().unwrap();
            frame.submit().unwrap().wait().unwrap();
        }
        // The caller's own are not closed for one that would be kept.
        let _own = [5, 6].map(|side| kept.open(&client, &spec(side)).unwrap());
        let refused = kept.stream(&client, &spec(7)).unwrap_err();
        let quota = |error: &Error| matches!(error, Error::Refused(Refusal::Quota { .. }));
        assert!(matches!(&refused, Failure::Client(error) if quota(error)), "{refused}");
    }
}
