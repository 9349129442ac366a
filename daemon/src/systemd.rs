//! Owns the talk with a service manager: the socket it passes, and what it is told. Does nothing where
//! there is none. See sd_listen_fds(3) and sd_notify(3).

use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The socket that the service manager listens on for us, if it does.
pub(crate) fn socket() -> Result<Option<UnixListener>> {
    ListenFd::from_env().take_unix_listener(0).context("the socket passed by the service manager")
}

/// Clients can connect.
pub(crate) fn ready() {
    notify(NotifyState::Ready);
}

/// No more clients are served; what was submitted is being completed.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
