//! Several client processes at once, and the death of one of them.
//!
//! The processes are this test binary again, told by a variable to run one test as a client of a daemon
//! that is there already. Run without it, as any test is, that test makes its own daemon.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, stdin};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use resized::Server;
use resized_client::{Client, Endpoint, Error, Pending, StreamSpec};
use resized_protocol::message::{Goodbye, Message, Request, Status};

use crate::chaos::whole;
use crate::oracle::{self, Checked, workout};
use crate::support::{Daemon, Process, bounded, until};
use crate::wire::{Wire, bytes};

/// Endpoint of the daemon whose client a process is.
const ENDPOINT: &str = "RESIZED_TEST_ENDPOINT";

/// Which streams a process opens.
const SEED: &str = "RESIZED_TEST_SEED";

/// What the victim says when frames of it are in flight.
pub(crate) const IN_FLIGHT: &str = "frames are in flight";

/// This binary as a client process that runs the test of that name.
pub(crate) fn client_process(test: &str, endpoint: &Endpoint, seed: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(ENDPOINT, endpoint.to_string()).env(SEED, seed.to_string());
    command.stdin(Stdio::null());
    command
}

/// The client that this process was told to be.
fn told() -> Option<(Client, usize)> {
    let seed = std::env::var(SEED).ok()?.parse().unwrap();
    Some((Client::connect(&told_endpoint()?).unwrap(), seed))
}

fn told_endpoint() -> Option<Endpoint> {
    Some(std::env::var(ENDPOINT).ok()?.parse().unwrap())
}

#[test]
fn a_client_that_checks_every_frame() {
    bounded(|| match told() {
        Some((client, seed)) => workout(&client, seed, 3),
        None => {
            let server = Server::embedded().unwrap();
            workout(&Client::from_socket(server.connect().unwrap()).unwrap(), 0, 1);
        }
    });
}

#[test]
fn client_processes_get_their_own_frames() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let start = |seed| {
            let test = "clients::a_client_that_checks_every_frame";
            let mut command = client_process(test, &daemon.endpoint(), seed);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let clients: Vec<_> = (0..4).map(start).collect();
        for client in clients {
            let output = client.wait_with_output().unwrap();
            let text = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(output.status.success(), "{}\n{}", text[0], text[1]);
            assert!(text[0].contains("1 passed"), "{}", text[0]);
        }
        daemon.await_rest(&watcher, descriptors);
        let stats = watcher.stats().unwrap();
        let slots: u32 = (0..28).map(|n| oracle::mixed(n).slots).sum();
        assert_eq!(stats.devices[0].frames, u64::from(3 * slots));
        assert_eq!(stats.devices[0].failed, 0);
    });
}

/// Opens streams until it has no descriptor left. What it holds, and has in flight, is not touched
/// by that.
#[test]
fn a_client_without_descriptors_loses_one_stream_alone() {
    bounded(|| {
        let Some((client, _)) = told() else {
            let daemon = Daemon::start(&[]);
            let test = "clients::a_client_without_descriptors_loses_one_stream_alone";
            let client = client_process(test, &daemon.endpoint(), 0);
            let mut few = Command::new("sh");
            few.args(["-c", r#"ulimit -n 16; exec "$0" "$@""#]).arg(client.get_program());
            few.args(client.get_args());
            few.envs(client.get_envs().map(|(name, value)| (name, value.unwrap())));
            let output = few.output().unwrap();
            let text = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(output.status.success(), "{}\n{}", text[0], text[1]);
            assert!(text[0].contains("1 passed"), "{}", text[0]);
            let log = daemon.log();
            assert!(!log.contains("panicked"), "{log}");
            return;
        };
        let checked = Checked::open(&client, StreamSpec { slots: 2, ..oracle::big() }, 2);
        let held = checked.submit(0).unwrap().wait().unwrap();
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        let pending = checked.submit(1).unwrap();
        for _ in 0..3 {
            match client.open(&oracle::dot()) {
                Err(Error::Region(error)) => assert_eq!(error.errno(), Some(Errno::EMFILE as i32)),
                other => panic!("{other:?}"),
            }
        }
        checked.check(1, &pending.wait().unwrap());
        checked.check(0, &held);
        drop((files, held));
        checked.check(0, &checked.submit(0).unwrap().wait().unwrap());
        workout(&client, 0, 1);
    });
}

/// The streams of one that keeps as many frames in flight as it can.
pub(crate) fn overloaded() -> [StreamSpec; 2] {
    [StreamSpec { slots: 16, ..oracle::big() }, oracle::dot()]
}

/// Keeps as many frames in flight as it can; returns when as many as `rounds` rings have been resized,
/// or earlier once it is asked to.
fn overload(client: &Client, rounds: usize, asked: &AtomicBool) {
    let [stream, other] = overloaded().map(|spec| client.open(&spec).unwrap());
    for round in 0..rounds {
        let slots = (0..16).map(|_| stream.loan().unwrap()).collect();
        let pendings = stream.submit_all(slots).unwrap();
        if round == 1 {
            println!("{IN_FLIGHT}");
        }
        drop(other.loan().unwrap().submit().unwrap().wait().unwrap());
        pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        if asked.load(Ordering::Relaxed) {
            break;
        }
    }
}

/// True once a byte is said to this process.
fn asked_to_end() -> Arc<AtomicBool> {
    let asked = Arc::<AtomicBool>::default();
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        let said = stdin().read_exact(&mut [0]);
        heard.store(said.is_ok(), Ordering::Relaxed);
    });
    asked
}

/// Keeps all slots of a stream in flight until so many frames are done.
fn flood(client: &Client, spec: &StreamSpec, frames: usize) {
    let stream = client.open(spec).unwrap();
    let mut pendings = VecDeque::new();
    for frame in 0..frames {
        if frame == spec.slots as usize {
            println!("{IN_FLIGHT}");
        }
        let slot = loop {
            match stream.try_loan().unwrap() {
                Some(slot) => break slot,
                None => drop(pendings.pop_front().map(|oldest: Pending| oldest.wait().unwrap())),
            }
        };
        pendings.push_back(slot.submit().unwrap());
    }
    pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}

/// What those who flood have resized: what figures are about, where those are asserted.
pub(crate) fn flooded() -> StreamSpec {
    StreamSpec { slots: 6, ..if whole() { oracle::film() } else { oracle::big() } }
}

#[test]
fn a_client_that_floods() {
    bounded(|| match told() {
        Some((client, _)) => flood(&client, &flooded(), usize::MAX),
        None => {
            let server = Server::embedded().unwrap();
            let client = Client::from_socket(server.connect().unwrap()).unwrap();
            flood(&client, &flooded(), 20);
            assert_eq!(client.stats().unwrap().devices[0].frames, 20);
        }
    });
}

/// How many are a crowd of those who flood.
pub(crate) fn crowd() -> usize {
    if whole() { 256 } else { 12 }
}

/// How many are a few whose rings take as much memory as a crowd's.
pub(crate) const FEW: usize = 6;

/// What each of these has resized.
fn flooded_by_few() -> StreamSpec {
    let spec = flooded();
    StreamSpec { slots: spec.slots * crowd() as u32 / FEW as u32, ..spec }
}

#[test]
fn a_client_of_few_that_floods() {
    bounded(|| match told() {
        Some((client, _)) => flood(&client, &flooded_by_few(), usize::MAX),
        None => {
            let most = resized_protocol::message::MAX_SLOTS;
            assert!((1..=most).contains(&flooded_by_few().slots));
        }
    });
}

#[test]
fn a_client_that_is_killed() {
    bounded(|| match told() {
        Some((client, _)) => overload(&client, usize::MAX, &asked_to_end()),
        None => {
            let server = Server::embedded().unwrap();
            let client = Client::from_socket(server.connect().unwrap()).unwrap();
            overload(&client, 1, &AtomicBool::default());
            drop(client.open(&oracle::big()).unwrap().loan().unwrap().submit().unwrap());
            until("its streams are closed", || client.stats().unwrap().streams == 0);
        }
    });
}

/// Has frames in flight and said half a message when it is stopped, if it is; it is hung up on.
#[test]
fn a_client_that_is_stopped_amid_a_message() {
    bounded(|| {
        let (daemon, socket) = match told_endpoint() {
            Some(Endpoint::Unix(socket)) => (None, socket),
            Some(other) => panic!("{other}"),
            None => {
                let daemon = Daemon::start(&[]);
                let socket = daemon.socket();
                (Some(daemon), socket)
            }
        };
        let mut wire = Wire::welcomed(&socket);
        let stream = wire.open(oracle::big());
        let submit = bytes(&Request::Submit { stream, slots: vec![0, 1, 2, 3] });
        wire.raw(&[&submit[..], &submit[..submit.len() / 2]].concat());
        println!("{IN_FLIGHT}");
        for _ in 0..4 {
            assert!(matches!(wire.hear(), Message::Completed(done) if done.status == Status::Done));
        }
        assert_eq!(wire.hear(), Message::Goodbye(Goodbye::Silence));
        assert_eq!(wire.hear_or_end().unwrap(), None);
        drop(daemon);
    });
}

#[test]
fn a_client_killed_mid_frame_leaves_nothing_and_harms_nobody() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let endpoint = daemon.endpoint();
        let bystander = thread::spawn(move || {
            let client = Client::connect(&endpoint).unwrap();
            let streams = [3, 6, 10].map(|n| Checked::open(&client, oracle::mixed(n), 3));
            for n in 0..30 {
                streams.iter().for_each(|stream| stream.round_trip(n));
            }
        });
        for seed in 0..2 {
            let test = "clients::a_client_that_is_killed";
            let mut command = client_process(test, &daemon.endpoint(), seed);
            let mut victim = Process::start(command.stdout(Stdio::piped()));
            let mut said = BufReader::new(victim.0.stdout.take().unwrap()).lines();
            assert!(said.any(|line| line.unwrap().contains(IN_FLIGHT)), "the victim ended early");
            assert!(watcher.stats().unwrap().ring_bytes > 0);
            victim.signal(Signal::SIGKILL);
            assert!(!victim.wait().success());
        }
        bystander.join().unwrap();
        daemon.await_rest(&watcher, descriptors);
    });
}
