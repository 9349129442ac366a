//! Owns a loaned slot as Python has it: written as an array, submitted as a pending.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use resized_client::Crop;

use crate::error::raised;
use crate::held::Held;
use crate::memory::Leased;
use crate::opened::Opened;
use crate::pending::Pending;

/// A slot with what must live as long as it does.
pub(crate) struct Loaned {
    // Declared, and so dropped, before the connection that it tells.
    slot: resized_client::Slot,
    /// Bytes copied into it.
    copied: usize,
    opened: Arc<Opened>,
}

impl Leased for Loaned {
    const NAME: &'static str = "slot";
    const NO_ARRAYS: &'static str = "this slot takes a JPEG: use write";

    fn bytes(&mut self) -> &mut [u8] {
        self.slot.input_mut()
    }
}

/// A free slot, to be written and submitted.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Slot(Held<Loaned>);

impl Slot {
    pub(crate) fn new(slot: resized_client::Slot, opened: Arc<Opened>) -> Self {
        let (layout, picture) = (slot.layout().clone(), opened.taken());
        Self(Held::new(Loaned { slot, copied: 0, opened }, picture, layout))
    }
}

#[pymethods]
impl Slot {
    /// The source frame as one array, to be written: it shares the slot's memory.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.array(py)
    }

    /// An array for each plane.
    #[getter]
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.0.planes(py)
    }

    /// Copies a frame into the slot, without the interpreter's lock: it can't be used meanwhile.
    /// `BufferError` while arrays share its memory.
    fn write(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<()> {
        let source = self.0.source(array)?;
        let write = |loaned: &mut Loaned| {
            loaned.copied += source.write_to(&mut loaned.slot)?;
            Ok(())
        };
        self.0.lent.write(py, write)?.map_err(raised)
    }

    /// Has a part of this frame resized in place of the stream's crop. `Refused` if it is not within
    /// the frame.
    #[pyo3(signature = (left, top, width, height))]
    fn set_crop(&self, left: f64, top: f64, width: f64, height: f64) -> PyResult<()> {
        let crop = Crop { left, top, width, height };
        self.0.lent.with(|loaned| loaned.slot.set_crop(crop))?.map_err(raised)
    }

    /// Gives the slot to the daemon. `BufferError` while arrays share its memory.
    pub(crate) fn submit(&self, py: Python<'_>) -> PyResult<Pending> {
        let Loaned { slot, copied, opened } = self.0.lent.take()?;
        let pending = py.detach(|| slot.submit()).map_err(raised)?;
        opened.connection.count(copied);
        Ok(Pending::new(pending, opened, copied))
    }

    /// Frees the slot. `BufferError` while arrays share its memory.
    fn release(&self) -> PyResult<()> {
        self.0.release()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.0.leave(kind)
    }

    fn __repr__(&self) -> String {
        self.0.repr("Slot")
    }
}
