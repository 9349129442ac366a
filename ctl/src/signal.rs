//! Owns what becomes of signals: the first one asks a program to end in good order, a second one
//! ends the process on the spot.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// What a program shows after the first, while it finishes what is under way.
pub const ENDING: &str = "ending; Ctrl-C again ends at once";

/// How long a daemon may have nothing to say after one before nobody waits for it any more.
pub const GRACE: Duration = Duration::from_secs(3);

/// The signal that came, if one has. Clones hear of the same.
#[derive(Clone, Debug)]
pub struct Signal(Arc<AtomicUsize>);

impl Signal {
    /// SIGINT, SIGTERM, or SIGHUP unless it was to be ignored, as nohup asks, from now on.
    pub fn listen() -> Result<Self> {
        let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            // In this order, so that the first signal finds `second` unset.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second))
                .and_then(|_| flag::register(signal, Arc::clone(&second)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&first), signal as usize))
                .context("can't listen for signals")?;
        }
        Ok(Self(first))
    }

    /// Its number.
    pub fn number(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|&number| number != 0)
    }

    /// Whether one has.
    pub fn came(&self) -> bool {
        self.number().is_some()
    }

    /// How a process ends that one has asked to.
    pub fn code(&self) -> Option<ExitCode> {
        self.number().map(|number| ExitCode::from(128 + number))
    }
}

/// Whether who started this process wants a signal to be ignored: a bit for each, from the first on.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
