//! Daemons that die or are replaced under their clients: every frame arrives, once, right; late at
//! most. How late is not asserted: all wait for the next daemon, there is no neighbour who does not.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::{Client, Crop, Endpoint, Error, Extent, Reconnect, Refusal, StreamSpec};
use resized_protocol::message::Resource;

use crate::oracle::{self, Checked};
use crate::support::{
    Daemon, Folder, Process, alone, apart, bounded, descriptors, mapped_rings, until,
};

/// Clients on threads of their own that check every frame, with as many in flight as they have slots,
/// until they are told to end.
struct Crowd {
    over: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// That each of them has.
    const STREAMS: usize = 3;

    fn gather(endpoint: &Endpoint, size: usize) -> Self {
        let (over, delivered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let start = |seed| {
            let (endpoint, over, delivered) = (endpoint.clone(), over.clone(), delivered.clone());
            thread::spawn(move || {
                let client = Client::connect(&endpoint).unwrap();
                keep_checking(&client, seed, &over, &delivered);
            })
        };
        let clients = (0..size).map(start).collect();
        Self { over, delivered, clients }
    }

    fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Relaxed)
    }

    fn await_more(&self, frames: usize) {
        let wanted = self.delivered() + frames;
        until("frames come through", || self.delivered() >= wanted);
    }

    fn part(self) {
        self.over.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

/// Frames of three streams, as many in flight as they have slots; each frame is another, and has to
/// come back as what it must become, and once: a second completion of one would end the connection
/// (`completions_of_slots_that_are_not_in_flight_end_the_connection`, of the client) or, with the slot
/// in flight again, say that something is done which is not, and so is wrong.
fn keep_checking(client: &Client, seed: usize, over: &AtomicBool, delivered: &AtomicUsize) {
    let spec = |n: usize| StreamSpec { slots: 4, ..oracle::mixed(seed + n) };
    let specs: [_; Crowd::STREAMS] = [spec(0), spec(4), StreamSpec { slots: 3, ..oracle::big() }];
    let streams = specs.map(|spec| (Checked::open(client, spec, 7), spec.slots as usize));
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let mut pendings = Vec::new();
        for (stream, slots) in &streams {
            (0..*slots).for_each(|i| pendings.push((stream, n + i, stream.submit(n + i).unwrap())));
        }
        // A frame nobody waits for must not disturb the others.
        drop(pendings.remove(n % pendings.len()));
        for (stream, n, pending) in pendings {
            stream.check(n, &pending.wait().unwrap());
            delivered.fetch_add(1, Ordering::Relaxed);
        }
        n += 1;
    }
    // A frame that nobody waited for is not lost either, and no last completion comes twice.
    for (stream, slots) in &streams {
        drop((0..*slots).map(|_| stream.stream.loan().unwrap()).collect::<Vec<_>>());
    }
    client.stats().unwrap();
}

/// How often the daemon is killed: more where the whole suite is asked for.
fn deaths() -> usize {
    if std::env::var_os("RESIZED_CHAOS").is_some() { 20 } else { 5 }
}

/// Rings that are mapped and descriptors that are open, in this process and in the daemon.
fn held(daemon: &Daemon) -> [(usize, usize); 2] {
    [process::id(), daemon.process.0.id()].map(|id| (mapped_rings(id), descriptors(id)))
}

#[test]
fn a_daemon_that_is_killed_again_and_again_costs_no_frame() {
    // Its clients are the only ones of this process, whose own rings and descriptors are counted.
    alone("restarts::a_daemon_that_is_killed_again_and_again_costs_no_frame", || {
        const CLIENTS: usize = 8;
        let mut daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        daemon.at_rest(&watcher);
        let before = held(&daemon);
        let crowd = Crowd::gather(&daemon.endpoint(), CLIENTS);
        let settle = |daemon: &Daemon| {
            watcher.stats().unwrap();
            let rings = CLIENTS * Crowd::STREAMS;
            let [ours, daemons] = before.map(|(mapped, open)| (mapped + rings, open + CLIENTS));
            // It keeps the files of rings open, too.
            let all = [ours, (daemons.0, daemons.1 + rings)];
            until("each stream has one ring, each client one connection", || held(daemon) == all);
        };
        for death in 0..deaths() {
            crowd.await_more(50);
            daemon.process.signal(Signal::SIGKILL);
            daemon.process.wait();
            thread::sleep(Duration::from_millis(10 * (death as u64 % 4)));
            daemon.start_again(&[]);
            if death == 0 {
                settle(&daemon);
            }
        }
        crowd.await_more(50);
        // No more than after the first death.
        settle(&daemon);
        crowd.part();
        until("nothing is left", || {
            let stats = watcher.stats().unwrap();
            (stats.sessions, stats.streams, stats.ring_bytes, stats.queued) == (1, 0, 0, 0)
                && held(&daemon) == before
        });
        assert_eq!(watcher.stats().unwrap().devices[0].failed, 0);
    });
}

#[test]
fn a_daemon_that_stops_in_good_order_and_comes_back_costs_no_frame() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let crowd = Crowd::gather(&daemon.endpoint(), 4);
        for _ in 0..deaths() {
            crowd.await_more(50);
            daemon.process.signal(Signal::SIGTERM);
            assert_eq!(daemon.process.wait().code(), Some(0));
            daemon.start_again(&[]);
        }
        crowd.await_more(50);
        crowd.part();
    });
}

/// A daemon that is passed this socket, as a service manager would.
fn activated(listener: &UnixListener, dir: &Path) -> Process {
    let adopt = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0""#;
    let mut command = Command::new("sh");
    command.args(["-c", adopt, env!("CARGO_BIN_EXE_resized")]);
    apart(&mut command).env("RESIZED_DEVICES", "cpu").env("RESIZED_LOG", "debug");
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    Process::start_logged(command.stdin(socket), dir)
}

#[test]
fn a_daemon_upgraded_under_load_fails_no_request() {
    bounded(|| {
        let dir = Folder::new();
        let path = dir.path().join("resized.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Unix(path);
        let mut daemon = activated(&listener, dir.path());
        let crowd = Crowd::gather(&endpoint, 4);
        // New clients come all the time.
        let over = AtomicBool::new(false);
        let came = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let client = Client::connect(&endpoint).unwrap();
                        Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
                        came.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..deaths() {
                crowd.await_more(50);
                daemon.signal(Signal::SIGTERM);
                assert_eq!(daemon.wait().code(), Some(0));
                daemon = activated(&listener, dir.path());
            }
            crowd.await_more(50);
            over.store(true, Ordering::Relaxed);
        });
        assert!(came.load(Ordering::Relaxed) > 0);
        crowd.part();
    });
}

#[test]
fn what_callers_hold_while_the_daemon_changes_is_theirs() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = StreamSpec { slots: 6, ..oracle::mixed(4) };
        let (source, other) = (oracle::noise(&spec, 1), oracle::noise(&spec, 2));
        let wanted = oracle::resized(&spec, &source);
        let stream = client.open(&spec).unwrap();
        let slot = |packed: &[u8]| {
            let mut slot = stream.loan().unwrap();
            slot.write_packed(packed).unwrap();
            slot
        };
        // A frame being read, one ready, one in flight with a crop of its own, one being written,
        // and one held beyond its submission.
        let frame = slot(&source).submit().unwrap().wait().unwrap();
        let ready = slot(&source).submit().unwrap();
        drop(slot(&other).submit().unwrap().wait().unwrap());
        let extent = spec.source.extent;
        let crop = Crop { width: f64::from(extent.width) / 2.0, ..Crop::whole(extent) };
        daemon.process.signal(Signal::SIGSTOP);
        let mut cropped = slot(&source);
        cropped.set_crop(crop).unwrap();
        let cropped = cropped.submit().unwrap();
        let mut written = slot(&source);
        let mut held = slot(&source);
        let bytes = held.input_mut().as_ptr();
        let hold = held.hold().unwrap();
        let held = held.submit().unwrap();
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        daemon.start_again(&[]);
        assert_eq!(frame.device().as_deref(), Some("cpu"));
        let done = held.wait().unwrap();
        assert!(done.to_packed() == wanted);
        assert_eq!((done.device().as_deref(), frame.device()), (Some("cpu"), None));
        drop(done);
        let half = oracle::resized(&StreamSpec { crop: Some(crop), ..spec }, &source);
        assert!(cropped.wait().unwrap().to_packed() == half);
        assert!(frame.to_packed() == wanted);
        assert!(ready.wait().unwrap().to_packed() == wanted);
        // Still mapped where it was.
        let probe = std::fs::read_to_string("/proc/self/maps").unwrap();
        let within = |line: &str| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let at = |hex| usize::from_str_radix(hex, 16).unwrap();
            (at(from)..at(to)).contains(&bytes.addr())
        };
        assert!(probe.lines().any(|line| within(line) && line.contains("resized-ring")));
        drop(hold);
        written.plane_mut(0)[0] ^= 1;
        written.plane_mut(0)[0] ^= 1;
        assert!(written.submit().unwrap().wait().unwrap().to_packed() == wanted);
        drop(frame);
        // All slots are there again.
        let all: Vec<_> = (0..6).map(|_| stream.loan().unwrap()).collect();
        drop(all);
        assert!(slot(&source).submit().unwrap().wait().unwrap().to_packed() == wanted);
    });
}

#[test]
fn frames_in_flight_are_late_at_the_next_daemon_if_their_deadline_is_over() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.client();
        let deadlines = [Some(Duration::from_millis(1)), Some(Duration::from_secs(3600)), None];
        let streams = deadlines.map(|deadline| {
            let spec = StreamSpec { deadline, slots: 1, ..oracle::mixed(0) };
            Checked::open(&client, spec, 7)
        });
        daemon.process.signal(Signal::SIGSTOP);
        let [late, soon, whenever] = streams.each_ref().map(|stream| stream.submit(1).unwrap());
        thread::sleep(Duration::from_millis(1)); // so the first one's is over
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        daemon.start_again(&[]);
        assert!(late.wait().is_err_and(|error| matches!(error, Error::Late)));
        streams[1].check(1, &soon.wait().unwrap());
        streams[2].check(1, &whenever.wait().unwrap());
    });
}

#[test]
fn a_daemon_that_does_not_come_back_is_given_up_in_time() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let within = Duration::from_millis(300);
        let reconnect = Reconnect { within, ..Reconnect::default() };
        let client = Client::connect_with(&daemon.endpoint(), reconnect).unwrap();
        let stream = client.open(&oracle::dot()).unwrap();
        daemon.process.signal(Signal::SIGSTOP);
        let pending = stream.loan().unwrap().submit().unwrap();
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        let begun = Instant::now();
        let error = pending.wait().unwrap_err();
        assert!(begun.elapsed() >= within / 2, "it did not try");
        match &error {
            Error::GivenUp { lost, tried, last } => {
                assert!(matches!(**lost, Error::Disconnected | Error::Socket(_)), "{error}");
                assert!(*tried > 1 && matches!(**last, Error::Connect { .. }), "{error}");
            }
            _ => panic!("{error}"),
        }
        // From here on everything fails at once.
        assert!(stream.loan().unwrap().submit().is_err());
        assert!(client.stats().is_err() && client.open(&oracle::dot()).is_err());
    });
}

#[test]
fn a_stream_that_the_next_daemon_refuses_for_good_is_an_error() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let reconnect = Reconnect { within: Duration::from_secs(1), ..Reconnect::default() };
        let client = Client::connect_with(&daemon.endpoint(), reconnect).unwrap();
        let stream = client.open(&StreamSpec { slots: 2, ..oracle::dot() }).unwrap();
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        daemon.start_again(&["--user-slots", "1"]);
        let error = stream.loan().unwrap().submit().and_then(|pending| pending.wait()).unwrap_err();
        // Another of its user's may make room: it was tried more than once.
        let Error::GivenUp { tried: 2.., last, .. } = &error else { panic!("{error:?}") };
        let Error::Refused(Refusal::Quota { what, limit, .. }) = &**last else { panic!("{last}") };
        assert_eq!((*what, *limit), (Resource::Slots, 1));
    });
}

#[test]
fn streams_may_be_opened_and_closed_while_daemons_come_and_go() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.client();
        let over = AtomicBool::new(false);
        let opened = AtomicUsize::new(0);
        thread::scope(|scope| {
            for seed in 0..3 {
                let (client, over, opened) = (&client, &over, &opened);
                scope.spawn(move || {
                    let kept = Checked::open(client, oracle::mixed(seed), 2);
                    while !over.load(Ordering::Relaxed) {
                        let stream = Checked::open(client, oracle::mixed(seed + 3), 1);
                        let pending = stream.submit(0).unwrap();
                        kept.round_trip(1);
                        stream.check(0, &pending.wait().unwrap());
                        // Closed with a frame in flight.
                        drop(stream.submit(0));
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..deaths() {
                let wanted = opened.load(Ordering::Relaxed) + 20;
                until("streams are opened", || opened.load(Ordering::Relaxed) >= wanted);
                daemon.process.signal(Signal::SIGKILL);
                daemon.process.wait();
                daemon.start_again(&[]);
            }
            over.store(true, Ordering::Relaxed);
        });
        let stream = client.open(&StreamSpec {
            slots: 1,
            ..StreamSpec::new(oracle::dot().source, Extent::new(1, 1))
        });
        drop(stream.unwrap().loan().unwrap().submit().unwrap().wait().unwrap());
        until("the streams are closed", || client.stats().unwrap().streams == 0);
    });
}
