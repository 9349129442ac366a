//! Owns how threads wait: for a message, for one another, for a moment to be over.
//!
//! Knows that messages come, not what they say. There is no reader thread: of the threads that wait for something, one reads the
//! socket for all, and hands the reading on when it has what it waited for. That saves a thread's
//! wake-up on the way of every frame. Invariants: one thread reads at a time; whoever ends reading
//! wakes the others, if there was anything to read.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::incoming::Until;
use super::{Connection, State, Wait, lock};
use crate::Error;
use crate::link::left;
use crate::reconnect::is_loss;

/// How long a message is waited for where another thread may bring the same: at first, and at the
/// most. It doubles while nothing comes.
const GLANCE: Duration = Duration::from_millis(2);
const LONGEST_GLANCE: Duration = Duration::from_millis(10);

/// How a thread reads that waits, if no other does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Not,
    Wait,
    /// Until another thread has changed something, too: it looks for that now and then ([`GLANCE`]).
    Glance,
}

impl Connection {
    /// Blocks until `poll` finds what it looks for.
    pub(crate) fn wait<T>(&self, mut poll: impl FnMut(&mut State) -> Wait<T>) -> Result<T, Error> {
        let mut state = self.state();
        loop {
            let read = match state.look(&mut poll)? {
                Wait::Over(found) => return Ok(found),
                Wait::Message => Read::Wait,
                Wait::Thread => Read::Not,
                Wait::Either => Read::Glance,
            };
            if let Some((home, lost)) = self.to_recover(&mut state) {
                drop(state);
                self.recover(home, &lost, || true);
                state = self.state();
            } else {
                state = self.close_disowned(self.advance(state, read, Until::It));
            }
        }
    }

    /// What `poll` finds at once. What has arrived is read only where it may bring something.
    pub(crate) fn at_once<T>(
        self: &Arc<Self>,
        mut poll: impl FnMut(&mut State) -> Wait<T>,
    ) -> Result<Option<T>, Error> {
        let found = self.state().look(&mut poll)?;
        match found {
            Wait::Over(found) => Ok(Some(found)),
            Wait::Thread => Ok(None),
            Wait::Message | Wait::Either => self.wait_until(Instant::now(), poll),
        }
    }

    /// As [`wait`](Self::wait), but not beyond the deadline: `None`. What has arrived by then is
    /// looked at in any case. A daemon that went away is looked for by a thread of its own, which
    /// may take longer.
    pub(crate) fn wait_until<T>(
        self: &Arc<Self>,
        deadline: Instant,
        mut poll: impl FnMut(&mut State) -> Wait<T>,
    ) -> Result<Option<T>, Error> {
        let mut state = self.state();
        let mut over = false;
        loop {
            let read = match state.look(&mut poll)? {
                Wait::Over(found) => return Ok(Some(found)),
                _ if over => return Ok(None),
                Wait::Message => Read::Wait,
                Wait::Thread => Read::Not,
                Wait::Either => Read::Glance,
            };
            over = Instant::now() >= deadline;
            if let Some((_, lost)) = self.to_recover(&mut state) {
                drop(state);
                self.recover_aside(&lost);
                state = self.state();
            } else {
                state = self.close_disowned(self.advance(state, read, Until::Then(deadline)));
            }
        }
    }

    /// Reads the socket once, for all threads, having waited for something to read; or sleeps until
    /// another thread has, or has changed something. Who ends reading wakes the others, so that one
    /// of them goes on.
    pub(super) fn advance<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        read: Read,
        until: Until,
    ) -> MutexGuard<'a, State> {
        if read != Read::Not && !state.reading {
            state.reading = true;
            let changes = state.changes;
            drop(state);
            let mut incoming = lock(&self.incoming);
            let mut glance = GLANCE;
            let received;
            (received, state) = loop {
                let received = incoming.receive(match read {
                    Read::Glance => until.at_most(glance),
                    _ => until,
                });
                glance = LONGEST_GLANCE.min(2 * glance);
                let state = self.state();
                let silent = received.is_ok() && incoming.messages.is_empty();
                // The others need not know that there was nothing.
                if read != Read::Glance || !silent || until.is_over() || state.changes != changes {
                    break (received, state);
                }
            };
            state.reading = false;
            let noted = incoming.messages.drain(..).try_for_each(|arrived| state.note(arrived));
            if let Err(error) = noted.and(received) {
                match self.home.is_some() && is_loss(&error) {
                    true => state.lost = Some(error),
                    // Unless it was broken from our side meanwhile.
                    false => state.break_off(error),
                }
            }
            if state.waiting > 0 {
                self.changed.notify_all();
            }
        } else {
            state.waiting += 1;
            state = match until {
                Until::Then(deadline) => {
                    let changed = self.changed.wait_timeout(state, left(deadline));
                    changed.unwrap_or_else(PoisonError::into_inner).0
                }
                // Even now: no bytes are waited for, but who reads them is.
                Until::Now | Until::It => {
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.waiting -= 1;
        }
        state
    }
}
