//! Owns the socket: who writes it, who reads it, and what has arrived for whom.
//!
//! Knows slots only as a table to note completions in. There is no reader thread: of the threads that
//! wait for something, one reads the socket for all, and hands the reading on when it has what it
//! waited for. That saves a thread's wake-up on the way of every frame.
//!
//! Invariants: requests are sent, and given their tickets, under one lock, so the n-th reply answers
//! the n-th request that has one; a connection that broke stays broken, with the same error for all;
//! who can't write because the daemon does not read, reads meanwhile: it may be waiting for that.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use resized_protocol::codec::{self, Inbox};
use resized_protocol::fdpass;
use resized_protocol::message::{Backing, Completion, Goodbye, Message, Reply, Request};

use crate::Error;
use crate::slots::Slots;

/// Milliseconds after which a daemon that does not answer a hello is taken for dead.
const HELLO_TIMEOUT: u16 = 10_000;

#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    state: Mutex<State>,
    changed: Condvar,
    /// The daemon has answered the hello: from now on it may take its time.
    welcomed: AtomicBool,
}

/// Held while a request is written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    requests: u64,
    streams: u32,
}

/// Held by the thread that reads.
#[derive(Debug, Default)]
struct Incoming {
    inbox: Inbox,
    descriptors: VecDeque<OwnedFd>,
    messages: Vec<Arrived>,
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

    /// The number of a request that has a reply.
    fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests - 1
    }
}

#[derive(Debug)]
enum Arrived {
    Reply(Reply, Option<OwnedFd>),
    Completed(Completion),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    streams: BTreeMap<u32, Slots>,
    /// Replies that arrived and were not yet fetched, by the number of the request.
    replies: BTreeMap<u64, (Reply, Option<OwnedFd>)>,
    /// Requests whose replies nobody will fetch.
    unwanted: Vec<u64>,
    answered: u64,
    /// A thread is reading the socket.
    reading: bool,
    waiting: usize,
    broken: Option<Error>,
}

impl State {
    /// The slots of a stream that is open: there is one as long as its handle lives.
    pub(crate) fn slots(&mut self, stream: u32) -> Result<&mut Slots, Error> {
        self.streams.get_mut(&stream).ok_or(Error::Unexpected("a stream without slots"))
    }

    fn note(&mut self, arrived: Arrived) -> Result<(), Error> {
        match arrived {
            Arrived::Completed(completion) => {
                // Without slots: sent before the daemon had read that the stream was closed.
                if let Some(slots) = self.streams.get_mut(&completion.stream) {
                    slots.complete(completion)?;
                }
            }
            Arrived::Reply(reply, descriptor) => {
                let request = self.answered;
                self.answered += 1;
                match self.unwanted.iter().position(|&unwanted| unwanted == request) {
                    Some(index) => drop(self.unwanted.swap_remove(index)),
                    None => drop(self.replies.insert(request, (reply, descriptor))),
                }
            }
        }
        Ok(())
    }
}

/// What a thread that waits should do when nothing is there yet.
pub(crate) enum Wait<T> {
    /// It is there.
    Over(T),
    /// A message will bring it: read.
    Message,
    /// Another thread of this process will bring it.
    Thread,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            welcomed: AtomicBool::new(false),
        }
    }

    /// Waits for answers without limit from now on.
    pub(crate) fn set_welcomed(&self) {
        self.welcomed.store(true, Ordering::Relaxed);
    }

    /// What has arrived, to look at or change. Call [`wake`](Self::wake) after a change that a
    /// waiting thread would want to know of.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets waiting threads look again.
    pub(crate) fn wake(&self, state: MutexGuard<'_, State>) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    pub(crate) fn add_stream(&self, stream: u32, slots: Slots) {
        self.state().streams.insert(stream, slots);
    }

    pub(crate) fn remove_stream(&self, stream: u32) {
        self.state().streams.remove(&stream);
    }

    /// Sends a request that has no reply.
    pub(crate) fn tell(&self, request: &Request) -> Result<(), Error> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.encode(request)?;
        self.send(&outgoing)
    }

    /// Sends a request and drops its reply when it comes.
    pub(crate) fn tell_and_forget(&self, request: &Request) -> Result<(), Error> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.encode(request)?;
        let number = outgoing.number();
        self.state().unwanted.push(number);
        self.send(&outgoing)
    }

    /// Sends a request and waits for its reply, and for the descriptor beside it, if any.
    pub(crate) fn ask(
        &self,
        request: impl FnOnce(&mut Outgoing) -> Request,
    ) -> Result<(Reply, Option<OwnedFd>), Error> {
        let number = {
            let mut outgoing = lock(&self.outgoing);
            let request = request(&mut outgoing);
            outgoing.encode(&request)?;
            let number = outgoing.number();
            self.send(&outgoing)?;
            number
        };
        match self.wait(|state| match state.replies.remove(&number) {
            Some(reply) => Wait::Over(reply),
            None => Wait::Message,
        })? {
            (Reply::Refused(refusal), _) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    fn send(&self, outgoing: &Outgoing) -> Result<(), Error> {
        let mut rest = outgoing.bytes.as_slice();
        while !rest.is_empty() {
            match fdpass::send(&self.socket, rest, None, MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.make_room()?,
                Err(error) => return Err(self.lost(error)),
            }
        }
        Ok(())
    }

    /// Waits until the socket takes bytes, or reads what has arrived: a daemon whose answers are not
    /// read does not read either.
    fn make_room(&self) -> Result<(), Error> {
        let either = PollFlags::POLLIN | PollFlags::POLLOUT;
        let mut socket = [PollFd::new(self.socket.as_fd(), either)];
        match poll(&mut socket, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(self.lost(error.into())),
        }
        if socket[0].revents().is_some_and(|found| found.contains(PollFlags::POLLOUT)) {
            return Ok(());
        }
        let state = self.state();
        match &state.broken {
            Some(error) => Err(error.clone()),
            None => {
                drop(self.advance(state, true, false));
                Ok(())
            }
        }
    }

    /// Breaks the connection after a failed write. That often means that the daemon hung up: then its
    /// last words say why.
    fn lost(&self, error: io::Error) -> Error {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            // Half a message may be sent. Whoever reads learns of it too.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        let _ = self.wait(|_| Wait::<()>::Message);
        let mut state = self.state();
        state.broken.get_or_insert(error.into()).clone()
    }

    /// Blocks until `poll` finds what it looks for.
    pub(crate) fn wait<T>(&self, mut poll: impl FnMut(&mut State) -> Wait<T>) -> Result<T, Error> {
        let mut state = self.state();
        loop {
            let message = match poll(&mut state) {
                Wait::Over(found) => return Ok(found),
                Wait::Message => true,
                Wait::Thread => false,
            };
            if let Some(error) = &state.broken {
                return Err(error.clone());
            }
            state = self.advance(state, message, true);
        }
    }

    /// Reads the socket once, for all threads, if `block` after waiting for something to read; or sleeps
    /// until another thread has, or has changed something.
    fn advance<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        read: bool,
        block: bool,
    ) -> MutexGuard<'a, State> {
        if read && !state.reading {
            state.reading = true;
            drop(state);
            let mut incoming = lock(&self.incoming);
            let arrived = if block { self.wait_for_bytes() } else { Ok(()) };
            let received = arrived.and_then(|()| self.receive(&mut incoming));
            state = self.state();
            state.reading = false;
            let noted = incoming.messages.drain(..).try_for_each(|arrived| state.note(arrived));
            if let Err(error) = noted.and(received) {
                state.broken = Some(error);
            }
            if state.waiting > 0 {
                self.changed.notify_all();
            }
        } else {
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    /// Not left to the reading itself: who waits in that is also woken when the daemon has read what we
    /// sent, once for each frame, for nothing.
    fn wait_for_bytes(&self) -> Result<(), Error> {
        let timeout = match self.welcomed.load(Ordering::Relaxed) {
            true => PollTimeout::NONE,
            false => HELLO_TIMEOUT.into(),
        };
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => Err(Error::Silent),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Reads what has arrived, if anything, and decodes every message that is then whole. Those before
    /// an error are kept.
    fn receive(&self, incoming: &mut Incoming) -> Result<(), Error> {
        let Incoming { inbox, descriptors, messages } = incoming;
        let filled = inbox.fill(|space| {
            let (read, descriptor) = fdpass::receive(&self.socket, space, MsgFlags::MSG_DONTWAIT)?;
            descriptors.extend(descriptor);
            Ok::<_, io::Error>(read)
        });
        match filled {
            Ok((0, _)) => return Err(Error::Disconnected),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        while let Some(message) = inbox.pop()? {
            messages.push(match message {
                Message::Completed(completion) => Arrived::Completed(completion),
                Message::Reply(reply) => {
                    let passed =
                        matches!(reply, Reply::Opened { backing: Backing::Descriptor, .. });
                    let descriptor = if passed { descriptors.pop_front() } else { None };
                    Arrived::Reply(reply, descriptor)
                }
                Message::Goodbye(Goodbye::Refused(refusal)) => return Err(refusal.into()),
                Message::Goodbye(goodbye) => return Err(Error::Goodbye(goodbye)),
            });
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
