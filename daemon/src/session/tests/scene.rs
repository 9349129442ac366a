//! Where the tests of sessions play: a daemon without lanes whose one device opens streams when it is
//! let, and the clients' ends of sessions, which say requests and hear messages.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver as Gate, Sender as Opener, channel};

use resized_protocol::VERSION;
use resized_protocol::codec::encode;
use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Filter, Message, Reply, Request, StreamSpec};
use resized_protocol::shm::{RingLayout, SlotMemory};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream as Peer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::*;
use crate::device::{Band, Device, DeviceError, Preparation, Resizer, Scratch};
use crate::quota::{Limits, THREADS};
use crate::scheduler::Intake;

/// A device that takes as long over streams to be resized by `Nearest` as the test wants, can't do
/// `Area`, and panics over `Mitchell`.
struct Slow {
    gate: Mutex<Gate<()>>,
    /// Streams that it was asked to open, and has not yet or never, since the test wants that.
    opening: Arc<AtomicUsize>,
}

/// What is resized by it stays as it is. Not the null device, whose frames wait for no lane.
pub(super) struct Nothing;

/// Jobs come from sessions alone.
impl Intake for Nothing {
    fn turn(&self) {}
}

impl Device for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn open(&self, spec: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        match spec.filter {
            Filter::Nearest => {
                self.opening.fetch_add(1, Ordering::SeqCst);
                // One after the other, until the test has ended.
                let _ = self.gate.lock().map(|gate| gate.recv());
            }
            Filter::Area => {
                let (device, reason) = (self.name().to_owned(), "it has no areas");
                return Err(DeviceError::Unsupported { device, reason });
            }
            Filter::Mitchell => panic!("a stream that this device panics over"),
            Filter::Bilinear | Filter::Bicubic | Filter::Lanczos3 => {}
        }
        Ok(Box::new(Nothing))
    }
}

impl Resizer for Nothing {
    fn worth(&self) -> u32 {
        1
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        _: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        Ok(Preparation::Before)
    }
}

/// Of one user's streams so many are opened at once.
pub(super) const TURNS: usize = THREADS / 2;

pub(super) const SEES_ALL: Rights = Rights { welcome: true, sees_all: true, named_segments: false };

/// A daemon without lanes, and who lets its device open streams.
pub(super) struct Scene {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Opener<()>,
    pub(super) opening: Arc<AtomicUsize>,
    pub(super) stop: watch::Sender<bool>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let (gate, waits) = channel();
        let opening = Arc::<AtomicUsize>::default();
        let slow = Slow { gate: Mutex::new(waits), opening: Arc::clone(&opening) };
        let shared = Arc::new(Shared {
            scheduler: Scheduler::new(vec![Box::new(slow)], None),
            accounts: Accounts::new(Limits::default(), 100, 1 << 30, []),
            metrics: Metrics::default(),
        });
        Self { shared, gate, opening, stop: watch::channel(false).0 }
    }

    /// A client of that user.
    pub(super) async fn client(&self, uid: u32, number: ClientId) -> Peer {
        self.welcomed(uid, number, SEES_ALL).await.0
    }

    /// A client of that user that may do that, and the task that its session is.
    pub(super) async fn welcomed(
        &self,
        uid: u32,
        number: ClientId,
        rights: Rights,
    ) -> (Peer, JoinHandle<()>) {
        let (mut peer, task) = self.session(uid, number, rights).await;
        assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Welcome { .. })));
        (peer, task)
    }

    /// The same, of which the hello was not answered yet.
    pub(super) async fn session(
        &self,
        uid: u32,
        number: ClientId,
        rights: Rights,
    ) -> (Peer, JoinHandle<()>) {
        let (peer, session) = self.unheard(uid, number, rights).await;
        (peer, tokio::spawn(session.run()))
    }

    /// The same, of which nothing was read yet.
    pub(super) async fn unheard(
        &self,
        uid: u32,
        number: ClientId,
        rights: Rights,
    ) -> (Peer, Session) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let place = self.shared.accounts.admit(uid, rights.sees_all).unwrap();
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.subscribe());
        let session = Session::new(number, place, rights, ours, shared, stop).unwrap();
        let peer = Peer::from_std(theirs).unwrap();
        let features = Features(u64::MAX);
        say(&peer, &Request::Hello { version: VERSION, features, name: String::new() }).await;
        (peer, session)
    }
}

pub(super) async fn say(peer: &Peer, request: &Request) {
    let mut bytes = Vec::new();
    encode(request, &mut bytes).unwrap();
    peer.writable().await.unwrap();
    assert_eq!(peer.try_write(&bytes).unwrap(), bytes.len());
}

pub(super) fn open(filter: Filter) -> Request {
    open_as(0, filter)
}

pub(super) fn open_as(stream: u32, filter: Filter) -> Request {
    let extent = Extent::new(2, 2);
    let source = FrameSpec::new(PixelFormat::Gray8, extent);
    let spec = StreamSpec { filter, ..StreamSpec::new(source, extent) };
    Request::Open { stream, spec, named: false }
}

pub(super) async fn hear(peer: &mut Peer) -> Message {
    let mut inbox = Inbox::new();
    loop {
        if let Some(message) = inbox.pop().unwrap() {
            return message;
        }
        let byte = peer.read_u8().await.unwrap();
        inbox
            .fill(|room| {
                room[0] = byte;
                Ok::<_, io::Error>(1)
            })
            .unwrap();
    }
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(THREADS).build().unwrap();
    let in_time = runtime.block_on(async { timeout(Duration::from_secs(60), test).await });
    // Who still waits for the gate must not be waited for.
    runtime.shutdown_background();
    in_time.expect("over in time");
}
