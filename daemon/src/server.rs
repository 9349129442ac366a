//! Owns the daemon as a whole: accepts clients, gives each a session, and stops in good order.
//!
//! Knows no messages and no pixels. One thread at a time drives all sessions, see `reactor`.
//! Invariant: a daemon that stops accepts nobody new, completes what was submitted, says goodbye,
//! and leaves no thread and no socket behind; clients that do not read delay that by seconds at
//! most.

mod devices;
mod embedded;
mod exporter;
mod listener;
mod reactor;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource as System, getrlimit};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{MsgFlags, getsockopt};
use nix::unistd::geteuid;
use resized_protocol::message::{Goodbye, Message};
use resized_protocol::{codec, fdpass, shm};
use resized_service::memory;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};

use crate::metrics::{ClientId, Metrics};
use crate::quota::{Accounts, Limits, Owners, default_ring_bytes};
use crate::scheduler::{Lanes, Scheduler};
use crate::session::{Rights, Session, Shared};

pub use devices::{Devices, Explained, UnknownDevices, explain};
pub use embedded::Server;
pub use exporter::{Exporter, ExporterAddress, ExporterAddressError};
pub use listener::Listener;
use reactor::Reactor;

/// Pause after a failed accept: out of descriptors, say. Trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How soon it is asked whether a client has let go of a ring that it kept, and how often in the end.
const TAKE_BACK: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(500)];

/// Descriptors that are left for other things than clients' connections and rings.
pub const OTHER_DESCRIPTORS: u64 = 32;

/// Descriptors for each connection. It may take half of them: its socket, that once more to wait until it takes more, and one of a
/// ring that is on its way to the client. The others are for the files of rings, one for each, whosever they are.
pub const CONNECTION_DESCRIPTORS: u64 = 6;

/// Who may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Peers {
    /// The daemon's own user, and root.
    #[default]
    Owner,
    /// Everyone whom the socket's permissions let in.
    Anyone,
}

/// How a daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What resizes.
    pub devices: Devices,
    /// Who may connect.
    pub peers: Peers,
    /// Allow rings in named segments, for clients of the daemon's own user.
    pub allow_named_segments: bool,
    /// Bytes of memory for all rings together and what is kept beside them, and 320 KiB for each connection, which may leave so
    /// much unread; half the machine's memory if not given.
    pub memory: Option<u64>,
    /// What each user may have.
    pub limits: Limits,
    /// The daemon's own program, to test GPUs with in a process of their own; see
    /// [`self_test`](crate::device::vulkan::self_test). A program that embeds a daemon is none, and leaves
    /// this out: [`Devices::Auto`] leaves GPUs out then, and [`Devices::Vulkan`] uses them untested.
    pub program: Option<PathBuf>,
}

/// Why a daemon can't start, or did not end well.
#[derive(Debug, Error)]
pub enum ServerError {
    /// A thread, the reactor or the catching of signals could not be set up.
    #[error("can't set the daemon up: {0}")]
    SetUp(io::Error),
    /// The socket could not be made.
    #[error("can't listen at {path}: {error}")]
    Listen {
        /// The socket's path.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// Another daemon answers at the socket, or is about to.
    #[error("another daemon already has the socket {0}")]
    Taken(String),
    /// Only GPUs were asked for, and there are none.
    #[error("no GPU can be used; {}", reasons(.0))]
    NoGpu(Vec<Explained>),
    /// It ran, and ended by a bug of its own.
    #[error("the daemon panicked")]
    Panicked,
}

fn reasons(explained: &[Explained]) -> String {
    let unused = explained.iter().filter(|device| !device.used);
    unused.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A daemon that is ready to serve.
pub struct Daemon {
    options: Options,
    shared: Arc<Shared>,
    /// Joins the lanes when it is dropped: before the reactor goes, which they drive too.
    _lanes: Lanes,
    reactor: Arc<Reactor>,
    exporter: Option<Exporter>,
}

impl Daemon {
    /// Starts the lanes of the devices.
    pub fn new(options: Options) -> Result<Self, ServerError> {
        let chosen = devices::choose(&options.devices, options.program.as_deref());
        for explained in &chosen.explained {
            tracing::info!("{explained}");
        }
        if chosen.lacks_gpus() {
            return Err(ServerError::NoGpu(chosen.explained));
        }
        Self::of(Scheduler::new(chosen.devices, chosen.reserve), options)
    }

    fn of(scheduler: Arc<Scheduler>, options: Options) -> Result<Self, ServerError> {
        let reactor = Arc::new(Reactor::new(&scheduler).map_err(ServerError::SetUp)?);
        let lanes = Lanes::start(&scheduler, &reactor).map_err(ServerError::SetUp)?;
        let descriptors = getrlimit(System::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let descriptors = descriptors.saturating_sub(OTHER_DESCRIPTORS);
        let connections = descriptors / CONNECTION_DESCRIPTORS;
        let accounts = Accounts::new(
            options.limits,
            connections.max(1),
            options.memory.unwrap_or_else(default_ring_bytes),
            scheduler.devices().iter().map(|device| device.memory().unwrap_or(0)),
        );
        accounts.set_streams(most_streams().min(descriptors / 2).max(1));
        accounts.set_owners(owners(options.peers));
        let shared = Arc::new(Shared { scheduler, accounts, metrics: Metrics::default() });
        Ok(Self { options, shared, _lanes: lanes, reactor, exporter: None })
    }

    /// Gives figures to those who ask there.
    pub fn export_at(&mut self, exporter: Exporter) {
        self.exporter = Some(exporter);
    }

    /// Serves on the calling thread until `stop` is over, and then those who are connected until what
    /// they submitted is done. `stop` runs in a tokio runtime. A driver that owes an answer by then is not waited
    /// for: what it uses is left to the end of the process.
    pub fn run(
        self,
        listener: Listener,
        stop: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Result<(), ServerError> {
        let (_none, adopted) = mpsc::unbounded_channel();
        let scheduler = Arc::clone(&self.shared.scheduler);
        let served = self.serve(Some(listener), adopted, stop);
        if scheduler.devices().is_owed() {
            // It would be waited for as its device is dropped.
            mem::forget(scheduler);
        }
        served
    }

    /// What may be asked of it, and changed, while it runs.
    pub fn controls(&self) -> Controls {
        Controls { shared: Arc::clone(&self.shared) }
    }

    fn serve(
        self,
        listener: Option<Listener>,
        adopted: mpsc::UnboundedReceiver<UnixStream>,
        stop: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Result<(), ServerError> {
        let Self { options, shared, _lanes: lanes, reactor, exporter } = self;
        let accounts = Arc::clone(&shared.accounts);
        let door = Door { options, shared };
        let served = reactor.run(door.attend(listener, adopted, exporter, stop));
        drop(lanes);
        // With it those threads end that still free rings.
        drop(reactor);
        accounts.forget_rings();
        served
    }
}

/// A running daemon, to watch over and to change.
#[derive(Clone)]
pub struct Controls {
    shared: Arc<Shared>,
}

impl Controls {
    /// Applies what of the options can be changed: the limits, for what is asked for from now on. Also reads again, in a
    /// moment, whose the subordinate ids are, for who connects then.
    pub fn reload(&self, options: Options) {
        let memory = options.memory.unwrap_or_else(default_ring_bytes);
        self.shared.accounts.set_limits(options.limits, memory);
        let (shared, peers) = (Arc::clone(&self.shared), options.peers);
        // A directory service may be asked for names, and take its time: not of the thread that drives all sessions.
        let read = move || shared.accounts.read_owners(|| owners(peers));
        if let Err(error) = thread::Builder::new().name("owners".into()).spawn(read) {
            tracing::error!(%error, "whose subordinate ids are stays as it was");
        }
    }

    /// Reports, as often as it is to, as long as the daemon is well: that sessions are served is shown
    /// by this being run, beside them; that devices get on is looked at.
    pub async fn report_health(self, every: Duration, report: impl Fn()) -> Infallible {
        let mut looks = interval_at(tokio::time::Instant::now() + every, every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.stuck() {
                None => report(),
                Some(device) => tracing::error!(device, "a device does not get on"),
            }
        }
    }

    /// A device that somebody waits for for far too long, and longer than half a minute: a lane for a
    /// frame, or who opens or closes a stream, or who brings it back into service.
    pub fn stuck(&self) -> Option<&str> {
        let device = self.shared.scheduler.devices().stuck(Instant::now())?;
        Some(self.shared.scheduler.devices()[device].name())
    }
}

/// Lets clients in.
struct Door {
    options: Options,
    shared: Arc<Shared>,
}

impl Door {
    async fn attend(
        self,
        listener: Option<Listener>,
        mut adopted: mpsc::UnboundedReceiver<UnixStream>,
        exporter: Option<Exporter>,
        stop: impl Future<Output = io::Result<()>>,
    ) -> Result<(), ServerError> {
        let draining = Arc::new(AtomicBool::new(false));
        let mut watchers = JoinSet::new();
        watchers.spawn(take_rings_back(Arc::clone(&self.shared.accounts)));
        exporter.map(|exporter| {
            watchers.spawn(exporter.serve(Arc::clone(&self.shared), Arc::clone(&draining)))
        });
        let accepting = listener.as_ref().map(Listener::accepting).transpose();
        let accepting = accepting.map_err(ServerError::SetUp)?;
        let (stopping, stopped) = watch::channel(false);
        let mut sessions = JoinSet::new();
        let mut next_client: ClientId = 0;
        let mut stop = std::pin::pin!(stop);
        loop {
            let socket = tokio::select! {
                accepted = accept(accepting.as_ref()) => accepted,
                Some(socket) = adopted.recv() => Ok(socket),
                Some(ended) = sessions.join_next() => {
                    log_panic(ended);
                    continue;
                }
                asked = &mut stop => match asked {
                    Ok(()) => break,
                    Err(error) => return Err(ServerError::SetUp(error)),
                },
            };
            match socket.and_then(|socket| self.session(next_client, socket, &stopped)) {
                Ok(Some(session)) => {
                    sessions.spawn(session.run());
                    next_client += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((accepting, listener));
        // They came in time, as far as they know.
        adopted.close();
        while let Ok(socket) = adopted.try_recv() {
            turn_away(&socket, Goodbye::Stopping);
        }
        draining.store(true, Ordering::Relaxed);
        stopping.send_replace(true);
        while let Some(ended) = sessions.join_next().await {
            log_panic(ended);
        }
        Ok(())
    }

    /// A session for that connection; `None` if its user, or the daemon, already has as many as may be.
    fn session(
        &self,
        client: ClientId,
        socket: UnixStream,
        stopped: &watch::Receiver<bool>,
    ) -> io::Result<Option<Session>> {
        // The user at the other end: SO_PEERCRED, see unix(7).
        let uid = getsockopt(&socket, PeerCredentials)?.uid();
        let rights = rights(&self.options, geteuid().as_raw(), uid);
        match self.shared.accounts.admit(uid, rights.sees_all) {
            Ok(place) => {
                let shared = Arc::clone(&self.shared);
                Session::new(client, place, rights, socket, shared, stopped.clone()).map(Some)
            }
            Err(refusal) => {
                tracing::info!(uid, %refusal, "connection refused");
                self.shared.metrics.refused.add(1);
                turn_away(&socket, Goodbye::Refused(refusal));
                Ok(None)
            }
        }
    }
}

/// Takes rings back that clients let go of after their streams were over: a user that asks for nothing more would be charged for
/// them all the same.
async fn take_rings_back(accounts: Arc<Accounts>) {
    let [soon, longest] = TAKE_BACK;
    loop {
        accounts.keeping().await;
        let mut pause = soon;
        loop {
            match timeout(pause, accounts.keeping()).await {
                Ok(()) => {
                    pause = soon;
                    sleep(soon).await;
                }
                Err(_) => pause = longest.min(2 * pause),
            }
            let keeping = accounts.that_keep_rings();
            if keeping.is_empty() {
                break;
            }
            // Freeing pages takes long.
            let take_back = move || keeping.iter().for_each(|account| account.take_back());
            log_panic(spawn_blocking(take_back).await);
        }
    }
}

/// Streams that there may be: each has a mapping of its own, of which the system allows a process so many, see proc(5) of
/// `max_map_count`. A quarter of those is for all else. And no more than are guarded against the loss of their memory.
fn most_streams() -> u64 {
    memory::mappings().map_or(u64::MAX, |mappings| mappings / 4 * 3).min(shm::GUARDED as u64)
}

/// Whose the users are who may connect. Where that is the daemon's own alone, there is nothing to be known.
fn owners(peers: Peers) -> Owners {
    match peers {
        Peers::Owner => Owners::default(),
        Peers::Anyone => Owners::read(),
    }
}

/// What a user may do with a daemon that is this owner's.
fn rights(options: &Options, owner: u32, uid: u32) -> Rights {
    let own = uid == owner;
    Rights {
        welcome: own || uid == 0 || options.peers == Peers::Anyone,
        sees_all: own || uid == 0,
        named_segments: own && options.allow_named_segments,
    }
}

/// Says why, and hangs up.
fn turn_away(socket: &UnixStream, why: Goodbye) {
    let mut bytes = Vec::new();
    if codec::encode(&Message::Goodbye(why), &mut bytes).is_ok() {
        // A new socket has room for it, unless the client is gone.
        let _ = fdpass::send(socket, &bytes, None, MsgFlags::MSG_DONTWAIT);
    }
}

/// A session that panics takes its client with it, and nobody else.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session ended badly");
    }
}

async fn accept(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await?.0.into_std(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
