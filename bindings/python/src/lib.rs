//! The Python package `resized`: frames resized in memory shared with a daemon, as numpy arrays.
//!
//! A frame walks through these files in this order: `client` has a `connection` to a daemon, or to
//! one that it starts in this process, and opens a `stream` by the words of `options`; the stream
//! loans a `slot`, which Python writes as an array (`picture` says how a frame lies in one,
//! `memory` gives out its bytes and copies them) or fills from a `source`, an array or a JPEG; submitted
//! it is a `pending`, which ends as a `frame`. Beside them: `opened` is the stream that all of these
//! share, `held` what slot and frame have in common, `waiting` how a thread of Python's waits, `kept`
//! the streams for resizing in one call, `mapped` what keeps several in flight, `closable` what is
//! closed before it is dropped. Classes are thin: what can be said in Rust is said by the client
//! library, and here by the words of Python.
//!
//! Nothing that waits or copies pixels holds the interpreter's lock, and no lock of this crate is held
//! while that is waited for. But slots and frames that Python drops have their say, a few bytes, with
//! the interpreter's lock: it waits only for a daemon that has some hundred messages to read and does
//! not. `docs/python.md` is the guide, `resized.pyi` the reference.

mod client;
mod closable;
mod connection;
mod error;
mod frame;
mod held;
mod kept;
mod mapped;
mod memory;
mod opened;
mod options;
mod ours;
mod pending;
mod picture;
mod slot;
mod source;
mod stream;
mod waiting;

use pyo3::prelude::*;

/// Resizes video frames and images, in memory shared with a daemon.
#[pymodule(name = "resized")]
mod module {
    use std::sync::OnceLock;

    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::frame::{Frame, Placement, Receipt};
    #[pymodule_export]
    use crate::memory::View;
    #[pymodule_export]
    use crate::pending::Pending;
    #[pymodule_export]
    use crate::slot::Slot;
    #[pymodule_export]
    use crate::stream::Stream;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // What is made once, classes among it, is that interpreter's. Each has a sys of its own.
        static FIRST: OnceLock<usize> = OnceLock::new();
        let sys = module.py().import("sys")?.as_ptr().addr();
        if *FIRST.get_or_init(|| sys) != sys {
            return Err(PyImportError::new_err(
                "another interpreter of this process has resized: subinterpreters can't",
            ));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::error::add_to(module)
    }
}
