//! Owns the daemons and bridges that the programs meet: in this process, at sockets that are like
//! any other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use clap::Parser;
use resized::{Devices, Listener, Options, Peers, Server};
use resized_bridge::{Args, serve};
use tokio::sync::oneshot;

/// Something that serves on a thread of its own until this is dropped.
pub(crate) struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(serve: impl FnOnce(oneshot::Receiver<()>) + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), thread: Some(thread::spawn(|| serve(stopped))) }
    }

    /// A daemon on the cores.
    pub(crate) fn daemon(socket: &Path) -> Self {
        let listener = Listener::bind(socket, Peers::Owner).unwrap();
        let options = Options { devices: Devices::Cpu, ..Options::default() };
        let daemon = Server::at(listener, options).unwrap();
        Self::start(move |stopped| {
            let _ = stopped.blocking_recv();
            daemon.stop().unwrap();
        })
    }

    /// A bridge to it, and where that listens.
    pub(crate) fn bridge(socket: &Path) -> (Self, String) {
        let daemon = endpoint(socket);
        let args = ["bridge", "--listen", "127.0.0.1:0", "--daemon", &daemon];
        let args = Args::try_parse_from(args).unwrap();
        let (ready, listening) = channel();
        let service = Self::start(move |stopped| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let stopped = async { drop(stopped.await) };
            let ready = |addresses: &[SocketAddr]| ready.send(addresses[0]).unwrap();
            runtime.unwrap().block_on(serve(&args, ready, stopped)).unwrap();
        });
        let endpoint = format!("tcp://{}", listening.recv().unwrap());
        (service, endpoint)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a service panicked");
        }
    }
}

/// Where a daemon's socket is, below a folder.
pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("resized.sock")
}

/// As programs are told.
pub(crate) fn endpoint(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}
