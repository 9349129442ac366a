//! What the daemon and the bridge have in common as services: how they log, how they are stopped, what
//! they tell a service manager, and how many descriptors and how much memory they may have.
//!
//! Knows neither frames nor clients.

pub mod log;
pub mod memory;

use std::fmt::Display;
use std::io::{self, Write};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status where settings can't be used, `EX_CONFIG` of sysexits.h: to start again would not
/// help, as the units know.
pub const BAD_SETTINGS: u8 = 78;

/// The last words of a program, if anybody hears them.
pub fn complain(program: &str, error: &dyn Display) {
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
}

/// Tells the service manager, if there is one; see sd_notify(3).
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}

/// As many descriptors as the system gives: each client takes some.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

/// SIGTERM and SIGINT, which no longer end the process by themselves once this is there.
#[derive(Debug)]
pub struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    /// Catches them from now on. In a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process with the next of them: for whom stopping in good order takes too long.
    pub fn end_with_the_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(1);
        });
    }
}
