//! Owns the registration of a client's socket with the runtime, for reading or for writing alone.
//!
//! tokio's own sockets are always watched for both, and a Unix socket becomes writable each time
//! its peer reads: with every completion, whoever drives the sessions would be woken for nothing.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket that the runtime watches.
pub(super) type Watched = AsyncFd<Arc<UnixStream>>;

/// Watches a socket that is non-blocking already.
pub(super) fn watch(socket: Arc<UnixStream>, interest: Interest) -> io::Result<Watched> {
    // SAFETY: the descriptor is the `UnixStream`'s. It stays open and the same as long as that lives,
    // and the `AsyncFd` holds a share of it: nobody else can take it out of the `Arc` or close it.
    let watched = unsafe { AsyncFd::register_with_interest(socket, interest) };
    watched.map_err(|error| error.into_parts().1)
}
