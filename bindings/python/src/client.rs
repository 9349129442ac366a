//! Owns the connection to a daemon as Python has it, and the streams that `resize` keeps open.
//!
//! The daemon is the one that Rust's clients find, or one in this process where none runs: one for all of its
//! clients, as long as there are any. Results of `resize` are seen where they lie as long as the stream has slots to
//! go on with, and few streams are held by them; what comes then is copied. So who keeps all results neither waits
//! for a slot nor fills the daemon's memory. And no picture is refused for what is kept for others.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use resized::{Server, ServerError};
use resized_client::{DeviceStats, Endpoint, EndpointError, Error, Reconnect, Refusal, StreamSpec};

use crate::error::{not_embedded, nowhere, raised};
use crate::frame::{Share, seen};
use crate::memory::Array;
use crate::options::{Options, extent, format};
use crate::ours::Ours;
use crate::pending::Limit;
use crate::picture::Picture;
use crate::stream::{Opened, Stream};

/// Streams that `resize` keeps open: of so many kinds of calls, the last.
const KEPT: usize = 8;

/// Slots of each, from its second frame on.
const KEPT_SLOTS: u32 = 4;

/// Results of each that may be seen at once: a loop has the last one when it asks for the next.
const SEEN: u32 = 2;

/// Results of all together: they keep whole rings, of closed streams too.
const ALL_SEEN: u32 = 8;

/// What is given for an endpoint to have the daemon in this process.
const EMBEDDED: &str = "embedded";

/// Threads of each kind that coroutines may have waiting.
const WAITERS: u32 = 32;

/// What threads wait for in a coroutine's stead.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// The daemon alone, which goes on whatever others wait for.
    Frames,
    /// Others, too, to be done with a slot: these must not be kept from it by there being no thread to wait for
    /// their frames.
    Slots,
}

/// A connection, shared by all that came of it.
pub(crate) struct Connected {
    // Declared, and so dropped, before the daemon that it is to.
    pub(crate) client: Ours<resized_client::Client>,
    endpoint: Option<Endpoint>,
    _server: Option<Ours<Arc<Server>>>,
    copied: AtomicU64,
    pools: [PyOnceLock<Py<PyAny>>; 2],
}

impl Connected {
    /// Notes bytes of pixels that were copied.
    pub(crate) fn count(&self, copied: usize) {
        self.copied.fetch_add(copied as u64, Ordering::Relaxed);
    }

    /// Threads that wait for coroutines.
    pub(crate) fn pool<'py>(&self, py: Python<'py>, what: For) -> PyResult<Bound<'py, PyAny>> {
        let make = || {
            let executor = py.import("concurrent.futures")?.getattr("ThreadPoolExecutor")?;
            PyResult::Ok(executor.call1((WAITERS, "resized"))?.unbind())
        };
        Ok(self.pools[what as usize].get_or_try_init(py, make)?.bind(py).clone())
    }
}

/// A stream that `resize` keeps.
struct Kept {
    opened: Arc<Opened>,
    /// Its results that are seen.
    seen: Arc<AtomicU32>,
    /// The daemon did not grant it more slots.
    all_there_are: AtomicBool,
}

/// A connection to a daemon.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Client {
    /// The last used last.
    kept: Mutex<Vec<Arc<Kept>>>,
    /// Results that are seen, of all streams.
    seen: Arc<AtomicU32>,
    connected: Arc<Connected>,
}

impl Client {
    /// The kept stream of that spec, opened if there is none: at first with one slot, since many pictures are
    /// the only ones of their size.
    fn kept(&self, py: Python<'_>, spec: StreamSpec) -> PyResult<Arc<Kept>> {
        let opened = match self.find(&spec) {
            Some(kept) if kept.has(spec.slots) => return Ok(kept),
            Some(kept) => match Opened::asked_for(py, &self.connected, spec)? {
                Err(error) if is_want(&error) => {
                    kept.all_there_are.store(true, Ordering::Relaxed);
                    return Ok(kept);
                }
                asked => asked,
            },
            None => self.open(py, StreamSpec { slots: spec.slots.min(1), ..spec })?,
        };
        let opened = opened.map_err(raised)?;
        let kept =
            Arc::new(Kept { opened, seen: Arc::default(), all_there_are: AtomicBool::default() });
        // Dropped without the lock: a stream that closes has something to say.
        let dropped = {
            let mut all = self.lock();
            // Another thread may have opened one meanwhile: that goes too.
            let (mut dropped, others): (Vec<_>, Vec<_>) =
                all.drain(..).partition(|kept| is_of(kept, &spec));
            *all = others;
            dropped.extend((all.len() == KEPT).then(|| all.remove(0)));
            all.push(Arc::clone(&kept));
            dropped
        };
        py.detach(|| drop(dropped));
        Ok(kept)
    }

    /// Opens a stream, for which those that are kept make room.
    fn open(&self, py: Python<'_>, spec: StreamSpec) -> PyResult<Result<Arc<Opened>, Error>> {
        match Opened::asked_for(py, &self.connected, spec)? {
            Err(error) if is_want(&error) && self.let_go(py) => {
                Opened::asked_for(py, &self.connected, spec)
            }
            asked => Ok(asked),
        }
    }

    /// Closes all that are kept and that no other thread uses and no result is of. False: there were none.
    fn let_go(&self, py: Python<'_>) -> bool {
        let all = std::mem::take(&mut *self.lock());
        let any = !all.is_empty();
        py.detach(|| drop(all));
        any
    }

    fn find(&self, spec: &StreamSpec) -> Option<Arc<Kept>> {
        let mut all = self.lock();
        let index = all.iter().rposition(|kept| is_of(kept, spec))?;
        all[index..].rotate_left(1);
        all.last().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether it has as many slots, or as many as it can.
    fn has(&self, slots: u32) -> bool {
        self.opened.spec.slots >= slots || self.all_there_are.load(Ordering::Relaxed)
    }
}

/// Whether there would be a stream if others were closed.
const fn is_want(error: &Error) -> bool {
    matches!(error, Error::Refused(Refusal::Quota { .. } | Refusal::System { .. }))
}

/// Whether it does what the spec says, with however many slots.
fn is_of(kept: &Kept, spec: &StreamSpec) -> bool {
    StreamSpec { slots: spec.slots, ..kept.opened.spec } == *spec
}

#[pymethods]
impl Client {
    /// Connects to the daemon at `endpoint`: the one that runs if it is not given, else one in this process.
    #[new]
    #[pyo3(signature = (endpoint=None, *, reconnect=30.0))]
    fn new(py: Python<'_>, endpoint: Option<&str>, reconnect: f64) -> PyResult<Self> {
        let within = Duration::try_from_secs_f64(reconnect)
            .map_err(|error| PyValueError::new_err(format!("reconnect={reconnect}: {error}")))?;
        let reconnect = match within {
            Duration::ZERO => Reconnect::NEVER,
            within => Reconnect { within, ..Reconnect::default() },
        };
        let found = match endpoint {
            None => match py.detach(Endpoint::discover) {
                Ok(endpoint) => Some(endpoint),
                Err(EndpointError::NotFound(_)) => None,
                Err(error) => return Err(nowhere(&error)),
            },
            Some(EMBEDDED) => None,
            Some(text) => Some(text.parse().map_err(|error| nowhere(&error))?),
        };
        let (client, server) = match &found {
            Some(endpoint) => {
                let connect = || resized_client::Client::connect_with(endpoint, reconnect);
                (py.detach(connect).map_err(raised)?, None)
            }
            None => {
                let server = embedded()?;
                let socket = server.connect().map_err(ServerError::SetUp);
                let socket = socket.map_err(|error| not_embedded(&error))?;
                let connect = || resized_client::Client::from_socket(socket);
                (py.detach(connect).map_err(raised)?, Some(Ours::new(server)))
            }
        };
        let connected = Arc::new(Connected {
            client: Ours::new(client),
            endpoint: found,
            _server: server,
            copied: AtomicU64::new(0),
            pools: [const { PyOnceLock::new() }; 2],
        });
        Ok(Self { kept: Mutex::default(), seen: Arc::default(), connected })
    }

    /// Resizes one frame to `size`, width and height.
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
        let size = extent("size", size)?;
        let spec = Options::of(options)?.spec(array.picture(), size, KEPT_SLOTS)?;
        let result = Picture { format: spec.destination.format, extent: size };
        // Before anything is done for what can't be given.
        result.shape()?;
        let kept = self.kept(py, spec)?;
        let (mut frame, _) = kept.opened.resize(py, &array, &Limit::default())?;
        let spare = kept.opened.spec.slots - 1;
        let shares = (Share::of(&kept.seen, SEEN.min(spare)), Share::of(&self.seen, ALL_SEEN));
        if let (Some(of_stream), Some(of_client)) = shares {
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
        self.connected.count(copied);
        Ok(array)
    }

    /// Opens a stream: frames of one format and size that become frames of another.
    #[pyo3(signature = (source_format, source_size, size, **options))]
    fn stream(
        &self,
        py: Python<'_>,
        source_format: &Bound<'_, PyAny>,
        source_size: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Stream> {
        let source_extent = extent("source_size", source_size)?;
        let source = Picture { format: format(source_format)?, extent: source_extent };
        let size = extent("size", size)?;
        let spec = Options::of(options)?.spec(source, size, StreamSpec::SLOTS)?;
        self.open(py, spec)?.map(Stream).map_err(raised)
    }

    /// Where the daemon is; `None`: in this process.
    #[getter]
    fn endpoint(&self) -> Option<String> {
        self.connected.endpoint.as_ref().map(ToString::to_string)
    }

    /// Names of the daemon's devices.
    #[getter]
    fn devices(&self) -> PyResult<Vec<String>> {
        Ok(self.connected.client.get()?.devices().to_vec())
    }

    /// Bytes of pixels that this client has copied in this process.
    #[getter]
    fn copied_bytes(&self) -> u64 {
        self.connected.copied.load(Ordering::Relaxed)
    }

    /// What the daemon has done since it started.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let client = self.connected.client.get()?;
        let stats = py.detach(|| client.stats()).map_err(raised)?;
        let figures = PyDict::new(py);
        figures.set_item("sessions", stats.sessions)?;
        figures.set_item("streams", stats.streams)?;
        figures.set_item("region_bytes", stats.region_bytes)?;
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

    fn __repr__(&self) -> String {
        let endpoint = self.endpoint();
        format!("<resized.Client {}>", endpoint.as_deref().unwrap_or(EMBEDDED))
    }
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

/// This process's daemon. Not shared with the one that it was forked from: threads are not inherited.
fn embedded() -> PyResult<Arc<Server>> {
    static SHARED: Mutex<Option<(u32, Weak<Server>)>> = Mutex::new(None);
    // Held with the interpreter's lock, which a fork needs: no child finds it locked.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((made, server)) = &*shared
        && *made == process
        && let Some(server) = server.upgrade()
    {
        return Ok(server);
    }
    let server = Arc::new(Server::embedded().map_err(|error| not_embedded(&error))?);
    *shared = Some((process, Arc::downgrade(&server)));
    Ok(server)
}
