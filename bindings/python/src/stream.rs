//! Owns an open stream as Python has it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use resized_client::{Extent, StreamSpec};

use crate::closable::Closable;
use crate::connection::For;
use crate::error::raised;
use crate::frame::{Frame, Placement};
use crate::mapped::Mapped;
use crate::opened::Opened;
use crate::pending::Pending;
use crate::picture::{kind, name};
use crate::slot::Slot;
use crate::waiting::{GivenUp, Limit, running_loop, when_cancelled};

/// Frames of one format and size that become frames of another. Closed when it was, or is gone, and
/// its slots, pendings and frames are.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Stream(Closable<Opened>);

impl Stream {
    pub(crate) fn new(opened: Arc<Opened>) -> Self {
        Self(Closable::new(opened))
    }
}

#[pymethods]
impl Stream {
    /// A free slot, waited for.
    #[pyo3(signature = (timeout=None))]
    fn loan(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Slot> {
        let opened = self.0.get()?;
        Ok(Slot::new(opened.loan(py, &Limit::of(timeout)?)?, opened))
    }

    /// A free slot if there is one.
    fn try_loan(&self) -> PyResult<Option<Slot>> {
        let opened = self.0.get()?;
        let loaned = opened.stream.get()?.try_loan().map_err(raised)?;
        Ok(loaned.map(|slot| Slot::new(slot, opened)))
    }

    /// Copies a frame into a free slot, and submits it.
    #[pyo3(signature = (array, timeout=None))]
    fn submit(
        &self,
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Pending> {
        let opened = self.0.get()?;
        let source = opened.source(array)?;
        let slot = opened.loan(py, &Limit::of(timeout)?)?;
        Pending::submit(py, slot, &source, &opened)
    }

    /// Resizes one array after another, several at once.
    fn map(&self, arrays: &Bound<'_, PyAny>) -> PyResult<Mapped> {
        Mapped::new(self.0.get()?, arrays)
    }

    /// Copies a frame into a free slot, submits it and waits.
    #[pyo3(signature = (array, timeout=None))]
    fn resize(&self, array: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Frame> {
        resized(&self.0.get()?, array, &Limit::of(timeout)?)
    }

    /// As `resize`, for coroutines: copies and waits in another thread, as long as the coroutine does.
    #[pyo3(signature = (array, timeout=None))]
    fn resize_async<'py>(
        &self,
        py: Python<'py>,
        array: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // In a forked child there are no threads in the pool, though it thinks so.
        let opened = self.0.get()?;
        opened.stream.get()?;
        let pool = opened.connection.pool(py, For::Slots)?;
        let given_up = GivenUp::default();
        let events = running_loop(py)?;
        let limit = Limit::of(timeout)?.unless(&given_up).within(&events);
        let array = array.unbind();
        let resize = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            resized(&opened, array.bind(arguments.py()), &limit)
        };
        let resize = PyCFunction::new_closure(py, None, None, resize)?;
        let future = events.call_method1("run_in_executor", (pool, resize))?;
        when_cancelled(&future, move || {
            given_up.set();
            Ok(())
        })?;
        Ok(future)
    }

    #[getter]
    fn source_format(&self) -> PyResult<&'static str> {
        Ok(name(self.0.get()?.spec.source.format))
    }

    #[getter]
    fn source_size(&self) -> PyResult<(u32, u32)> {
        Ok(size(self.0.get()?.spec.source.extent))
    }

    #[getter]
    fn format(&self) -> PyResult<&'static str> {
        Ok(name(self.0.get()?.spec.destination.format))
    }

    #[getter]
    fn size(&self) -> PyResult<(u32, u32)> {
        Ok(size(self.0.get()?.spec.destination.extent))
    }

    /// Whether it takes JPEGs.
    #[getter]
    fn jpeg_in(&self) -> PyResult<bool> {
        Ok(self.0.get()?.spec.coding.jpeg_in)
    }

    /// Whether its results are JPEGs.
    #[getter]
    fn jpeg_out(&self) -> PyResult<bool> {
        Ok(self.0.get()?.spec.coding.jpeg_out.is_some())
    }

    /// Frames that may be in flight or held at once.
    #[getter]
    fn slots(&self) -> PyResult<u32> {
        Ok(self.0.get()?.spec.slots)
    }

    /// Where the picture lies in frames that have no crop of their own.
    #[getter]
    fn placement(&self) -> PyResult<Placement> {
        let placed = self.0.get()?.spec.placement();
        placed
            .map(Placement)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
    }

    /// Closes it, with the last of its slots, pendings, frames and arrays.
    fn close(&self) {
        self.0.close();
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().0.get()?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        self.close();
    }

    fn __repr__(&self) -> String {
        let Ok(opened) = self.0.get() else { return "<resized.Stream closed>".into() };
        let StreamSpec { source, destination, coding, .. } = &opened.spec;
        let from = kind(source.format, coding.jpeg_in);
        let to = kind(destination.format, coding.jpeg_out.is_some());
        format!("<resized.Stream {} {from} to {} {to}>", source.extent, destination.extent)
    }
}

/// Resizes what is given for one of a stream's frames.
fn resized(opened: &Arc<Opened>, array: &Bound<'_, PyAny>, limit: &Limit) -> PyResult<Frame> {
    let (frame, copied) = opened.resize(array.py(), &opened.source(array)?, limit)?;
    Frame::new(frame, opened, copied)
}

const fn size(extent: Extent) -> (u32, u32) {
    (extent.width, extent.height)
}
