//! Owns a submitted frame as Python has it: waited for by a thread, or by a coroutine.
//!
//! A coroutine's wait is that of a thread of the client's own pool: there is no descriptor yet that
//! an event loop could wait for. A coroutine that is cancelled gives its frame up: nobody could
//! have it any more, and a thread would wait for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use crate::connection::For;
use crate::error::raised;
use crate::frame::Frame;
use crate::opened::Opened;
use crate::ours::Ours;
use crate::source::Source;
use crate::waiting::{GivenUp, Limit, running_loop, wait, when_cancelled};

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

impl Pending {
    pub(crate) fn new(
        pending: resized_client::Pending,
        opened: Arc<Opened>,
        copied: usize,
    ) -> Self {
        let state = Mutex::new(State::Submitted(Ours::new(pending)));
        Self { state, opened, copied, given_up: GivenUp::default() }
    }

    /// One of a frame that is copied into that slot.
    pub(crate) fn submit(
        py: Python<'_>,
        mut slot: resized_client::Slot,
        source: &Source,
        opened: &Arc<Opened>,
    ) -> PyResult<Self> {
        let mut copied = 0;
        let pending = py.detach(|| {
            copied = source.write_to(&mut slot)?;
            slot.submit()
        });
        opened.connection.count(copied);
        Ok(Self::new(pending.map_err(raised)?, Arc::clone(opened), copied))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frame(&self, done: Result<resized_client::Frame, resized_client::Error>) -> PyResult<Frame> {
        Frame::new(done.map_err(raised)?, &self.opened, self.copied)
    }

    /// Its frame, waited for within that limit.
    pub(crate) fn had(&self, py: Python<'_>, limit: Limit) -> PyResult<Frame> {
        let limit = limit.unless(&self.given_up);
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
                    self.end()?;
                }
                Err(error)
            }
        }
    }

    /// Gives it up. False if a thread waits for it, or there is nothing to give up.
    fn end(&self) -> PyResult<bool> {
        let mut state = self.state();
        match state.take(State::Over)? {
            State::Submitted(_) | State::Done(_) => Ok(true),
            taken => {
                *state = taken;
                Ok(false)
            }
        }
    }
}

#[pymethods]
impl Pending {
    /// Waits for the resized frame. Can be had once.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        self.had(py, Limit::of(timeout)?)
    }

    /// Whether `result` would return, or raise, at once; not while another waits for it.
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

    /// Gives the frame up: it is not resized if no device has taken it yet. False while a thread or
    /// coroutine waits for it, and once it was had or given up.
    fn cancel(&self) -> PyResult<bool> {
        self.end()
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
            let this = slf.clone().unbind();
            let within = events.clone().unbind();
            let had = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let py = arguments.py();
                this.get().had(py, Limit::default().within(within.bind(py)))
            };
            let had = PyCFunction::new_closure(py, None, None, had)?;
            let future = events.call_method1("run_in_executor", (pool, had))?;
            let this = slf.clone().unbind();
            when_cancelled(&future, move || {
                let this = this.get();
                this.given_up.set();
                this.end().map(drop)
            })?;
            future
        };
        future.call_method0("__await__")
    }
}
