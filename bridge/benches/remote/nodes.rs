//! What a NATS server says of itself, and nodes that have joined a service there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::{Client as Nats, StatusCode};
use futures_util::StreamExt;
use resized_client::{Client, Endpoint};
use tokio::time::timeout;

use super::broker::Broker;
use super::{Process, this};

/// For all nodes to answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a server has taken in, and given out, since it started.
pub(crate) struct Passed {
    pub(crate) messages: [u64; 2],
    /// Bytes, without subjects and the like.
    pub(crate) payload: [u64; 2],
}

impl Broker {
    /// Of whichever node has room.
    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("{}/stream", self.url()).parse().unwrap()
    }

    /// What it says itself.
    pub(crate) fn passed(&self) -> Passed {
        let mut socket = TcpStream::connect(self.listens("monitoring")).unwrap();
        socket.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        let number = |name: &str| -> u64 {
            let (_, rest) = said.split_once(&format!("\"{name}\":")).unwrap();
            rest.split([',', '\n', '}']).next().unwrap().trim().parse().unwrap()
        };
        Passed {
            messages: ["in_msgs", "out_msgs"].map(number),
            payload: ["in_bytes", "out_bytes"].map(number),
        }
    }

    /// Time that its threads have had of the cores.
    pub(crate) fn busy(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let times = tasks.map(|task| {
            let times = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            times.split_whitespace().next().unwrap().parse().map(Duration::from_nanos).unwrap()
        });
        times.sum()
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
