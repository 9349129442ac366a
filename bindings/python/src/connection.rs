//! Owns the connection to a daemon, which all that came of a client share.
//!
//! The daemon is the one that Rust's clients find, or one in this process where none runs: one for
//! all of its clients, as long as there are any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use resized_anywhere::{Daemon, NoDaemon};
use resized_client::{Endpoint, Reconnect};

use crate::error::{no_daemon, raised};
use crate::ours::Ours;
use crate::waiting::{duration, let_go};

/// Threads of each kind that coroutines may have waiting.
const WAITERS: u32 = 32;

/// What threads wait for in a coroutine's stead.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// The daemon alone, which goes on whatever others wait for.
    Frames,
    /// Others, too, to be done with a slot: these must not be kept from it by there being no thread
    /// to wait for their frames.
    Slots,
}

/// A connection, shared by all that came of it.
pub(crate) struct Connected {
    pub(crate) client: Ours<resized_client::Client>,
    /// Where it is; `None`: in this process.
    pub(crate) endpoint: Option<Endpoint>,
    copied: AtomicU64,
    pools: [PyOnceLock<Py<PyAny>>; 2],
}

impl Connected {
    /// Connects to the daemon at `endpoint`: the one that runs if it is not given, else one in this
    /// process. One that goes away is looked for so many seconds.
    pub(crate) fn at(py: Python<'_>, endpoint: Option<&str>, reconnect: f64) -> PyResult<Self> {
        let reconnect = match duration("reconnect", reconnect)? {
            Duration::ZERO => Reconnect::NEVER,
            within => Reconnect { within, ..Reconnect::default() },
        };
        let daemon = match endpoint {
            None => match py.detach(Endpoint::running).map_err(NoDaemon::Variable) {
                Ok(Some(endpoint)) => Ok(Daemon::Running(endpoint)),
                // With the interpreter's lock, which a fork needs: no child finds the way there locked.
                Ok(None) => Daemon::embedded(),
                Err(error) => Err(error),
            },
            Some(name) => Daemon::named(name),
        };
        let daemon = daemon.map_err(|error| no_daemon(&error))?;
        let endpoint = match &daemon {
            Daemon::Running(endpoint) => Some(endpoint.clone()),
            Daemon::Embedded(_) => None,
        };
        let client = py.detach(move || daemon.connect_with(reconnect)).map_err(raised)?;
        Ok(Self {
            client: Ours::new(client),
            endpoint,
            copied: AtomicU64::new(0),
            pools: [const { PyOnceLock::new() }; 2],
        })
    }

    /// Bytes of pixels that were copied.
    pub(crate) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

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

impl Drop for Connected {
    /// The daemon of this process ends with the last connection to it, once it is done with the frames
    /// that it is at.
    fn drop(&mut self) {
        let_go(self.client.take());
    }
}
