//! Owns what becomes of signals: the first one asks a program to end in good order, a second one
//! ends the process on the spot.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The signal that came, if one has. Clones hear of the same.
#[derive(Clone, Debug)]
pub struct Signal(Arc<AtomicUsize>);

impl Signal {
    /// SIGINT or SIGTERM, from now on.
    pub fn listen() -> Result<Self> {
        let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
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
