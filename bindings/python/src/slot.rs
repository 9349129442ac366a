//! Owns a loaned slot as Python has it: written as an array, submitted as a pending.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use resized_client::{Crop, FrameLayout};

use crate::error::raised;
use crate::frame::{leave, scattered};
use crate::memory::{self, Array, Leased, Lent};
use crate::pending::Pending;
use crate::picture::{Picture, name};
use crate::stream::Opened;

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

    fn bytes(&mut self) -> &mut [u8] {
        self.slot.input_mut()
    }
}

/// A free slot, to be written and submitted.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Slot {
    lent: Arc<Lent<Loaned>>,
    layout: FrameLayout,
    picture: Picture,
}

impl Slot {
    pub(crate) fn new(slot: resized_client::Slot, opened: Arc<Opened>) -> Self {
        let (layout, picture) = (slot.layout().clone(), opened.taken());
        Self { lent: Arc::new(Lent::new(Loaned { slot, copied: 0, opened })), layout, picture }
    }
}

#[pymethods]
impl Slot {
    /// The source frame as one array, to be written: it shares the slot's memory.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lie = self.picture.whole(&self.layout).ok_or_else(|| scattered(&self.picture))?;
        memory::array(py, &self.lent, self.picture.format, lie)
    }

    /// An array for each plane.
    #[getter]
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, memory::planes(py, &self.lent, self.picture.format, &self.layout)?)
    }

    /// Copies a frame into the slot, without the interpreter's lock.
    fn write(&self, py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<()> {
        let array = Array::of(array, Some(self.picture.format))?;
        self.picture.check(array.picture())?;
        let mut loaned = self.lent.take()?;
        let copied = py.detach(|| array.write_to(&mut loaned.slot));
        loaned.copied += copied;
        self.lent.put_back(loaned);
        Ok(())
    }

    /// Has a part of this frame resized in place of the stream's crop.
    #[pyo3(signature = (left, top, width, height))]
    fn set_crop(&self, left: f64, top: f64, width: f64, height: f64) -> PyResult<()> {
        let crop = Crop { left, top, width, height };
        self.lent.change(|loaned| loaned.slot.set_crop(crop))?.map_err(raised)
    }

    /// Gives the slot to the daemon. `BufferError` while arrays share its memory.
    pub(crate) fn submit(&self, py: Python<'_>) -> PyResult<Pending> {
        let Loaned { slot, copied, opened } = self.lent.take()?;
        let pending = py.detach(|| slot.submit()).map_err(raised)?;
        opened.connection.count(copied);
        Ok(Pending::new(pending, opened, copied))
    }

    /// Frees the slot. `BufferError` while arrays share its memory.
    fn release(&self) -> PyResult<()> {
        if self.lent.is_here() { self.lent.take().map(drop) } else { Ok(()) }
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
        leave(self.release(), kind)
    }

    fn __repr__(&self) -> String {
        format!("<resized.Slot {} {}>", self.picture.extent, name(self.picture.format))
    }
}
