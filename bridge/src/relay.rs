//! Owns one client's conversation: passes on what it says, with its frames put into the daemon's
//! rings, and what the daemon says, with its frames taken out of them. Frames that are JPEGs are
//! decoded and encoded on the way, several at the same time, so they overtake each other.
//!
//! To the daemon it is a client like any other, one for each connection; so the daemon's own rules,
//! quotas and failures hold for who comes through here. Knows neither sockets' addresses nor TLS.
//! Invariants: a client's memory is bounded by the limit given, and one whose frames do not get on
//! is cut off; a frame is read into a slot only while the slot is the client's.

mod back;
mod decoding;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use resized_client::Breach;
use resized_client::remote::rings::Rings;
use resized_client::remote::watched::{Watched, Writer};
use resized_client::remote::wire::{Receiver, Sender, WireError};
use resized_protocol::message::{
    Cropped, Features, Refusal, Reply, Request, StreamSpec, Violation,
};
use resized_protocol::placement::Crop;
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Mutex as Turns, Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::account::{Account, Charge, Takes};
use crate::coded::{Coded, CodedStreams};
use crate::jpeg::Codec;
use crate::lanes::Lanes;
use crate::lock::lock;
use crate::replies::{Opening, Replies};
use crate::{DRAIN, FAREWELL};
use decoding::{Arrived, decode_all};

/// How a conversation ended.
#[derive(Debug, Error)]
pub(crate) enum End {
    #[error("the client hung up")]
    HungUp,
    #[error("the daemon hung up")]
    DaemonHungUp,
    #[error("the bridge stops")]
    Stopping,
    #[error("it makes room for another")]
    MakesRoom,
    #[error("violation: {0}")]
    Violation(#[from] Violation),
    #[error("the client: {0}")]
    Client(io::Error),
    #[error("the daemon: {0}")]
    Daemon(#[source] WireError),
    #[error("the daemon broke the protocol: {0}")]
    Breach(#[from] Breach),
    #[error("a JPEG made its decoder or encoder fail")]
    Panicked(#[from] RecvError),
}

/// Who is heard.
pub(crate) struct Client<'a, R> {
    pub(crate) receiver: Receiver<R>,
    /// Put before its own.
    pub(crate) name: &'a str,
    /// Of rings, and of JPEGs on their way.
    pub(crate) account: Arc<Account>,
}

/// What any client may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Pixels of a JPEG that is read or written.
    pub(crate) pixels: u64,
    /// For the next piece of a frame.
    pub(crate) patience: Duration,
}

/// For frames that have come when the bridge stops, beside the time for goodbyes: what is not done by then the
/// client submits again elsewhere.
const LAST_FRAMES: Duration = DRAIN.saturating_sub(FAREWELL.saturating_add(Duration::from_secs(1)));

/// Closed streams of JPEGs whose frames are on the way still: with more, none is opened.
const MOST_OVER: usize = 64;

/// What both directions know. They are parts of one task, so nobody ever waits for a lock.
struct Shared {
    rings: Mutex<Rings>,
    /// Those that are of JPEGs.
    coded: Mutex<CodedStreams>,
    replies: Mutex<Replies>,
    /// Streams that the daemon is to close, of which the client does not know.
    unwanted: mpsc::UnboundedSender<u32>,
    /// A reply of the bridge's may have its turn.
    ours: Notify,
    /// There is room for another request.
    room: Notify,
    /// A slot may be the client's again.
    freed: Notify,
    account: Arc<Account>,
    /// Of the account, for streams that are not of JPEGs.
    charges: Mutex<BTreeMap<u32, Charge>>,
    /// Most that a JPEG may have.
    pixels: u64,
    lanes: Lanes<Codec>,
}

impl Shared {
    /// Waits until all slots are the client's.
    async fn all_done(&self) {
        while !self.rings().are_all_free() {
            self.freed.notified().await;
        }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        lock(&self.rings)
    }

    fn coded(&self, stream: u32) -> Option<Arc<Coded>> {
        self.coded_streams().get(stream)
    }

    fn coded_streams(&self) -> MutexGuard<'_, CodedStreams> {
        lock(&self.coded)
    }

    fn charges(&self) -> MutexGuard<'_, BTreeMap<u32, Charge>> {
        lock(&self.charges)
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        lock(&self.replies)
    }
}

/// Relays until either side hangs up, or it is over for another reason, which the client is told.
pub(crate) async fn relay(
    client: Client<'_, impl AsyncRead + Unpin>,
    to_client: &mut Sender<impl AsyncWrite + Unpin>,
    daemon: &Watched,
    limits: Limits,
    lanes: Lanes<Codec>,
    over: impl Future<Output = End>,
) -> End {
    let Client { receiver: client, name, account } = client;
    let (from_daemon, to_daemon) = daemon.split();
    let (unwanted, mut all_unwanted) = mpsc::unbounded_channel();
    let shared = Shared {
        rings: Mutex::default(),
        coded: Mutex::default(),
        replies: Mutex::default(),
        unwanted,
        ours: Notify::new(),
        room: Notify::new(),
        freed: Notify::new(),
        account,
        charges: Mutex::default(),
        pixels: limits.pixels,
        lanes,
    };
    let to_daemon = Turns::new(Sender::new(to_daemon, limits.patience));
    let (to_decode, decoding) = mpsc::unbounded_channel();
    let (undone, all_undone) = mpsc::unbounded_channel();
    let (violated, violation) = oneshot::channel();
    let (stops, stopping) = watch::channel(false);
    let there = async {
        let Err(end) = there(&shared, client, &to_daemon, to_decode, name, stopping).await;
        // Said between two messages, by the other half.
        if let End::Violation(what) = &end
            && violated.send(*what).is_ok()
        {
            std::future::pending::<()>().await;
        }
        end
    };
    let over = async {
        let end = over.await;
        if let End::Stopping = end {
            stops.send_replace(true);
            let _ = timeout(LAST_FRAMES, shared.all_done()).await;
        }
        end
    };
    // Not by who reads from the daemon, who may wait for just that.
    let close = async {
        while let Some(stream) = all_unwanted.recv().await {
            say(&mut *to_daemon.lock().await, Request::Close { stream }).await?;
        }
        Ok::<Infallible, _>(std::future::pending().await)
    };
    tokio::select! {
        end = there => end,
        Err(end) = close => end,
        Err(end) = decode_all(&shared, decoding, &to_daemon, undone) => end,
        Err(end) = back::back(&shared, from_daemon, to_client, all_undone, violation, over) => end,
    }
}

type ToDaemon<'a> = Turns<Sender<Writer<'a>>>;

async fn there(
    shared: &Shared,
    mut client: Receiver<impl AsyncRead + Unpin>,
    daemon: &ToDaemon<'_>,
    to_decode: mpsc::UnboundedSender<Arrived>,
    name: &str,
    mut stopping: watch::Receiver<bool>,
) -> Result<Infallible, End> {
    loop {
        while shared.replies().is_full() {
            shared.room.notified().await;
        }
        let request = tokio::select! {
            request = client.next::<Call>() => request,
            () = stopped(&mut stopping) => std::future::pending().await,
        };
        let request = match request {
            Ok(Some(Call::Request(request))) => request,
            Ok(Some(Call::Knock { .. })) => return Err(Violation::SecondHello.into()),
            Ok(None) => return Err(End::HungUp),
            Err(WireError::Codec(error)) => return Err(Violation::Codec(error).into()),
            Err(WireError::Io(error)) => return Err(End::Client(error)),
        };
        let request = match request {
            Request::Submit { stream, slots } if !slots.is_empty() => {
                for slot in slots {
                    let submitted = Submitted { stream, slot, crop: None };
                    read_frame(shared, &mut client, submitted, daemon, &to_decode).await?;
                }
                continue;
            }
            Request::SubmitCropped { stream, slots } if !slots.is_empty() => {
                for Cropped { slot, crop } in slots {
                    let submitted = Submitted { stream, slot, crop: Some(crop) };
                    read_frame(shared, &mut client, submitted, daemon, &to_decode).await?;
                }
                continue;
            }
            request => request,
        };
        let asked = match request {
            Request::Open { stream, spec, .. } => {
                // The daemon gives one up that waits for long behind another, and that may wait here behind
                // large frames to a slow client.
                while shared.replies().awaits_a_ring() {
                    shared.room.notified().await;
                }
                open(shared, stream, spec).await
            }
            request => prepare(shared, request, name)?,
        };
        match asked {
            Some(request) => say(&mut *daemon.lock().await, request).await?,
            None => shared.ours.notify_one(),
        }
    }
}

/// What the daemon should be asked; none if the bridge answers by itself.
fn prepare(shared: &Shared, request: Request, name: &str) -> Result<Option<Request>, Violation> {
    Ok(match request {
        Request::Hello { version, name: own, .. } => {
            shared.replies().await_theirs();
            let (features, name) = (Features::default(), format!("{name} {own}"));
            Some(Request::Hello { version, features, name })
        }
        Request::Close { stream } => {
            shared.rings().close(stream)?;
            shared.replies().await_theirs();
            Some(Request::Close { stream })
        }
        Request::Stats => {
            shared.replies().await_theirs();
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
        Request::Cancel { stream, slot } => {
            // The daemon may not have it yet.
            if let Some(coded) = shared.coded(stream) {
                coded.cancel(slot);
            }
            Some(request)
        }
        // The daemon knows what to say to empty submits.
        Request::Open { .. } | Request::Submit { .. } | Request::SubmitCropped { .. } => {
            Some(request)
        }
    })
}

/// A frame of the client's.
#[derive(Clone, Copy, Debug)]
struct Submitted {
    stream: u32,
    slot: u32,
    crop: Option<Crop>,
}

impl Submitted {
    fn request(self) -> Request {
        let Self { stream, slot, crop } = self;
        match crop {
            None => Request::Submit { stream, slots: vec![slot] },
            Some(crop) => Request::SubmitCropped { stream, slots: vec![Cropped { slot, crop }] },
        }
    }
}

async fn say(daemon: &mut Sender<Writer<'_>>, request: Request) -> Result<(), End> {
    match daemon.send(&request, &[]).await {
        Ok(()) => Ok(()),
        // It hung up: its last words, on their way to the client, say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::future::pending().await,
        Err(error) => Err(End::Daemon(error.into())),
    }
}

/// Reads an input frame into its slot, which is in flight then; or a JPEG, which is to be decoded
/// first.
async fn read_frame(
    shared: &Shared,
    client: &mut Receiver<impl AsyncRead + Unpin>,
    submitted: Submitted,
    daemon: &ToDaemon<'_>,
    to_decode: &mpsc::UnboundedSender<Arrived>,
) -> Result<(), End> {
    let Submitted { stream, slot, crop } = submitted;
    let mut lease = shared.rings().take_free(stream, slot)?;
    if let Some(coded) = shared.coded(stream).filter(|coded| coded.jpeg_in()) {
        if crop.is_some_and(|crop| !coded.can_crop(crop)) {
            return Err(Violation::Crop { stream, slot }.into());
        }
        let len = client.coded_len().await.map_err(End::Client)?;
        if len as usize > coded.longest_in() {
            return Err(Violation::CodedLen { stream, len }.into());
        }
        let jpeg = client.bytes(len as usize).await.map_err(End::Client)?;
        // It is received as long as anything is.
        let _ = to_decode.send(Arrived::new(submitted, coded, lease, jpeg));
        return Ok(());
    }
    let len = lease.layout().input().rows_len();
    client.fill(&mut lease.input_mut()[..len]).await.map_err(End::Client)?;
    shared.rings().submit(stream, lease);
    say(&mut *daemon.lock().await, submitted.request()).await
}

/// What the daemon is to be asked about a stream; none if the bridge refuses it. If there is no
/// room beside what was closed before, that is given back first.
async fn open(shared: &Shared, stream: u32, spec: StreamSpec) -> Option<Request> {
    loop {
        let over = shared.coded_streams().over();
        if over < MOST_OVER {
            match opening(shared, &spec) {
                Ok(opening) => {
                    let spec = opening.coded.as_ref().map_or(spec, |coded| *coded.local());
                    shared.replies().await_stream(opening);
                    return Some(Request::Open { stream, spec, named: false });
                }
                Err(refusal) if over == 0 && !shared.rings().any_closing() => {
                    shared.replies().give(Reply::Refused(refusal));
                    return None;
                }
                Err(_) => {}
            }
        }
        shared.room.notified().await;
    }
}

/// What a stream that is within all limits takes. Specs that make no ring are for the daemon to
/// refuse.
fn opening(shared: &Shared, spec: &StreamSpec) -> Result<Opening, Refusal> {
    let coded = Coded::new(spec, shared.pixels)?.map(Box::new);
    let ring = match &coded {
        Some(coded) => Some(coded.inner_ring().clone()),
        None => RingLayout::new(spec).ok(),
    };
    let bytes = match &coded {
        Some(coded) => Some(coded.bytes()),
        None => ring.as_ref().map(|ring| ring.len().get() as u64),
    };
    let takes = |bytes| Takes { streams: 1, slots: spec.slots.into(), bytes };
    let charge = shared.account.charge(bytes.map_or(Takes::default(), takes))?;
    Ok(Opening { charge: Some(charge), coded, ring })
}

/// Waits until the bridge stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

#[cfg(test)]
mod tests;
