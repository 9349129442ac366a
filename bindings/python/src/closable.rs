//! Owns the closing, by `close()` or the end of a `with`, of what else is closed as it is dropped.
//!
//! Knows nothing of what that is, which waits without the interpreter's lock if it has to. Invariant:
//! it is dropped as soon as no call uses it any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// `None` once it was closed.
pub(crate) struct Closable<T>(Mutex<Option<Arc<T>>>);

impl<T: Send + Sync> Closable<T> {
    pub(crate) fn new(open: Arc<T>) -> Self {
        Self(Mutex::new(Some(open)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> PyResult<Arc<T>> {
        self.lock().clone().ok_or_else(|| PyValueError::new_err("this was closed"))
    }

    /// Unless that was done before.
    pub(crate) fn close(&self) {
        let open = self.lock().take();
        drop(open);
    }
}
