//! Owns an open stream as Python has it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use resized_client::{Extent, StreamSpec};

use crate::client::{Connected, For};
use crate::error::raised;
use crate::frame::{Frame, Placement};
use crate::memory::Array;
use crate::ours::Ours;
use crate::pending::{GivenUp, Limit, Pending, running_loop, wait, when_cancelled};
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
    /// Opens one; with the client's own error, for who may know what to do about it.
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
        Ok(py.detach(|| client.open(&spec)).map(opened))
    }

    /// The frames that it takes.
    pub(crate) const fn taken(&self) -> Picture {
        Picture { format: self.spec.source.format, extent: self.spec.source.extent }
    }

    /// The frames that it makes.
    pub(crate) const fn made(&self) -> Picture {
        Picture { format: self.spec.destination.format, extent: self.spec.destination.extent }
    }

    fn loan(&self, py: Python<'_>, limit: &Limit) -> PyResult<resized_client::Slot> {
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
        array: &Array,
        limit: &Limit,
    ) -> PyResult<(resized_client::Frame, usize)> {
        let mut slot = self.loan(py, limit)?;
        // While it waited for the slot.
        limit.check_wanted()?;
        let mut copied = 0;
        let frame = wait(py, limit, |slice| {
            copied = array.write_to(&mut slot);
            slot.submit()?.wait_timeout(slice)
        });
        self.connection.count(copied);
        Ok((frame.map_err(|(error, _)| error)?, copied))
    }

    /// Resizes what is in an array that is one of its frames.
    fn frame_of(
        self: &Arc<Self>,
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        limit: &Limit,
    ) -> PyResult<Frame> {
        let array = self.array(array)?;
        let (frame, copied) = self.resize(py, &array, limit)?;
        Frame::new(frame, self, copied)
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
        Ok(Slot::new(self.0.loan(py, &Limit::of(timeout)?)?, Arc::clone(&self.0)))
    }

    /// A free slot if there is one.
    fn try_loan(&self) -> PyResult<Option<Slot>> {
        let loaned = self.0.stream.get()?.try_loan().map_err(raised)?;
        Ok(loaned.map(|slot| Slot::new(slot, Arc::clone(&self.0))))
    }

    /// Copies a frame into a free slot, and submits it.
    fn submit(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Pending> {
        let array = self.0.array(array)?;
        let mut slot = self.0.loan(py, &Limit::default())?;
        let (pending, copied) = py.detach(|| {
            let copied = array.write_to(&mut slot);
            (slot.submit(), copied)
        });
        self.0.connection.count(copied);
        Ok(Pending::new(pending.map_err(raised)?, Arc::clone(&self.0), copied))
    }

    /// Copies a frame into a free slot, submits it and waits.
    fn resize(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Frame> {
        self.0.frame_of(py, array, &Limit::default())
    }

    /// As `resize`, for coroutines: copies and waits in another thread, as long as the coroutine does.
    fn resize_async<'py>(
        &self,
        py: Python<'py>,
        array: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // In a forked child there are no threads in the pool, though it thinks so.
        self.0.stream.get()?;
        let pool = self.0.connection.pool(py, For::Slots)?;
        let given_up = GivenUp::default();
        let limit = Limit::default().unless(&given_up);
        let (opened, array) = (Arc::clone(&self.0), array.unbind());
        let resize = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            let py = arguments.py();
            opened.frame_of(py, array.bind(py), &limit)
        };
        let resize = PyCFunction::new_closure(py, None, None, resize)?;
        let future = running_loop(py)?.call_method1("run_in_executor", (pool, resize))?;
        when_cancelled(&future, move |_| given_up.set())?;
        Ok(future)
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
