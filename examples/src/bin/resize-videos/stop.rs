//! Owns the end of a run before its time: a signal from the user, or the first failure of what all
//! instances need.
//!
//! After a signal nothing new is submitted, but what was is still written. After a failure nothing
//! more is written. Neither is waited for where the daemon has nothing to say for long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use resizectl::patience;
use resizectl::signal::{GRACE, Signal};
use resizectl::terminal::one_line;
use resized_client::{Client, Frame, Pending, Slot, Stream, StreamSpec};
use serde::Serialize;

/// From one look to the next of who waits whether the run ends.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// Why a run ended before its time. As JSON it is `stopped` of the figures.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reason {
    /// The number of the signal that came.
    Signal(u8),
    /// What failed, in words.
    Error(String),
}

/// Asked by every thread, frame by frame.
pub(crate) struct Stop {
    signal: Signal,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
    forsaken: AtomicBool,
}

impl Stop {
    /// Stops at a signal that comes from now on.
    pub(crate) fn on_signals() -> Result<Self> {
        let (failed, failure) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Self { signal: Signal::listen()?, failed, failure, forsaken: AtomicBool::new(false) })
    }

    /// What users ask it by.
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Whether nothing new should be begun.
    pub(crate) fn is_set(&self) -> bool {
        self.signal.came() || self.has_failed()
    }

    /// Whether nothing should be finished either.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the run. Only the first failure is kept: the others follow from it.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| one_line(&error));
        self.failed.store(true, Ordering::Relaxed);
    }

    /// What ended the run, if anything did: a failure rather than a signal.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure.map(Reason::Error).or_else(|| self.signal.number().map(Reason::Signal))
    }

    /// Whether the daemon was waited for in vain when the run ended.
    pub(crate) fn is_forsaken(&self) -> bool {
        self.forsaken.load(Ordering::Relaxed)
    }

    /// What somebody answers who may be silent for longer than a run takes to end. None if it ends before.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>> {
        patience::ask(|| self.is_set(), ask)
    }

    /// The same, which matters still when the run ends: not for long then.
    pub(crate) fn ask_at_the_end<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let answer = patience::ask(self.grace_is_over(), ask)?;
        self.forsaken.fetch_or(answer.is_none(), Ordering::Relaxed);
        Ok(answer)
    }

    /// Opens a stream. None if the run ends before.
    pub(crate) fn open(
        &self,
        client: &Client,
        spec: &StreamSpec,
    ) -> Result<Option<Stream>, resized_client::Error> {
        Ok(client.opening(spec).wait_until(|| self.is_set())?.ok())
    }

    /// Takes a free slot, waiting until there is one. None if the run ends before.
    pub(crate) fn loan(&self, stream: &Stream) -> Result<Option<Slot>, resized_client::Error> {
        stream.loan_until(|| self.is_set())
    }

    /// Waits for a frame, also when the run ends. None if it does not come then.
    pub(crate) fn receive(&self, pending: Pending) -> Result<Option<Frame>, resized_client::Error> {
        let frame = pending.wait_until(self.grace_is_over())?;
        self.forsaken.fetch_or(frame.is_err(), Ordering::Relaxed);
        Ok(frame.ok())
    }

    /// Asked again and again, says when nobody is waited for any more: a while after the run has ended.
    fn grace_is_over(&self) -> impl Fn() -> bool {
        let ending = OnceLock::new();
        move || self.is_set() && ending.get_or_init(Instant::now).elapsed() >= GRACE
    }

    /// Sleeps until `time`, or until the run ends.
    pub(crate) fn sleep_until(&self, time: Instant) {
        while !self.is_set() {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}
