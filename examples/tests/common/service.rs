//! Owns a daemon and a bridge to it, in this process, at sockets that are like any other.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use clap::Parser;
use resized::{Devices, Listener, Options, Peers, Server};
use resized_bridge::{Args, serve};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Both serve until this is dropped.
pub(crate) struct Service {
    dir: TempDir,
    daemon: Option<Server>,
    bridge: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    address: SocketAddr,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// With other settings of the daemon and of the bridge.
    pub(crate) fn with(set: impl FnOnce(&mut Options, &mut Args)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("resized.sock");
        let listener = Listener::bind(&socket, Peers::Owner).unwrap();
        let daemon_socket = format!("unix:{}", socket.display());
        let args = ["bridge", "--listen", "127.0.0.1:0", "--daemon", &daemon_socket];
        let mut args = Args::try_parse_from(args).unwrap();
        let mut options = Options { devices: Devices::Cpu, ..Options::default() };
        set(&mut options, &mut args);
        let daemon = Server::at(listener, options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, listening) = channel();
        let bridge = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let stopped = async { drop(stopped.await) };
            let ready = |addresses: &[SocketAddr]| ready.send(addresses[0]).unwrap();
            runtime.unwrap().block_on(serve(&args, ready, stopped)).unwrap();
        });
        let address = listening.recv().unwrap();
        Self { dir, daemon: Some(daemon), bridge: Some((stop, bridge)), address }
    }

    /// The daemon's, as programs are told.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("resized.sock").display())
    }

    /// The bridge's.
    pub(crate) fn remote(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some((stop, bridge)) = self.bridge.take() {
            drop(stop);
            bridge.join().unwrap();
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().unwrap();
        }
    }
}
