//! Owns how threads wait: for a message, for one another, for a moment to be over.
//!
//! Knows that messages come, not what they say. There is no reader thread: of the threads that wait
//! for something, one reads the socket for all, and hands the reading on when it has what it waited
//! for. That saves a thread's wake-up on the way of every frame. Invariants: one thread reads at a
//! time; whoever ends reading wakes the others, if there was anything to read.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::incoming::Incoming;
use super::{Connection, Source, State, Wait};
use crate::Error;
use crate::link::{left, sooner};
use crate::lock::lock;
use crate::reconnect::is_loss;

/// How long a message is waited for where another thread may bring the same: at first, and at the
/// most. It doubles while nothing comes.
pub(super) const GLANCE: Duration = Duration::from_millis(2);
const LONGEST_GLANCE: Duration = Duration::from_millis(10);

/// How often who waits until something else is over is asked whether it is.
const STEP: Duration = Duration::from_millis(50);

/// Why [`Connection::wait_by`] without a deadline always finds something.
pub(crate) const ENDLESS: &str = "who waits without a deadline waits until there is something";

impl Connection {
    /// What `poll` finds at once. What has arrived is read only where it may bring something.
    pub(crate) fn at_once<T>(
        self: &Arc<Self>,
        mut poll: impl FnMut(&mut State) -> Wait<T>,
    ) -> Result<Option<T>, Error> {
        let found = self.state().look(&mut poll)?;
        match found {
            Wait::Over(found) => Ok(Some(found)),
            Wait::For(Source::Thread) => Ok(None),
            Wait::For(Source::Message | Source::Either) => self.wait_by(Some(Instant::now()), poll),
        }
    }

    /// Blocks until `poll` finds what it looks for; `None`: not by the deadline, if there is one. What
    /// has arrived by then is looked at in any case. With a deadline, a daemon that went away is looked
    /// for by a thread of its own, which may take longer.
    pub(crate) fn wait_by<T>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        mut poll: impl FnMut(&mut State) -> Wait<T>,
    ) -> Result<Option<T>, Error> {
        let mut state = self.state();
        let mut over = false;
        loop {
            let source = match state.look(&mut poll)? {
                Wait::Over(found) => return Ok(Some(found)),
                Wait::For(_) if over => return Ok(None),
                Wait::For(source) => source,
            };
            over = is_over(deadline);
            if let Some((home, lost)) = self.to_recover(&mut state) {
                drop(state);
                match deadline {
                    None => self.recover(home, &lost, || true),
                    Some(_) => self.recover_aside(&lost),
                }
                state = self.state();
            } else {
                state = self.close_disowned(self.advance(state, source, deadline));
            }
        }
    }

    /// Waits for something to change, from wherever that will come. Whoever ends reading wakes the
    /// others, so that one of them goes on.
    pub(super) fn advance<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        source: Source,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match source {
            Source::Message | Source::Either if !state.reading => {
                self.read_for_all(state, source, until)
            }
            _ => self.sleep(state, until),
        }
    }

    /// Reads the socket once, having waited for something to read, and notes what has come.
    fn read_for_all<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        source: Source,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.reading = true;
        let changes = state.changes;
        drop(state);
        let mut incoming = lock(&self.incoming);
        let (received, mut state) = match source {
            Source::Either => self.glance(&mut incoming, until, changes),
            Source::Message | Source::Thread => (incoming.receive(until), self.state()),
        };
        state.reading = false;
        let noted = incoming.messages.drain(..).try_for_each(|arrived| state.note(arrived));
        if let Err(error) = noted.and(received) {
            match self.home.is_some() && is_loss(&error) {
                true => state.lose(error),
                false => state.break_off(error),
            }
        }
        if state.waiting > 0 {
            self.changed.notify_all();
        }
        state
    }

    /// Receives until there is something, or until another thread has changed something, for which
    /// it looks now and then ([`GLANCE`]). The others need not know that there was nothing.
    fn glance<'a>(
        &'a self,
        incoming: &mut Incoming,
        until: Option<Instant>,
        changes: u64,
    ) -> (Result<(), Error>, MutexGuard<'a, State>) {
        let mut glance = GLANCE;
        loop {
            let received = incoming.receive(Some(sooner(until, Instant::now() + glance)));
            glance = LONGEST_GLANCE.min(2 * glance);
            let state = self.state();
            let silent = received.is_ok() && incoming.messages.is_empty();
            if !silent || is_over(until) || state.changes != changes {
                return (received, state);
            }
        }
    }

    /// Sleeps until another thread has read, or has changed something.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.waiting += 1;
        state = match until {
            Some(until) => {
                let changed = self.changed.wait_timeout(state, left(until));
                changed.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.waiting -= 1;
        state
    }
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| left(until).is_zero())
}

/// Calls `by` with one deadline after another, [`STEP`] apart, until it finds something or `over` says that it is.
pub(crate) fn until_over<T>(
    mut by: impl FnMut(Instant) -> Result<Option<T>, Error>,
    mut over: impl FnMut() -> bool,
) -> Result<Option<T>, Error> {
    loop {
        let found = by(Instant::now() + STEP)?;
        if found.is_some() || over() {
            return Ok(found);
        }
    }
}
