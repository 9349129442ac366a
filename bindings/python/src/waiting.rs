//! Owns how a thread of Python's waits, and what ends that.
//!
//! Waiting goes on without the interpreter's lock, and looks ten times a second whether the
//! interpreter was interrupted, or what is waited for was given up. What is dropped is waited for
//! without the lock, too, and without such looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use crate::error::raised;

/// Between two looks at whether the interpreter was interrupted.
const SLICE: Duration = Duration::from_millis(100);

/// What waiting for a while comes to.
pub(crate) type Waited =
    Result<Result<resized_client::Frame, resized_client::Pending>, resized_client::Error>;

/// The event loop of this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

/// Has something done if a coroutine's wait is cancelled: the thread that waits in its stead does
/// not notice.
pub(crate) fn when_cancelled(
    future: &Bound<'_, PyAny>,
    then: impl Fn() -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<()> {
    let done = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        if arguments.get_item(0)?.call_method0("cancelled")?.is_truthy()? {
            then()?;
        }
        PyResult::Ok(())
    };
    let done = PyCFunction::new_closure(future.py(), None, None, done)?;
    future.call_method1("add_done_callback", (done,)).map(drop)
}

/// Whether nobody wants any more what a thread waits for.
#[derive(Clone, Default)]
pub(crate) struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a time is.
pub(crate) const SECONDS: &str = "a number of seconds, 0 or more";

/// So many seconds; infinitely many are for ever.
pub(crate) fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    if seconds == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{name}={seconds}: wanted is {SECONDS}")))
}

/// What ends a wait before there is what is waited for; and an interrupt does.
#[derive(Default)]
pub(crate) struct Limit {
    /// `None`: no time.
    deadline: Option<Instant>,
    /// `None`: it is not given up.
    given_up: Option<GivenUp>,
    /// The event loop that it is for; `None`: it is for a thread.
    events: Option<Py<PyAny>>,
}

impl Limit {
    /// So many seconds.
    pub(crate) fn of(timeout: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = timeout else { return Ok(Self::default()) };
        let timeout = duration("timeout", seconds)?;
        Ok(Self { deadline: Instant::now().checked_add(timeout), ..Self::default() })
    }

    /// And unless it is given up.
    pub(crate) fn unless(self, given_up: &GivenUp) -> Self {
        Self { given_up: Some(given_up.clone()), ..self }
    }

    /// And as long as that event loop is open. A future of one that is closed is cancelled by nobody,
    /// and the interpreter does not end before the thread that waits for it.
    pub(crate) fn within(self, events: &Bound<'_, PyAny>) -> Self {
        Self { events: Some(events.clone().unbind()), ..self }
    }

    /// How long to wait before looking up.
    pub(crate) fn slice(&self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.deadline.map_or(SLICE, |end| left(end).min(SLICE))
    }

    /// Whether there is a reason not to go on waiting.
    pub(crate) fn look_up(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        self.check_wanted()?;
        if let Some(events) = &self.events
            && events.bind(py).call_method0("is_closed")?.is_truthy()?
        {
            return Err(unwanted());
        }
        match self.deadline {
            Some(end) if Instant::now() >= end => Err(PyTimeoutError::new_err("not done in time")),
            _ => Ok(()),
        }
    }

    /// Whether anybody wants it.
    pub(crate) fn check_wanted(&self) -> PyResult<()> {
        match &self.given_up {
            Some(given_up) if given_up.is_so() => Err(unwanted()),
            _ => Ok(()),
        }
    }
}

/// Drops what may have to wait as it goes, without the interpreter's lock.
pub(crate) fn let_go<T: Send>(thing: T) {
    let mut thing = Some(thing);
    // Where the interpreter ends, as far as PyO3 can tell, nobody is attached: it goes with this.
    Python::try_attach(|py| py.detach(|| drop(thing.take())));
}

fn unwanted() -> PyErr {
    PyValueError::new_err("this frame was cancelled")
}

/// Waits for a frame, however that begins. If that ends before, the pending comes back.
pub(crate) fn wait(
    py: Python<'_>,
    limit: &Limit,
    begin: impl FnOnce(Duration) -> Waited + Send,
) -> Result<resized_client::Frame, (PyErr, Option<resized_client::Pending>)> {
    let first = limit.slice();
    let mut waited = py.detach(|| begin(first));
    loop {
        let pending = match waited {
            Ok(Ok(frame)) => return Ok(frame),
            Ok(Err(pending)) => pending,
            Err(error) => return Err((raised(error), None)),
        };
        if let Err(error) = limit.look_up(py) {
            return Err((error, Some(pending)));
        }
        let next = limit.slice();
        waited = py.detach(|| pending.wait_timeout(next));
    }
}
