//! Owns the talk with a service manager: the socket it passes, and what it is told. Does nothing where
//! there is none. See sd_listen_fds(3) and sd_notify(3).

use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Context, Result};
use listenfd::ListenFd;
use resized_service::notify;
use sd_notify::NotifyState;

/// The socket that the service manager listens on for us, if it does.
pub(crate) fn socket() -> Result<Option<UnixListener>> {
    ListenFd::from_env().take_unix_listener(0).context("the socket passed by the service manager")
}

/// How often the service manager wants to hear that we are well, if it does.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// We are well.
pub(crate) fn well() {
    notify(&[NotifyState::Watchdog]);
}

/// Clients can connect.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Settings are being read again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager can't be told"),
    }
}

/// No more clients are served; what was submitted is being completed.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}
