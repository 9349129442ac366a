//! Owns the way out to one client: messages go straight into its socket, from whichever thread has
//! them, and wait here only while the socket is full.
//!
//! Invariants: messages leave in the order in which they were posted; posting never blocks; once a
//! message is lost the connection is cut, so that nobody waits for it; nothing follows the last
//! message, and no completion follows the closing of its stream. While lanes have more than enough
//! to do, completions may be held back for a moment to go together with the next, but never the
//! last one of those in flight. What can wait is bounded: a completion for each slot in flight, and
//! answers up to where the outbox is congested, and one more.

mod batch;

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use resized_protocol::message::{Completion, Message};
use resized_protocol::{codec, fdpass};
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout_at};

use super::watched::watch;
use crate::job::{Pressure, Sink};
use crate::lock;
use batch::Batch;

/// Bytes waiting beyond which a client is not read from.
const CONGESTED: usize = 64 * 1024;

/// Pause before another attempt where there is no descriptor to wait with.
const SCARCE: Duration = Duration::from_millis(10);

/// What the system says when too many descriptors, of whatever connections of this user, are on their
/// way; see unix(7).
const NO_ROOM: [Errno; 3] = [Errno::ETOOMANYREFS, Errno::ENOBUFS, Errno::ENOMEM];

pub(super) struct Outbox {
    /// Non-blocking.
    socket: Arc<UnixStream>,
    waiting: Mutex<Waiting>,
    /// Something waits that did not before, or somebody has to look after completions that are held back.
    more: Notify,
    /// No completion is still to come.
    idle: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// Descriptors waiting.
    descriptors: usize,
    /// A message on its way, kept for its allocation.
    buffer: Vec<u8>,
    /// Completions held back.
    batch: Batch,
    /// Jobs whose completions are still to come.
    in_flight: usize,
    link: Link,
}

/// Whether anything more may be posted.
#[derive(Default, PartialEq, Eq)]
enum Link {
    #[default]
    Open,
    /// The last message was posted.
    Ended,
    /// The socket has failed, or was cut.
    Failed,
}

/// The unsent rest of a message, or of several.
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
}

impl Outgoing {
    /// Whether that can be sent in one piece with it, behind it.
    fn takes(&self, next: &Self) -> bool {
        let has_descriptor = self.descriptor.is_some() || next.descriptor.is_some();
        !has_descriptor && self.bytes.len() + next.bytes.len() <= CONGESTED
    }

    /// Whether it failed with that for its descriptor alone, and may be sent later.
    fn lacks_room(&self, errno: Errno) -> bool {
        self.descriptor.is_some() && NO_ROOM.contains(&errno)
    }
}

/// How much of what waited was sent.
#[derive(PartialEq, Eq)]
enum Sent {
    /// As much as the socket takes.
    WhatFits,
    /// All before a descriptor for which the system has no room now.
    LacksRoom,
}

/// A descriptor that was not sent, since too many are on their way.
pub(super) struct NoRoom {
    pub(super) errno: Errno,
    pub(super) descriptor: Option<OwnedFd>,
}

impl Outbox {
    pub(super) fn new(socket: Arc<UnixStream>) -> Self {
        Self { socket, waiting: Mutex::default(), more: Notify::new(), idle: Notify::new() }
    }

    /// Sends a message, or as much of it as the socket takes now.
    pub(super) fn post(&self, message: &Message) {
        let _ = self.post_beside(message, None);
    }

    /// Sends a message that is the last: nothing follows it.
    pub(super) fn post_last(&self, message: &Message) {
        let mut waiting = self.lock();
        let _ = self.put(&mut waiting, message, None);
        if waiting.link == Link::Open {
            waiting.link = Link::Ended;
        }
    }

    /// Sends a message and a descriptor beside it; whether the descriptor is on its way already. `Err`:
    /// the system has no room for one more on its way to anybody, and nothing was sent.
    pub(super) fn post_beside(
        &self,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) -> Result<bool, NoRoom> {
        let mut waiting = self.lock();
        self.put(&mut waiting, message, descriptor)?;
        Ok(waiting.descriptors == 0)
    }

    /// Sends a message behind the completions held back, unless nothing more may be posted.
    fn put(
        &self,
        waiting: &mut Waiting,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), NoRoom> {
        self.send_held(waiting);
        if waiting.link != Link::Open {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut waiting.buffer);
        bytes.clear();
        if let Err(error) = codec::encode(message, &mut bytes) {
            // None is as long as that: lists come in pages, and devices are few.
            tracing::error!(%error, "a message can't be sent");
            self.cut(waiting);
            return Ok(());
        }
        self.deliver(waiting, Outgoing { bytes, sent: 0, descriptor })
    }

    /// Sends the completions held back, in one piece.
    fn send_held(&self, waiting: &mut Waiting) {
        if let Some(bytes) = waiting.batch.take() {
            // Only a descriptor can be refused.
            let _ = self.deliver(waiting, Outgoing { bytes, sent: 0, descriptor: None });
        }
    }

    fn deliver(&self, waiting: &mut Waiting, mut outgoing: Outgoing) -> Result<(), NoRoom> {
        if waiting.messages.is_empty() {
            match self.send(&mut outgoing) {
                Ok(true) => {
                    waiting.buffer = outgoing.bytes;
                    return Ok(());
                }
                Ok(false) => {}
                Err(errno) if outgoing.lacks_room(errno) => {
                    waiting.buffer = outgoing.bytes;
                    return Err(NoRoom { errno, descriptor: outgoing.descriptor });
                }
                Err(_) => {
                    self.cut(waiting);
                    return Ok(());
                }
            }
        }
        waiting.bytes += outgoing.bytes.len() - outgoing.sent;
        waiting.descriptors += usize::from(outgoing.descriptor.is_some());
        match waiting.messages.back_mut() {
            // In one piece: each takes a system call, under the lock.
            Some(last) if last.takes(&outgoing) => {
                last.bytes.extend_from_slice(&outgoing.bytes);
                waiting.buffer = outgoing.bytes;
            }
            _ => waiting.messages.push_back(outgoing),
        }
        self.more.notify_one();
        Ok(())
    }

    /// Sends nothing more, and lets the session's next read find the end of the connection.
    fn cut(&self, waiting: &mut Waiting) {
        *waiting =
            Waiting { link: Link::Failed, in_flight: waiting.in_flight, ..Waiting::default() };
        // Fails where the client has hung up: then there is nothing to cut.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Sends what waits, as much as the socket takes, after waiting for both. Until something waits,
    /// sends completions that were held back for long enough; later ones go behind it anyway.
    pub(super) async fn send_waiting(&self) -> io::Result<()> {
        loop {
            let (waits, look_at) = {
                let waiting = self.lock();
                (!waiting.messages.is_empty(), waiting.batch.look_at())
            };
            match look_at {
                _ if waits => break,
                None => self.more.notified().await,
                Some(look_at) => {
                    if timeout_at(look_at.into(), self.more.notified()).await.is_err() {
                        self.look_at_held(Instant::now());
                    }
                }
            }
        }
        // A registration of its own, only while the socket is full: a lasting one would wake the
        // thread each time the client reads.
        let socket = self.socket.try_clone();
        match socket.and_then(|socket| watch(Arc::new(socket), Interest::WRITABLE)) {
            Ok(socket) => socket.writable().await?.retain_ready(),
            // The daemon has no descriptor left, say: no fault of this client's.
            Err(_) => sleep(SCARCE).await,
        }
        if self.send_now()? == Sent::LacksRoom {
            sleep(SCARCE).await;
        }
        Ok(())
    }

    fn look_at_held(&self, now: Instant) {
        let mut waiting = self.lock();
        if waiting.batch.look(now) {
            self.send_held(&mut waiting);
        }
    }

    /// Waits until nothing waits to be sent. What the socket takes at once is sent before anything is
    /// waited for.
    pub(super) async fn flush(&self) -> io::Result<()> {
        self.send_now()?;
        while !self.lock().messages.is_empty() {
            self.send_waiting().await?;
        }
        Ok(())
    }

    /// Whether so much waits, or a descriptor, that the client is to read before it is answered more.
    pub(super) fn is_congested(&self) -> bool {
        let waiting = self.lock();
        waiting.bytes > CONGESTED || waiting.descriptors > 0
    }

    /// Notes that this many completions will come.
    pub(super) fn expect(&self, jobs: usize) {
        self.lock().in_flight += jobs;
    }

    /// Notes that a stream is closed, and that this many completions of it will not come. Those of jobs
    /// that lanes are at are not sent.
    pub(super) fn forget(&self, jobs: usize, closed: &AtomicBool) {
        let mut waiting = self.lock();
        // Under the lock: lanes look at it under the lock.
        closed.store(true, Ordering::Relaxed);
        waiting.in_flight -= jobs;
        if waiting.batch.is_last(waiting.in_flight) {
            self.send_held(&mut waiting);
        }
        self.note_idle(&waiting);
    }

    /// Waits until every completion has been posted.
    pub(super) async fn idle(&self) {
        while self.lock().in_flight > 0 {
            self.idle.notified().await;
        }
    }

    fn note_idle(&self, waiting: &Waiting) {
        if waiting.in_flight == 0 {
            self.idle.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock::take(&self.waiting)
    }

    fn send_now(&self) -> io::Result<Sent> {
        let mut waiting = self.lock();
        while let Some(mut outgoing) = waiting.messages.pop_front() {
            let (had_descriptor, before) = (outgoing.descriptor.is_some(), outgoing.sent);
            let sent = self.send(&mut outgoing);
            waiting.bytes -= outgoing.sent - before;
            if had_descriptor && outgoing.descriptor.is_none() {
                waiting.descriptors -= 1;
            }
            match sent {
                Ok(true) => {}
                Ok(false) => {
                    waiting.messages.push_front(outgoing);
                    break;
                }
                Err(errno) if outgoing.lacks_room(errno) => {
                    waiting.messages.push_front(outgoing);
                    return Ok(Sent::LacksRoom);
                }
                Err(errno) => {
                    self.cut(&mut waiting);
                    return Err(errno.into());
                }
            }
        }
        Ok(Sent::WhatFits)
    }

    /// Whether the client has read all that went into its socket.
    pub(super) fn is_read(&self) -> bool {
        // A socket that can't be asked has nothing on its way.
        fdpass::all_read(&*self.socket).unwrap_or(true)
    }

    /// Sends as much of a message as the socket takes. Whether that was all of it.
    fn send(&self, outgoing: &mut Outgoing) -> Result<bool, Errno> {
        while outgoing.sent < outgoing.bytes.len() {
            let rest = &outgoing.bytes[outgoing.sent..];
            let descriptor = outgoing.descriptor.as_ref().map(OwnedFd::as_fd);
            let sent = fdpass::send(&*self.socket, rest, descriptor, MsgFlags::MSG_DONTWAIT);
            match sent {
                Ok(sent) => {
                    outgoing.sent += sent;
                    outgoing.descriptor = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            }
        }
        Ok(true)
    }
}

impl Sink for Outbox {
    fn completed(&self, completion: Completion, pressure: Pressure, closed: &AtomicBool) {
        let mut waiting = self.lock();
        waiting.in_flight -= 1;
        let Waiting { batch, buffer, in_flight, link, .. } = &mut *waiting;
        if closed.load(Ordering::Relaxed) {
            // What is held back may have waited for this one.
            if batch.is_last(*in_flight) {
                self.send_held(&mut waiting);
            }
        } else if *link == Link::Open {
            batch.push(&completion, buffer);
            if batch.is_due(pressure, *in_flight, completion.worked_ns) {
                self.send_held(&mut waiting);
            } else if batch.hold(Instant::now) {
                self.more.notify_one();
            }
        }
        self.note_idle(&waiting);
    }
}

#[cfg(test)]
mod tests;
