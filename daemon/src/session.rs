//! Owns one client's conversation: reads what it asks, has it answered ([`requests`]), and lets go
//! of everything at the end ([`end`]).
//!
//! Knows the queue, never a device's work. Invariants: what a client holds is released when its
//! session ends, whatever ends it; a client that does not read its answers is not read from, and
//! stalls nobody else; a connection has one descriptor on its way at the most, even after its
//! session, so that all of them together have fewer than Linux allows the daemon.

mod end;
mod outbox;
mod requests;
mod watched;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use resized_protocol::codec::Inbox;
use resized_protocol::message::{Features, Violation};
use resized_protocol::stats::Stats;
use tokio::io::Interest;
use tokio::sync::watch::Receiver;
use tokio::task::{JoinError, spawn_blocking, yield_now};
use tokio::time::sleep_until;

use crate::job::Stream;
use crate::metrics::{ClientId, ClientMetrics, Counted, Metrics};
use crate::quota::{Accounts, Place, Turn};
use crate::scheduler::Scheduler;
use end::End;
use outbox::Outbox;
use watched::{Watched, watch};

/// How long a client that does not read is waited for, by a session that stops or is to pass it
/// another ring.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may take to say hello, and for the rest of a message that it has begun.
const PROMPTNESS: Duration = Duration::from_secs(5);

/// The first pause and the longest before a session looks again whether something has come to be.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// How long a session answers, or forgets streams, before it is the others' turn.
const TURN: Duration = Duration::from_micros(200);

/// What all sessions of a daemon share.
pub(crate) struct Shared {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) metrics: Metrics,
}

impl Shared {
    pub(crate) fn stats(&self) -> Stats {
        let devices = self.scheduler.stats();
        Stats {
            sessions: self.metrics.sessions.read(),
            streams: self.metrics.streams.read(),
            ring_bytes: self.accounts.ring_bytes(),
            queued: self.scheduler.waiting() as u64,
            refused: self.metrics.refused.read(),
            copied_bytes: devices.iter().map(|device| device.copied_bytes).sum(),
            devices,
        }
    }
}

/// What this client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Resize at all.
    pub(crate) welcome: bool,
    /// Be shown the figures of other users' clients.
    pub(crate) sees_all: bool,
    /// Have rings in named segments.
    pub(crate) named_segments: bool,
}

/// One client's conversation.
pub(crate) struct Session {
    client: ClientId,
    /// Its connection's, in its user's account.
    place: Place,
    rights: Rights,
    shared: Arc<Shared>,
    /// Non-blocking, and watched for reading only.
    socket: Watched,
    inbox: Inbox,
    outbox: Arc<Outbox>,
    /// The features agreed on, once the client has said hello.
    features: Option<Features>,
    /// When what the client owes us must have come: its hello, or the rest of a message.
    due: Option<Instant>,
    streams: BTreeMap<u32, Arc<Stream>>,
    /// The least number that a new stream may have.
    next_stream: u64,
    passing: Passing,
    /// Whether the daemon stops.
    stop: Receiver<bool>,
    /// No more streams are opened.
    stopping: bool,
    metrics: Arc<ClientMetrics>,
    _counted: Counted,
}

/// Where the descriptor of the last ring is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// With the client, as far as there was one.
    Over,
    /// In the outbox: what else the client asks for waits as well, or it could have the daemon hold any
    /// number of them.
    Withheld,
    /// In the socket, where the client may not have read it: no other ring is made until it has.
    Unread,
}

impl Session {
    pub(crate) fn new(
        client: ClientId,
        place: Place,
        rights: Rights,
        socket: UnixStream,
        shared: Arc<Shared>,
        stop: Receiver<bool>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(socket);
        let outbox = Arc::new(Outbox::new(Arc::clone(&socket)));
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self {
            metrics: shared.metrics.connect(client, place.uid()),
            client,
            place,
            rights,
            socket,
            inbox: Inbox::new(),
            outbox,
            features: None,
            due: Some(Instant::now() + PROMPTNESS),
            streams: BTreeMap::new(),
            next_stream: 0,
            passing: Passing::Over,
            stop,
            stopping: false,
            _counted: shared.metrics.sessions.count(),
            shared,
        })
    }

    /// Talks until the client hangs up or breaks the protocol, or the daemon stops; then says goodbye
    /// and lets go of everything.
    pub(crate) async fn run(mut self) {
        let end = match self.serve().await {
            Err(End::Stopping { .. }) => self.drain().await,
            Err(end) => end,
            Ok(never) => match never {},
        };
        self.end(end).await;
    }

    /// Reads and answers until there is a reason to end.
    async fn serve(&mut self) -> Result<Infallible, End> {
        let mut stop = self.stop.clone();
        let mut stopped = pin!(stop.wait_for(|&stop| stop));
        let outbox = Arc::clone(&self.outbox);
        let mut more = false;
        loop {
            let mut begun = None;
            // One read may hold a thousand requests, each answered with far more than it is itself.
            while self.passing != Passing::Withheld
                && !self.outbox.is_congested()
                && let Some(request) = self.inbox.pop().map_err(Violation::Codec)?
            {
                self.due = None;
                self.note_reading();
                self.answer(request).await?;
                if self.inbox.is_empty() {
                    break;
                }
                take_turns(&mut begun).await;
            }
            let may_read = !outbox.is_congested();
            if self.passing == Passing::Withheld && may_read {
                self.passing = Passing::Unread;
                continue;
            }
            let due = self.due(may_read);
            if std::mem::take(&mut more) {
                // The other sessions' turn first.
                yield_now().await;
            }
            tokio::select! {
                read = self.read(), if may_read => match read? {
                    (0, _) => return Err(End::HungUp),
                    (_, full) => more = full,
                },
                sent = outbox.send_waiting() => sent?,
                () = overdue(due) => match read(&mut self.inbox, self.socket.get_ref()) {
                    Ok((0, _)) => return Err(End::HungUp),
                    // It came in time, as far as can be told: it is we who look late, or were stopped.
                    Ok((_, full)) => more = full,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Err(End::Silence);
                    }
                    Err(error) => return Err(error.into()),
                },
                _ = &mut stopped => return Err(End::STOPPING),
            }
        }
    }

    /// When the client must have said what it owes, if it owes anything. One that we do not read from
    /// can't say it.
    fn due(&mut self, may_read: bool) -> Option<Instant> {
        let owes = self.features.is_none() || !self.inbox.is_empty();
        self.due = match self.due {
            _ if !(owes && may_read) => None,
            None => Some(Instant::now() + PROMPTNESS),
            due => due,
        };
        self.due
    }

    /// Looks whether the client has read its last ring's descriptor: an honest one has by what it
    /// says next.
    fn note_reading(&mut self) {
        if self.passing == Passing::Unread && self.outbox.is_read() {
            self.passing = Passing::Over;
        }
    }

    /// Reads what has arrived into the inbox; waits for at least a byte. Zero: the client hung up. Also
    /// whether there may be more.
    async fn read(&mut self) -> io::Result<(usize, bool)> {
        loop {
            let mut ready = poll_fn(|context| self.socket.poll_read_ready(context)).await?;
            match read(&mut self.inbox, ready.get_inner()) {
                Ok((len, full)) => {
                    // As much as there was: spare the read that would only say so.
                    if len > 0 && !full {
                        ready.clear_ready();
                    }
                    return Ok((len, full));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Has something done that takes long, in its user's turn: not on the thread that drives all
    /// sessions. What there is to be sent goes out meanwhile.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.meanwhile(self.place.account().turn()).await;
        self.meanwhile(in_turn(turn, work)).await
    }

    async fn meanwhile<T>(&self, waited_for: impl Future<Output = T>) -> T {
        let mut waited_for = pin!(waited_for);
        loop {
            tokio::select! {
                done = &mut waited_for => return done,
                // Reading the socket shows if it has failed.
                _ = self.outbox.send_waiting() => {}
            }
        }
    }

    /// Waits until it is so, looking again and again. False: it is not in that time, or the daemon
    /// stops.
    async fn await_that(&self, mut so: impl FnMut(&Self) -> bool + Send, within: Duration) -> bool {
        let mut stop = self.stop.clone();
        let [mut pause, longest] = PAUSES;
        let mut waited = Duration::ZERO;
        while !so(self) {
            if waited >= within {
                return false;
            }
            tokio::select! {
                () = self.meanwhile(tokio::time::sleep(pause)) => {}
                _ = stop.wait_for(|&stop| stop) => return false,
            }
            // Not by a clock: it goes on while this process, and maybe the client, is stopped.
            waited = waited.saturating_add(pause);
            pause = (2 * pause).min(longest);
        }
        true
    }

    fn uid(&self) -> u32 {
        self.place.uid()
    }
}

/// Does something that takes long on one of the threads that there are for that.
async fn in_turn<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    })
    .await
}

/// Leaves the other sessions theirs once this one's turn, which began then or else does now, is over.
async fn take_turns(begun: &mut Option<Instant>) {
    if begun.get_or_insert_with(Instant::now).elapsed() > TURN {
        yield_now().await;
        *begun = None;
    }
}

/// Waits for that moment, if there is one.
async fn overdue(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

fn read(inbox: &mut Inbox, mut socket: &UnixStream) -> io::Result<(usize, bool)> {
    inbox.fill(|space| socket.read(space))
}

#[cfg(test)]
mod tests;
