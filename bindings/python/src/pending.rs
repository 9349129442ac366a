//! Owns a submitted frame as Python has it: waited for by a thread, or by a coroutine.
//!
//! Waiting goes on without the interpreter's lock, and looks ten times a second whether the interpreter was
//! interrupted, or what is waited for was given up. A coroutine's wait is that of a thread of the client's own
//! pool: there is no descriptor yet that an event loop could wait for. A coroutine that is cancelled gives its
//! frame up: nobody could have it any more, and a thread would wait for nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use crate::client::For;
use crate::error::raised;
use crate::frame::Frame;
use crate::ours::Ours;
use crate::stream::Opened;

/// Between two looks at whether the interpreter was interrupted.
const SLICE: Duration = Duration::from_millis(100);

/// A submitted frame.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Pending {
    // Declared, and so dropped, before the connection that it tells.
    state: Mutex<State>,
    opened: Arc<Opened>,
    copied: usize,
    /// Of all waits for it.
    given_up: GivenUp,
}

enum State {
    Submitted(Ours<resized_client::Pending>),
    /// A thread waits for it.
    Waited,
    Done(Ours<Result<resized_client::Frame, resized_client::Error>>),
    /// Its frame was given out, or it was cancelled.
    Over,
}

impl State {
    /// Takes it out for a while. Not in a forked child: it stays as it is there.
    fn take(&mut self, meanwhile: Self) -> PyResult<Self> {
        match self {
            Self::Submitted(pending) => pending.get().map(drop)?,
            Self::Done(done) => done.get().map(drop)?,
            Self::Waited | Self::Over => {}
        }
        Ok(std::mem::replace(self, meanwhile))
    }
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
        let state = Mutex::new(State::Submitted(Ours::new(pending)));
        Self { state, opened, copied, given_up: GivenUp::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frame(&self, done: Result<resized_client::Frame, resized_client::Error>) -> PyResult<Frame> {
        Frame::new(done.map_err(raised)?, &self.opened, self.copied)
    }

    /// Ends it, unless a thread waits for it.
    fn end(&self, py: Python<'_>) -> bool {
        let ended = {
            let mut state = self.state();
            if matches!(*state, State::Waited) {
                return false;
            }
            std::mem::replace(&mut *state, State::Over)
        };
        // To cancel is to say something, which may have to wait.
        py.detach(|| drop(ended));
        true
    }
}

#[pymethods]
impl Pending {
    /// Waits for the resized frame. Can be had once.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        let limit = Limit::of(timeout)?.unless(&self.given_up);
        let taken = self.state().take(State::Waited)?;
        let pending = match taken {
            State::Submitted(pending) => pending.into_inner()?,
            State::Done(done) => {
                *self.state() = State::Over;
                return self.frame(done.into_inner()?);
            }
            taken => {
                *self.state() = taken;
                return Err(PyValueError::new_err(
                    "this frame is waited for, was had, or was cancelled",
                ));
            }
        };
        match wait(py, &limit, |slice| pending.wait_timeout(slice)) {
            Ok(frame) => {
                *self.state() = State::Over;
                self.frame(Ok(frame))
            }
            Err((error, pending)) => {
                *self.state() = pending.map_or(State::Over, |it| State::Submitted(Ours::new(it)));
                if self.given_up.is_so() {
                    self.end(py);
                }
                Err(error)
            }
        }
    }

    /// Whether `result` would return, or raise, at once.
    fn done(&self) -> PyResult<bool> {
        let mut state = self.state();
        let pending = match state.take(State::Over)? {
            State::Submitted(pending) => pending.into_inner()?,
            other => {
                *state = other;
                return Ok(!matches!(*state, State::Waited));
            }
        };
        *state = match pending.wait_timeout(Duration::ZERO) {
            Ok(Ok(frame)) => State::Done(Ours::new(Ok(frame))),
            Ok(Err(pending)) => State::Submitted(Ours::new(pending)),
            Err(error) => State::Done(Ours::new(Err(error))),
        };
        Ok(matches!(*state, State::Done(_)))
    }

    /// Gives the frame up: it is not resized if no device has taken it yet. Not while a thread waits for it.
    fn cancel(&self, py: Python<'_>) -> bool {
        self.end(py)
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
            let future = events.call_method1("run_in_executor", (pool, slf.getattr("result")?))?;
            let this = slf.clone().unbind();
            when_cancelled(&future, move |py| {
                let this = this.get();
                this.given_up.set();
                this.end(py);
            })?;
            future
        };
        future.call_method0("__await__")
    }
}

/// The event loop of this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

/// Has something done if a coroutine's wait is cancelled: the thread that waits in its stead does not notice.
pub(crate) fn when_cancelled(
    future: &Bound<'_, PyAny>,
    then: impl Fn(Python<'_>) + Send + Sync + 'static,
) -> PyResult<()> {
    let done = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
        if arguments.get_item(0)?.call_method0("cancelled")?.is_truthy()? {
            then(arguments.py());
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

    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What ends a wait before there is what is waited for; and an interrupt does.
#[derive(Default)]
pub(crate) struct Limit {
    /// `None`: no time.
    deadline: Option<Instant>,
    /// `None`: it is not given up.
    given_up: Option<GivenUp>,
}

impl Limit {
    /// So many seconds.
    pub(crate) fn of(timeout: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = timeout else { return Ok(Self::default()) };
        let timeout = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(format!("timeout={seconds}: {error}")))?;
        Ok(Self { deadline: Instant::now().checked_add(timeout), given_up: None })
    }

    /// And unless it is given up.
    pub(crate) fn unless(self, given_up: &GivenUp) -> Self {
        Self { given_up: Some(given_up.clone()), ..self }
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
        match self.deadline {
            Some(end) if Instant::now() >= end => Err(PyTimeoutError::new_err("not done in time")),
            _ => Ok(()),
        }
    }

    /// Whether anybody wants it.
    pub(crate) fn check_wanted(&self) -> PyResult<()> {
        match &self.given_up {
            Some(given_up) if given_up.is_so() => {
                Err(PyValueError::new_err("this frame was cancelled"))
            }
            _ => Ok(()),
        }
    }
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
