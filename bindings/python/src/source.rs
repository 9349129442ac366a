//! Owns what a caller gives for a frame: an array of its samples, or a JPEG where the stream takes those.
//!
//! Knows how either gets into a slot, and parses no JPEG: whether it is one is the bridge's to say. Its bytes
//! are copied where Python could change them meanwhile.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView};
use resized_client::{Error, Slot};

use crate::memory::Array;
use crate::picture::Picture;

/// A frame to be resized, as the caller has it.
pub(crate) enum Source {
    Samples(Array),
    Jpeg(PyBackedBytes),
}

impl Source {
    /// What is given for such a frame: a JPEG, or an array like it.
    pub(crate) fn of(thing: &Bound<'_, PyAny>, wanted: Picture, is_jpeg: bool) -> PyResult<Self> {
        if is_jpeg {
            return jpeg(thing).map(Self::Jpeg);
        }
        let array = Array::of(thing, Some(wanted.format))?;
        wanted.check(array.picture())?;
        Ok(Self::Samples(array))
    }

    /// Copies it into a slot for frames like it. Returns how many bytes of it have been copied by now.
    pub(crate) fn write_to(&self, slot: &mut Slot) -> Result<usize, Error> {
        match self {
            Self::Samples(array) => Ok(array.write_to(slot)),
            Self::Jpeg(bytes) => slot.write_jpeg(bytes).map(|()| bytes.len()),
        }
    }
}

/// The bytes of what should be a JPEG's.
fn jpeg(thing: &Bound<'_, PyAny>) -> PyResult<PyBackedBytes> {
    if let Ok(bytes) = thing.cast::<PyBytes>() {
        return Ok(bytes.clone().into());
    }
    let wrong = |found: String| {
        PyTypeError::new_err(format!("this stream takes JPEGs, which are bytes, not {found}"))
    };
    let view = match PyMemoryView::from(thing) {
        Ok(view) => view,
        Err(error) if error.is_instance_of::<PyTypeError>(thing.py()) => {
            return Err(wrong(thing.get_type().name()?.to_string()));
        }
        Err(error) => return Err(error),
    };
    let shape = view.getattr("shape")?;
    if shape.len()? != 1 || view.getattr("itemsize")?.extract::<usize>()? != 1 {
        return Err(wrong(format!("an array of shape {shape}")));
    }
    Ok(view.call_method0("tobytes")?.cast_into::<PyBytes>()?.into())
}
