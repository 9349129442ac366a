//! Owns every address that Python and the slots share: views of a slot's frames that Python sees as
//! buffers, and copies from and into arrays.
//!
//! Knows no messages. A [`Lent`] keeps a slot or a frame as long as anybody sees its bytes, and
//! counts who does: each buffer that was given out and not given back, and thereby each numpy
//! array, tensor or memoryview made of one, of slices of one, and so on. Python can't take such a
//! view back, so what is seen is not taken.
//!
//! Invariants: while the count is not zero the slot's lease is in the `Lent`, and no reference to
//! the bytes is formed here; once the lease is out no buffer is given out any more. What other
//! threads do to an array while it is copied is theirs to answer for, as with numpy: nothing but
//! the bytes depends on it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::buffer::{ElementType, PyUntypedBuffer};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyMemoryView;
use resized_client::{Frame, FrameLayout, PixelFormat, Refusal, Slot};

use crate::error::raised;
use crate::ours::{Ours, forked};
use crate::picture::{Lie, Picture, Rows, element};

/// What has bytes in a slot that only its owner may touch, at an address that stays the same as
/// long as it is owned.
pub(crate) trait Leased: Send + 'static {
    /// What Python calls it.
    const NAME: &'static str;
    /// What Python is told where it is a JPEG, or for one, and arrays of it are asked for.
    const NO_ARRAYS: &'static str;

    fn bytes(&mut self) -> &mut [u8];
}

/// A slot or frame that Python may see.
pub(crate) struct Lent<T>(Mutex<State<T>>);

struct State<T> {
    leased: Lease<T>,
    start: NonNull<u8>,
    /// Buffers that are out.
    seen: usize,
}

enum Lease<T> {
    Here(Ours<T>),
    /// A thread copies into it, and puts it back.
    Written,
    Gone,
}

impl<T: Leased> Lease<T> {
    /// Itself, where it is here.
    fn here(&mut self) -> PyResult<&mut Ours<T>> {
        let name = T::NAME;
        let why = match self {
            Self::Here(leased) => return Ok(leased),
            Self::Written => format!("another thread writes this {name}: wait for it first"),
            Self::Gone => format!("this {name} was submitted or released"),
        };
        Err(PyValueError::new_err(why))
    }
}

// SAFETY: `start` is the address of memory that `leased` owns, and goes where that goes.
unsafe impl<T: Leased> Send for State<T> {}

impl<T: Leased> Lent<T> {
    pub(crate) fn new(mut leased: T) -> Self {
        let start = NonNull::from(leased.bytes()).cast();
        Self(Mutex::new(State { leased: Lease::Here(Ours::new(leased)), start, seen: 0 }))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it out, unless its bytes are seen or it was taken before.
    pub(crate) fn take(&self) -> PyResult<T> {
        self.taken(Lease::Gone)
    }

    fn taken(&self, left: Lease<T>) -> PyResult<T> {
        let mut state = self.state();
        let seen = state.seen;
        let leased = state.leased.here()?;
        // In a forked child it stays where it is, and is seen as before.
        leased.get()?;
        if seen > 0 {
            return Err(PyBufferError::new_err(format!(
                "the {}'s memory is still seen by {seen} array(s) or other views: delete them first",
                T::NAME,
            )));
        }
        let taken = leased.take().ok_or_else(forked)?;
        state.leased = left;
        Ok(taken)
    }

    /// Has it written without the interpreter's lock, and by nobody else meanwhile.
    pub(crate) fn write<R: Send>(
        &self,
        py: Python<'_>,
        write: impl FnOnce(&mut T) -> R + Send,
    ) -> PyResult<R> {
        let mut leased = self.taken(Lease::Written)?;
        let written = py.detach(|| write(&mut leased));
        let start = NonNull::from(leased.bytes()).cast();
        *self.state() = State { leased: Lease::Here(Ours::new(leased)), start, seen: 0 };
        Ok(written)
    }

    /// For what touches no byte of it, unless it is one that has no arrays.
    pub(crate) fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        Ok(with(self.state().leased.here()?.get_mut()?))
    }

    /// Whether it was given away for good.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state().leased, Lease::Gone)
    }
}

/// A [`Lent`] of any kind.
trait Owner: Send + Sync {
    /// The first of its bytes, which are seen from here on.
    fn show(&self) -> PyResult<NonNull<u8>>;

    /// One sees them no more.
    fn hide(&self);
}

impl<T: Leased> Owner for Lent<T> {
    fn show(&self) -> PyResult<NonNull<u8>> {
        let mut state = self.state();
        state.leased.here()?;
        state.seen += 1;
        Ok(state.start)
    }

    fn hide(&self) {
        self.state().seen -= 1;
    }
}

/// A part of a slot's memory as a buffer of Python's (PEP 3118): what arrays are made of.
#[pyclass(frozen, module = "resized", name = "View")]
pub(crate) struct View {
    owner: Arc<dyn Owner>,
    lie: Lie,
    letter: &'static CStr,
    item: usize,
}

impl View {
    fn len(&self) -> isize {
        self.lie.shape.iter().product::<isize>() * self.item.cast_signed()
    }

    /// Whether it can be seen as it was asked for.
    fn check(&self, flags: c_int) -> PyResult<()> {
        let asked = |flag| flags & flag == flag;
        let dense = asked(ffi::PyBUF_C_CONTIGUOUS)
            || asked(ffi::PyBUF_ANY_CONTIGUOUS)
            || !asked(ffi::PyBUF_STRIDES);
        if asked(ffi::PyBUF_F_CONTIGUOUS) {
            return Err(PyBufferError::new_err(
                "frames lie in memory row by row, not column by column",
            ));
        }
        if dense && !self.lie.is_dense(self.item) {
            return Err(PyBufferError::new_err("there is padding between the rows of this frame"));
        }
        Ok(())
    }
}

#[pymethods]
impl View {
    /// # Safety
    ///
    /// Called by Python alone, with what it promises of `view` and `flags`.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let asked = |flag| flags & flag == flag;
        // SAFETY: Python gives a buffer to fill, and wants this where it is not.
        unsafe { (*view).obj = ptr::null_mut() };
        this.check(flags)?;
        let start = this.owner.show()?;
        // Python changes neither, whatever their type says.
        let numbers = |numbers: &Vec<isize>| numbers.as_ptr().cast_mut();
        // SAFETY: the buffer is ours to fill. The array lies within the frame that starts at
        // `start`: its lie is of that frame's layout. Shape, strides and letter live as long as
        // `slf`, which the buffer keeps; `show` keeps the memory until `__releasebuffer__`.
        unsafe {
            (*view).buf = start.add(this.lie.offset).as_ptr().cast();
            (*view).len = this.len();
            (*view).readonly = 0;
            (*view).itemsize = this.item.cast_signed();
            (*view).format = match asked(ffi::PyBUF_FORMAT) {
                true => this.letter.as_ptr().cast_mut(),
                false => ptr::null_mut(),
            };
            let shaped = asked(ffi::PyBUF_ND);
            (*view).ndim = if shaped { this.lie.shape.len() as c_int } else { 1 };
            (*view).shape = if shaped { numbers(&this.lie.shape) } else { ptr::null_mut() };
            (*view).strides = match asked(ffi::PyBUF_STRIDES) {
                true => numbers(&this.lie.strides),
                false => ptr::null_mut(),
            };
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by Python alone, once for each buffer.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.owner.hide();
    }
}

/// An array that shares a part of the memory of a slot or frame, and keeps it.
pub(crate) fn array<'py, T: Leased>(
    py: Python<'py>,
    owner: &Arc<Lent<T>>,
    format: PixelFormat,
    lie: Lie,
) -> PyResult<Bound<'py, PyAny>> {
    let owner = Arc::clone(owner) as Arc<dyn Owner>;
    let (letter, item) = (element(format).1, format.sample_bytes());
    let view = Bound::new(py, View { owner, lie, letter, item })?;
    // First a memoryview: of what refuses to be a buffer numpy would make an array of one object.
    as_array(PyMemoryView::from(view.as_any())?.as_any())
}

/// `numpy.asarray`.
pub(crate) fn as_array<'py>(thing: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    AS_ARRAY.import(thing.py(), "numpy", "asarray")?.call1((thing,))
}

/// An array of Python's own, held where it is, whose planes' rows are known.
pub(crate) struct Array {
    buffer: PyUntypedBuffer,
    rows: Vec<Rows>,
    picture: Picture,
    /// Bytes that were copied to have their rows together.
    copied: usize,
}

impl Array {
    /// The frame, of that format if one is named, in an array or what numpy makes one of.
    pub(crate) fn of(thing: &Bound<'_, PyAny>, format: Option<PixelFormat>) -> PyResult<Self> {
        match PyUntypedBuffer::get(thing) {
            Ok(buffer) if buffer.suboffsets().is_none() => Self::in_buffer(thing, buffer, format),
            _ => {
                let array = as_array(thing)?;
                let shape = array.getattr("shape")?.extract::<Vec<usize>>()?;
                // numpy makes one of anything, of no dimension.
                if shape.is_empty() {
                    let kind = thing.get_type().name()?;
                    return Err(PyTypeError::new_err(format!("a frame is an array, not {kind}")));
                }
                // First by its shape: not all that numpy makes are buffers.
                Picture::of(format, &shape)?;
                Self::in_buffer(&array, PyUntypedBuffer::get(&array)?, format)
            }
        }
    }

    fn in_buffer(
        array: &Bound<'_, PyAny>,
        buffer: PyUntypedBuffer,
        format: Option<PixelFormat>,
    ) -> PyResult<Self> {
        let picture = Picture::of(format, buffer.shape())?;
        check_numbers(array.py(), &buffer, picture.format)?;
        if let Some(rows) = picture.rows(buffer.strides()) {
            return Ok(Self { buffer, rows, picture, copied: 0 });
        }
        // What no daemon would take may be larger than memory: an array of one number, with strides
        // of zero.
        FrameLayout::new(picture.format, picture.extent)
            .map_err(|error| raised(Refusal::Source(error).into()))?;
        // Such as channels in another order, by a step of -1.
        static DENSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let dense = DENSE.import(array.py(), "numpy", "ascontiguousarray")?.call1((array,))?;
        let buffer = PyUntypedBuffer::get(&dense)?;
        let rows =
            picture.rows(buffer.strides()).ok_or_else(|| PyTypeError::new_err("no array"))?;
        let copied = buffer.len_bytes();
        Ok(Self { buffer, rows, picture, copied })
    }

    /// A new one, of whatever bytes.
    pub(crate) fn new<'py>(
        py: Python<'py>,
        picture: Picture,
    ) -> PyResult<(Self, Bound<'py, PyAny>)> {
        static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let made = (picture.shape()?, element(picture.format).0);
        let array = EMPTY.import(py, "numpy", "empty")?.call1(made)?;
        Ok((Self::in_tensor(PyUntypedBuffer::get(&array)?, picture)?, array))
    }

    fn in_tensor(buffer: PyUntypedBuffer, picture: Picture) -> PyResult<Self> {
        let rows =
            picture.rows(buffer.strides()).ok_or_else(|| PyTypeError::new_err("no array"))?;
        Ok(Self { buffer, rows, picture, copied: 0 })
    }

    pub(crate) const fn picture(&self) -> Picture {
        self.picture
    }

    fn start(&self) -> *mut u8 {
        self.buffer.buf_ptr().cast()
    }

    /// Copies it into a slot for frames like it. Returns how many bytes of it have been copied by now.
    pub(crate) fn write_to(&self, slot: &mut Slot) -> usize {
        let layout = slot.layout().clone();
        let mut copied = self.copied;
        for (index, (plane, rows)) in layout.planes().iter().zip(&self.rows).enumerate() {
            let (bytes, count) = (rows.bytes.min(plane.row_bytes()), rows.count.min(plane.rows()));
            let target = slot.plane_mut(index);
            copied += bytes * count;
            if rows.stride == plane.stride.cast_signed() && bytes == plane.stride {
                let target = &mut target[..bytes * count];
                // SAFETY: the array's rows lie where `Picture::rows` found them by its shape and
                // strides, `count` of `bytes` each and here without a gap; the buffer keeps the
                // array. The slot is loaned: its bytes are in no array.
                unsafe {
                    let source = self.start().offset(rows.offset);
                    ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
                }
                continue;
            }
            for (row, target) in target.chunks_exact_mut(plane.stride).take(count).enumerate() {
                let target = &mut target[..bytes];
                // SAFETY: as above, one row.
                unsafe {
                    let source = self.start().offset(rows.offset + rows.stride * row.cast_signed());
                    ptr::copy_nonoverlapping(source, target.as_mut_ptr(), bytes);
                }
            }
        }
        copied
    }

    /// Copies a frame like it into it, which nobody else has seen yet. Returns how many bytes.
    pub(crate) fn read_from(&self, frame: &Frame) -> usize {
        let mut copied = 0;
        for (index, (plane, rows)) in frame.layout().planes().iter().zip(&self.rows).enumerate() {
            let (bytes, count) = (rows.bytes.min(plane.row_bytes()), rows.count.min(plane.rows()));
            copied += bytes * count;
            let source = frame.plane(index).chunks_exact(plane.stride).take(count);
            for (row, source) in source.enumerate() {
                let source = &source[..bytes];
                // SAFETY: as in `write_to`, the other way.
                unsafe {
                    let target = self.start().offset(rows.offset + rows.stride * row.cast_signed());
                    ptr::copy_nonoverlapping(source.as_ptr(), target, bytes);
                }
            }
        }
        copied
    }
}

/// Whether an array is of numbers as the format has them.
fn check_numbers(py: Python<'_>, buffer: &PyUntypedBuffer, format: PixelFormat) -> PyResult<()> {
    let bytes = format.sample_bytes();
    let letters = buffer.format();
    let swapped = matches!(letters.to_bytes(), [b'>' | b'!', ..]) && bytes > 1;
    let unsigned = ElementType::UnsignedInteger { bytes };
    if ElementType::from_format(letters) == unsigned && !swapped {
        return Ok(());
    }
    let letters = letters.to_string_lossy();
    let found = numpy_name(py, &letters).unwrap_or_else(|_| format!("'{letters}'"));
    let hint = match (swapped, found.starts_with("float") && bytes == 1) {
        (true, _) => " of the other byte order",
        (_, true) => " (if it is from 0 to 1, multiply by 255, and convert)",
        _ => "",
    };
    let (name, wanted) = (crate::picture::name(format), element(format).0);
    Err(PyTypeError::new_err(format!("arrays of {name} frames hold {wanted}, not {found}{hint}")))
}

/// numpy's name for numbers that the struct module has letters for.
fn numpy_name(py: Python<'_>, letters: &str) -> PyResult<String> {
    py.import("numpy")?.call_method1("dtype", (letters,))?.getattr("name")?.extract()
}

/// The arrays of a frame's planes.
pub(crate) fn planes<'py, T: Leased>(
    py: Python<'py>,
    owner: &Arc<Lent<T>>,
    format: PixelFormat,
    layout: &FrameLayout,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let lies = Picture::planes(layout).into_iter();
    lies.map(|lie| array(py, owner, format, lie)).collect()
}
