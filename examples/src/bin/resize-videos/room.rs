//! Owns the waiting for room at the daemon: who is refused what others have asks again, until one
//! of them has let go of it.
//!
//! Knows nothing of videos. Invariant: a refusal is passed on where all who run wait, so nobody
//! waits for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use resized_client::Error as ClientError;

use crate::stop::Stop;

/// From one time of asking to the next.
const AGAIN: Duration = Duration::from_millis(100);

/// Refusals in a row that are believed while nobody has anything to let go of: what was let go of
/// takes a moment to reach the daemon.
const BELIEVED: u32 = 10;

/// What all instances of a run share.
pub(crate) struct Room<'a> {
    stop: &'a Stop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Instances that run.
    running: usize,
    /// Those of them that wait.
    waiting: usize,
    /// Counts who ended, who need not wait any more, and who waits and was seen to get on.
    changes: u64,
}

/// One that runs, until it is dropped: when it has let go of all it had.
pub(crate) struct Inside<'a>(&'a Room<'a>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.changes += 1;
    }
}

impl<'a> Room<'a> {
    pub(crate) fn new(stop: &'a Stop) -> Self {
        Self { stop, state: Mutex::default() }
    }

    /// An instance is about to run.
    pub(crate) fn enter(&'a self) -> Inside<'a> {
        self.state().running += 1;
        Inside(self)
    }

    /// Instances that run.
    pub(crate) fn running(&self) -> usize {
        self.state().running
    }

    /// What an instance asks the daemon for, as soon as there is room for it; none if the run ends
    /// before. `written` counts its pictures: while those become more it has still to let go of
    /// what it had.
    pub(crate) fn wait_for<T>(
        &self,
        written: impl Fn() -> u64,
        ask: impl Fn() -> Result<T>,
    ) -> Result<Option<T>> {
        match ask() {
            Err(error) if is_for_want_of_room(&error) => {}
            other => return other.map(Some),
        }
        self.state().waiting += 1;
        let granted = self.ask_again(written, ask);
        let mut state = self.state();
        state.waiting -= 1;
        state.changes += 1;
        granted
    }

    fn ask_again<T>(
        &self,
        written: impl Fn() -> u64,
        ask: impl Fn() -> Result<T>,
    ) -> Result<Option<T>> {
        let (mut before, mut seen, mut refusals) = (written(), None, 0);
        loop {
            self.stop.sleep_until(Instant::now() + AGAIN);
            if self.stop.is_set() {
                return Ok(None);
            }
            let error = match ask() {
                Err(error) if is_for_want_of_room(&error) => error,
                other => return other.map(Some),
            };
            let mut state = self.state();
            let now = written();
            state.changes += now - before;
            before = now;
            let stuck = state.waiting == state.running && seen == Some(state.changes);
            seen = Some(state.changes);
            refusals = if stuck { refusals + 1 } else { 0 };
            if refusals == BELIEVED {
                return Err(error);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether others may have what was asked for.
pub(crate) fn is_for_want_of_room(error: &Error) -> bool {
    error.downcast_ref().is_some_and(ClientError::is_shortage)
}
