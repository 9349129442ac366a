//! Clients of a bridge that breaks the protocol: each hears of it as an error and waits for nothing that
//! will not come, also where it would look for a bridge that is lost; and nothing is as long as the
//! bridge says.
#![cfg(feature = "remote")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use resized_client::{
    Breach, Client, Coding, Endpoint, Error, Extent, FrameSpec, Jpeg, PixelFormat, Quality,
    Reconnect, Stream, StreamSpec, Subsampling,
};
use resized_protocol::VERSION;
use resized_protocol::codec::{self, CodecError, Inbox};
use resized_protocol::message::{
    Backing, Completion, Features, Goodbye, Message, Refusal, Reply, Request, Status,
};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;

use common::unexpected;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// The bridge's side of a connection: it says what the test tells it to.
struct Script {
    socket: TcpStream,
    inbox: Inbox,
}

impl Script {
    /// The client may have hung up: it has heard enough then.
    fn raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    fn say(&mut self, message: &Message) {
        self.raw(&bytes(message));
    }

    /// None where the client hangs up.
    fn hear(&mut self) -> Option<Request> {
        loop {
            match self.inbox.pop().unwrap() {
                Some(Call::Request(request)) => return Some(request),
                Some(Call::Knock { version, .. }) => assert_eq!(version, VERSION),
                None if self.inbox.fill(|room| self.socket.read(room)).ok()?.0 == 0 => return None,
                None => {}
            }
        }
    }

    /// Welcomes the client, and hears which stream it wants.
    fn opening(&mut self) -> Option<(u32, StreamSpec)> {
        self.hear()?;
        let (features, devices) = (Features::default(), Vec::new());
        self.say(&Message::Reply(Reply::Welcome { version: VERSION, features, devices }));
        match self.hear()? {
            Request::Open { stream, spec, .. } => Some((stream, spec)),
            other => panic!("{other:?}"),
        }
    }

    /// Welcomes the client, opens the stream it wants, and hears its first frame.
    fn submitted(&mut self) -> Option<u32> {
        let (stream, spec) = self.opening()?;
        let ring = RingLayout::new(&spec).unwrap();
        let frame = ring.input().rows_len();
        self.say(&opened(stream, ring));
        assert_eq!(self.hear()?, Request::Submit { stream, slots: vec![0] });
        let there = self.inbox.take(frame).len();
        self.socket.read_exact(&mut vec![0; frame - there]).ok()?;
        Some(stream)
    }
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, &mut bytes).unwrap();
    bytes
}

fn opened(stream: u32, ring: RingLayout) -> Message {
    Message::Reply(Reply::Opened { stream, ring, backing: Backing::Descriptor })
}

fn done(stream: u32, slot: u32) -> Message {
    let (status, device) = (Status::Done, 0);
    Message::Completed(Completion { stream, slot, status, device, queued_ns: 0, worked_ns: 0 })
}

fn raw() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(64, 64));
    StreamSpec { slots: 2, ..StreamSpec::new(source, Extent::new(48, 48)) }
}

/// Whose results are JPEGs.
fn coded() -> StreamSpec {
    let jpeg = Jpeg { quality: Quality::DEFAULT, subsampling: Subsampling::Neither };
    StreamSpec { coding: Coding { jpeg_in: false, jpeg_out: Some(jpeg) }, ..raw() }
}

/// What becomes of a frame of whoever goes on for ever as long as it may help, where each connection is
/// to a bridge that does this and then listens.
fn of_a_frame(
    spec: StreamSpec,
    bridge: impl Fn(&mut Script) + Send + Sync + 'static,
) -> Result<Vec<u8>, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let bridge = Arc::new(bridge);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let bridge = Arc::clone(&bridge);
            thread::spawn(move || {
                let mut script = Script { socket, inbox: Inbox::new() };
                bridge(&mut script);
                while script.socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    let (over, wait) = channel();
    thread::spawn(move || {
        let frame = |stream: &Stream| {
            let frame = stream.loan()?.submit()?.wait()?;
            Ok(match spec.coding.jpeg_out {
                Some(_) => frame.jpeg().to_vec(),
                None => frame.to_packed(),
            })
        };
        let reconnect = Reconnect { within: Duration::MAX, ..Reconnect::default() };
        let client = Client::connect_with(&endpoint, reconnect);
        let _ = over.send(client.and_then(|client| frame(&client.open(&spec)?)));
    });
    let found = wait.recv_timeout(DEADLINE);
    assert!(!matches!(found, Err(RecvTimeoutError::Timeout)), "the client still waits");
    found.expect("the client panicked")
}

/// Set for the process that [`nothing_is_as_long_as_a_bridge_says`] starts: without it, how much the
/// allocator reserves goes by threads and cores.
const ALONE: &str = "MALLOC_ARENA_MAX";

/// What this process has had of memory at the most, in KiB, touched or not.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// That nobody took memory for what a bridge says is to come, where that can be told.
#[track_caller]
fn has_not_grown(before: u64) {
    let grown = peak() - before;
    // The least that is said is 4 GiB.
    assert!(std::env::var_os(ALONE).is_none() || grown < 1 << 20, "{grown} KiB");
}

#[test]
fn nothing_is_as_long_as_a_bridge_says() {
    let tests = [
        "results_that_are_longer_than_their_slots_are_not_read",
        "rings_are_no_larger_than_the_client_asked_for",
    ];
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(tests).args(["--exact", "--test-threads=1"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("2 passed"), "{said}");
}

#[test]
fn results_that_are_longer_than_their_slots_are_not_read() {
    let longest = RingLayout::new(&coded()).unwrap().output().longest_coded() as u32;
    let before = peak();
    for len in [longest + 1, u32::MAX] {
        let lies = move |script: &mut Script| {
            let Some(stream) = script.submitted() else { return };
            script.raw(&[&bytes(&done(stream, 0))[..], &len.to_le_bytes(), &[0; 64]].concat());
        };
        unexpected(of_a_frame(coded(), lies), Breach::FrameLen);
    }
    has_not_grown(before);
    // The longest is read to its end.
    let honest = move |script: &mut Script| {
        let Some(stream) = script.submitted() else { return };
        script.raw(&[&bytes(&done(stream, 0))[..], &longest.to_le_bytes()].concat());
        script.raw(&vec![7; longest as usize]);
    };
    assert_eq!(of_a_frame(coded(), honest).unwrap(), vec![7; longest as usize]);
}

#[test]
fn rings_are_no_larger_than_the_client_asked_for() {
    let large = FrameSpec::new(PixelFormat::Rgba, Extent::new(16384, 16384));
    let before = peak();
    for other in [
        StreamSpec { slots: 1, ..raw() },
        StreamSpec { source: large, destination: large, slots: 2, ..raw() },
        // As long, and read otherwise.
        coded(),
    ] {
        let ring = RingLayout::new(&other).unwrap();
        let lies = move |script: &mut Script| {
            let Some((stream, _)) = script.opening() else { return };
            script.say(&opened(stream, ring.clone()));
        };
        unexpected(of_a_frame(raw(), lies), Breach::RingLayout);
    }
    has_not_grown(before);
}

#[test]
fn a_stream_that_nobody_may_have_is_not_granted() {
    let none = StreamSpec { slots: 0, ..raw() };
    let lies = |script: &mut Script| {
        let Some((stream, _)) = script.opening() else { return };
        script.say(&opened(stream, RingLayout::new(&raw()).unwrap()));
    };
    unexpected(of_a_frame(none, lies), Breach::RingLayout);
}

#[test]
fn streams_that_were_not_asked_for_are_not_opened() {
    for (number, twice) in [(1, false), (u32::MAX, false), (0, true)] {
        let lies = move |script: &mut Script| {
            let Some((stream, spec)) = script.opening() else { return };
            let opened = bytes(&opened(stream + number, RingLayout::new(&spec).unwrap()));
            script.raw(&opened.repeat(1 + usize::from(twice)));
        };
        unexpected(of_a_frame(raw(), lies), Breach::OtherStream);
    }
}

#[test]
fn results_of_slots_that_are_not_in_flight_are_none() {
    // Slot 0 is in flight, slot 1 free; there is no slot 2, and no other stream.
    for (number, slot) in [(0, 1), (0, 2), (0, u32::MAX), (1, 0)] {
        let lies = move |script: &mut Script| {
            let Some(stream) = script.submitted() else { return };
            script.say(&done(stream + number, slot));
        };
        unexpected(of_a_frame(raw(), lies), Breach::NotSubmitted);
    }
}

#[test]
fn bytes_that_are_no_message_end_the_connection() {
    for (garbage, why) in [
        (&[2, 0, 0, 0, 0xff, 0xff][..], CodecError::Malformed),
        (b"GET / HTTP/1.1\r\n\r\n", CodecError::TooLong),
        (&[0xff; 4], CodecError::TooLong),
    ] {
        // In a welcome's place it is more likely another service's.
        let error = of_a_frame(raw(), move |script| script.raw(garbage)).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{why}; it may want TLS")), "{error}");
        let later = of_a_frame(raw(), move |script| {
            script.submitted();
            script.raw(garbage);
        });
        let error = later.unwrap_err();
        assert!(matches!(&error, Error::Codec(found) if *found == why), "{error}");
    }
}

#[test]
fn what_tls_says_is_no_message_amid_others() {
    let error = of_a_frame(raw(), |script| {
        script.submitted();
        script.raw(&[21, 3, 3, 0, 2, 2, 40]);
    });
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Codec(CodecError::TooLong)), "{error}");
}

#[test]
fn a_stream_is_not_closed_that_is_in_use() {
    let lies = |script: &mut Script| {
        let Some(stream) = script.submitted() else { return };
        script.say(&Message::Reply(Reply::Closed { stream }));
    };
    unexpected(of_a_frame(raw(), lies), Breach::OtherStream);
}

#[test]
fn who_is_refused_once_welcome_has_no_connection_any_more() {
    let error = of_a_frame(raw(), |script| {
        script.submitted();
        script.say(&Message::Goodbye(Goodbye::Refused(Refusal::Token)));
    });
    let error = error.unwrap_err();
    assert!(error.is_fatal(), "{error}");
    assert!(matches!(error, Error::Goodbye(Goodbye::Refused(Refusal::Token))), "{error}");
}

#[test]
fn half_a_result_is_none() {
    // A bridge that hangs up amid something is lost, and the next one is asked.
    let len = RingLayout::new(&raw()).unwrap().output().rows_len();
    let whole = [&bytes(&done(0, 0))[..], &vec![7; len]].concat();
    for there in [4, whole.len() - len, whole.len() - len / 2, whole.len() - 1] {
        let (whole, tried) = (whole.clone(), AtomicUsize::new(0));
        let found = of_a_frame(raw(), move |script| {
            script.submitted();
            match tried.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    script.raw(&whole[..there]);
                    let _ = script.socket.shutdown(std::net::Shutdown::Both);
                }
                _ => script.raw(&whole),
            }
        });
        assert_eq!(found.unwrap(), vec![7; 48 * 48]);
    }
}
