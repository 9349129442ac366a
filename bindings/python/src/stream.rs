//! Owns an open stream as Python has it.

use std::sync::Arc;

use pyo3::prelude::*;
use resized_client::{Extent, StreamSpec};

use crate::client::{Connected, For};
use crate::error::raised;
use crate::frame::{Frame, Placement};
use crate::memory::Array;
use crate::ours::Ours;
use crate::pending::{Pending, deadline, look_up, running_loop, slice, wait};
use crate::picture::{Picture, name};
use crate::slot::Slot;

/// A stream, and the connection that it is of.
pub(crate) struct Opened {
    // Declared, and so dropped, before its connection.
    stream: Ours<resized_client::Stream>,
    pub(crate) spec: StreamSpec,
    pub(crate) connection: Arc<Connected>,
}

impl Opened {
    pub(crate) fn open(
        py: Python<'_>,
        connection: &Arc<Connected>,
        spec: StreamSpec,
    ) -> PyResult<Arc<Self>> {
        let client = connection.client.get()?;
        let stream = py.detach(|| client.open(&spec)).map_err(raised)?;
        let (stream, connection) = (Ours::new(stream), Arc::clone(connection));
        Ok(Arc::new(Self { stream, spec, connection }))
    }

    /// The frames that it takes.
    pub(crate) const fn taken(&self) -> Picture {
        Picture { format: self.spec.source.format, extent: self.spec.source.extent }
    }

    /// The frames that it makes.
    pub(crate) const fn made(&self) -> Picture {
        Picture { format: self.spec.destination.format, extent: self.spec.destination.extent }
    }

    fn loan(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<resized_client::Slot> {
        let (stream, deadline) = (self.stream.get()?, deadline(timeout)?);
        loop {
            let slice = slice(deadline);
            let loaned = py.detach(|| stream.loan_timeout(slice)).map_err(raised)?;
            if let Some(slot) = loaned {
                return Ok(slot);
            }
            look_up(py, deadline)?;
        }
    }

    /// Resizes a frame that is copied. Returns how many bytes that were, too.
    pub(crate) fn resize(
        &self,
        py: Python<'_>,
        array: &Array,
    ) -> PyResult<(resized_client::Frame, usize)> {
        let mut slot = self.loan(py, None)?;
        let mut copied = 0;
        let frame = wait(py, None, |slice| {
            copied = array.write_to(&mut slot);
            slot.submit()?.wait_timeout(slice)
        });
        self.connection.count(copied);
        Ok((frame.map_err(|(error, _)| error)?, copied))
    }

    /// An array that is one of its frames.
    fn array(&self, array: &Bound<'_, PyAny>) -> PyResult<Array> {
        let array = Array::of(array, Some(self.spec.source.format))?;
        self.taken().check(array.picture())?;
        Ok(array)
    }
}

/// Frames of one format and size that become frames of another. Closed when it, its slots, pendings and frames
/// are gone.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Stream(pub(crate) Arc<Opened>);

#[pymethods]
impl Stream {
    /// A free slot, waited for.
    #[pyo3(signature = (timeout=None))]
    fn loan(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Slot> {
        Ok(Slot::new(self.0.loan(py, timeout)?, Arc::clone(&self.0)))
    }

    /// A free slot if there is one.
    fn try_loan(&self) -> PyResult<Option<Slot>> {
        let loaned = self.0.stream.get()?.try_loan().map_err(raised)?;
        Ok(loaned.map(|slot| Slot::new(slot, Arc::clone(&self.0))))
    }

    /// Copies a frame into a free slot, and submits it.
    fn submit(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Pending> {
        let array = self.0.array(array)?;
        let mut slot = self.0.loan(py, None)?;
        let (pending, copied) = py.detach(|| {
            let copied = array.write_to(&mut slot);
            (slot.submit(), copied)
        });
        self.0.connection.count(copied);
        Ok(Pending::new(pending.map_err(raised)?, Arc::clone(&self.0), copied))
    }

    /// Copies a frame into a free slot, submits it and waits.
    fn resize(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Frame> {
        let array = self.0.array(array)?;
        let (frame, copied) = self.0.resize(py, &array)?;
        Ok(Frame::new(frame, &self.0, copied))
    }

    /// As `resize`, for coroutines: copies and waits in another thread.
    fn resize_async<'py>(
        slf: &Bound<'py, Self>,
        array: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, resize) = (slf.py(), slf.getattr("resize")?);
        let pool = slf.get().0.connection.pool(py, For::Slots)?;
        running_loop(py)?.call_method1("run_in_executor", (pool, resize, array))
    }

    #[getter]
    fn source_format(&self) -> &'static str {
        name(self.0.spec.source.format)
    }

    #[getter]
    fn source_size(&self) -> (u32, u32) {
        size(self.0.spec.source.extent)
    }

    #[getter]
    fn format(&self) -> &'static str {
        name(self.0.spec.destination.format)
    }

    #[getter]
    fn size(&self) -> (u32, u32) {
        size(self.0.spec.destination.extent)
    }

    /// Frames that may be in flight or held at once.
    #[getter]
    fn slots(&self) -> u32 {
        self.0.spec.slots
    }

    /// Where the picture lies in frames that have no crop of their own.
    #[getter]
    fn placement(&self) -> PyResult<Placement> {
        let placed = self.0.spec.placement();
        placed
            .map(Placement)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
    }

    fn __repr__(&self) -> String {
        let StreamSpec { source, destination, .. } = &self.0.spec;
        let (from, to) = (name(source.format), name(destination.format));
        format!("<resized.Stream {} {from} to {} {to}>", source.extent, destination.extent)
    }
}

const fn size(extent: Extent) -> (u32, u32) {
    (extent.width, extent.height)
}
