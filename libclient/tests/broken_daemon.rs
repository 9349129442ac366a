//! Clients of a daemon that breaks the protocol, or fails: each hears of it as an error, never maps
//! what it did not ask for, and waits for nothing that will not come.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::MsgFlags;
use resized_client::{
    Breach, Client, ClientStats, Error, Extent, FrameSpec, Histogram, KeptStreams, PixelFormat,
    Stats, Stream, StreamSpec,
};
use resized_protocol::VERSION;
use resized_protocol::codec::{self, CodecError, Inbox};
use resized_protocol::fdpass;
use resized_protocol::message::{
    Backing, Completion, Features, Message, Refusal, Reply, Request, Status,
};
use resized_protocol::shm::{Region, RegionError, RingLayout};

use common::unexpected;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is no message, and why.
const GARBAGE: [(&[u8], CodecError); 3] = [
    (&[2, 0, 0, 0, 0xff, 0xff], CodecError::Malformed),
    (b"GET / HTTP/1.1\r\n\r\n", CodecError::TooLong),
    // That the daemon stops, and a byte more.
    (&[9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7], CodecError::Trailing),
];

/// The daemon's side of a socket: it says what the test tells it to.
struct Script {
    socket: UnixStream,
    inbox: Inbox,
}

impl Script {
    fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    fn say(&mut self, message: impl Into<Said>) {
        let Said(message) = message.into();
        self.pass(&message, None);
    }

    fn pass(&mut self, message: &Message, descriptor: Option<&OwnedFd>) {
        let mut bytes = Vec::new();
        codec::encode(message, &mut bytes).unwrap();
        let descriptor = descriptor.map(AsFd::as_fd);
        let sent = fdpass::send(&self.socket, &bytes, descriptor, MsgFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    fn hear(&mut self) -> Request {
        loop {
            if let Some(request) = self.inbox.pop().unwrap() {
                return request;
            }
            let (read, _) = self.inbox.fill(|room| self.socket.read(room)).unwrap();
            assert!(read > 0, "the client has hung up");
        }
    }

    fn welcome(&mut self) {
        assert!(matches!(self.hear(), Request::Hello { .. }));
        let (features, devices) = (Features::default(), Vec::new());
        self.say(Reply::Welcome { version: VERSION, features, devices });
    }

    /// Hears which stream the client wants.
    fn opening(&mut self) -> (u32, StreamSpec) {
        match self.hear() {
            Request::Open { stream, spec, .. } => (stream, spec),
            other => panic!("{other:?}"),
        }
    }

    /// Grants the stream that the client wants, as an honest daemon does.
    fn open(&mut self) -> u32 {
        let (stream, spec) = self.opening();
        let ring = RingLayout::new(&spec).unwrap();
        let (_, descriptor) = Region::create(ring.len()).unwrap();
        self.pass(&opened(stream, ring), Some(&descriptor));
        stream
    }

    /// Has a frame of the stream end so.
    fn frame(&mut self, stream: u32, status: Status) {
        let submitted = self.hear();
        let Request::Submit { stream: of, slots } = submitted else { panic!("{submitted:?}") };
        assert_eq!(of, stream);
        self.complete(stream, slots[0], status);
    }

    fn complete(&mut self, stream: u32, slot: u32, status: Status) {
        self.say(completion(stream, slot, status));
    }
}

fn completion(stream: u32, slot: u32, status: Status) -> Completion {
    Completion { stream, slot, status, device: 0, queued_ns: 0, worked_ns: 0 }
}

/// What a daemon says.
struct Said(Message);

impl From<Reply> for Said {
    fn from(reply: Reply) -> Self {
        Self(Message::Reply(reply))
    }
}

impl From<Completion> for Said {
    fn from(completion: Completion) -> Self {
        Self(Message::Completed(completion))
    }
}

fn opened(stream: u32, ring: RingLayout) -> Message {
    Message::Reply(Reply::Opened { stream, ring, backing: Backing::Descriptor })
}

/// Runs both ends, each on a thread of its own, so that one that hangs fails. The daemon's stays open
/// until the client's is done.
fn between(
    daemon: impl FnOnce(&mut Script) + Send + 'static,
    client: impl FnOnce(UnixStream) + Send + 'static,
) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (over, wait) = channel();
    let daemon = thread::spawn(move || {
        let mut script = Script { socket: theirs, inbox: Inbox::new() };
        daemon(&mut script);
        script
    });
    let client = thread::spawn(move || {
        client(ours);
        let _ = over.send(());
    });
    let hangs = wait.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
    assert!(!hangs, "the client still waits");
    client.join().unwrap();
    daemon.join().unwrap();
}

/// As [`between`], for a client that is welcome.
fn welcomed(
    daemon: impl FnOnce(&mut Script) + Send + 'static,
    client: impl FnOnce(Client) + Send + 'static,
) {
    let daemon = move |script: &mut Script| {
        script.welcome();
        daemon(script);
    };
    between(daemon, |socket| client(Client::from_socket(socket).unwrap()));
}

fn spec() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
    StreamSpec { slots: 2, ..StreamSpec::new(source, Extent::new(4, 4)) }
}

fn frame(stream: &Stream) -> Result<(), Error> {
    stream.loan()?.submit()?.wait().map(drop)
}

#[test]
fn a_greeting_that_is_none_is_an_error() {
    for (bytes, why) in GARBAGE {
        between(
            |script| script.raw(bytes),
            move |socket| {
                let error = Client::from_socket(socket).unwrap_err();
                assert!(matches!(&error, Error::Codec(found) if *found == why), "{error}");
            },
        );
    }
    let other = |script: &mut Script| script.say(Reply::Closed { stream: 0 });
    between(other, |socket| {
        unexpected(Client::from_socket(socket), Breach::OtherReply);
    });
    let completion = |script: &mut Script| script.complete(0, 0, Status::Done);
    between(completion, |socket| {
        unexpected(Client::from_socket(socket), Breach::NotSubmitted);
    });
}

#[test]
fn garbage_ends_the_connection_for_all_that_wait() {
    for (bytes, why) in GARBAGE {
        let garbage = |script: &mut Script| {
            script.open();
            assert!(matches!(script.hear(), Request::Submit { .. }));
            script.raw(bytes);
        };
        welcomed(garbage, move |client| {
            let stream = client.open(&spec()).unwrap();
            for error in [frame(&stream).unwrap_err(), client.stats().unwrap_err()] {
                assert!(matches!(&error, Error::Codec(found) if *found == why), "{error}");
                assert!(error.is_fatal());
            }
        });
    }
}

/// What a client makes of that answer to its first opening, that it closes the stream, and that a
/// later one is none the worse.
fn opening(
    answer: impl FnOnce(&mut Script, u32, RingLayout) + Send + 'static,
    check: impl FnOnce(Result<Stream, Error>) + Send + 'static,
) {
    let daemon = |script: &mut Script| {
        let (stream, spec) = script.opening();
        answer(script, stream, RingLayout::new(&spec).unwrap());
        assert_eq!(script.hear(), Request::Close { stream });
        script.say(Reply::Closed { stream });
        let stream = script.open();
        script.frame(stream, Status::Done);
    };
    welcomed(daemon, |client| {
        check(client.open(&spec()));
        frame(&client.open(&spec()).unwrap()).unwrap();
    });
}

#[test]
fn another_answer_than_the_stream_that_was_asked_for_is_an_error() {
    opening(
        |script, stream, _| script.say(Reply::Closed { stream }),
        |found| unexpected(found, Breach::OtherReply),
    );
    let len = RingLayout::new(&spec()).unwrap().len();
    opening(
        move |script, stream, ring| {
            let (_, descriptor) = Region::create(len).unwrap();
            script.pass(&opened(stream + 1, ring), Some(&descriptor));
        },
        |found| unexpected(found, Breach::OtherStream),
    );
    opening(
        |script, stream, ring| script.say(Said(opened(stream, ring))),
        |found| unexpected(found, Breach::NoDescriptor),
    );
    opening(
        |script, stream, ring| {
            let named = Region::create_named(ring.len()).unwrap();
            script.say(Reply::Opened { stream, ring, backing: Backing::Named(named.name) });
        },
        |found| unexpected(found, Breach::NamedSegment),
    );
}

#[test]
fn another_layout_than_the_streams_is_not_mapped() {
    let (spec, large) = (spec(), Extent::new(64, 64));
    let source = FrameSpec::new(PixelFormat::Gray8, large);
    for other in [
        StreamSpec { slots: spec.slots + 1, ..spec },
        StreamSpec { slots: spec.slots - 1, ..spec },
        StreamSpec { source, ..spec },
        StreamSpec { destination: source, ..spec },
        // As long, with other rows.
        StreamSpec { source: FrameSpec::new(PixelFormat::Rgb24, spec.source.extent), ..spec },
    ] {
        let other = RingLayout::new(&other).unwrap();
        let long = other.len().max(RingLayout::new(&spec).unwrap().len());
        opening(
            move |script, stream, _| {
                let (_, descriptor) = Region::create(long).unwrap();
                script.pass(&opened(stream, other), Some(&descriptor));
            },
            |found| unexpected(found, Breach::RingLayout),
        );
    }
}

#[test]
fn memory_that_may_be_cut_off_is_not_mapped() {
    let region = |descriptor: OwnedFd, wanted: fn(&RegionError) -> bool| {
        opening(
            move |script, stream, ring| script.pass(&opened(stream, ring), Some(&descriptor)),
            move |found| {
                let error = found.unwrap_err();
                assert!(matches!(&error, Error::Region(found) if wanted(found)), "{error}");
                assert!(!error.is_fatal());
            },
        );
    };
    let len = RingLayout::new(&spec()).unwrap().len().get() as u64;
    let memfd = |len, seals| {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"not a ring", flags).unwrap());
        file.set_len(len).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        OwnedFd::from(file)
    };
    let unsealed = |found: &RegionError| matches!(found, RegionError::Unsealed);
    region(memfd(len, SealFlag::empty()), unsealed);
    region(memfd(len, SealFlag::F_SEAL_GROW), unsealed);
    let short = |found: &RegionError| matches!(found, RegionError::Short { .. });
    region(memfd(len - 1, SealFlag::F_SEAL_SHRINK), short);
    region(memfd(0, SealFlag::F_SEAL_SHRINK), short);
    let system = |found: &RegionError| matches!(found, RegionError::System { .. });
    region(File::open("/dev/zero").unwrap().into(), system);
}

#[test]
fn another_reply_than_asked_for_is_an_error() {
    let closed = Reply::Closed { stream: 0 };
    let stats = Reply::Stats(Stats::default());
    let daemon = move |script: &mut Script| {
        for reply in [closed.clone(), stats, closed] {
            script.hear();
            script.say(reply);
        }
    };
    welcomed(daemon, |client| {
        unexpected(client.stats(), Breach::OtherReply);
        unexpected(client.clients(), Breach::OtherReply);
        unexpected(client.streams_of(3), Breach::OtherReply);
    });
}

#[test]
fn a_reply_to_nothing_answers_no_later_request() {
    let daemon = |script: &mut Script| {
        let stream = script.open();
        assert!(matches!(script.hear(), Request::Submit { .. }));
        // Both at once, since the client may hang up after the first.
        let mut bytes = Vec::new();
        codec::encode(&Message::Reply(Reply::Stats(Stats::default())), &mut bytes).unwrap();
        codec::encode(&Message::Completed(completion(stream, 0, Status::Done)), &mut bytes)
            .unwrap();
        script.raw(&bytes);
    };
    welcomed(daemon, |client| {
        let stream = client.open(&spec()).unwrap();
        unexpected(frame(&stream), Breach::ReplyToNothing);
        unexpected(client.stats(), Breach::ReplyToNothing);
    });
}

#[test]
fn a_list_that_does_not_get_on_has_an_end() {
    let of = |client| {
        let (queued, worked) = (Histogram::default(), Histogram::default());
        let (uid, name, streams, frames, pixels, copied_bytes) = (0, String::new(), 0, 0, 0, 0);
        ClientStats { client, uid, name, streams, frames, pixels, copied_bytes, queued, worked }
    };
    let daemon = move |script: &mut Script| {
        for (wanted, page) in [(0, vec![of(2), of(5)]), (6, vec![of(2), of(5)])] {
            assert_eq!(script.hear(), Request::Clients { from: wanted });
            script.say(Reply::Clients(page));
        }
        for page in [vec![of(1)], vec![of(u64::MAX)]] {
            script.hear();
            script.say(Reply::Clients(page));
        }
    };
    welcomed(daemon, move |client| {
        unexpected(client.clients(), Breach::PageAgain);
        assert_eq!(client.clients().unwrap(), [of(1), of(u64::MAX)]);
    });
}

#[test]
fn completions_of_slots_that_are_not_in_flight_end_the_connection() {
    // Slot 0 is in flight, slot 1 free; there is no slot 2.
    for slots in [&[1][..], &[2], &[u32::MAX], &[0, 0]] {
        let daemon = move |script: &mut Script| {
            let stream = script.open();
            assert!(matches!(script.hear(), Request::Submit { .. }));
            let mut bytes = Vec::new();
            for &slot in slots {
                let done = Message::Completed(completion(stream, slot, Status::Done));
                codec::encode(&done, &mut bytes).unwrap();
            }
            script.raw(&bytes);
        };
        welcomed(daemon, move |client| {
            let stream = client.open(&spec()).unwrap();
            let pending = stream.loan().unwrap().submit().unwrap();
            match slots {
                // What was done before is done.
                [0, 0] => drop(pending.wait().unwrap()),
                _ => unexpected(pending.wait(), Breach::NotSubmitted),
            }
            unexpected(client.stats(), Breach::NotSubmitted);
        });
    }
}

#[test]
fn a_completion_of_a_stream_that_is_no_more_is_nobodys() {
    let daemon = |script: &mut Script| {
        let stream = script.open();
        script.complete(stream + 1, 0, Status::Done);
        script.frame(stream, Status::Done);
    };
    welcomed(daemon, |client| frame(&client.open(&spec()).unwrap()).unwrap());
}

#[test]
fn a_frame_that_failed_costs_nothing_but_itself() {
    let bad = [Status::Failed, Status::Cancelled, Status::Late, Status::Unreadable];
    let daemon = move |script: &mut Script| {
        let stream = script.open();
        for status in bad {
            script.frame(stream, status);
            script.frame(stream, Status::Done);
        }
        script.hear();
        script.say(Reply::Refused(Refusal::Device));
    };
    welcomed(daemon, move |client| {
        let stream = client.open(&spec()).unwrap();
        for status in bad {
            let error = frame(&stream).unwrap_err();
            match status {
                Status::Late => assert!(matches!(error, Error::Late), "{error}"),
                Status::Unreadable => assert!(matches!(error, Error::Unreadable), "{error}"),
                _ => assert!(matches!(error, Error::Failed), "{error}"),
            }
            assert!(!error.is_fatal());
            frame(&stream).unwrap();
        }
        let error = client.open(&spec()).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Device)), "{error}");
    });
}

#[test]
fn a_kept_stream_that_failed_makes_room_for_another_alone() {
    let daemon = |script: &mut Script| {
        let good = script.open();
        script.frame(good, Status::Done);
        let failed = script.open();
        script.frame(failed, Status::Failed);
        assert_eq!(script.hear(), Request::Close { stream: failed });
        script.say(Reply::Closed { stream: failed });
        let other = script.open();
        script.frame(other, Status::Done);
        script.frame(good, Status::Done);
    };
    welcomed(daemon, |client| {
        let kept = KeptStreams::new(client, 2);
        let (good, other) = (spec(), StreamSpec { slots: 1, ..spec() });
        drop(kept.resize(&good, &[7; 64]).unwrap());
        let error = kept.resize(&other, &[7; 64]).unwrap_err();
        assert!(matches!(error, Error::Failed), "{error}");
        drop(kept.resize(&other, &[7; 64]).unwrap());
        drop(kept.resize(&good, &[7; 64]).unwrap());
    });
}

#[test]
fn a_stream_is_kept_beside_one_that_failed_while_it_was_opened() {
    let daemon = |script: &mut Script| {
        // Both threads' before either has one.
        let [(failed, spec), (good, _)] = [script.opening(), script.opening()];
        let grant = |script: &mut Script, stream| {
            let ring = RingLayout::new(&spec).unwrap();
            let (_, descriptor) = Region::create(ring.len()).unwrap();
            script.pass(&opened(stream, ring), Some(&descriptor));
        };
        grant(script, failed);
        script.frame(failed, Status::Failed);
        grant(script, good);
        let mut frames = 0;
        while frames < 2 {
            match script.hear() {
                Request::Submit { stream, slots } => {
                    assert_eq!(stream, good);
                    script.complete(stream, slots[0], Status::Done);
                    frames += 1;
                }
                Request::Close { stream } => {
                    assert_eq!(stream, failed);
                    script.say(Reply::Closed { stream });
                }
                other => panic!("{other:?}"),
            }
        }
    };
    welcomed(daemon, |client| {
        let kept = KeptStreams::new(client, 2);
        let resize = || kept.resize(&spec(), &[7; 64]).map(drop);
        let both = thread::scope(|scope| {
            let threads = [scope.spawn(resize), scope.spawn(resize)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(both.iter().filter(|result| result.is_ok()).count(), 1);
        resize().unwrap();
    });
}
