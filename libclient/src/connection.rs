//! Owns the connection that all of a client's threads share: its streams, what is asked and answered,
//! and its replacement by another when the daemon goes away.
//!
//! Knows slots only as a table to note completions in. `outgoing` writes, `incoming` reads, `state`
//! is what has arrived for whom, `waiting` says who reads and who sleeps, `recovery` finds the next
//! daemon.
//!
//! Invariant: requests are given their tickets and sent under one lock, so in one order.
//!
//! From one connection to the next is an era. What was in flight is submitted again as an era
//! begins, in one step with its beginning: so a request that was made ready in one era is never
//! sent in the next, or it would be said twice. `incoming` is taken only by the thread that has set
//! `reading`, and let go before that is unset for others to see: so nobody ever waits for it. Of the
//! others `outgoing` is taken before `state`.

mod incoming;
mod outgoing;
mod recovery;
mod state;
mod waiting;

use std::any::Any;
use std::net::Shutdown;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use resized_protocol::fdpass::Passed;
use resized_protocol::message::{Refusal, Reply, Request};

use crate::Error;
use crate::link::Link;
use crate::lock::lock;
use crate::reconnect::Home;
use crate::slots::Slots;
use incoming::Incoming;
pub(crate) use outgoing::Outgoing;
pub(crate) use state::{Source, State, Wait};
pub(crate) use waiting::{ENDLESS, until_over};

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    state: Mutex<State>,
    changed: Condvar,
    /// Where the daemon is found again; `None`: nowhere.
    home: Option<Home>,
    /// Whose it is.
    process: u32,
    /// The daemon, if it lives no longer than this. Declared, and so dropped, behind the socket to it.
    daemon: Option<Box<dyn Any + Send + Sync>>,
}

/// A request that was sent in that era, and its ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    era: u64,
    ticket: u64,
}

/// What a request was answered.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) descriptor: Option<Passed>,
    pub(crate) era: u64,
}

impl Connection {
    /// Shares a link. When it is lost the daemon is found again at its home, if it has one.
    pub(crate) fn new(link: Link, devices: Vec<String>, home: Option<Home>) -> Self {
        let socket = Arc::new(link.socket);
        Self {
            outgoing: Mutex::new(Outgoing::new(Arc::clone(&socket))),
            incoming: Mutex::new(Incoming::new(socket, link.arrivals, link.broke)),
            state: Mutex::new(State::new(devices)),
            changed: Condvar::new(),
            home,
            process: process::id(),
            daemon: None,
        }
    }

    /// Keeps the daemon that it is to.
    pub(crate) fn keeping(mut self, daemon: Option<Box<dyn Any + Send + Sync>>) -> Self {
        self.daemon = daemon;
        self
    }

    /// What has arrived, to look at or change. Call [`wake`](Self::wake) after a change that a
    /// waiting thread would want to know of.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets waiting threads look again.
    pub(crate) fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.changes += 1;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Notes a stream that was opened in that era. False: the daemon that opened it is gone.
    pub(crate) fn add_stream(&self, era: u64, stream: u32, slots: Slots) -> bool {
        let mut state = self.state();
        let lives = state.era == era && !state.is_lost();
        if lives {
            state.streams.insert(stream, slots);
        }
        lives
    }

    /// Forgets a stream, and tells the daemon.
    pub(crate) fn close(&self, stream: u32) {
        if self.is_forked() {
            return;
        }
        let (era, slots) = {
            let mut state = self.state();
            (state.era, state.streams.remove(&stream))
        };
        // Not under the lock: unmapping a ring takes a while. First: the daemon takes it back as it hears of it.
        drop(slots);
        self.close_unnoted(era, stream);
    }

    /// Tells the daemon to close a stream that it opened in that era.
    pub(crate) fn close_unnoted(&self, era: u64, stream: u32) {
        if self.is_forked() {
            return;
        }
        let mut outgoing = lock(&self.outgoing);
        // With its era, the stream is over.
        if outgoing.era == era && outgoing.encode(&Request::Close { stream }).is_ok() {
            {
                let mut state = self.state();
                let ticket = state.next_ticket();
                state.unwanted.push(ticket);
            }
            let _ = self.send(&mut outgoing);
        }
    }

    /// Sends a request that has a reply.
    fn request(&self, request: impl FnOnce(&mut Outgoing) -> Request) -> Result<Asked, Error> {
        let mut outgoing = lock(&self.outgoing);
        let request = request(&mut outgoing);
        outgoing.encode(&request)?;
        let ticket = self.state().next_ticket();
        // Otherwise the daemon is gone, and no reply will come in this era.
        let _ = self.send(&mut outgoing);
        Ok(Asked { era: outgoing.era, ticket })
    }

    /// Sends a request and waits for its reply. Asks again where the daemon goes away before it has
    /// answered.
    pub(crate) fn ask(self: &Arc<Self>, request: &Request) -> Result<Reply, Error> {
        let mut asked = None;
        let answer = self.answer(&mut asked, None, |_| request.clone())?;
        Ok(answer.expect(ENDLESS).reply)
    }

    /// What a request is answered, that was sent as `asked` or else is now; `None`: not by then.
    pub(crate) fn answer(
        self: &Arc<Self>,
        asked: &mut Option<Asked>,
        deadline: Option<Instant>,
        mut request: impl FnMut(&mut Outgoing) -> Request,
    ) -> Result<Option<Answer>, Error> {
        loop {
            let Asked { era, ticket } = match *asked {
                Some(asked) => asked,
                None => *asked.insert(self.request(&mut request)?),
            };
            let look = |state: &mut State| {
                if state.era != era {
                    return Wait::Over(None);
                }
                match state.replies.remove(&ticket) {
                    Some(reply) => Wait::Over(Some(reply)),
                    None => Wait::For(Source::Message),
                }
            };
            let Some(found) = self.wait_by(deadline, look)? else { return Ok(None) };
            match found {
                None => *asked = None,
                // The next will be asked, once this one is gone.
                Some((Reply::Refused(Refusal::Stopping), _)) if self.home.is_some() => {}
                Some((reply, descriptor)) => {
                    *asked = None;
                    return match reply {
                        Reply::Refused(refusal) => Err(refusal.into()),
                        reply => Ok(Some(Answer { reply, descriptor, era })),
                    };
                }
            }
        }
    }

    /// Nobody will fetch the reply to that. A stream that it opens is closed, as soon as anybody reads.
    pub(crate) fn forget(&self, Asked { era, ticket }: Asked) {
        if self.is_forked() {
            return;
        }
        let mut state = self.state();
        if state.era == era {
            state.disown(ticket);
            drop(self.close_disowned(state));
        }
    }

    /// Whether this is a child of the process that connected, and drops what it was forked with: it
    /// has the same socket, and must say nothing on it.
    fn is_forked(&self) -> bool {
        self.process != process::id()
    }

    /// Closes streams whose opening nobody waited for.
    fn close_disowned<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while let Some(stream) = state.disowned.pop() {
            let era = state.era;
            drop(state);
            self.close_unnoted(era, stream);
            state = self.state();
        }
        state
    }
}

impl Drop for Connection {
    /// Says that it is over, or a child forked meanwhile, which has the socket too, would keep the
    /// session.
    fn drop(&mut self) {
        if !self.is_forked() {
            let outgoing = self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = outgoing.socket.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream;

    use super::*;

    pub(super) fn connection() -> (Connection, UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let link = Link::over(ours.try_clone().unwrap(), None);
        (Connection::new(link, Vec::new(), None), ours, theirs)
    }

    #[test]
    fn a_connection_is_over_though_another_process_has_its_socket() {
        let (mut connection, _childs, mut theirs) = connection();
        // As a child drops what it was forked with.
        connection.process += 1;
        connection.close(0);
        connection.close_unnoted(0, 1);
        connection.forget(Asked { era: 0, ticket: 0 });
        connection.suggest(0, &Request::Cancel { stream: 0, slot: 0 });
        drop(connection);
        theirs.set_nonblocking(true).unwrap();
        let lives = theirs.read(&mut [0]).unwrap_err();
        assert_eq!(lives.kind(), io::ErrorKind::WouldBlock);
        let (connection, _childs, mut theirs) = self::connection();
        drop(connection);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }
}
