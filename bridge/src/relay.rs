//! Owns one client's conversation: passes on what it says, with its frames put into the daemon's rings, and
//! what the daemon says, with its frames taken out of them.
//!
//! To the daemon it is a client like any other, one for each connection; so the daemon's own rules, quotas
//! and failures hold for who comes through here. Knows neither sockets' addresses nor TLS. Invariants: a
//! client's memory is bounded by the limit given, and one whose frames do not get on is cut off; a frame
//! is read into a slot only while the slot is the client's.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use resized_client::remote::rings::Rings;
use resized_client::remote::wire::{Receiver, Sender, WireError};
use resized_protocol::codec::Inbox;
use resized_protocol::fdpass;
use resized_protocol::message::{
    Backing, Completion, Cropped, Features, Goodbye, Message, Refusal, Reply, Request, Resource,
    Status, StreamSpec, Violation, Whose,
};
use resized_protocol::placement::Crop;
use resized_protocol::remote::Call;
use resized_protocol::shm::{Region, RingLayout, leases};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot, watch};

use crate::replies::Replies;

/// How a conversation ended.
#[derive(Debug, Error)]
pub(crate) enum End {
    #[error("the client hung up")]
    HungUp,
    #[error("the daemon hung up")]
    DaemonHungUp,
    #[error("the bridge stops")]
    Stopping,
    #[error("violation: {0}")]
    Violation(#[from] Violation),
    #[error("the client: {0}")]
    Client(io::Error),
    #[error("the daemon: {0}")]
    Daemon(#[source] WireError),
}

/// What a client may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of rings.
    pub(crate) bytes: u64,
    /// For the next piece of a frame.
    pub(crate) patience: Duration,
}

/// What both directions know. They are two halves of one task, so nobody ever waits for a lock.
struct Shared {
    rings: Mutex<Rings>,
    replies: Mutex<Replies>,
    /// A reply of the bridge's may have its turn.
    ours: Notify,
    /// There is room for another request.
    room: Notify,
    limits: Limits,
}

impl Shared {
    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays until either side hangs up, or `stop` turns true. `name` is put before the client's.
pub(crate) async fn relay(
    client: Receiver<impl AsyncRead + Unpin>,
    to_client: &mut Sender<impl AsyncWrite + Unpin>,
    daemon: UnixStream,
    name: &str,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> End {
    let daemon = daemon.set_nonblocking(true).and(tokio::net::UnixStream::from_std(daemon));
    let mut daemon = match daemon {
        Ok(daemon) => daemon,
        Err(error) => return End::Daemon(error.into()),
    };
    let (from_daemon, to_daemon) = daemon.split();
    let shared = Shared {
        rings: Mutex::default(),
        replies: Mutex::default(),
        ours: Notify::new(),
        room: Notify::new(),
        limits,
    };
    let (violated, violation) = oneshot::channel();
    let there = async {
        let to_daemon = Sender::new(to_daemon, limits.patience);
        let end = match there(&shared, client, to_daemon, name).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // Said between two messages, by the other half.
        if let End::Violation(what) = &end
            && violated.send(*what).is_ok()
        {
            std::future::pending::<()>().await;
        }
        end
    };
    tokio::select! {
        end = there => end,
        end = back(&shared, from_daemon, to_client, violation, stop) => end,
    }
}

enum Never {}

async fn there(
    shared: &Shared,
    mut client: Receiver<impl AsyncRead + Unpin>,
    mut daemon: Sender<WriteHalf<'_>>,
    name: &str,
) -> Result<Never, End> {
    loop {
        while shared.replies().is_full() {
            shared.room.notified().await;
        }
        let request = match client.next::<Call>().await {
            Ok(Some(Call::Request(request))) => request,
            Ok(Some(Call::Knock { .. })) => return Err(Violation::SecondHello.into()),
            Ok(None) => return Err(End::HungUp),
            Err(WireError::Codec(error)) => return Err(Violation::Codec(error).into()),
            Err(WireError::Io(error)) => return Err(End::Client(error)),
        };
        let request = match request {
            Request::Submit { stream, slots } if !slots.is_empty() => {
                for slot in slots {
                    read_frame(shared, &mut client, stream, slot).await?;
                    say(&mut daemon, Request::Submit { stream, slots: vec![slot] }).await?;
                }
                continue;
            }
            Request::SubmitCropped { stream, slots } if !slots.is_empty() => {
                for Cropped { slot, crop } in slots {
                    read_frame(shared, &mut client, stream, slot).await?;
                    say(&mut daemon, submit_cropped(stream, slot, crop)).await?;
                }
                continue;
            }
            request => request,
        };
        if let Request::Open { spec, .. } = &request {
            // What was closed before is given back before.
            while ring_bytes(shared, spec).is_err() && shared.rings().any_closing() {
                shared.room.notified().await;
            }
        }
        match prepare(shared, request, name)? {
            Some(request) => say(&mut daemon, request).await?,
            None => shared.ours.notify_one(),
        }
    }
}

/// What the daemon should be asked; none if the bridge answers by itself.
fn prepare(shared: &Shared, request: Request, name: &str) -> Result<Option<Request>, Violation> {
    Ok(match request {
        Request::Hello { version, name: own, .. } => {
            shared.replies().await_theirs(0);
            let (features, name) = (Features::default(), format!("{name} {own}"));
            Some(Request::Hello { version, features, name })
        }
        Request::Open { stream, spec, .. } => match ring_bytes(shared, &spec) {
            Ok(bytes) => {
                shared.replies().await_theirs(bytes);
                Some(Request::Open { stream, spec, named: false })
            }
            Err(refusal) => {
                shared.replies().give(Reply::Refused(refusal));
                None
            }
        },
        Request::Close { stream } => {
            shared.rings().close(stream)?;
            shared.replies().await_theirs(0);
            Some(Request::Close { stream })
        }
        Request::Stats => {
            shared.replies().await_theirs(0);
            Some(Request::Stats)
        }
        // Others are none of a remote client's business.
        Request::Clients { .. } => {
            shared.replies().give(Reply::Clients(Vec::new()));
            None
        }
        Request::Streams { .. } => {
            shared.replies().give(Reply::Streams(Vec::new()));
            None
        }
        // The daemon knows what to say to empty submits.
        other @ (Request::Submit { .. }
        | Request::SubmitCropped { .. }
        | Request::Cancel { .. }) => Some(other),
    })
}

fn submit_cropped(stream: u32, slot: u32, crop: Crop) -> Request {
    Request::SubmitCropped { stream, slots: vec![Cropped { slot, crop }] }
}

async fn say(daemon: &mut Sender<WriteHalf<'_>>, request: Request) -> Result<(), End> {
    match daemon.send(&request, &[]).await {
        Ok(()) => Ok(()),
        // It hung up: its last words, on their way to the client, say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::future::pending().await,
        Err(error) => Err(End::Daemon(error.into())),
    }
}

/// Reads an input frame into its slot, which is in flight then.
async fn read_frame(
    shared: &Shared,
    client: &mut Receiver<impl AsyncRead + Unpin>,
    stream: u32,
    slot: u32,
) -> Result<(), End> {
    let mut lease = shared.rings().take_free(stream, slot)?;
    let len = lease.layout().input().rows_len();
    client.fill(&mut lease.input_mut()[..len]).await.map_err(End::Client)?;
    shared.rings().submit(stream, lease);
    Ok(())
}

/// Bytes of a ring that is within the client's limit. Specs that make no ring are for the daemon to refuse.
fn ring_bytes(shared: &Shared, spec: &StreamSpec) -> Result<u64, Refusal> {
    let asked = RingLayout::new(spec).map_or(0, |ring| ring.len().get() as u64);
    let limit = shared.limits.bytes;
    let taken = shared.rings().bytes() + shared.replies().opening();
    let left = limit.saturating_sub(taken);
    if asked <= left {
        return Ok(asked);
    }
    Err(Refusal::Quota { whose: Whose::Connection, what: Resource::RingBytes, asked, left, limit })
}

async fn back(
    shared: &Shared,
    daemon: ReadHalf<'_>,
    client: &mut Sender<impl AsyncWrite + Unpin>,
    mut violation: oneshot::Receiver<Violation>,
    mut stop: watch::Receiver<bool>,
) -> End {
    let mut daemon = Arrivals { socket: daemon, inbox: Inbox::new(), descriptors: VecDeque::new() };
    loop {
        while let Some(reply) = { shared.replies().ours() } {
            if let Err(error) = client.send(&Message::Reply(reply), &[]).await {
                return End::Client(error);
            }
        }
        shared.room.notify_one();
        let heard = tokio::select! {
            message = daemon.next() => message,
            () = shared.ours.notified() => continue,
            Ok(what) = &mut violation => return farewell(client, what.into()).await,
            () = stopped(&mut stop) => return farewell(client, End::Stopping).await,
        };
        let (message, descriptor) = match heard {
            Ok(Some(message)) => message,
            Ok(None) => return End::DaemonHungUp,
            Err(error) => return End::Daemon(error),
        };
        match pass_on(shared, message, descriptor, client).await {
            Ok(true) => {}
            Ok(false) => return End::DaemonHungUp,
            Err(end) => return end,
        }
    }
}

/// Waits until the bridge stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Tells the client why it is over.
async fn farewell(client: &mut Sender<impl AsyncWrite + Unpin>, end: End) -> End {
    let goodbye = match &end {
        End::Violation(what) => Goodbye::Violation(*what),
        _ => Goodbye::Stopping,
    };
    let _ = client.send(&Message::Goodbye(goodbye), &[]).await;
    end
}

/// Passes a message of the daemon's on. False: it was the last.
async fn pass_on(
    shared: &Shared,
    message: Message,
    descriptor: Option<OwnedFd>,
    client: &mut Sender<impl AsyncWrite + Unpin>,
) -> Result<bool, End> {
    let unexpected =
        |what: &'static str| End::Daemon(io::Error::new(io::ErrorKind::InvalidData, what).into());
    let mut pixels = None;
    match &message {
        Message::Reply(reply) => {
            if !shared.replies().answered() {
                return Err(unexpected("a reply to nothing"));
            }
            match reply {
                Reply::Opened { stream, ring, .. } => {
                    let descriptor =
                        descriptor.ok_or(unexpected("a stream without a descriptor"))?;
                    let leases = Region::open(descriptor, ring.len())
                        .and_then(|region| leases(region, &Arc::new(ring.clone())))
                        .map_err(|error| End::Daemon(io::Error::other(error).into()))?;
                    shared.rings().add(*stream, leases);
                }
                Reply::Closed { stream } => shared.rings().remove(*stream),
                _ => {}
            }
        }
        Message::Completed(Completion { stream, slot, status, .. }) => {
            let lease = shared.rings().take_in_flight(*stream, *slot);
            let lease = lease.ok_or(unexpected("a completion of nothing"))?;
            match status {
                Status::Done => pixels = Some((*stream, lease)),
                _ => shared.rings().free(*stream, lease),
            }
        }
        Message::Goodbye(_) => {}
    }
    let bytes = pixels
        .as_ref()
        .map_or(&[][..], |(_, lease)| &lease.output()[..lease.layout().output().rows_len()]);
    client.send(&message, bytes).await.map_err(End::Client)?;
    // Before the client, which has just got the last byte, is read from again.
    if let Some((stream, lease)) = pixels {
        shared.rings().free(stream, lease);
    }
    Ok(!matches!(message, Message::Goodbye(_)))
}

/// What the daemon says, with the descriptors beside it.
struct Arrivals<'a> {
    socket: ReadHalf<'a>,
    inbox: Inbox,
    descriptors: VecDeque<OwnedFd>,
}

impl Arrivals<'_> {
    /// The next message. Given up in the middle nothing is lost.
    async fn next(&mut self) -> Result<Option<(Message, Option<OwnedFd>)>, WireError> {
        loop {
            if let Some(message) = self.inbox.pop::<Message>()? {
                let passed = matches!(
                    message,
                    Message::Reply(Reply::Opened { backing: Backing::Descriptor, .. })
                );
                let descriptor = if passed { self.descriptors.pop_front() } else { None };
                return Ok(Some((message, descriptor)));
            }
            let Self { socket, inbox, descriptors } = self;
            let socket: &tokio::net::UnixStream = socket.as_ref();
            let receive = || {
                inbox.fill(|room| {
                    let (read, descriptor) = fdpass::receive(socket, room, MsgFlags::MSG_DONTWAIT)?;
                    descriptors.extend(descriptor);
                    Ok::<_, io::Error>(read)
                })
            };
            if socket.async_io(Interest::READABLE, receive).await?.0 == 0 {
                return Ok(None);
            }
        }
    }
}
