//! Owns a nats-server, for tests and benchmarks of several packages.
//!
//! Invariant: it listens where nobody else could have come first, unless its caller says where.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far longer than it takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A nats-server, which is killed when this is dropped.
pub(crate) struct Broker {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
    /// Where it writes down at which ports it listens.
    pub(crate) folder: TempDir,
}

impl Broker {
    /// At a port that it finds itself.
    pub(crate) fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// There; at a port that it finds itself if that is zero.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::start_with(&[], address)
    }

    /// With these flags, too.
    pub(crate) fn start_with(flags: &[&str], address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Self::spawn(folder.path(), address, flags);
        let mut broker = Self { process, address, folder };
        broker.address = broker.listens("nats");
        broker
    }

    pub(crate) fn spawn(folder: &Path, address: SocketAddr, flags: &[&str]) -> Child {
        let port = match address.port() {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let mut command = Command::new("nats-server");
        command.args(["--addr", &address.ip().to_string(), "--port", &port]);
        command.args(["--http_port", "-1", "--ports_file_dir"]).arg(folder).args(flags);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        process.expect("nats-server, which make test-deps brings")
    }

    /// Where it listens for that, `nats` or `monitoring`. Waits until it does.
    pub(crate) fn listens(&self, what: &str) -> SocketAddr {
        let file = self.folder.path().join(format!("nats-server_{}.ports", self.process.id()));
        let begun = Instant::now();
        loop {
            // {"nats":["nats://127.0.0.1:4222"],"monitoring":["http://127.0.0.1:8222"]}
            let said = fs::read_to_string(&file).unwrap_or_default();
            let first = said.split_once(&format!(r#""{what}":[""#));
            if let Some((url, _)) = first.and_then(|(_, rest)| rest.split_once('"')) {
                return url.split_once("://").unwrap().1.parse().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "no nats-server listens at {}", self.address);
            sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
