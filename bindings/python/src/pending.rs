//! Owns a submitted frame as Python has it: waited for by a thread, or by a coroutine.
//!
//! Waiting goes on without the interpreter's lock, and looks ten times a second whether the interpreter was
//! interrupted. A coroutine's wait is that of a thread of the client's own pool: there is no descriptor yet
//! that an event loop could wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::client::For;
use crate::error::raised;
use crate::frame::Frame;
use crate::ours::Ours;
use crate::stream::Opened;

/// Between two looks at whether the interpreter was interrupted.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// A submitted frame.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Pending {
    // Declared, and so dropped, before the connection that it tells.
    state: Mutex<State>,
    opened: Arc<Opened>,
    copied: usize,
}

enum State {
    Submitted(Ours<resized_client::Pending>),
    /// A thread waits for it.
    Waited,
    Done(Result<resized_client::Frame, resized_client::Error>),
    /// Its frame was given out, or it was cancelled.
    Over,
}

/// What waiting for a while comes to.
pub(crate) type Waited =
    Result<Result<resized_client::Frame, resized_client::Pending>, resized_client::Error>;

impl Pending {
    pub(crate) fn new(
        pending: resized_client::Pending,
        opened: Arc<Opened>,
        copied: usize,
    ) -> Self {
        Self { state: Mutex::new(State::Submitted(Ours::new(pending))), opened, copied }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frame(&self, done: Result<resized_client::Frame, resized_client::Error>) -> PyResult<Frame> {
        Ok(Frame::new(done.map_err(raised)?, &self.opened, self.copied))
    }
}

#[pymethods]
impl Pending {
    /// Waits for the resized frame. Can be had once.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        let deadline = deadline(timeout)?;
        let taken = std::mem::replace(&mut *self.state(), State::Waited);
        let pending = match taken {
            State::Submitted(pending) => pending.into_inner()?,
            State::Done(done) => {
                *self.state() = State::Over;
                return self.frame(done);
            }
            taken => {
                *self.state() = taken;
                return Err(PyValueError::new_err(
                    "this frame is waited for, was had, or was cancelled",
                ));
            }
        };
        match wait(py, deadline, |slice| pending.wait_timeout(slice)) {
            Ok(frame) => {
                *self.state() = State::Over;
                self.frame(Ok(frame))
            }
            Err((error, pending)) => {
                *self.state() = pending.map_or(State::Over, |it| State::Submitted(Ours::new(it)));
                Err(error)
            }
        }
    }

    /// Whether `result` would return, or raise, at once.
    fn done(&self) -> PyResult<bool> {
        let mut state = self.state();
        let pending = match std::mem::replace(&mut *state, State::Over) {
            State::Submitted(pending) => pending.into_inner()?,
            other => {
                *state = other;
                return Ok(!matches!(*state, State::Waited));
            }
        };
        *state = match pending.wait_timeout(Duration::ZERO) {
            Ok(Ok(frame)) => State::Done(Ok(frame)),
            Ok(Err(pending)) => State::Submitted(Ours::new(pending)),
            Err(error) => State::Done(Err(error)),
        };
        Ok(matches!(*state, State::Done(_)))
    }

    /// Gives the frame up: it is not resized if no device has taken it yet. Not while a thread waits for it.
    fn cancel(&self) -> bool {
        let mut state = self.state();
        let waits = matches!(*state, State::Waited);
        if !waits {
            *state = State::Over;
        }
        !waits
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let events = running_loop(py)?;
        let future = if this.done()? {
            let future = events.call_method0("create_future")?;
            future.call_method1("set_result", (this.result(py, None)?,))?;
            future
        } else {
            let pool = this.opened.connection.pool(py, For::Frames)?;
            events.call_method1("run_in_executor", (pool, slf.getattr("result")?))?
        };
        future.call_method0("__await__")
    }
}

/// The event loop of this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

/// When a time-out of so many seconds is over.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    let timeout = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("timeout={seconds}: {error}")))?;
    Ok(Instant::now().checked_add(timeout))
}

/// How long to wait before looking up.
pub(crate) fn slice(deadline: Option<Instant>) -> Duration {
    deadline.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()).min(SLICE))
}

/// Whether there is a reason not to go on waiting.
pub(crate) fn look_up(py: Python<'_>, deadline: Option<Instant>) -> PyResult<()> {
    py.check_signals()?;
    match deadline {
        Some(end) if Instant::now() >= end => Err(PyTimeoutError::new_err("not done in time")),
        _ => Ok(()),
    }
}

/// Waits for a frame, however that begins. If that ends before, the pending comes back.
pub(crate) fn wait(
    py: Python<'_>,
    deadline: Option<Instant>,
    begin: impl FnOnce(Duration) -> Waited + Send,
) -> Result<resized_client::Frame, (PyErr, Option<resized_client::Pending>)> {
    let first = slice(deadline);
    let mut waited = py.detach(|| begin(first));
    loop {
        let pending = match waited {
            Ok(Ok(frame)) => return Ok(frame),
            Ok(Err(pending)) => pending,
            Err(error) => return Err((raised(error), None)),
        };
        if let Err(error) = look_up(py, deadline) {
            return Err((error, Some(pending)));
        }
        let next = slice(deadline);
        waited = py.detach(|| pending.wait_timeout(next));
    }
}
