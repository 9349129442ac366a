//! Owns an open stream as all that came of it share it: its slots, pendings, frames and whoever
//! resizes in one call.

use std::sync::Arc;

use pyo3::prelude::*;
use resized_client::StreamSpec;

use crate::connection::Connected;
use crate::error::raised;
use crate::ours::Ours;
use crate::picture::Picture;
use crate::source::Source;
use crate::waiting::{Limit, let_go, wait};

/// A stream, and the connection that it is of.
pub(crate) struct Opened {
    pub(crate) stream: Ours<resized_client::Stream>,
    pub(crate) spec: StreamSpec,
    pub(crate) connection: Arc<Connected>,
}

impl Opened {
    /// Opens one, unless that is interrupted; with the client's own error, for who may know what to do
    /// about it.
    pub(crate) fn asked_for(
        py: Python<'_>,
        connection: &Arc<Connected>,
        spec: StreamSpec,
    ) -> PyResult<Result<Arc<Self>, resized_client::Error>> {
        let client = connection.client.get()?;
        let opened = |stream| {
            let (stream, connection) = (Ours::new(stream), Arc::clone(connection));
            Arc::new(Self { stream, spec, connection })
        };
        let limit = Limit::default();
        let mut opening = client.opening(&spec);
        loop {
            let slice = limit.slice();
            opening = match py.detach(|| opening.wait_timeout(slice)) {
                Ok(Ok(stream)) => return Ok(Ok(opened(stream))),
                Ok(Err(opening)) => opening,
                Err(error) => return Ok(Err(error)),
            };
            if let Err(error) = limit.look_up(py) {
                // That may wait for the daemon to read.
                py.detach(|| drop(opening));
                return Err(error);
            }
        }
    }

    /// The frames that it takes.
    pub(crate) const fn taken(&self) -> Picture {
        Picture { format: self.spec.source.format, extent: self.spec.source.extent }
    }

    /// The frames that it makes.
    pub(crate) const fn made(&self) -> Picture {
        Picture { format: self.spec.destination.format, extent: self.spec.destination.extent }
    }

    /// Whether a frame of it failed, and others may therefore.
    pub(crate) fn has_failed(&self) -> bool {
        self.stream.get().is_ok_and(resized_client::Stream::has_failed)
    }

    pub(crate) fn loan(&self, py: Python<'_>, limit: &Limit) -> PyResult<resized_client::Slot> {
        let stream = self.stream.get()?;
        loop {
            let slice = limit.slice();
            let loaned = py.detach(|| stream.loan_timeout(slice)).map_err(raised)?;
            if let Some(slot) = loaned {
                return Ok(slot);
            }
            limit.look_up(py)?;
        }
    }

    /// Resizes a frame that is copied. Returns how many bytes that were, too.
    pub(crate) fn resize(
        &self,
        py: Python<'_>,
        source: &Source,
        limit: &Limit,
    ) -> PyResult<(resized_client::Frame, usize)> {
        let mut slot = self.loan(py, limit)?;
        // While it waited for the slot.
        limit.check_wanted()?;
        let mut copied = 0;
        let frame = wait(py, limit, |slice| {
            copied = source.write_to(&mut slot)?;
            slot.submit()?.wait_timeout(slice)
        });
        self.connection.count(copied);
        Ok((frame.map_err(|(error, _)| error)?, copied))
    }

    /// What is given for one of its frames.
    pub(crate) fn source(&self, given: &Bound<'_, PyAny>) -> PyResult<Source> {
        Source::of(given, self.taken(), self.spec.coding.jpeg_in)
    }
}

impl Drop for Opened {
    /// A stream that closes has something to say, and a daemon that hangs may not read it.
    fn drop(&mut self) {
        let_go(self.stream.take());
    }
}
