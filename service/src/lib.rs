//! What the daemon and the bridge have in common as services: how they read their arguments, how they log,
//! how they are stopped, what they tell a service manager, and how many descriptors and how much memory
//! they may have.
//!
//! Knows neither frames nor clients.

pub mod log;
pub mod memory;

use std::fmt::Display;
use std::io::{self, Write};

use clap::Parser;
use clap::builder::Resettable;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status where settings can't be used, `EX_CONFIG` of sysexits.h: to start again would not
/// help, as the units know.
pub const BAD_SETTINGS: u8 = 78;

/// The arguments, of which those that are not given come from the environment. An empty variable counts as one that
/// is not set, as it does for clients: that is how files of variables take one back. Ends the process over what is
/// not understood, with exit status 2, and where only help or the version was asked for.
pub fn arguments<A: Parser>() -> A {
    let command = A::command().mut_args(|argument| {
        let value = argument.get_env().and_then(std::env::var_os);
        match value.is_some_and(|value| value.is_empty()) {
            true => argument.env(Resettable::Reset),
            false => argument,
        }
    });
    let parsed = A::from_arg_matches(&command.get_matches());
    parsed.unwrap_or_else(|error| error.format(&mut A::command()).exit())
}

/// The last words of a program, if anybody hears them.
pub fn complain(program: &str, error: &dyn Display) {
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
}

/// Whether the system lacked descriptors, memory or threads, maybe for a moment: no setting is to blame for that, and
/// to start again may help.
pub fn may_pass(error: &io::Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN];
    error.raw_os_error().is_some_and(|errno| short.contains(&Errno::from_raw(errno)))
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
