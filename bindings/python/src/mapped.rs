//! Owns the resizing of one array after another that an iterator of Python's brings, several at once.
//!
//! Knows slots and pendings as their callers do. Invariants: frames come in the order of their
//! arrays, and an error where its frame would; no lock is held while Python's own code runs or
//! anything is waited for; an error is the end, as it is of a generator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::error::raised;
use crate::frame::Frame;
use crate::opened::Opened;
use crate::pending::Pending;
use crate::waiting::Limit;

/// What `Stream.map` gives.
#[pyclass(frozen, module = "resized")]
pub(crate) struct Mapped(Mutex<State>);

enum State {
    Between(Walk),
    /// A thread is at the next frame.
    Walked,
    Over,
}

/// On the way from arrays to frames.
struct Walk {
    // Declared, and so dropped, before the connection that they tell.
    begun: VecDeque<Pending>,
    opened: Arc<Opened>,
    /// `None` once there are no more, or one was bad.
    arrays: Option<Py<PyIterator>>,
    /// One for which there was no slot yet.
    next: Option<Py<PyAny>>,
    /// What is wrong with the one after those that are begun.
    error: Option<PyErr>,
}

impl Mapped {
    pub(crate) fn new(opened: Arc<Opened>, arrays: &Bound<'_, PyAny>) -> PyResult<Self> {
        let arrays = Some(arrays.try_iter()?.unbind());
        let walk = Walk { begun: VecDeque::new(), opened, arrays, next: None, error: None };
        Ok(Self(Mutex::new(State::Between(walk))))
    }

    fn replace(&self, state: State) -> State {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), state)
    }
}

#[pymethods]
impl Mapped {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        match self.replace(State::Walked) {
            State::Between(mut walk) => {
                let frame = walk.frame(py);
                let goes_on = matches!(frame, Ok(Some(_)));
                self.replace(if goes_on { State::Between(walk) } else { State::Over });
                frame
            }
            State::Walked => Err(PyValueError::new_err("another thread waits for the next frame")),
            State::Over => {
                self.replace(State::Over);
                Ok(None)
            }
        }
    }
}

impl Walk {
    fn frame(&mut self, py: Python<'_>) -> PyResult<Option<Frame>> {
        if let Err(error) = self.begin(py) {
            (self.arrays, self.next, self.error) = (None, None, Some(error));
        }
        match self.begun.pop_front() {
            Some(oldest) => oldest.had(py, Limit::default()).map(Some),
            None => self.error.take().map_or(Ok(None), Err),
        }
    }

    /// Submits what there is, as far as there are slots.
    fn begin(&mut self, py: Python<'_>) -> PyResult<()> {
        while self.begun.len() < self.opened.spec.slots as usize && self.has_next(py)? {
            // Slots that Python has as results are waited for only where there is nothing else to
            // wait for.
            let slot = if self.begun.is_empty() {
                Some(self.opened.loan(py, &Limit::default())?)
            } else {
                let stream = self.opened.stream.get()?;
                py.detach(|| stream.try_loan()).map_err(raised)?
            };
            let Some(slot) = slot else { break };
            let Some(array) = self.next.take() else { break };
            let source = self.opened.source(array.bind(py))?;
            self.begun.push_back(Pending::submit(py, slot, &source, &self.opened)?);
        }
        Ok(())
    }

    fn has_next(&mut self, py: Python<'_>) -> PyResult<bool> {
        if self.next.is_none()
            && let Some(arrays) = &self.arrays
        {
            self.next = arrays.bind(py).clone().next().transpose()?.map(Bound::unbind);
        }
        if self.next.is_none() {
            self.arrays = None;
        }
        Ok(self.next.is_some())
    }
}
