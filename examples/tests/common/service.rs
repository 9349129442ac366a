//! Owns a daemon and a bridge to it, in this process, at sockets that are like any other.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use clap::Parser;
use resized::{Daemon, Devices, Listener, Options, Peers};
use resized_bridge::{Args, serve};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Both serve until this is dropped.
pub(crate) struct Service {
    dir: TempDir,
    bridge: SocketAddr,
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
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
        let daemon = Daemon::new(options).unwrap();
        let (stop_daemon, stopped) = oneshot::channel::<()>();
        let daemon = thread::spawn(move || {
            let stopped = async {
                let _ = stopped.await;
                Ok(())
            };
            daemon.run(listener, stopped).unwrap();
        });
        let (stop_bridge, stopped) = oneshot::channel::<()>();
        let (ready, listening) = channel();
        let bridge = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let stopped = async { drop(stopped.await) };
            let ready = |addresses: &[SocketAddr]| ready.send(addresses[0]).unwrap();
            runtime.unwrap().block_on(serve(&args, ready, stopped)).unwrap();
        });
        let (stops, threads) = (vec![stop_bridge, stop_daemon], vec![bridge, daemon]);
        Self { dir, bridge: listening.recv().unwrap(), stops, threads }
    }

    /// The daemon's, as programs are told.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("resized.sock").display())
    }

    /// The bridge's.
    pub(crate) fn remote(&self) -> String {
        format!("tcp://{}", self.bridge)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stops.clear();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}
