//! Owns a stream that is being opened, until it is.
//!
//! Invariant: a stream that the daemon opens is somebody's, or is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::message::{Request, StreamSpec};

use crate::connection::{Answer, Asked, Connection, ENDLESS, until_over};
use crate::handle::Handle;
use crate::slots::Slots;
use crate::{Error, Stream, link};

/// A stream that is being opened: making its memory takes milliseconds, and a daemon that hangs does
/// not answer at all. Dropped, it is given up, and closed if the daemon opens it all the same.
#[must_use = "a stream that is being opened is given up when this is dropped"]
#[derive(Debug)]
pub struct Opening {
    connection: Arc<Connection>,
    spec: StreamSpec,
    named: bool,
    /// `None`: not yet asked for, or answered.
    asked: Option<Asked>,
    /// The stream's number in the era in which it was asked for.
    stream: u32,
}

impl Opening {
    pub(crate) fn new(connection: Arc<Connection>, spec: &StreamSpec, named: bool) -> Self {
        Self { connection, spec: *spec, named, asked: None, stream: 0 }
    }

    /// Waits until the stream is open.
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`](crate::Client::open).
    pub fn wait(mut self) -> Result<Stream, Error> {
        Ok(self.by(None)?.expect(ENDLESS))
    }

    /// As [`wait`](Self::wait), for so long at the most: then it is given back as the inner error.
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`](crate::Client::open).
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Stream, Self>, Error> {
        Ok(self.by(Instant::now().checked_add(timeout))?.ok_or(self))
    }

    /// As [`wait`](Self::wait), unless that is `over` before, which is asked every 50 ms: then it is given
    /// back as the inner error.
    ///
    /// # Errors
    ///
    /// Those of [`Client::open`](crate::Client::open).
    pub fn wait_until(mut self, over: impl FnMut() -> bool) -> Result<Result<Stream, Self>, Error> {
        Ok(until_over(|deadline| self.by(Some(deadline)), over)?.ok_or(self))
    }

    fn by(&mut self, deadline: Option<Instant>) -> Result<Option<Stream>, Error> {
        let Self { connection, spec, named, asked, stream } = self;
        loop {
            let answer = connection.answer(asked, deadline, |outgoing| {
                *stream = outgoing.new_stream();
                Request::Open { stream: *stream, spec: *spec, named: *named }
            })?;
            let Some(Answer { reply, descriptor, era }) = answer else { return Ok(None) };
            let number = *stream;
            let leases = link::leases(reply, descriptor, number, spec, *named)
                .inspect_err(|_| connection.close_unnoted(era, number))?;
            let slots = Slots::new(number, spec, leases);
            let failed = Arc::clone(slots.failed());
            if connection.add_stream(era, number, slots) {
                let handle = Handle::new(Arc::clone(connection), number, *spec, failed);
                return Ok(Some(Stream::new(handle)));
            }
            // The daemon that opened it is gone: so is the stream.
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(asked) = self.asked {
            self.connection.forget(asked);
        }
    }
}
