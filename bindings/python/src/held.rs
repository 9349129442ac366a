//! Owns what a loaned slot and a resized frame have in common as Python has them: their arrays, and
//! their end.
//!
//! Knows no more of either than its bytes and how they lie.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use resized_client::FrameLayout;

use crate::memory::{self, Leased, Lent};
use crate::picture::{Picture, kind, name};
use crate::source::Source;

/// A picture in a slot's memory.
pub(crate) struct Held<T> {
    pub(crate) lent: Arc<Lent<T>>,
    pub(crate) picture: Picture,
    layout: FrameLayout,
}

impl<T: Leased> Held<T> {
    pub(crate) fn new(leased: T, picture: Picture, layout: FrameLayout) -> Self {
        Self { lent: Arc::new(Lent::new(leased)), picture, layout }
    }

    /// The picture as one array, which shares its memory and keeps its slot.
    pub(crate) fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check_samples()?;
        let lie = self.picture.whole(&self.layout).ok_or_else(|| self.scattered())?;
        memory::array(py, &self.lent, self.picture.format, lie)
    }

    /// An array for each plane.
    pub(crate) fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.check_samples()?;
        PyTuple::new(py, memory::planes(py, &self.lent, self.picture.format, &self.layout)?)
    }

    /// Whether it is a JPEG, or for one.
    pub(crate) const fn is_jpeg(&self) -> bool {
        self.layout.is_coded()
    }

    /// A JPEG is no array, nor several.
    fn check_samples(&self) -> PyResult<()> {
        if self.is_jpeg() { Err(PyValueError::new_err(T::NO_ARRAYS)) } else { Ok(()) }
    }

    /// What is given for a picture like it.
    pub(crate) fn source(&self, given: &Bound<'_, PyAny>) -> PyResult<Source> {
        Source::of(given, self.picture, self.is_jpeg())
    }

    /// Frees the slot, unless that was done before.
    pub(crate) fn release(&self) -> PyResult<()> {
        if self.lent.is_gone() { Ok(()) } else { self.lent.take().map(drop) }
    }

    /// How a `with` ends: an exception that is under way, if there is one of that kind, is not
    /// hidden by one of ours. Arrays that are still there keep the slot, and free it as they go.
    pub(crate) fn leave(&self, kind: &Bound<'_, PyAny>) -> PyResult<()> {
        let released = self.release();
        if kind.is_none() { released } else { Ok(()) }
    }

    pub(crate) fn repr(&self, class: &str) -> String {
        format!(
            "<resized.{class} {} {}>",
            self.picture.extent,
            kind(self.picture.format, self.is_jpeg())
        )
    }

    /// Why there is no such array.
    fn scattered(&self) -> PyErr {
        self.picture.shape().err().unwrap_or_else(|| {
            PyValueError::new_err(format!(
                "the planes of a {} frame {} pixels wide do not lie together in its slot: use planes",
                name(self.picture.format),
                self.picture.extent.width,
            ))
        })
    }
}
