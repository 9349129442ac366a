//! Clients that break the protocol: each is told what it did, then hung up on, and nobody else notices.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::socket::MsgFlags;
use resized_client::{Client, Error, KeptStreams, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::MAX_MESSAGE;
use resized_protocol::fdpass::receive;
use resized_protocol::message::{
    Backing, Completion, Cropped, Message, Reply, Request, Status, Violation,
};
use resized_protocol::placement::Crop;
use resized_protocol::shm::RingLayout;

use crate::oracle::{self, Checked};
use crate::support::{Daemon, bounded};
use crate::wire::{Wire, bytes, hello};

/// A daemon, and an honest client of it.
struct Scene {
    daemon: Daemon,
    client: Client,
    honest: Checked,
    descriptors: usize,
}

impl Scene {
    fn new() -> Self {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let honest = Checked::open(&client, oracle::mixed(4), 2);
        Self { daemon, client, honest, descriptors }
    }

    /// On a new connection `act` provokes this violation; the honest client's session lives on.
    #[track_caller]
    fn provoke(&self, violation: Violation, act: impl FnOnce(&mut Wire)) {
        let mut wire = Wire::connect(&self.daemon.socket());
        act(&mut wire);
        wire.expect_violation(violation);
        self.honest.round_trip(0);
    }

    /// As `provoke`, after a hello and the opening of stream 0 with two slots.
    #[track_caller]
    fn provoke_in_stream(&self, violation: Violation, act: impl FnOnce(&mut Wire)) {
        self.provoke(violation, |wire| {
            *wire = Wire::welcomed(&self.daemon.socket());
            assert_eq!(wire.open(StreamSpec { slots: 2, ..oracle::dot() }), 0);
            act(wire);
        });
    }

    /// Nothing of the others is left.
    fn end(self) {
        let Self { daemon, client, honest, descriptors } = self;
        honest.round_trip(1);
        drop(honest);
        daemon.await_rest(&client, descriptors);
        let log = daemon.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn the_last_number_of_a_stream_is_used_once() {
    bounded(|| {
        let scene = Scene::new();
        scene.provoke(Violation::StreamNumber(u32::MAX), |wire| {
            *wire = Wire::welcomed(&scene.daemon.socket());
            let open = Request::Open { stream: u32::MAX, spec: oracle::dot(), named: false };
            wire.say(&open);
            assert!(matches!(wire.hear(), Message::Reply(Reply::Opened { .. })));
            wire.say(&open);
        });
        scene.end();
    });
}

#[test]
fn hellos_come_first_and_once() {
    bounded(|| {
        let scene = Scene::new();
        let spec = oracle::dot();
        for request in [
            Request::Stats,
            Request::Open { stream: 0, spec, named: false },
            Request::Submit { stream: 0, slots: vec![0] },
            Request::Cancel { stream: 0, slot: 0 },
            Request::Close { stream: 0 },
        ] {
            scene.provoke(Violation::NoHello, |wire| wire.say(&request));
        }
        scene.provoke_in_stream(Violation::SecondHello, |wire| wire.say(&hello(VERSION)));
        scene.end();
    });
}

#[test]
fn streams_and_slots_must_be_there_and_free() {
    bounded(|| {
        let scene = Scene::new();
        let submit = |stream, slots| Request::Submit { stream, slots };
        let cropped = |slot, width| {
            let crop = Crop { left: 0.0, top: 0.0, width, height: 1.0 };
            Request::SubmitCropped { stream: 0, slots: vec![Cropped { slot, crop }] }
        };
        for (violation, request) in [
            (Violation::UnknownStream(1), submit(1, vec![0])),
            (Violation::UnknownStream(u32::MAX), Request::Close { stream: u32::MAX }),
            (Violation::UnknownStream(7), Request::Cancel { stream: 7, slot: 0 }),
            (Violation::UnknownSlot { stream: 0, slot: 2 }, submit(0, vec![2])),
            (Violation::UnknownSlot { stream: 0, slot: u32::MAX }, submit(0, vec![0, u32::MAX])),
            (Violation::SlotBusy { stream: 0, slot: 1 }, submit(0, vec![0, 1, 1])),
            (Violation::EmptySubmit, submit(0, vec![])),
            (Violation::EmptySubmit, Request::SubmitCropped { stream: 0, slots: vec![] }),
            (Violation::Crop { stream: 0, slot: 1 }, cropped(1, f64::NAN)),
            (Violation::Crop { stream: 0, slot: 0 }, cropped(0, 1e9)),
            (Violation::UnknownSlot { stream: 0, slot: 9 }, cropped(9, 1.0)),
        ] {
            scene.provoke_in_stream(violation, |wire| wire.say(&request));
        }
        scene.provoke_in_stream(Violation::UnknownStream(0), |wire| {
            wire.say(&Request::Close { stream: 0 });
            assert_eq!(wire.hear(), Message::Reply(Reply::Closed { stream: 0 }));
            wire.say(&Request::Submit { stream: 0, slots: vec![0] });
        });
        scene.end();
    });
}

#[test]
fn slots_of_another_client_are_out_of_reach() {
    bounded(|| {
        let scene = Scene::new();
        // The honest client's stream has the same number: it is not this one's.
        scene.provoke(Violation::UnknownStream(0), |wire| {
            *wire = Wire::welcomed(&scene.daemon.socket());
            wire.say(&Request::Close { stream: 0 });
        });
        scene.end();
    });
}

#[test]
fn connections_that_end_anywhere_leave_nothing() {
    bounded(|| {
        let scene = Scene::new();
        let said = [bytes(&hello(VERSION)), bytes(&Request::Stats)].concat();
        for len in 0..said.len() {
            Wire::connect(&scene.daemon.socket()).raw(&said[..len]);
        }
        let longest = (MAX_MESSAGE as u32).to_le_bytes();
        Wire::connect(&scene.daemon.socket()).raw(&[longest.as_slice(), &[0; 100]].concat());
        scene.honest.round_trip(0);
        scene.end();
    });
}

#[test]
fn nothing_is_said_of_a_stream_once_it_is_closed() {
    bounded(|| {
        let scene = Scene::new();
        let mut wire = Wire::welcomed(&scene.daemon.socket());
        for _ in 0..20 {
            let stream = wire.open(oracle::big());
            // Lanes are at some of them when the stream is closed.
            wire.say(&Request::Submit { stream, slots: vec![0, 1, 2, 3] });
            assert!(matches!(wire.hear(), Message::Completed(_)));
            wire.say(&Request::Close { stream });
            while wire.hear() != Message::Reply(Reply::Closed { stream }) {}
            wire.say(&Request::Stats);
            assert!(matches!(wire.hear(), Message::Reply(Reply::Stats(_))));
        }
        drop(wire);
        scene.end();
    });
}

#[test]
fn the_system_says_what_a_client_gave_back_of_its_ring() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let mut wire = Wire::welcomed(&daemon.socket());
        wire.say_open(oracle::film(), false);
        let (_, ring) = receive(&wire.socket, &mut [0; 4096], MsgFlags::empty()).unwrap();
        let (ring, spec) = (ring.unwrap().unwrap(), RingLayout::new(&oracle::film()).unwrap());
        let len = spec.len().get();
        // What the system counts for each of a process's threads may not be told yet.
        let near = |kib: u64| kib.abs_diff(daemon.shared_kib()) < 1024;
        assert!(near(len as u64 / 1024), "{} KiB of {len} bytes", daemon.shared_kib());
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&ring, punch, 0, len as i64).unwrap();
        assert!(near(0), "{} KiB", daemon.shared_kib());
    });
}

/// What a daemon logs of a stream's.
const GONE: &str = "the memory of a ring is gone";

/// Submits all slots of a stream that has four; all end like that.
#[track_caller]
fn submit_four(wire: &mut Wire, stream: u32, ends: Status) {
    wire.say(&Request::Submit { stream, slots: vec![0, 1, 2, 3] });
    for _ in 0..4 {
        let completed = wire.hear();
        let so = |completion: &Completion| (completion.stream, completion.status) == (stream, ends);
        assert!(matches!(&completed, Message::Completed(done) if so(done)), "{completed:?}");
    }
}

#[test]
fn who_cuts_off_the_memory_of_its_ring_loses_that_and_nobody_else_anything() {
    bounded(|| {
        let daemon = Daemon::start(&["--allow-named-segments"]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let honest = Checked::open(&client, oracle::mixed(4), 2);
        for spec in [oracle::dot(), oracle::big(), oracle::film()] {
            let spec = StreamSpec { slots: 4, ..spec };
            let mut wire = Wire::welcomed(&daemon.socket());
            wire.say_open(spec, true);
            let name = match wire.hear() {
                Message::Reply(Reply::Opened { backing: Backing::Named(name), .. }) => name,
                other => panic!("{other:?}"),
            };
            let segment = Path::new("/dev/shm").join(name.trim_start_matches('/'));
            File::options().write(true).open(segment).unwrap().set_len(0).unwrap();
            submit_four(&mut wire, 0, Status::Failed);
            honest.round_trip(0);
            let told = daemon.log().matches(GONE).count();
            (0..100).for_each(|_| submit_four(&mut wire, 0, Status::Failed));
            assert_eq!(daemon.log().matches(GONE).count(), told);
            // Its other streams are as good as ever.
            assert_eq!(wire.open(spec), 1);
            submit_four(&mut wire, 1, Status::Done);
            wire.say(&Request::Close { stream: 0 });
            assert_eq!(wire.hear(), Message::Reply(Reply::Closed { stream: 0 }));
            submit_four(&mut wire, 1, Status::Done);
        }
        // It is no device's fault, nor tried again.
        assert!(client.stats().unwrap().devices.iter().all(|device| device.failed == 0));
        drop(honest);
        daemon.await_rest(&client, descriptors);
        assert!(daemon.log().contains(GONE));
    });
}

#[test]
fn a_kept_stream_whose_memory_is_gone_gives_its_place_to_another() {
    bounded(|| {
        let daemon = Daemon::start(&["--allow-named-segments"]);
        let socket = UnixStream::connect(daemon.socket()).unwrap();
        let client = Client::from_socket_with_named_segments(socket).unwrap();
        let kept = KeptStreams::new(client.clone(), 2);
        let spec = StreamSpec { slots: 1, ..oracle::big() };
        let source = oracle::noise(&spec, 7);
        let wanted = oracle::resized(&spec, &source);
        let resize = || kept.resize(&spec, &source).map(|frame| frame.to_packed());
        assert!(resize().unwrap() == wanted);
        // Of its only slot the source is left, which the client writes, but not where the result is to be.
        let left = RingLayout::new(&spec).unwrap().output_offset(0);
        File::options().write(true).open(daemon.segment()).unwrap().set_len(left as u64).unwrap();
        let own = kept.stream(&spec).unwrap();
        let error = resize().unwrap_err();
        assert!(matches!(error, Error::Failed), "{error}");
        assert!(resize().unwrap() == wanted);
        // Whoever has the other one still knows what to do.
        let error = own.resize(&source).unwrap_err();
        assert!(matches!(error, Error::Failed) && !error.is_fatal(), "{error}");
        assert!(resize().unwrap() == wanted);
        drop(own);
        assert_eq!(client.stats().unwrap().streams, 1);
        assert!(daemon.log().contains(GONE));
    });
}
