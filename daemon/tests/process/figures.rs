//! What the daemon says about itself: to its clients, and to those who watch it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use resized_client::{Error, Histogram, StreamSpec};
use resized_protocol::message::Request;

use crate::oracle::{self, Checked};
use crate::port::free_port;
use crate::support::{Daemon, Folder, bounded, until};
use crate::wire::{Wire, bytes};

#[test]
fn every_frame_is_counted_for_its_stream_its_client_and_its_device() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let (watcher, client) = (daemon.client(), daemon.client());
        let first = Checked::open(&client, oracle::mixed(2), 2);
        let second = Checked::open(&client, oracle::mixed(4), 2);
        (0..5).for_each(|n| first.round_trip(n));
        (0..3).for_each(|n| second.round_trip(n));
        daemon.at_rest_but(&watcher, 2);
        let clients = watcher.clients().unwrap();
        let [_, seen] = &clients[..] else { panic!("{clients:?}") };
        assert_eq!((seen.streams, seen.frames), (2, 8));
        assert!(seen.name.starts_with("process"), "{}", seen.name);
        let streams = watcher.streams_of(seen.client).unwrap();
        let frames: Vec<_> = streams.iter().map(|stream| stream.frames).collect();
        assert_eq!(frames, [5, 3]);
        for (stream, frames) in streams.iter().zip([5, 3]) {
            assert_eq!((stream.queued.count(), stream.worked.count()), (frames, frames));
            assert!(stream.worked.quantile(0.5) <= stream.worked.quantile(0.99));
            assert!(stream.worked.sum_ns > 0 && stream.pixels > 0 && stream.ring_bytes > 0);
        }
        assert_eq!((seen.queued.count(), seen.worked.count(), seen.copied_bytes), (8, 8, 0));
        let worked_ns: u64 = streams.iter().map(|stream| stream.worked.sum_ns).sum();
        assert_eq!(seen.worked.sum_ns, worked_ns);
        let stats = watcher.stats().unwrap();
        assert_eq!(seen.pixels, streams.iter().map(|stream| stream.pixels).sum::<u64>());
        assert_eq!((stats.devices[0].frames, stats.devices[0].pixels), (8, seen.pixels));
        assert_eq!((stats.devices[0].queued.count(), stats.copied_bytes), (8, 0));
        // Many: in pages.
        let spec = StreamSpec { slots: 1, ..oracle::dot() };
        let many: Vec<_> = (0..60).map(|_| client.open(&spec).unwrap()).collect();
        assert_eq!(watcher.streams_of(seen.client).unwrap().len(), 62);
        drop((many, first));
        until("they are closed", || watcher.streams_of(seen.client).unwrap().len() == 1);
        assert_eq!(watcher.clients().unwrap()[1].frames, 8);
        assert!(client.open(&StreamSpec { slots: 0, ..spec }).is_err());
        assert_eq!(watcher.stats().unwrap().refused, 1);
        drop((second, client));
        until("the client is gone", || watcher.clients().unwrap().len() == 1);
        assert_eq!(watcher.streams_of(seen.client).unwrap(), []);
    });
}

/// A daemon, the socket at which its figures are asked for, and the folder that this is in.
fn watched(flags: &[&str]) -> (Daemon, PathBuf, Folder) {
    let dir = Folder::new();
    let socket = dir.path().join("metrics.sock");
    let figures = format!("unix:{}", socket.display());
    (Daemon::start(&[flags, &["--metrics", &figures]].concat()), socket, dir)
}

/// Asks there for that path; status line and body, unless it is hung up on.
fn try_ask(socket: &Path, path: &str) -> Option<(String, String)> {
    let mut socket = UnixStream::connect(socket).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

fn ask(socket: &Path, path: &str) -> (String, String) {
    try_ask(socket, path).unwrap()
}

#[test]
fn prometheus_is_given_figures_that_add_up() {
    bounded(|| {
        let (mut daemon, socket, _dir) = watched(&[]);
        let client = daemon.faithful_client();
        let stream = Checked::open(&client, oracle::mixed(2), 2);
        (0..5).for_each(|n| stream.round_trip(n));
        let (status, text) = ask(&socket, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
        };
        assert_eq!(value("resized_streams"), 1.0);
        assert_eq!(value("resized_device_frames_total{device=\"cpu\"}"), 5.0);
        assert_eq!(value("resized_device_worked_seconds_count{device=\"cpu\"}"), 5.0);
        assert_eq!(value("resized_device_worked_seconds_bucket{device=\"cpu\",le=\"+Inf\"}"), 5.0);
        assert!(value("resized_device_worked_seconds_sum{device=\"cpu\"}") > 0.0);
        let buckets = text.matches("resized_device_worked_seconds_bucket").count();
        assert_eq!(buckets, Histogram::BUCKETS);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("resized_") && value.parse::<f64>().is_ok(), "{line}");
        }
        assert_eq!(ask(&socket, "/live").0, "HTTP/1.1 200 OK");
        assert_eq!(ask(&socket, "/ready").0, "HTTP/1.1 200 OK");
        assert_eq!(ask(&socket, "/else").0, "HTTP/1.1 404 Not Found");
        // Those who ask and say nothing disturb nobody.
        let _silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        stream.round_trip(0);
        // And keep nobody out who asks.
        assert_eq!(ask(&socket, "/live").0, "HTTP/1.1 200 OK");
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(!socket.exists());
        assert!(matches!(client.stats(), Err(Error::Goodbye(_) | Error::Disconnected)));
    });
}

#[test]
fn a_storm_of_those_who_ask_nothing_keeps_out_nobody_who_does() {
    bounded(|| {
        let (_daemon, socket, _dir) = watched(&["--devices", "null"]);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut silent = VecDeque::new();
                    while !over.load(Ordering::Relaxed) {
                        silent.extend(UnixStream::connect(&socket));
                        silent.drain(..silent.len().saturating_sub(64));
                    }
                });
            }
            let answers = (0..20).filter_map(|_| try_ask(&socket, "/live"));
            let answered = answers.filter(|answer| answer.0 == "HTTP/1.1 200 OK").count();
            over.store(true, Ordering::Relaxed);
            // Who is kept from its core before it has asked may be hung up on.
            assert!(answered >= 10, "{answered} of 20");
        });
    });
}

/// Who does not read keeps a daemon that stops for a while, and from nothing: it is waited for
/// once, not for each of the last things that there are to say.
#[test]
fn a_daemon_that_stops_lives_and_is_not_ready() {
    bounded(|| {
        let (mut daemon, socket, _dir) = watched(&["--devices", "null"]);
        let deaf = Wire::welcomed(&daemon.socket());
        let asking = bytes(&Request::Stats).repeat(1000);
        deaf.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        while (&deaf.socket).write_all(&asking).is_ok() {}
        daemon.process.signal(Signal::SIGTERM);
        until("it is not ready", || ask(&socket, "/ready").0 == "HTTP/1.1 503 Service Unavailable");
        assert_eq!(ask(&socket, "/live").0, "HTTP/1.1 200 OK");
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(!daemon.socket().exists() && !socket.exists());
    });
}

#[test]
fn figures_may_be_on_loopback_and_nowhere_further() {
    bounded(|| {
        let address = format!("127.0.0.1:{}", free_port());
        let _daemon = Daemon::start(&["--metrics", &address]);
        let mut socket = std::net::TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("resized_sessions"), "{answer}");
    });
}
