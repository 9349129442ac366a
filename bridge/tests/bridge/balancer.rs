//! HAProxy before several bridges, as in the example.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use resized_client::{Client, Credentials, Endpoint, PixelFormat};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::port::free_port;
use crate::support::{Bridge, Local, bounded, connect, resized, spec, until};

/// HAProxy, which is killed when this is dropped.
struct Balancer {
    process: Child,
    _folder: TempDir,
    address: SocketAddr,
    endpoint: Endpoint,
}

impl Balancer {
    /// The example's, before three bridges.
    fn start(bridges: [&Bridge; 3]) -> Self {
        Self::with_limit("1000", bridges)
    }

    /// One that turns away who connects more often than that in three seconds.
    fn with_limit(limit: &str, bridges: [&Bridge; 3]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        // With these addresses.
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/haproxy.cfg");
        let mut config = std::fs::read_to_string(example).unwrap();
        config = config.replace("bind :7788", &format!("bind 127.0.0.1:{port}"));
        assert!(config.contains("gt 1000 "), "{config}");
        config = config.replace("gt 1000 ", &format!("gt {limit} "));
        for (n, bridge) in (1..).zip(bridges) {
            let named = format!("192.0.2.{n}:7788");
            assert!(config.contains(&named), "{config}");
            config = config.replace(&named, &bridge.address.to_string());
        }
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = haproxy.spawn().expect("haproxy, which make test-deps brings");
        let endpoint: Endpoint = format!("tcp://127.0.0.1:{port}").parse().unwrap();
        until("a bridge is reached", || connect(&endpoint, &Credentials::default()).is_ok());
        let address = ([127, 0, 0, 1], port).into();
        Self { process, _folder: folder, address, endpoint }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_bridge_that_is_killed_costs_no_frame() {
    bounded(|| {
        let local = Local::start();
        let mut bridges = [(); 3].map(|()| Bridge::start(&local, &[]));
        let balancer = Balancer::start(bridges.each_ref());
        let spec = spec(PixelFormat::Bgr24, 2);
        let expected = resized(&local.client().open(&spec).unwrap(), 4).unwrap();
        let streams: Vec<_> = (0..6)
            .map(|_| Client::connect(&balancer.endpoint).unwrap().open(&spec).unwrap())
            .collect();
        bridges[2].kill();
        for _ in 0..5 {
            for stream in &streams {
                assert_eq!(resized(stream, 4).unwrap(), expected);
            }
        }
    });
}

#[test]
fn one_machine_that_floods_it_is_turned_away_and_others_are_not() {
    bounded(|| {
        let local = Local::start();
        let bridges = [(); 3].map(|()| Bridge::start(&local, &[]));
        let balancer = Balancer::with_limit("20", bridges.each_ref());
        let at = balancer.address;
        Runtime::new().unwrap().block_on(async {
            // What comes of it is what is said there.
            let come = || async {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
                let mut said = Vec::new();
                match socket.connect(at).await {
                    Ok(mut socket) => drop(socket.read_to_end(&mut said).await),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
                said
            };
            // Who says nothing is told so; who is turned away is told nothing.
            assert_ne!(come().await, b"");
            for _ in 0..200 {
                let _ = timeout(Duration::from_millis(1), come()).await;
            }
            assert_eq!(come().await, b"");
        });
        connect(&balancer.endpoint, &Credentials::default()).unwrap();
    });
}

#[test]
fn a_bridge_whose_daemon_is_away_is_passed_over() {
    bounded(|| {
        let mut locals = [(); 3].map(|()| Local::start());
        let bridges = locals.each_ref().map(|local| Bridge::start(local, &[]));
        let balancer = Balancer::start(bridges.each_ref());
        let connect = || connect(&balancer.endpoint, &Credentials::default());
        // Of bridges that nobody has come to by then the first would be next.
        let _held = bridges.each_ref().map(Bridge::client);
        let _more = [(); 4].map(|()| connect().unwrap());
        locals[0].stop();
        until("others take its clients", || (0..5).all(|_| connect().is_ok()));
        locals[0].start_again();
        let near = locals[0].client();
        let mut clients = Vec::new();
        until("it is used again", || {
            clients.extend(connect().ok());
            // Beside this one; the bridge itself comes for a moment.
            near.stats().unwrap().sessions > 2
        });
    });
}
