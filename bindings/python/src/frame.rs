//! Owns what Python gets of a resized frame: its arrays, where the picture lies, how it was done.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use resized_client::{Extent, Placement as Placed};

use crate::held::Held;
use crate::memory::{self, Leased, Lent};
use crate::opened::Opened;
use crate::picture::Lie;

/// A frame with what must live as long as it does.
pub(crate) struct Resized {
    // Declared, and so dropped, before the connection that it tells.
    frame: resized_client::Frame,
    _opened: Arc<Opened>,
    _shares: Option<(Share, Share)>,
}

/// One of the results that may be seen at the same time.
pub(crate) type Share = Arc<()>;

/// One more, if there are not yet as many as that.
pub(crate) fn share(taken: &Share, most: u32) -> Option<Share> {
    // Taken, and then counted, beside the one that is `taken`: of several threads none takes one
    // too many.
    let share = Arc::clone(taken);
    (Arc::strong_count(&share) <= most as usize + 1).then_some(share)
}

impl Leased for Resized {
    const NAME: &'static str = "frame";
    const NO_ARRAYS: &'static str = "this frame is a JPEG: use jpeg";

    fn bytes(&mut self) -> &mut [u8] {
        self.frame.output_mut()
    }
}

/// A resized frame, in memory shared with the daemon.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Frame {
    held: Held<Resized>,
    placement: Placed,
    receipt: resized_client::Receipt,
    /// As it is called when the frame is had; afterwards that may not be known any more.
    device: Option<String>,
    copied: usize,
}

impl Frame {
    /// One for which so many bytes have been copied.
    pub(crate) fn new(
        frame: resized_client::Frame,
        opened: &Arc<Opened>,
        copied: usize,
    ) -> PyResult<Self> {
        opened.connection.client.get()?; // a forked child asks nobody
        let layout = frame.layout().clone();
        let (placement, receipt, device) = (frame.placement(), frame.receipt(), frame.device());
        let resized = Resized { frame, _opened: Arc::clone(opened), _shares: None };
        let held = Held::new(resized, opened.made(), layout);
        Ok(Self { held, placement, receipt, device, copied })
    }
}

/// The frame as an array that shares its memory, where it is one there without a gap; else the frame.
pub(crate) fn seen<'py>(
    py: Python<'py>,
    frame: resized_client::Frame,
    opened: &Arc<Opened>,
    shares: (Share, Share),
) -> PyResult<Result<Bound<'py, PyAny>, resized_client::Frame>> {
    let picture = opened.made();
    let dense = |lie: &Lie| lie.is_dense(picture.format.sample_bytes());
    let Some(lie) = picture.whole(frame.layout()).filter(dense) else { return Ok(Err(frame)) };
    let resized = Resized { frame, _opened: Arc::clone(opened), _shares: Some(shares) };
    memory::array(py, &Arc::new(Lent::new(resized)), picture.format, lie).map(Ok)
}

#[pymethods]
impl Frame {
    /// The frame as one array, which shares its memory and keeps its slot.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.held.array(py)
    }

    /// An array for each plane.
    #[getter]
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.held.planes(py)
    }

    /// The frame as the bytes of a JPEG, copied.
    #[getter]
    fn jpeg<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        if !self.held.is_jpeg() {
            return Err(PyValueError::new_err(
                "this frame is no JPEG: use array, or open the stream with jpeg_out=True",
            ));
        }
        self.held.lent.with(|resized| PyBytes::new(py, resized.frame.jpeg()))
    }

    /// Where the picture lies, and how points in it are mapped back.
    #[getter]
    const fn placement(&self) -> Placement {
        Placement(self.placement)
    }

    /// Who resized it, and how long that took.
    #[getter]
    fn receipt(&self) -> Receipt {
        Receipt {
            device: self.device.clone(),
            queued: self.receipt.queued.as_secs_f64(),
            worked: self.receipt.worked.as_secs_f64(),
            copied_bytes: self.copied,
        }
    }

    /// Frees the slot. `BufferError` while arrays share its memory.
    fn release(&self) -> PyResult<()> {
        self.held.release()
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
        self.held.leave(kind)
    }

    fn __repr__(&self) -> String {
        self.held.repr("Frame")
    }
}

/// How a frame was resized.
#[pyclass(frozen, get_all, module = "resized")]
pub(crate) struct Receipt {
    /// Name of the device, unless its daemon was gone when the frame was had.
    device: Option<String>,
    /// Seconds from submission until it took the frame.
    queued: f64,
    /// Seconds from then until it was done.
    worked: f64,
    /// Bytes of pixels that were copied in this process for this frame.
    copied_bytes: usize,
}

#[pymethods]
impl Receipt {
    fn __repr__(&self) -> String {
        let Self { device, queued, worked, copied_bytes } = self;
        let device = device.as_ref().map_or("None".into(), |name| format!("{name:?}"));
        format!(
            "<resized.Receipt device={device} queued={queued:.6} worked={worked:.6} copied_bytes={copied_bytes}>"
        )
    }
}

/// Which part of the source became which part of the resized frame.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Placement(pub(crate) Placed);

#[pymethods]
impl Placement {
    /// What is seen of the source, in its pixels: left, top, width, height.
    #[getter]
    const fn source(&self) -> (f64, f64, f64, f64) {
        let crop = self.0.source;
        (crop.left, crop.top, crop.width, crop.height)
    }

    /// Where it is seen in the resized frame: left, top, width, height. Around it is padding.
    #[getter]
    const fn destination(&self) -> (u32, u32, u32, u32) {
        let Extent { width, height } = self.0.destination.extent;
        (self.0.destination.left, self.0.destination.top, width, height)
    }

    /// Where points of the resized frame lie in the source: x and y, numbers or arrays or lists of
    /// them, in pixels from the upper left corner.
    fn to_source<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        y: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (crop, rectangle) = (self.0.source, self.0.destination);
        let map = |at: &Bound<'py, PyAny>, from: u32, len: u32, start: f64, side: f64| {
            let is_list = at.is_instance_of::<PyList>() || at.is_instance_of::<PyTuple>();
            let at = if is_list { memory::as_array(at)? } else { at.clone() };
            at.sub(f64::from(from))?.mul(side)?.div(f64::from(len))?.add(start)
        };
        Ok((
            map(x, rectangle.left, rectangle.extent.width, crop.left, crop.width)?,
            map(y, rectangle.top, rectangle.extent.height, crop.top, crop.height)?,
        ))
    }

    fn __repr__(&self) -> String {
        let (source, destination) = (self.source(), self.destination());
        format!("<resized.Placement source={source:?} destination={destination:?}>")
    }
}
