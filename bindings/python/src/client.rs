//! Owns the client as Python has it: resizing in one call, opening streams, and figures.
//!
//! Results of `resize` are seen where they lie as long as the stream has slots to go on with, few
//! streams are held by them, they are a fair part of what they hold, and their rows follow each other
//! there; all else is copied. So who keeps all results neither waits for a slot nor fills the
//! daemon's memory, and each result is an array without gaps, as numpy makes them.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use resized_anywhere::EMBEDDED;
use resized_client::{DeviceStats, FrameLayout, FrameSpec, StreamSpec};

use crate::closable::Closable;
use crate::connection::Connected;
use crate::error::raised;
use crate::frame::{Share, seen, share};
use crate::kept::{KEPT_SLOTS, Kept};
use crate::memory::Array;
use crate::options::{Options, Size, format, source_extent};
use crate::picture::Picture;
use crate::source::Source;
use crate::stream::Stream;
use crate::waiting::Limit;

/// Results of each that may be seen at once: a loop has the last one when it asks for the next.
const SEEN: u32 = 2;

/// Results of all together: they keep whole rings, of closed streams too.
const ALL_SEEN: u32 = 8;

/// What is seen is no less than this part of its slot: less is copied in no time, and would keep many
/// times its own bytes.
const FAIR: usize = 16;

/// A connection to a daemon.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Client(Closable<Open>);

struct Open {
    kept: Kept,
    /// There is one more for each result that is seen, of all streams.
    seen: Share,
    connected: Arc<Connected>,
}

#[pymethods]
impl Client {
    /// Connects to the daemon at `endpoint`: the one that runs if it is not given, else one in this
    /// process.
    #[new]
    #[pyo3(signature = (endpoint=None, *, reconnect=30.0))]
    fn new(py: Python<'_>, endpoint: Option<&str>, reconnect: f64) -> PyResult<Self> {
        let connected = Arc::new(Connected::at(py, endpoint, reconnect)?);
        let open = Open { kept: Kept::default(), seen: Arc::default(), connected };
        Ok(Self(Closable::new(Arc::new(open))))
    }

    /// Resizes one frame to `size`, width and height; (640, None) is as high as the frame's shape has
    /// it. `format` is the array's; without one it is "gray", "rgb" or "rgba" by its shape.
    ///
    #[doc = include_str!("options.txt")]
    #[pyo3(signature = (array, size, format=None, **options))]
    fn resize<'py>(
        &self,
        py: Python<'py>,
        array: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        format: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let format = format.map(self::format).transpose()?;
        let array = Array::of(array, format)?;
        let size = Size::of(size)?;
        let spec = Options::of(options)?.asked(array.picture(), size, KEPT_SLOTS)?;
        if !spec.coding.is_raw() {
            return Err(PyValueError::new_err("jpeg_in= and jpeg_out= are for Client.stream"));
        }
        let result = Picture { format: spec.destination.format, extent: spec.destination.extent };
        // Before anything is done for what can't be given.
        result.shape()?;
        let open = self.0.get()?;
        let kept = open.kept.stream(py, &open.connected, spec)?;
        let (mut frame, _) = kept.opened.resize(py, &Source::Samples(array), &Limit::default())?;
        let spare = kept.opened.spec.slots - 1;
        let of_stream = share(&kept.seen, SEEN.min(spare)).filter(|_| is_fair(&spec));
        if let Some(of_stream) = of_stream
            && let Some(of_client) = share(&open.seen, ALL_SEEN)
        {
            let shares = (of_stream, of_client);
            frame = match seen(py, frame, &kept.opened, shares)? {
                Ok(array) => return Ok(array),
                Err(frame) => frame,
            };
        }
        let (target, array) = Array::new(py, result)?;
        let copied = py.detach(|| {
            let copied = target.read_from(&frame);
            drop(frame);
            copied
        });
        open.connected.count(copied);
        Ok(array)
    }

    /// Opens a stream: frames of one format and size that become frames of another.
    ///
    #[doc = include_str!("options.txt")]
    #[pyo3(signature = (source_format, source_size, size, **options))]
    fn stream(
        &self,
        py: Python<'_>,
        source_format: &Bound<'_, PyAny>,
        source_size: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Stream> {
        let extent = source_extent(source_size)?;
        let source = Picture { format: format(source_format)?, extent };
        let size = Size::of(size)?;
        let spec = Options::of(options)?.asked(source, size, StreamSpec::SLOTS)?;
        let open = self.0.get()?;
        open.kept.open(py, &open.connected, spec).map(Stream::new)
    }

    /// Where the daemon is; `None`: in this process.
    #[getter]
    fn endpoint(&self) -> PyResult<Option<String>> {
        Ok(self.0.get()?.connected.endpoint.as_ref().map(ToString::to_string))
    }

    /// Names of the daemon's devices.
    #[getter]
    fn devices(&self) -> PyResult<Vec<String>> {
        Ok(self.0.get()?.connected.client.get()?.devices().to_vec())
    }

    /// Bytes of pixels that this client has copied in this process.
    #[getter]
    fn copied_bytes(&self) -> PyResult<u64> {
        Ok(self.0.get()?.connected.copied())
    }

    /// What the daemon has done since it started.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.0.get()?;
        let client = open.connected.client.get()?;
        let stats = py.detach(|| client.stats()).map_err(raised)?;
        let figures = PyDict::new(py);
        figures.set_item("sessions", stats.sessions)?;
        figures.set_item("streams", stats.streams)?;
        figures.set_item("ring_bytes", stats.ring_bytes)?;
        figures.set_item("queued", stats.queued)?;
        figures.set_item("refused", stats.refused)?;
        figures.set_item("copied_bytes", stats.copied_bytes)?;
        let devices = PyList::empty(py);
        for device in &stats.devices {
            devices.append(figures_of(py, device)?)?;
        }
        figures.set_item("devices", devices)?;
        Ok(figures)
    }

    /// Closes it, and the connection with the last of its streams, their frames and arrays.
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
        let endpoint = self.endpoint();
        let endpoint = endpoint.as_ref().map(|it| it.as_deref().unwrap_or(EMBEDDED));
        format!("<resized.Client {}>", endpoint.unwrap_or("closed"))
    }
}

/// Whether a result is worth the ring that it keeps.
fn is_fair(spec: &StreamSpec) -> bool {
    let len = |frame: &FrameSpec| {
        FrameLayout::new(frame.format, frame.extent).map_or(0, |layout| layout.packed_len())
    };
    len(&spec.destination) >= (len(&spec.source) + len(&spec.destination)) / FAIR
}

fn figures_of<'py>(py: Python<'py>, device: &DeviceStats) -> PyResult<Bound<'py, PyDict>> {
    let figures = PyDict::new(py);
    figures.set_item("name", &device.name)?;
    figures.set_item("frames", device.frames)?;
    figures.set_item("failed", device.failed)?;
    figures.set_item("pixels", device.pixels)?;
    figures.set_item("busy", Duration::from_nanos(device.busy_ns).as_secs_f64())?;
    figures.set_item("copied_bytes", device.copied_bytes)?;
    Ok(figures)
}
