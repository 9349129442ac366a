//! Owns an open stream as Python has it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use resized_client::{Extent, StreamSpec};

use crate::connection::For;
use crate::error::raised;
use crate::frame::{Frame, Placement};
use crate::opened::Opened;
use crate::pending::Pending;
use crate::picture::name;
use crate::slot::Slot;
use crate::waiting::{GivenUp, Limit, running_loop, when_cancelled};

/// Frames of one format and size that become frames of another. Closed when it, its slots, pendings
/// and frames are gone.
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
    fn resize(&self, array: &Bound<'_, PyAny>) -> PyResult<Frame> {
        resized(&self.0, array, &Limit::default())
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
        let events = running_loop(py)?;
        let limit = Limit::default().unless(&given_up).within(&events);
        let (opened, array) = (Arc::clone(&self.0), array.unbind());
        let resize = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            resized(&opened, array.bind(arguments.py()), &limit)
        };
        let resize = PyCFunction::new_closure(py, None, None, resize)?;
        let future = events.call_method1("run_in_executor", (pool, resize))?;
        when_cancelled(&future, move || given_up.set())?;
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

/// Resizes what is in an array that is one of a stream's frames.
fn resized(opened: &Arc<Opened>, array: &Bound<'_, PyAny>, limit: &Limit) -> PyResult<Frame> {
    let (frame, copied) = opened.resize(array.py(), &opened.array(array)?, limit)?;
    Frame::new(frame, opened, copied)
}

const fn size(extent: Extent) -> (u32, u32) {
    (extent.width, extent.height)
}
