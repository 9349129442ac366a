//! A NATS server, and nodes that have joined a service there.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use async_nats::{Client as Nats, StatusCode};
use futures_util::StreamExt;
use resized_client::{Client, Endpoint};
use tokio::time::timeout;

use super::{Process, this};

/// For all nodes to answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// A nats-server, which is killed when this is dropped.
pub(crate) struct Broker {
    process: Child,
    address: SocketAddr,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("nats-server, which make bench-remote brings");
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { process, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Of whichever node has room.
    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("{}/stream", self.url()).parse().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A daemon and its bridge, which are killed when this is dropped.
pub(crate) struct Node {
    pub(crate) near: Endpoint,
    _bridge: Process,
    _daemon: Process,
}

impl Node {
    pub(crate) fn start(folder: &Path, number: usize, broker: &Broker) -> Self {
        let socket = folder.join(format!("{number}.sock"));
        let daemon = Process::start(this().arg("daemon").arg(&socket).stderr(Stdio::piped()));
        let near = format!("unix:{}", socket.display());
        let mut bridge = Command::new(env!("CARGO_BIN_EXE_resized-bridge"));
        bridge.args(["--listen", "127.0.0.1:0", "--daemon", &near, "--nats", &broker.url()]);
        let bridge = Process::start(bridge.stderr(Stdio::piped()));
        Self { near: near.parse().unwrap(), _bridge: bridge, _daemon: daemon }
    }

    pub(crate) fn sessions(&self) -> u32 {
        Client::connect(&self.near).unwrap().stats().unwrap().sessions
    }
}

/// Waits until all nodes are there.
pub(crate) async fn joined(nats: &Nats, nodes: usize) {
    loop {
        let inbox = nats.new_inbox();
        let mut pongs = nats.subscribe(inbox.clone()).await.unwrap();
        nats.publish_with_reply("$SRV.PING.resized", inbox, "".into()).await.unwrap();
        let all = async {
            for _ in 0..nodes {
                while pongs.next().await.unwrap().status == Some(StatusCode::NO_RESPONDERS) {}
            }
        };
        if timeout(PATIENCE, all).await.is_ok() {
            return;
        }
    }
}
