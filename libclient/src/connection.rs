//! Owns the connection that all of a client's threads share: who writes it, who reads it, what has
//! arrived for whom, and its replacement by another when the daemon goes away.
//!
//! Knows slots only as a table to note completions in. There is no reader thread: of the threads that
//! wait for something, one reads the socket for all, and hands the reading on when it has what it
//! waited for. That saves a thread's wake-up on the way of every frame.
//!
//! Invariants: requests are sent, and given their tickets, under one lock, so the n-th reply
//! answers the n-th request that has one; a connection that broke for good stays broken, with the
//! same error for all; a thread that can't write because the daemon does not read, reads meanwhile:
//! the daemon may be waiting for that.
//!
//! From one connection to the next is an era. What was in flight is submitted again as an era
//! begins, in one step with its beginning: so a request that was made ready in one era is never
//! sent in the next, or it would be said twice. Locks are taken in the order `incoming`,
//! `outgoing`, `state`.

mod incoming;
mod recovery;
mod state;

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use resized_protocol::codec;
use resized_protocol::fdpass::{self, Passed};
use resized_protocol::message::{Refusal, Reply, Request};

use crate::Error;
use crate::link::{Link, left};
use crate::reconnect::{Home, is_loss};
use crate::slots::Slots;
use incoming::{Incoming, Until};
pub(crate) use state::{State, Wait};

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
}

/// Held while a request is written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    socket: Arc<UnixStream>,
    era: u64,
    bytes: Vec<u8>,
    /// What goes before anything else in this era.
    first: Vec<u8>,
    streams: u32,
}

impl Outgoing {
    fn encode(&mut self, request: &Request) -> Result<(), Error> {
        self.bytes.clear();
        Ok(codec::encode(request, &mut self.bytes)?)
    }

    /// The number of a new stream.
    pub(crate) fn new_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams - 1
    }
}

/// A request that was sent in that era, and its ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    era: u64,
    number: u64,
}

/// What a request was answered.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) descriptor: Option<Passed>,
    pub(crate) era: u64,
}

/// How long a message is waited for where another thread may bring the same: at first, and at the
/// most. It doubles while nothing comes.
const GLANCE: Duration = Duration::from_millis(2);
const LONGEST_GLANCE: Duration = Duration::from_millis(10);

/// How often it is looked whether nobody else sends, for what may stay unsaid.
const TRIES: u32 = 20;

/// How a thread reads that waits, if no other does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Not,
    Wait,
    /// Until another thread has changed something, too: it looks for that now and then ([`GLANCE`]).
    Glance,
}

impl Connection {
    /// Shares a link. When it is lost the daemon is found again at its home, if it has one.
    pub(crate) fn new(link: Link, devices: Vec<String>, home: Option<Home>) -> Self {
        let socket = Arc::new(link.socket);
        Self {
            outgoing: Mutex::new(Outgoing {
                socket: Arc::clone(&socket),
                era: 0,
                bytes: Vec::new(),
                first: Vec::new(),
                streams: 0,
            }),
            incoming: Mutex::new(Incoming::new(socket, link.arrivals)),
            state: Mutex::new(State::new(devices)),
            changed: Condvar::new(),
            home,
            process: process::id(),
        }
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
        let lives = state.era == era && state.lost.is_none();
        if lives {
            state.streams.insert(stream, slots);
        }
        lives
    }

    /// Forgets a stream, and tells the daemon.
    pub(crate) fn close(&self, stream: u32) {
        let (era, slots) = {
            let mut state = self.state();
            (state.era, state.streams.remove(&stream))
        };
        self.close_unnoted(era, stream);
        // Not under the lock: unmapping a ring takes a while.
        drop(slots);
    }

    /// Tells the daemon to close a stream that it opened in that era.
    pub(crate) fn close_unnoted(&self, era: u64, stream: u32) {
        let mut outgoing = lock(&self.outgoing);
        // With its era, the stream is over.
        if outgoing.era == era && outgoing.encode(&Request::Close { stream }).is_ok() {
            {
                let mut state = self.state();
                let number = state.number();
                state.unwanted.push(number);
            }
            let _ = self.send(&mut outgoing);
        }
    }

    /// Sends a request made ready in that era that has no reply. If the era is over, so is the
    /// request: either it was about slots in flight, which have been submitted anew, or about
    /// nothing that is left. If the daemon turns out to be gone, nobody waits for the next: who
    /// reads finds that out, and slots in flight are submitted anew as the next era begins.
    pub(crate) fn tell(&self, era: u64, request: &Request) -> Result<(), Error> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.era == era {
            outgoing.encode(request)?;
            let _ = self.send(&mut outgoing);
        }
        Ok(())
    }

    /// As [`tell`](Self::tell), unless that has to wait: for another thread that sends, or for a
    /// daemon that does not read. Then it stays unsaid.
    pub(crate) fn suggest(&self, era: u64, request: &Request) {
        let free = (0..TRIES).find_map(|_| {
            // Others say their piece in microseconds.
            self.outgoing.try_lock().inspect_err(|_| std::thread::yield_now()).ok()
        });
        let Some(mut outgoing) = free else { return };
        let begun = outgoing.era == era && outgoing.encode(request).is_ok();
        let Outgoing { socket, bytes, .. } = &*outgoing;
        if begun && let Ok(sent) = fdpass::send(socket, bytes, None, MsgFlags::MSG_DONTWAIT) {
            // Half a message must not stay one. Linux takes such short ones whole or not at all.
            self.send_all(socket, &bytes[sent..]);
        }
    }

    /// Sends a request that has a reply.
    fn request(&self, request: impl FnOnce(&mut Outgoing) -> Request) -> Result<Asked, Error> {
        let mut outgoing = lock(&self.outgoing);
        let request = request(&mut outgoing);
        outgoing.encode(&request)?;
        let number = self.state().number();
        // Otherwise the daemon is gone, and no reply will come in this era.
        let _ = self.send(&mut outgoing);
        Ok(Asked { era: outgoing.era, number })
    }

    /// Sends a request and waits for its reply, and for the descriptor beside it, if any. Asks again
    /// where the daemon goes away before it has answered.
    pub(crate) fn ask(self: &Arc<Self>, request: &Request) -> Result<Reply, Error> {
        let mut asked = None;
        let answer = self.answer(&mut asked, None, |_| request.clone())?;
        Ok(answer.expect("who waits for ever has an answer").reply)
    }

    /// What a request is answered, that was sent as `asked` or else is now; `None`: not by then.
    pub(crate) fn answer(
        self: &Arc<Self>,
        asked: &mut Option<Asked>,
        deadline: Option<Instant>,
        mut request: impl FnMut(&mut Outgoing) -> Request,
    ) -> Result<Option<Answer>, Error> {
        loop {
            let Asked { era, number } = match *asked {
                Some(asked) => asked,
                None => *asked.insert(self.request(&mut request)?),
            };
            let look = |state: &mut State| {
                if state.era != era {
                    return Wait::Over(None);
                }
                state.replies.remove(&number).map_or(Wait::Message, |reply| Wait::Over(Some(reply)))
            };
            let found = match deadline {
                None => self.wait(look)?,
                Some(deadline) => match self.wait_until(deadline, look)? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
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
    pub(crate) fn forget(&self, Asked { era, number }: Asked) {
        let mut state = self.state();
        if state.era == era {
            state.disown(number);
            drop(self.close_disowned(state));
        }
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

    /// Sends what is encoded. False: the daemon is gone, or its connection has just been given up;
    /// whoever reads finds that out.
    fn send(&self, outgoing: &mut Outgoing) -> bool {
        let Outgoing { socket, first, bytes, .. } = outgoing;
        let sent = first.is_empty() || self.send_all(socket, first);
        first.clear();
        sent && self.send_all(socket, bytes)
    }

    fn send_all(&self, socket: &UnixStream, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            match fdpass::send(socket, rest, None, MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.make_room(socket) {
                        return false;
                    }
                }
                // It hung up, or died with requests unread: its last words, still to be read, say why.
                Err(error) if is_hang_up(&error) => return false,
                // Half a message may be sent.
                Err(error) => return self.give_up(socket, error.into()),
            }
        }
        true
    }

    /// Ends the connection for what failed on our side. The daemon then takes back what it has of
    /// ours, so there is nothing to give to another. False, for who would have sent.
    fn give_up(&self, socket: &UnixStream, error: Error) -> bool {
        let mut state = self.state();
        state.break_off(error);
        state.taken_back = true;
        self.wake(state);
        // Also whoever reads.
        let _ = socket.shutdown(Shutdown::Both);
        false
    }

    /// Waits until the socket takes bytes, or reads what has arrived: a daemon whose answers are not
    /// read does not read either. False: there is no use in waiting.
    fn make_room(&self, socket: &UnixStream) -> bool {
        let either = PollFlags::POLLIN | PollFlags::POLLOUT;
        let mut polled = [PollFd::new(socket.as_fd(), either)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return true,
            Err(errno) => return self.give_up(socket, io::Error::from(errno).into()),
        }
        // Also when it has failed: sending will say so.
        if polled[0].revents().is_none_or(|found| found != PollFlags::POLLIN) {
            return true;
        }
        let state = self.state();
        if state.broken.is_some() || state.lost.is_some() {
            return false;
        }
        drop(self.advance(state, Read::Wait, Until::Now));
        true
    }

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
    fn advance<'a>(
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

impl Drop for Connection {
    /// Says that it is over, or a child forked meanwhile, which has the socket too, would keep the
    /// session. Not the child itself: it would end its parent's.
    fn drop(&mut self) {
        if self.process == process::id() {
            let outgoing = self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = outgoing.socket.shutdown(Shutdown::Both);
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const CANCEL: Request = Request::Cancel { stream: 0, slot: 0 };

    fn connection() -> (Connection, UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let link = Link::over(ours.try_clone().unwrap(), Instant::now());
        (Connection::new(link, Vec::new(), None), ours, theirs)
    }

    #[test]
    fn what_may_stay_unsaid_is_not_waited_for() {
        let (connection, ours, mut theirs) = connection();
        connection.suggest(0, &CANCEL);
        let mut wanted = Vec::new();
        codec::encode(&CANCEL, &mut wanted).unwrap();
        let mut said = vec![0; wanted.len()];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(said, wanted);
        ours.set_nonblocking(true).unwrap();
        let mut filling = 0;
        while let Ok(written) = (&ours).write(&[0; 512]) {
            filling += written;
        }
        connection.suggest(0, &CANCEL);
        {
            let _busy = lock(&connection.outgoing);
            connection.suggest(0, &CANCEL);
        }
        drop((connection, ours));
        assert_eq!(theirs.read_to_end(&mut said).unwrap(), filling);
    }

    #[test]
    fn a_connection_is_over_though_another_process_has_its_socket() {
        let (mut connection, _childs, mut theirs) = connection();
        // As a child drops what it was forked with.
        connection.process += 1;
        drop(connection);
        theirs.set_nonblocking(true).unwrap();
        let lives = theirs.read(&mut [0]).unwrap_err();
        assert_eq!(lives.kind(), io::ErrorKind::WouldBlock);
        let (connection, _childs, mut theirs) = self::connection();
        drop(connection);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }
}
