//! Owns the way back of a conversation: what the daemon says, to the client, with the frames that
//! it has done.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use resized_client::Breach;
use resized_client::remote::watched::Watched;
use resized_client::remote::wire::{Sender, WireError};
use resized_protocol::arrivals::Arrivals;
use resized_protocol::fdpass::Passed;
use resized_protocol::message::{Completion, Goodbye, Message, Refusal, Reply, Status, Violation};
use resized_protocol::shm::{self, Lease, RegionError};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};

use super::decoding::Undone;
use super::{End, Shared};
use crate::coded::Coded;
use crate::jpeg::Codec;
use crate::lanes::Turn;
use crate::replies::Opening;

pub(super) async fn back(
    shared: &Shared,
    daemon: &Watched,
    client: &mut Sender<impl AsyncWrite + Unpin>,
    mut all_undone: mpsc::UnboundedReceiver<Undone>,
    mut violation: oneshot::Receiver<Violation>,
    over: impl Future<Output = End>,
) -> Result<Infallible, End> {
    let mut over = pin!(over);
    let mut daemon = FromDaemon { socket: daemon, arrivals: Arrivals::default() };
    let mut encoding = FuturesUnordered::new();
    loop {
        say_ours(shared, client).await?;
        shared.room.notify_one();
        shared.freed.notify_one();
        let heard = tokio::select! {
            message = daemon.next() => message.map_err(End::Daemon)?,
            Some(encoded) = encoding.next() => {
                say_encoded(shared, encoded?, client).await?;
                continue;
            }
            Some(undone) = all_undone.recv() => {
                let (completion, lease) = undone.completion();
                say_late(shared, completion, lease, &[], client).await?;
                continue;
            }
            () = shared.ours.notified() => continue,
            Ok(what) = &mut violation => return Err(farewell(client, what.into()).await),
            end = &mut over => return Err(farewell(client, end).await),
        };
        let (message, descriptor) = heard.ok_or(End::DaemonHungUp)?;
        if let Message::Goodbye(_) = message {
            // What was submitted is completed before.
            while let Some(encoded) = encoding.next().await {
                say_encoded(shared, encoded?, client).await?;
            }
            client.send(&message, &[]).await.map_err(End::Client)?;
            return Err(End::DaemonHungUp);
        }
        if let Some((coded, turn)) = pass_on(shared, message, descriptor, client).await? {
            encoding.push(async move { coded.wanted(turn).await });
        }
    }
}

/// Says the bridge's own replies whose turn has come.
async fn say_ours(
    shared: &Shared,
    client: &mut Sender<impl AsyncWrite + Unpin>,
) -> Result<(), End> {
    while let Some(reply) = { shared.replies().ours() } {
        client.send(&Message::Reply(reply), &[]).await.map_err(End::Client)?;
    }
    Ok(())
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

/// Passes a message of the daemon's on, but a frame that is to be a JPEG first: that has a turn.
async fn pass_on(
    shared: &Shared,
    mut message: Message,
    descriptor: Option<Passed>,
    client: &mut Sender<impl AsyncWrite + Unpin>,
) -> Result<Option<(Arc<Coded>, Turn<Codec, Encoded>)>, End> {
    match &mut message {
        // Of which the client does not know, see `refuse`.
        Message::Reply(Reply::Closed { stream }) if !shared.rings().knows(*stream) => {
            return Ok(None);
        }
        Message::Reply(reply) => {
            // What the daemon was asked after them it may have answered before we were woken.
            say_ours(shared, client).await?;
            note_reply(shared, reply, descriptor)?;
        }
        Message::Completed(completion) => {
            let Completion { stream, slot, status, .. } = *completion;
            let lease = shared.rings().take_in_flight(stream, slot);
            let lease = lease.ok_or(Breach::NotSubmitted)?;
            if status != Status::Done {
                shared.rings().free(stream, lease);
            } else if let Some(coded) = shared.coded(stream).filter(|coded| coded.jpeg_out()) {
                let (completion, counted) = (*completion, Arc::clone(&coded));
                let bytes = coded.encoder_bytes();
                let turn = shared.lanes.run(bytes, move |codec| {
                    let jpeg = counted.encode(codec, &lease);
                    Encoded { jpeg, completion, lease, _coded: counted }
                });
                return Ok(Some((coded, turn)));
            } else {
                let pixels = &lease.output()[..lease.layout().output().rows_len()];
                client.send(&message, pixels).await.map_err(End::Client)?;
                // Before the client, which has just got the last byte, is read from again.
                shared.rings().free(stream, lease);
                return Ok(None);
            }
        }
        Message::Goodbye(_) => {}
    }
    client.send(&message, &[]).await.map_err(End::Client)?;
    Ok(None)
}

/// Notes what the daemon has granted, and makes of it what the client is to hear.
fn note_reply(shared: &Shared, reply: &mut Reply, descriptor: Option<Passed>) -> Result<(), End> {
    let Opening { charge, coded, ring: wanted } =
        shared.replies().answered().ok_or(Breach::ReplyToNothing)?;
    match reply {
        Reply::Opened { stream, ring, .. } => {
            let descriptor = descriptor.ok_or(Breach::NoDescriptor)?;
            // Else its slots would lie anywhere.
            let layout = wanted.filter(|wanted| wanted == ring);
            let layout = layout.ok_or(Breach::RingLayout)?;
            let leases = match shm::mapped(descriptor, layout) {
                Ok(leases) => leases,
                Err(error) => {
                    *reply = refuse(shared, *stream, error)?;
                    return Ok(());
                }
            };
            let charge = charge.ok_or(Breach::OtherReply)?;
            shared.rings().add(*stream, leases);
            match coded {
                Some(coded) => {
                    *ring = coded.ring().clone();
                    shared.coded_streams().add(*stream, *coded, charge);
                }
                None => drop(shared.charges().insert(*stream, charge)),
            }
        }
        Reply::Closed { stream } => {
            shared.rings().remove(*stream);
            shared.charges().remove(stream);
            shared.coded_streams().end(*stream);
        }
        _ => {}
    }
    Ok(())
}

/// What the client is told of a stream whose ring the bridge can't have, as if the daemon could
/// not; it is closed there. What is wrong with the ring itself is the end.
fn refuse(shared: &Shared, stream: u32, error: RegionError) -> Result<Reply, End> {
    let Some(errno) = error.errno() else {
        return Err(End::Daemon(io::Error::other(error).into()));
    };
    tracing::warn!(stream, %error, "the bridge can't have a ring");
    let _ = shared.unwanted.send(stream);
    Ok(Reply::Refused(Refusal::System { errno }))
}

/// A frame that was to be a JPEG.
struct Encoded {
    completion: Completion,
    lease: Lease,
    jpeg: Option<Vec<u8>>,
    /// What it takes is counted as long as it is here.
    _coded: Arc<Coded>,
}

/// Says what came of it, unless nobody wanted it any more.
async fn say_encoded(
    shared: &Shared,
    encoded: Option<Encoded>,
    client: &mut Sender<impl AsyncWrite + Unpin>,
) -> Result<(), End> {
    let Some(Encoded { mut completion, lease, jpeg, _coded }) = encoded else { return Ok(()) };
    if jpeg.is_none() {
        completion.status = Status::Failed;
    }
    say_late(shared, completion, lease, &jpeg.unwrap_or_default(), client).await
}

/// Says a completion that the daemon's messages may have overtaken.
async fn say_late(
    shared: &Shared,
    completion: Completion,
    lease: Lease,
    frame: &[u8],
    client: &mut Sender<impl AsyncWrite + Unpin>,
) -> Result<(), End> {
    // Else the client has heard that the stream is closed.
    if shared.rings().knows(completion.stream) {
        client.send(&Message::Completed(completion), frame).await.map_err(End::Client)?;
        shared.rings().free(completion.stream, lease);
    }
    Ok(())
}

/// What the daemon says.
struct FromDaemon<'a> {
    socket: &'a Watched,
    arrivals: Arrivals,
}

impl FromDaemon<'_> {
    /// The next message, with the descriptor beside it. Given up in the middle nothing is lost.
    async fn next(&mut self) -> Result<Option<(Message, Option<Passed>)>, WireError> {
        let Self { socket, arrivals } = self;
        loop {
            if let Some(heard) = arrivals.pop()? {
                return Ok(Some(heard));
            }
            if socket.read_by(|socket| arrivals.receive(socket)).await? == 0 {
                return Ok(None);
            }
        }
    }
}
