//! Owns what belongs to the process that made it: connections, and what is open over them.
//!
//! A fork copies them into the child, where they are nobody's: the threads of an embedded daemon
//! are not there, and a socket that two processes use is no conversation. Invariant: in a child
//! they are neither used nor dropped, since dropping tells the daemon, and would close what the
//! parent uses.

use std::process;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pub(crate) struct Ours<T> {
    /// `None` only while it is taken out.
    thing: Option<T>,
    process: u32,
}

impl<T> Ours<T> {
    pub(crate) fn new(thing: T) -> Self {
        Self { thing: Some(thing), process: process::id() }
    }

    /// Whether this process made it.
    pub(crate) fn is_here(&self) -> bool {
        self.process == process::id()
    }

    pub(crate) fn get(&self) -> PyResult<&T> {
        self.thing.as_ref().filter(|_| self.is_here()).ok_or_else(forked)
    }

    pub(crate) fn get_mut(&mut self) -> PyResult<&mut T> {
        let here = self.is_here();
        self.thing.as_mut().filter(|_| here).ok_or_else(forked)
    }

    /// Takes it out, if this process made it.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_here() { self.thing.take() } else { None }
    }

    pub(crate) fn into_inner(mut self) -> PyResult<T> {
        self.take().ok_or_else(forked)
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.thing.take());
        }
    }
}

/// What a child is told.
pub(crate) fn forked() -> PyErr {
    PyRuntimeError::new_err(
        "this was made before a fork, in another process: make a resized.Client in each process",
    )
}
