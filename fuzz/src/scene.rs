//! A daemon with a bridge in this process, for all inputs, and an honest client of theirs.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use resized::{Devices, Limits, Listener, Options, Peers, Server};
use resized_bridge::{Args, serve};
use resized_client::{Client, Endpoint};
use tempfile::TempDir;

use crate::Honest;

/// Longer than anything within the limits takes, sanitizers included.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// For the rings of a connection, in MiB: so much that streams can be opened, and so little that
/// none takes long.
const MEMORY: u64 = 4;

/// Who is there for all inputs.
pub struct Scene {
    /// Where the bridge listens.
    pub bridge: SocketAddr,
    near: Client,
    /// Comes through the bridge.
    pub honest: Honest,
    rest: Rest,
    _server: Server,
    _dir: TempDir,
}

/// What there is in the daemon while nobody says anything.
type Rest = (u32, u32, u64);

impl Scene {
    /// Starts them.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let near = Endpoint::Unix(dir.path().join("resized.sock"));
        let Endpoint::Unix(path) = &near else { unreachable!() };
        let limits = Limits { ring_bytes: (4 * MEMORY) << 20, ..Limits::default() };
        let options = Options { devices: Devices::Cpu, limits, ..Options::default() };
        let server = Server::at(Listener::bind(path, Peers::Owner).unwrap(), options).unwrap();
        let (ready, addresses) = mpsc::channel();
        let (daemon, memory) = (near.to_string(), MEMORY.to_string());
        let args = ["resized-bridge", "--listen", "127.0.0.1:0", "--megapixels", "1"];
        let limited = ["--daemon", &daemon, "--connection-memory", &memory, "--patience", "10"];
        let args = Args::parse_from(args.into_iter().chain(limited));
        thread::spawn(move || {
            // As in every program of Rust's own, which a fuzzer is not: who hangs up costs an error.
            SigSet::from(Signal::SIGPIPE).thread_block().unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let ready = move |listening: &[SocketAddr]| ready.send(listening[0]).unwrap();
            runtime.block_on(serve(&args, ready, pending())).unwrap();
        });
        let bridge = addresses.recv().unwrap();
        let far = format!("tcp://{bridge}").parse().unwrap();
        let honest = Honest::new(&Client::connect(&far).unwrap());
        let near = Client::connect(&near).unwrap();
        let mut scene =
            Self { bridge, near, honest, rest: Rest::default(), _server: server, _dir: dir };
        scene.settle();
        scene
    }

    /// What there is now is there to stay.
    pub fn settle(&mut self) {
        self.rest = self.now();
    }

    fn now(&self) -> Rest {
        let stats = self.near.stats().unwrap();
        (stats.sessions, stats.streams, stats.ring_bytes)
    }

    /// Waits until nothing else is left.
    pub fn await_rest(&self) {
        for _ in 0..PATIENCE.as_millis() {
            if self.now() == self.rest {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{:?} are left, in place of {:?}", self.now(), self.rest);
    }
}
