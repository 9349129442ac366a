//! Owns how a lock is taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. What it guards is as it was left, even by a thread that panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
