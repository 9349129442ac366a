//! Owns the single pictures of the NATS service: a request with an encoded picture becomes a reply
//! with another.
//!
//! Knows neither streams nor sockets; to the daemon it is a client for each picture that is at
//! work. Invariants: pictures that are at work, and those that wait, are bounded in number and in
//! bytes, and beyond that the answer is that this bridge is busy; nothing is read of a picture on a
//! thread that others need; a reply is one message or an error.

mod asked;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::client::PublishErrorKind;
use async_nats::service::{Request, error::Error as ServiceError};
use async_nats::{Client as Nats, HeaderMap};
use resized_client::{Client, Endpoint, Error as DaemonError, Extent, Reconnect, Refusal};
use resized_pictures::{Desk, Format, Limits, PictureError, Settings};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::args::Args;
use crate::jpeg::SCANS;
use crate::lanes::{LANE_BYTES, Lanes, Tools, cores};
use asked::{HeaderError, settings};

/// Pictures that may wait for each that is at work: as many as are done in the time that a caller
/// waits gladly.
const WAITING: usize = 16;

/// Pauses of who looks for a daemon that is away.
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(200);

/// Of rings and of buffers that a desk keeps for pictures like the last ones.
const KEPT: u64 = 16 << 20;

/// Left for the headers of a reply, and for its subject.
const HEADERS: usize = 256;

/// Longest text of an error.
const MAX_TEXT: usize = 300;

/// Those of one bridge.
pub(crate) struct Pictures {
    daemon: Option<Endpoint>,
    limits: Limits,
    lanes: Lanes<Workplace>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// For a turn, and for a daemon that is away to come back. A restart takes less than the four
    /// seconds that this is, and callers who use a client's default give up after five.
    patience: Duration,
    /// The bridge stops, and has no time left.
    over: watch::Sender<bool>,
}

/// A lane's: a desk, as long as its daemon is there.
#[derive(Default)]
struct Workplace(Option<Desk>);

impl Tools for Workplace {
    fn put_away(&mut self) {
        self.0.iter_mut().for_each(|desk| desk.trim(KEPT));
    }
}

/// A place among those that are at work or wait.
pub(crate) struct Place {
    _one: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// What came of a turn.
enum Turn {
    Made(Made),
    /// It takes so many bytes, and with them the turns of several lanes.
    Takes(u64),
}

/// What a reply is made of.
struct Made {
    bytes: Vec<u8>,
    format: Format,
    extent: Extent,
}

/// Why there is no picture in a reply.
#[derive(Debug, Error)]
enum Refused {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(
        "the picture made has {len} bytes, and this NATS server passes on no more than {most}: ask for a smaller \
         one, or raise its max_payload"
    )]
    Long { len: usize, most: usize },
    #[error("this bridge is busy: ask again")]
    Busy,
    #[error("the daemon is away: ask again")]
    Away,
    #[error("the bridge failed at this picture")]
    Panicked,
}

impl Refused {
    /// As HTTP has them.
    fn code(&self) -> usize {
        match self {
            Self::Header(_) => 400,
            Self::Picture(error) => match error {
                PictureError::Pixels { .. }
                | PictureError::Made { .. }
                | PictureError::Daemon(DaemonError::Refused(
                    Refusal::Source(_) | Refusal::Destination(_),
                )) => 413,
                PictureError::Daemon(DaemonError::Failed) => 500,
                PictureError::Daemon(_) => 503,
                _ => 400,
            },
            Self::Long { .. } => 413,
            Self::Busy | Self::Away => 503,
            Self::Panicked => 500,
        }
    }
}

impl From<Refused> for ServiceError {
    fn from(refused: Refused) -> Self {
        // A header is one line. What decoders say may quote what they read.
        let text = refused.to_string();
        let status = text.chars().map(|char| if char.is_control() { ' ' } else { char });
        Self { status: status.take(MAX_TEXT).collect(), code: refused.code() }
    }
}

impl Pictures {
    /// None if none are to be taken.
    pub(crate) fn new(args: &Args) -> io::Result<Option<Arc<Self>>> {
        let count = args.pictures.unwrap_or_else(cores);
        if count == 0 {
            return Ok(None);
        }
        let semaphore = |permits: usize| Arc::new(Semaphore::new(count as usize * permits));
        let pixels = args.megapixels * 1_000_000;
        Ok(Some(Arc::new(Self {
            daemon: args.daemon.clone(),
            limits: Limits { pixels, made: pixels, scans: SCANS },
            lanes: Lanes::start("picture", count)?,
            places: semaphore(1 + WAITING),
            bytes: semaphore(LANE_BYTES as usize),
            patience: args.picture_patience,
            over: watch::Sender::new(false),
        })))
    }

    /// A place for a request of so many bytes, if there is one.
    pub(crate) fn place(&self, bytes: usize) -> Option<Place> {
        let bytes = u32::try_from(bytes).ok()?;
        let one = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some(Place { _one: one, _bytes: bytes })
    }

    /// Refuses all requests that are not answered yet.
    pub(crate) fn give_up(&self) {
        self.over.send_replace(true);
    }

    /// Answers a request, which has that place until the reply is on its way.
    pub(crate) async fn answer(self: Arc<Self>, nats: Nats, mut request: Request, place: Place) {
        let picture = std::mem::take(&mut request.message.payload);
        let made = match settings(request.message.headers.as_ref()) {
            Err(error) => Err(error.into()),
            Ok(settings) => {
                let most = nats.max_payload().saturating_sub(HEADERS);
                let mut over = self.over.subscribe();
                tokio::select! {
                    made = Arc::clone(&self).make(picture, settings, most) => made,
                    _ = over.wait_for(|&over| over) => Err(Refused::Busy),
                }
            }
        };
        let sent = reply(&request, made).await;
        // It moved to another server since, which passes on less.
        if let Err((PublishErrorKind::MaxPayloadExceeded, len)) = sent {
            let most = nats.max_payload().saturating_sub(HEADERS);
            let _ = reply(&request, Err(Refused::Long { len, most })).await;
        }
        // Until then the client library holds it.
        let _ = nats.flush().await;
        drop(place);
    }

    /// Has it made when it is its turn. How many turns that takes says its header, for which one is
    /// enough.
    async fn make(
        self: Arc<Self>,
        picture: impl AsRef<[u8]> + Clone + Send + 'static,
        settings: Settings,
        most: usize,
    ) -> Result<Made, Refused> {
        let mut bytes = 0;
        loop {
            let (begun, picture) = (Arc::new(AtomicBool::new(false)), picture.clone());
            let (pictures, begins) = (Arc::clone(&self), Arc::clone(&begun));
            let mut turn = self.lanes.run(bytes, move |workplace| {
                begins.store(true, Ordering::Relaxed);
                pictures.resize(workplace, picture.as_ref(), &settings, bytes, most)
            });
            let done = match timeout(self.patience, &mut turn).await {
                Ok(done) => done,
                Err(_) if begun.load(Ordering::Relaxed) => turn.await,
                Err(_) => return Err(Refused::Busy),
            };
            match done.unwrap_or(Err(Refused::Panicked))? {
                Turn::Made(made) => return Ok(made),
                Turn::Takes(more) => bytes = more,
            }
        }
    }

    /// Does it, unless it takes more lanes than so many bytes have.
    fn resize(
        &self,
        workplace: &mut Workplace,
        picture: &[u8],
        settings: &Settings,
        bytes: u64,
        most: usize,
    ) -> Result<Turn, Refused> {
        let desk = match &mut workplace.0 {
            Some(desk) => desk,
            none => none.insert(self.desk()?),
        };
        let done = resize(desk, picture, settings, most, |takes| {
            self.lanes.share(takes) > self.lanes.share(bytes)
        });
        if matches!(&done, Err(Refused::Picture(error)) if error.is_final()) {
            workplace.0 = None;
        }
        done
    }

    /// A new one. A daemon that is away has a little time to come back.
    fn desk(&self) -> Result<Desk, Refused> {
        let end = Instant::now() + self.patience;
        loop {
            match self.connect() {
                Some(client) => return Ok(Desk::new(client, self.limits)?),
                None if Instant::now() < end => sleep(LONGEST),
                None => return Err(Refused::Away),
            }
        }
    }

    fn connect(&self) -> Option<Client> {
        let found = self.daemon.clone().map_or_else(Endpoint::discover, Ok);
        let endpoint = found.inspect_err(|error| tracing::debug!(%error, "no daemon")).ok()?;
        let reconnect = Reconnect { first: FIRST, longest: LONGEST, within: self.patience };
        let client = Client::connect_with(&endpoint, reconnect);
        client.inspect_err(|error| tracing::debug!(%error, "no daemon")).ok()
    }
}

/// Resizes a picture at a desk, unless it takes too many bytes.
fn resize(
    desk: &mut Desk,
    picture: &[u8],
    settings: &Settings,
    most: usize,
    are_too_many: impl FnOnce(u64) -> bool,
) -> Result<Turn, Refused> {
    let planned = desk.plan(picture, settings)?;
    let takes = planned.bytes();
    if are_too_many(takes) {
        return Ok(Turn::Takes(takes));
    }
    let made = desk.make(planned)?;
    match made.bytes.len() {
        len if len > most => Err(Refused::Long { len, most }),
        _ => {
            let (format, extent) = (made.format, made.extent);
            Ok(Turn::Made(Made { bytes: made.bytes.into_owned(), format, extent }))
        }
    }
}

/// Says that there is no place for a request.
pub(crate) async fn turn_away(request: Request) {
    let _ = reply(&request, Err(Refused::Busy)).await;
}

/// If that can't be sent, why, and how long the picture is.
async fn reply(
    request: &Request,
    made: Result<Made, Refused>,
) -> Result<(), (PublishErrorKind, usize)> {
    let len = made.as_ref().map_or(0, |made| made.bytes.len());
    let mut headers = HeaderMap::new();
    let made = made.map(|Made { bytes, format, extent }| {
        headers.insert("Format", format.name());
        headers.insert("Size", extent.to_string());
        bytes.into()
    });
    if let Err(refused) = &made {
        tracing::debug!(why = %refused, "no picture was made");
    }
    let sent = request.respond_with_headers(made.map_err(Into::into), headers).await;
    sent.map_err(|error| {
        tracing::warn!(%error, "a reply could not be sent");
        (error.kind(), len)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A picture at which whoever looks at it fails.
    #[derive(Clone)]
    struct Trap;

    impl AsRef<[u8]> for Trap {
        fn as_ref(&self) -> &[u8] {
            panic!("as some decoder may")
        }
    }

    #[tokio::test]
    async fn a_picture_at_which_the_bridge_fails_is_an_error_of_its_own() {
        let args = ["bridge", "--pictures", "1", "--nats", "nats://localhost"];
        let args = Args::try_parse_from(args).unwrap();
        let pictures = Pictures::new(&args).unwrap().unwrap();
        let settings = Settings::new("8x8".parse().unwrap());
        // The lane lives on.
        for _ in 0..2 {
            let made = Arc::clone(&pictures).make(Trap, settings, usize::MAX).await;
            let Err(refused) = made else { panic!("made of nothing") };
            assert!(matches!(refused, Refused::Panicked), "{refused}");
            assert_eq!(ServiceError::from(refused).code, 500);
        }
    }
}
