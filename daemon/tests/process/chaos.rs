//! Everything at once that clients do by mistake or by malice, beside a neighbour that does nothing
//! wrong. After each row the daemon lives, the neighbour's frames were right, and nothing is left
//! behind.
//!
//! In short as any test; with `RESIZED_CHAOS` set (`make chaos`, in a release build, one row at a time)
//! for longer, and then the neighbour's p99 must stay within one and a half times what it is undisturbed.
//! `RESIZED_SOAK` (`make soak`) is how many seconds the soak takes.

mod connections;
mod crowds;
mod hostile;
mod neighbour;
mod rings;
mod shortage;
mod traffic;
mod victims;

use std::time::Duration;

use nix::sys::resource::{Resource as System, getrlimit, setrlimit};

/// The whole suite, not the short form of it.
pub(crate) fn whole() -> bool {
    std::env::var_os("RESIZED_CHAOS").is_some()
}

/// `long` where the whole suite is asked for.
fn length<T>(short: T, long: T) -> T {
    if whole() { long } else { short }
}

/// Rows take minutes where they are run for long.
const ROW: Duration = Duration::from_secs(20 * 60);

/// Room for as many connections as some rows have.
fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(System::RLIMIT_NOFILE).unwrap();
    setrlimit(System::RLIMIT_NOFILE, hard, hard).unwrap();
}
