//! Everything at once that clients do by mistake or by malice, beside a neighbour that does nothing
//! wrong. After each row the daemon lives, the neighbour's frames were right, and nothing is left
//! behind.
//!
//! In short as any test; with `RESIZED_CHAOS` set (`make chaos`, in a release build, one row at a time)
//! for longer, and then the neighbour's p99 must stay within one and a half times what it was before.
//! `RESIZED_SOAK` (`make soak`) is how many seconds the last row takes.

mod shortage;
mod traffic;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::resource::{Resource as System, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::MsgFlags;
use nix::unistd::ftruncate;
use resized_client::{Client, Filter, PixelFormat, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::fdpass::receive;
use resized_protocol::message::Request;

use crate::clients::{self, IN_FLIGHT};
use crate::oracle::{self, Checked};
use crate::support::{DEADLINE, Daemon, Process, bounded_by, until};
use crate::wire::{Wire, bytes, hello};

/// The whole suite, not the short form of it.
pub(crate) fn whole() -> bool {
    std::env::var_os("RESIZED_CHAOS").is_some()
}

/// `long` where the whole suite is asked for.
fn length<T>(short: T, long: T) -> T {
    if whole() { long } else { short }
}

/// Rows take minutes where they are run for long.
const ROW: Duration = Duration::from_secs(20 * 60);

/// A client that does nothing wrong: one frame at a time, each checked, each timed.
struct Neighbour {
    over: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<Duration>>>,
    thread: JoinHandle<()>,
}

impl Neighbour {
    fn of(daemon: &Daemon) -> Self {
        let (over, times) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (client, stop, note) = (daemon.faithful_client(), over.clone(), times.clone());
        let thread = thread::spawn(move || {
            let streams = [3, 6, 10].map(|n| Checked::open(&client, oracle::mixed(n), 3));
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for stream in &streams {
                    let begun = Instant::now();
                    let frame = stream.submit(n).unwrap().wait().unwrap();
                    note.lock().unwrap().push(begun.elapsed());
                    stream.check(n, &frame);
                }
            }
        });
        Self { over, times, thread }
    }

    /// 99 of 100 frames since the last call took no longer than this.
    fn p99(&self) -> Duration {
        let wanted = length(30, 1000);
        until("the neighbour is served", || self.times.lock().unwrap().len() > wanted);
        let mut times = std::mem::take(&mut *self.times.lock().unwrap());
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }

    fn part(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// One row: `prepare` sets the scene, in which the neighbour is measured; then comes `disturb`.
fn row<S: 'static>(
    flags: &'static [&'static str],
    prepare: impl FnOnce(&Daemon) -> S + Send + 'static,
    disturb: impl FnOnce(&Daemon, S) + Send + 'static,
) {
    let disturb = move |daemon: &Daemon, scene| {
        disturb(daemon, scene);
        Duration::ZERO
    };
    row_of_frames(flags, prepare, disturb);
}

/// A row in which others' frames are resized, too: `disturb` returns how long the longest of them
/// takes alone, for which the neighbour may have to wait, as a frame that was begun is not
/// interrupted.
fn row_of_frames<S: 'static>(
    flags: &'static [&'static str],
    prepare: impl FnOnce(&Daemon) -> S + Send + 'static,
    disturb: impl FnOnce(&Daemon, S) -> Duration + Send + 'static,
) {
    bounded_by(length(DEADLINE, ROW), move || {
        let mut daemon = Daemon::start(flags);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let neighbour = Neighbour::of(&daemon);
        let scene = prepare(&daemon);
        neighbour.p99();
        let before = neighbour.p99();
        let longest = disturb(&daemon, scene);
        let after = neighbour.p99();
        neighbour.part();
        assert!(daemon.process.0.try_wait().unwrap().is_none(), "the daemon died");
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        daemon.await_rest(&watcher, descriptors);
        // What a scheduler does to one frame in a hundred is not ours.
        let most = before.mul_f64(1.5) + longest + Duration::from_micros(300);
        assert!(!whole() || after <= most, "p99 {before:?} before, {after:?} beside, {longest:?}");
    });
}

/// So many processes with frames in flight.
fn victims(daemon: &Daemon, count: usize) -> Vec<Process> {
    processes(daemon, "clients::a_client_that_is_killed", count)
}

/// So many that run the client of that name, with frames in flight.
fn processes(daemon: &Daemon, test: &str, count: usize) -> Vec<Process> {
    let start = |seed| {
        let mut command = clients::client_process(test, &daemon.endpoint(), seed);
        Process::start(command.stdout(Stdio::piped()))
    };
    let mut clients: Vec<_> = (0..count).map(start).collect();
    for client in &mut clients {
        let mut said = BufReader::new(client.0.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains(IN_FLIGHT)), "a client ended early");
    }
    clients
}

fn kill_all(_: &Daemon, victims: Vec<Process>) {
    victims.iter().for_each(|victim| victim.signal(Signal::SIGKILL));
    for mut victim in victims {
        victim.wait();
    }
}

#[test]
fn one_client_killed_mid_frame() {
    row(&[], |daemon| victims(daemon, 1), kill_all);
}

#[test]
fn many_clients_killed_mid_frame() {
    row(&[], |daemon| victims(daemon, length(8, 50)), kill_all);
}

#[test]
fn clients_that_are_stopped() {
    let stop = |daemon: &Daemon, victims: Vec<Process>| {
        victims.iter().for_each(|victim| victim.signal(Signal::SIGSTOP));
        // Others come and go meanwhile.
        let begun = Instant::now();
        while begun.elapsed() < length(Duration::from_secs(1), Duration::from_secs(10)) {
            Checked::open(&daemon.client(), oracle::mixed(1), 1).round_trip(0);
        }
        victims.iter().for_each(|victim| victim.signal(Signal::SIGCONT));
        kill_all(daemon, victims);
    };
    row(&[], |daemon| victims(daemon, 2), stop);
}

#[test]
fn a_thousand_connections_a_second() {
    let storm = |daemon: &Daemon, ()| {
        let begun = Instant::now();
        let length = length(Duration::from_secs(1), Duration::from_secs(10));
        let mut connected = 0_u32;
        while begun.elapsed() < length {
            let socket = UnixStream::connect(daemon.socket()).unwrap();
            // Every third says something, and hangs up before it is answered.
            if connected.is_multiple_of(3) {
                let _ = (&socket).write_all(&bytes(&hello(VERSION)));
            }
            drop(socket);
            connected += 1;
            let due = begun + Duration::from_millis(1) * connected;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    };
    row(&[], |_| (), storm);
}

#[test]
fn half_open_handshakes() {
    let hold = |daemon: &Daemon, ()| {
        let said = bytes(&hello(VERSION));
        let half = |n: usize| {
            let mut wire = Wire::connect(&daemon.socket());
            wire.raw(&said[..n % said.len()]);
            wire
        };
        let mut held: Vec<_> = (0..200).map(half).collect();
        // All of them are hung up on, in time.
        held.iter_mut().for_each(|wire| while wire.hear_or_end().unwrap().is_some() {});
    };
    row(&[], |_| (), hold);
}

#[test]
fn those_who_never_read() {
    let flood = |daemon: &Daemon, ()| {
        let mut wires: Vec<_> =
            (0..length(4, 16)).map(|_| Wire::welcomed(&daemon.socket())).collect();
        for wire in &mut wires {
            wire.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            // Streams whose descriptors nobody takes, then questions without end.
            for stream in 0..400 {
                let open = Request::Open { stream, spec: oracle::dot(), named: false };
                if (&wire.socket).write_all(&bytes(&open)).is_err() {
                    break;
                }
            }
            let asking = bytes(&Request::Stats).repeat(1000);
            while (&wire.socket).write_all(&asking).is_ok() {}
        }
        let held = daemon.descriptors();
        assert!(held < 200 + 2 * wires.len(), "{held} descriptors");
    };
    row(&[], |_| (), flood);
}

/// A client that opens a stream and submits all it has, with the stream's ring.
fn opener(socket: &Path) -> (Wire, OwnedFd) {
    let wire = Wire::welcomed(socket);
    let open = Request::Open { stream: 0, spec: oracle::big(), named: false };
    (&wire.socket).write_all(&bytes(&open)).unwrap();
    let (_, ring) = receive(&wire.socket, &mut [0; 4096], MsgFlags::empty()).unwrap();
    let submit = Request::Submit { stream: 0, slots: vec![0, 1, 2, 3] };
    (&wire.socket).write_all(&bytes(&submit)).unwrap();
    (wire, ring.unwrap().unwrap())
}

#[test]
fn regions_can_neither_be_cut_nor_unsealed() {
    // The neighbour is measured beside one that does the same and leaves the region as it is.
    let honest = |daemon: &Daemon| {
        let (over, socket) = (Arc::<AtomicBool>::default(), daemon.socket());
        let until = over.clone();
        let open = move || {
            while !until.load(Ordering::Relaxed) {
                drop(opener(&socket));
            }
        };
        (over, thread::spawn(open))
    };
    let attack = |daemon: &Daemon, (over, honest): (Arc<AtomicBool>, JoinHandle<()>)| {
        over.store(true, Ordering::Relaxed);
        honest.join().unwrap();
        for _ in 0..length(20, 500) {
            let (_wire, ring) = opener(&daemon.socket());
            for len in [0, 4096, 1 << 30] {
                assert_eq!(ftruncate(&ring, len), Err(Errno::EPERM));
            }
            let seals = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
            assert_eq!(fcntl(&ring, seals), Err(Errno::EPERM));
            // Its pages may be taken from under the daemon: it reads zeros then.
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&ring, punch, 0, 1 << 20).unwrap();
            fallocate(&ring, FallocateFlags::empty(), 1 << 30, 4096).unwrap_err();
        }
    };
    row(&[], honest, attack);
}

/// Room for as many connections as some rows have.
fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(System::RLIMIT_NOFILE).unwrap();
    setrlimit(System::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn a_soak_of_streams_that_open_and_close_is_flat() {
    let seconds = std::env::var("RESIZED_SOAK").ok().map(|text| text.parse().unwrap());
    let soak = Duration::from_secs(seconds.unwrap_or(length(3, 30)));
    // Warming up for a quarter of it, and settling nine times.
    bounded_by(soak * 3 / 2 + DEADLINE, move || {
        raise_descriptor_limit();
        let daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let churn = |until: Instant| {
            thread::scope(|scope| {
                for seed in 0..4 {
                    let endpoint = daemon.endpoint();
                    scope.spawn(move || {
                        let mut n = seed;
                        while Instant::now() < until {
                            let client = Client::connect(&endpoint).unwrap();
                            for _ in 0..10 {
                                n += 1;
                                let spec = StreamSpec { slots: 2, ..oracle::mixed(n % 36) };
                                let stream = Checked::open(&client, spec, 1);
                                stream.round_trip(0);
                                drop(stream.submit(0));
                            }
                        }
                    });
                }
            });
            daemon.await_rest(&watcher, descriptors);
            daemon.anonymous_kib()
        };
        churn(Instant::now() + soak / 4);
        let begun = Instant::now();
        let mut sizes = Vec::new();
        while begun.elapsed() < soak {
            sizes.push(churn(Instant::now() + soak / 8));
        }
        println!("resident KiB: {sizes:?}");
        let grown = sizes.last().unwrap().saturating_sub(sizes[0]);
        assert!(grown < 2 * 1024, "{sizes:?}");
        assert!(
            Path::new("/dev/shm")
                .read_dir()
                .unwrap()
                .flatten()
                .all(|file| { !file.file_name().to_string_lossy().contains("resized") })
        );
    });
}

#[test]
fn frames_that_look_small_and_are_not() {
    // Few pixels at both ends, many between: high and narrow from wide and flat.
    let strange = |daemon: &Daemon, ()| {
        let client = daemon.client();
        let mut longest = Duration::ZERO;
        let side = length(700, 4000);
        for (from, to) in [((side, 1), (1, side)), ((1, side), (side, 1)), ((3, 5), (side, 2))] {
            for filter in Filter::ALL {
                let spec = oracle::spec(PixelFormat::Rgba, filter, from, to);
                let stream = client.open(&StreamSpec { slots: 4, ..spec }).unwrap();
                let alone = || stream.loan().unwrap().submit().unwrap().wait().unwrap().receipt();
                let least = (0..3).map(|_| alone().worked).min().unwrap();
                longest = longest.max(least);
                let slots = (0..4).map(|_| stream.loan().unwrap()).collect();
                let pendings = stream.submit_all(slots).unwrap();
                pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
            }
        }
        longest
    };
    row_of_frames(&[], |_| (), strange);
}

/// Frames a second of so many processes that keep all slots of a stream in flight, and how even
/// their shares are: (sum x)^2 / (n sum x^2), Jain, Chiu and Hawe 1984.
fn throughput(daemon: &Daemon, watcher: &Client, count: usize) -> (f64, f64) {
    let processes = processes(daemon, "clients::a_client_that_floods", count);
    let frames = || -> Vec<_> {
        let clients = watcher.clients().unwrap().into_iter();
        clients.filter(|client| client.frames > 0).map(|client| client.frames).collect()
    };
    // Served beside all the others.
    Checked::open(&daemon.client(), oracle::mixed(3), 1).round_trip(0);
    until("only they are left", || frames().len() == count);
    let (before, begun) = (frames(), Instant::now());
    thread::sleep(length(Duration::from_secs(1), Duration::from_secs(20)));
    let (after, length) = (frames(), begun.elapsed());
    kill_all(daemon, processes);
    let shares = before.iter().zip(&after).map(|(before, after)| (after - before) as f64);
    let (sum, squares) =
        shares.fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    (sum / length.as_secs_f64(), sum * sum / (count as f64 * squares))
}

#[test]
fn many_processes_at_once_get_all_the_same() {
    bounded_by(length(DEADLINE, ROW), || {
        raise_descriptor_limit();
        let mut daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let count = length(12, 256);
        let (few, _) = throughput(&daemon, &watcher, 2);
        daemon.await_rest(&watcher, descriptors);
        let (many, jain) = throughput(&daemon, &watcher, count);
        // How many is for `make bench-ipc` to judge, beside who has as much memory.
        println!(
            "2 processes: {few:.0} frames/s; {count}: {many:.0}, {:.1} %; Jain's index {jain:.4} (goal 0.99)",
            many / few * 100.0
        );
        assert!(daemon.process.0.try_wait().unwrap().is_none(), "the daemon died");
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        daemon.await_rest(&watcher, descriptors);
        assert!(few > 0.0 && many > 0.0);
        assert!(jain >= length(0.7, 0.99), "{jain}");
    });
}
