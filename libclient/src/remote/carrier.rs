//! Owns one connection to a bridge: what the client says goes there, with input frames; what the bridge
//! says comes back, with output frames.
//!
//! Invariant: rings are no larger than the client asked for, whatever the bridge says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use resized_protocol::coding::{self, PREFIX};
use resized_protocol::message::{
    Backing, Completion, Message, Refusal, Reply, Request, Status, StreamSpec,
};
use resized_protocol::remote::Call;
use resized_protocol::shm::{Lease, Region, RingLayout, leases};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use tokio_rustls::rustls::{self, AlertDescription};

use super::outbox::Outbox;
use super::rings::Rings;
use super::watched::Watched;
use super::wire::{Receiver, Sender, Stream, WireError};
use super::{Mismatch, PATIENCE};
use crate::{Breach, Error};

/// How long a bridge that takes nothing more may take for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What both directions know. They are two halves of one task: no borrow is held over a wait.
#[derive(Default)]
struct Shared {
    rings: RefCell<Rings>,
    /// Streams whose opening was not answered.
    opening: RefCell<BTreeMap<u32, StreamSpec>>,
    /// Streams that were refused here, and are being closed there.
    refused: RefCell<BTreeSet<u32>>,
    /// The bridge has said a message.
    understood: Cell<bool>,
}

/// Carries until either end hangs up. Why it would be no better another time, if that is so.
pub(super) async fn carry(client: &Watched, bridge: Stream) -> Option<Mismatch> {
    let (from_client, to_client) = client.split();
    let outbox = RefCell::new(Outbox::new(to_client));
    let (from_bridge, to_bridge) = tokio::io::split(bridge);
    let shared = Shared::default();
    let (close, closing) = unbounded_channel();
    let there = async {
        if there(&shared, from_client, Sender::new(to_bridge, PATIENCE), closing).await.is_err() {
            // What it said before it hung up is still to be read.
            sleep(LAST_WORDS).await;
        }
    };
    let mut from_bridge = Receiver::new(from_bridge, PATIENCE);
    // Any other end the client sees for itself: from the bridge's last words, or that there are none.
    let ended = tokio::select! {
        () = there => Ok(()),
        ended = back(&shared, &mut from_bridge, &outbox, close) => ended,
        _ = Outbox::pass_on(&outbox) => return None,
    };
    // What was said is the client's, however late it reads.
    let _ = Outbox::flush(&outbox).await;
    match ended {
        Err(WireError::Codec(_)) if !shared.understood.get() && from_bridge.is_at_tls() => {
            Some(Mismatch::Tls)
        }
        Err(WireError::Codec(error)) => Some(Mismatch::Broke(error.into())),
        Err(WireError::Io(error)) => breach(&error).or_else(|| alert(error)),
        _ => None,
    }
}

/// What the bridge may not say. Of a bridge that is merely gone the next one asked may be none the worse.
fn breach(error: &io::Error) -> Option<Mismatch> {
    let breach: &Breach = error.get_ref()?.downcast_ref()?;
    Some(Mismatch::Broke(Error::Unexpected(*breach)))
}

/// What the other end's TLS says against what it was shown. A fault of its own may pass.
fn alert(error: io::Error) -> Option<Mismatch> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(AlertDescription::InternalError) => None,
        rustls::Error::AlertReceived(_) => Some(Mismatch::Certificate(error)),
        _ => None,
    }
}

async fn there(
    shared: &Shared,
    client: &Watched,
    mut bridge: Sender<impl AsyncWrite + Unpin>,
    mut closing: UnboundedReceiver<u32>,
) -> Result<(), WireError> {
    let mut client = Receiver::new(client, PATIENCE);
    loop {
        let request = tokio::select! {
            request = client.next::<Request>() => request?,
            stream = closing.recv() => stream.map(|stream| Request::Close { stream }),
        };
        let Some(request) = request else { return Ok(()) };
        let (stream, slots): (u32, Vec<u32>) = match &request {
            Request::Open { stream, spec, .. } => {
                shared.opening.borrow_mut().insert(*stream, *spec);
                (*stream, Vec::new())
            }
            Request::Close { stream } => {
                let _ = shared.rings.borrow_mut().close(*stream);
                (*stream, Vec::new())
            }
            Request::Submit { stream, slots } => (*stream, slots.clone()),
            Request::SubmitCropped { stream, slots } => {
                (*stream, slots.iter().map(|cropped| cropped.slot).collect())
            }
            _ => (0, Vec::new()),
        };
        let take = |slot| {
            let lease = shared.rings.borrow_mut().take_free(stream, slot);
            // The client that is part of this process has its slots in order.
            lease.map_err(io::Error::other)
        };
        let mut slots = slots.into_iter();
        // The first frame goes with the message, so that the bridge wakes once for both.
        let first = slots.next().map(take).transpose()?;
        let pixels = first.as_ref().map_or(&[][..], input);
        bridge.send(&Call::Request(request), pixels).await?;
        if let Some(lease) = first {
            shared.rings.borrow_mut().submit(stream, lease);
        }
        for slot in slots {
            let lease = take(slot)?;
            bridge.send_more(input(&lease)).await?;
            shared.rings.borrow_mut().submit(stream, lease);
        }
    }
}

async fn back(
    shared: &Shared,
    bridge: &mut Receiver<impl AsyncRead + Unpin>,
    client: &RefCell<Outbox<'_>>,
    close: UnboundedSender<u32>,
) -> Result<(), WireError> {
    while let Some(message) = bridge.next::<Message>().await? {
        shared.understood.set(true);
        match &message {
            Message::Reply(Reply::Opened { stream, ring, .. }) => {
                match open(shared, *stream, ring)? {
                    Ok(descriptor) => {
                        let opened = Reply::Opened {
                            stream: *stream,
                            ring: ring.clone(),
                            backing: Backing::Descriptor,
                        };
                        Outbox::send(client, &Message::Reply(opened), Some(descriptor)).await?;
                    }
                    // That stream's misfortune, not the connection's: another would meet it as well.
                    Err(refusal) => {
                        shared.refused.borrow_mut().insert(*stream);
                        let _ = close.send(*stream);
                        let refused = Message::Reply(Reply::Refused(refusal));
                        Outbox::send(client, &refused, None).await?;
                    }
                }
                continue;
            }
            // The client knows of no such stream.
            Message::Reply(Reply::Closed { stream })
                if shared.refused.borrow_mut().remove(stream) =>
            {
                continue;
            }
            Message::Reply(Reply::Closed { stream }) => {
                let mut rings = shared.rings.borrow_mut();
                if rings.is_open(*stream) {
                    return Err(unexpected(Breach::OtherStream).into());
                }
                rings.remove(*stream);
            }
            Message::Completed(completion) => {
                let Completion { stream, slot, status, .. } = *completion;
                let lease = shared.rings.borrow_mut().take_in_flight(stream, slot);
                let mut lease = lease.ok_or_else(|| unexpected(Breach::NotSubmitted))?;
                if status == Status::Done {
                    read_frame(bridge, &mut lease).await?;
                }
                shared.rings.borrow_mut().free(stream, lease);
            }
            Message::Reply(_) | Message::Goodbye(_) => {}
        }
        Outbox::send(client, &message, None).await?;
    }
    Ok(())
}

/// What travels of an input frame.
fn input(lease: &Lease) -> &[u8] {
    let layout = lease.layout().input();
    let frame = &lease.input()[..layout.rows_len()];
    match layout.is_coded() {
        // What has no length can't be read either: the bridge will say so.
        true => coding::whole(frame).unwrap_or(&[0; PREFIX]),
        false => frame,
    }
}

/// Reads an output frame into its slot.
async fn read_frame(
    bridge: &mut Receiver<impl AsyncRead + Unpin>,
    lease: &mut Lease,
) -> io::Result<()> {
    let output = lease.layout().output();
    let (coded, len) = (output.is_coded(), output.rows_len());
    let mut into = &mut lease.output_mut()[..len];
    if coded {
        let len = bridge.coded_len().await?;
        let (number, rest) = into.split_at_mut(PREFIX);
        number.copy_from_slice(&len.to_le_bytes());
        let rest = rest.get_mut(..len as usize);
        into = rest.ok_or_else(|| unexpected(Breach::FrameLen))?;
    }
    bridge.fill(into).await
}

/// Makes the ring of a stream that the bridge has opened, as the client asked for it; or says that
/// the system does not.
fn open(shared: &Shared, stream: u32, ring: &RingLayout) -> io::Result<Result<OwnedFd, Refusal>> {
    let mut opening = shared.opening.borrow_mut();
    let spec = opening.remove(&stream).ok_or_else(|| unexpected(Breach::OtherStream))?;
    // Those before it were answered before it: they were refused.
    *opening = opening.split_off(&stream);
    // One that nobody may grant has none.
    let layout = RingLayout::new(&spec).ok().filter(|layout| layout == ring);
    let layout = layout.ok_or_else(|| unexpected(Breach::RingLayout))?;
    let made = Region::create(layout.len())
        .and_then(|(region, descriptor)| Ok((leases(region, &Arc::new(layout))?, descriptor)));
    match made {
        Ok((leases, descriptor)) => {
            shared.rings.borrow_mut().add(stream, leases);
            Ok(Ok(descriptor))
        }
        Err(error) => match error.errno() {
            Some(errno) => Ok(Err(Refusal::System { errno })),
            None => Err(io::Error::other(error)),
        },
    }
}

fn unexpected(breach: Breach) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, breach)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use resized_protocol::codec;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// More than a socket holds.
    const MANY: u32 = 4000;

    #[tokio::test]
    async fn a_bridge_is_read_from_though_the_client_reads_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut bridge, carried) = duplex(1024);
        let carrier = async {
            let client = Watched::new(theirs).unwrap();
            assert!(carry(&client, Box::new(carried)).await.is_none());
        };
        let mut told = Vec::new();
        for stream in 0..MANY {
            codec::encode(&Message::Reply(Reply::Closed { stream }), &mut told).unwrap();
        }
        let both = async {
            // Were the client waited for, this would end with the patience for it.
            bridge.write_all(&told).await.unwrap();
            drop(bridge);
            let mut heard = Vec::new();
            Watched::new(ours).unwrap().split().0.read_to_end(&mut heard).await.unwrap();
            assert!(heard == told, "{} of {} bytes", heard.len(), told.len());
        };
        tokio::join!(carrier, both);
    }
}
