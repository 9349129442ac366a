//! Owns the single pictures of the NATS service: a request with an encoded picture becomes a reply with another.
//!
//! Knows neither streams nor sockets; to the daemon it is a client for each picture that is at work. Invariants: pictures
//! that are at work, and those that wait, are bounded in number and in bytes, and beyond that the answer is that this
//! bridge is busy; nothing is read of a picture on a thread that others need; a reply is one message or an error.

mod asked;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::service::{Request, error::Error as ServiceError};
use async_nats::{Client as Nats, HeaderMap};
use resized_client::{Client, Endpoint, Error as DaemonError, Extent, Reconnect, Refusal};
use resized_pictures::{Desk, Format, Limits, PictureError, Settings};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::args::Args;
use crate::lanes::{LANE_BYTES, cores, share};
use asked::{HeaderError, settings};

/// Pictures that may wait for each that is at work: as many as are done in the time that a caller waits gladly.
const WAITING: usize = 16;

/// Scans of a progressive JPEG, as in streams.
const SCANS: u32 = 64;

/// For a turn, and for a daemon that is away to come back. A restart takes less, and callers who use a client's
/// default give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

const RECONNECT: Reconnect = Reconnect {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(200),
    within: PATIENCE,
};

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
    /// Pictures that are at work at the same time, and their turns.
    count: u32,
    turns: Arc<Semaphore>,
    /// Those that nobody uses: no more than there are turns.
    desks: Mutex<Vec<Desk>>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A place among those that are at work or wait.
pub(crate) struct Place {
    _one: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
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
    pub(crate) fn new(args: &Args) -> Option<Arc<Self>> {
        let count = args.pictures.unwrap_or_else(cores);
        if count == 0 {
            return None;
        }
        let semaphore = |permits: usize| Arc::new(Semaphore::new(count as usize * permits));
        let pixels = args.megapixels * 1_000_000;
        Some(Arc::new(Self {
            daemon: args.daemon.clone(),
            limits: Limits { pixels, made: pixels, scans: SCANS },
            desks: Mutex::default(),
            count,
            turns: semaphore(1),
            places: semaphore(1 + WAITING),
            bytes: semaphore(LANE_BYTES as usize),
        }))
    }

    /// A place for a request of so many bytes, if there is one.
    pub(crate) fn place(&self, bytes: usize) -> Option<Place> {
        let bytes = u32::try_from(bytes).ok()?;
        let one = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some(Place { _one: one, _bytes: bytes })
    }

    /// Answers a request, which has that place until the reply is on its way.
    pub(crate) async fn answer(self: Arc<Self>, nats: Nats, mut request: Request, place: Place) {
        let picture = std::mem::take(&mut request.message.payload);
        let made = match settings(request.message.headers.as_ref()) {
            Err(error) => Err(error.into()),
            Ok(settings) => {
                let most = nats.max_payload().saturating_sub(HEADERS);
                self.make(picture, settings, most).await
            }
        };
        reply(&request, made).await;
        // Until then the client library holds it.
        let _ = nats.flush().await;
        drop(place);
    }

    /// Waits for so many turns, which end when it is dropped.
    async fn turn(&self, share: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_many_owned(share).await.ok()
    }

    /// Has the work done when it is its turn, on a thread of its own.
    async fn make(
        self: Arc<Self>,
        picture: impl AsRef<[u8]> + Send + 'static,
        settings: Settings,
        most: usize,
    ) -> Result<Made, Refused> {
        let turn = timeout(PATIENCE, self.turn(1)).await.map_err(|_| Refused::Busy)?;
        let work = move || self.resize(picture.as_ref(), &settings, turn, most);
        spawn_blocking(work).await.unwrap_or(Err(Refused::Panicked))
    }

    /// Does it.
    fn resize(
        &self,
        picture: &[u8],
        settings: &Settings,
        mut turn: Option<OwnedSemaphorePermit>,
        most: usize,
    ) -> Result<Made, Refused> {
        let planned = self.at_desk(|desk| Ok(desk.plan(picture, settings)?))?;
        let share = share(planned.bytes(), self.count);
        if share > 1 {
            // First: two that each had one and waited for all would wait for each other.
            drop(turn.take());
            turn = Handle::current().block_on(self.turn(share));
        }
        let made = self.at_desk(|desk| {
            let made = desk.make(planned)?;
            match made.bytes.len() {
                len if len > most => Err(Refused::Long { len, most }),
                _ => Ok(Made {
                    bytes: made.bytes.into_owned(),
                    format: made.format,
                    extent: made.extent,
                }),
            }
        });
        drop(turn);
        made
    }

    /// Works at a desk, which is there for the next unless its daemon is lost.
    fn at_desk<T>(&self, work: impl FnOnce(&mut Desk) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut desk = self.desk()?;
        let done = work(&mut desk);
        if !matches!(&done, Err(Refused::Picture(error)) if error.is_final()) {
            desk.trim(KEPT);
            self.desks().push(desk);
        }
        done
    }

    /// One that nobody uses, or else a new one. A daemon that is away has a little time to come back.
    fn desk(&self) -> Result<Desk, Refused> {
        if let Some(desk) = self.desks().pop() {
            return Ok(desk);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.connect() {
                Some(client) => return Ok(Desk::new(client, self.limits)?),
                None if Instant::now() < end => sleep(RECONNECT.longest),
                None => return Err(Refused::Away),
            }
        }
    }

    fn connect(&self) -> Option<Client> {
        let found = self.daemon.clone().map_or_else(Endpoint::discover, Ok);
        let endpoint = found.inspect_err(|error| tracing::debug!(%error, "no daemon")).ok()?;
        let client = Client::connect_with(&endpoint, RECONNECT);
        client.inspect_err(|error| tracing::debug!(%error, "no daemon")).ok()
    }

    fn desks(&self) -> MutexGuard<'_, Vec<Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that there is no place for a request.
pub(crate) async fn turn_away(mut request: Request) {
    request.message.payload.clear();
    reply(&request, Err(Refused::Busy)).await;
}

async fn reply(request: &Request, made: Result<Made, Refused>) {
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
    if let Err(error) = sent {
        tracing::debug!(%error, "a reply could not be sent");
    }
}
