//! Clients that break the protocol: each is told what it did, then hung up on, and nobody else notices.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::socket::MsgFlags;
use resized_client::{Client, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::{CodecError, MAX_MESSAGE};
use resized_protocol::fdpass;
use resized_protocol::message::{Cropped, Message, Reply, Request, Status, Violation};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{Region, RingLayout, leases};

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
fn bytes_that_are_no_request() {
    bounded(|| {
        let scene = Scene::new();
        let malformed = Violation::Codec(CodecError::Malformed);
        let message = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
        scene.provoke(malformed, |wire| wire.raw(&message(&[0xff; 8])));
        scene.provoke(malformed, |wire| wire.raw(&message(&[])));
        scene.provoke(malformed, |wire| wire.raw(&message(&[0; 3])));
        scene.provoke_in_stream(malformed, |wire| wire.raw(&message(&6_u32.to_le_bytes())));
        // A submit of stream 0 with more slots than there are bytes in the world.
        let lie = [2_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        let lie = [lie, u64::MAX.to_le_bytes().to_vec()].concat();
        scene.provoke_in_stream(malformed, |wire| wire.raw(&message(&lie)));
        let too_long = Violation::Codec(CodecError::TooLong);
        for len in [MAX_MESSAGE as u32 + 1, u32::MAX] {
            scene.provoke(too_long, |wire| wire.raw(&len.to_le_bytes()));
        }
        let mut trailing = bytes(&Request::Stats);
        trailing[0] += 1;
        trailing.push(0);
        scene.provoke_in_stream(Violation::Codec(CodecError::Trailing), |wire| wire.raw(&trailing));
        // An HTTP client.
        scene.provoke(too_long, |wire| wire.raw(b"GET / HTTP/1.1\r\n\r\n"));
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
fn descriptors_sent_at_the_daemon_are_not_kept() {
    bounded(|| {
        let scene = Scene::new();
        let mut wire = Wire::welcomed(&scene.daemon.socket());
        let stream = wire.open(oracle::dot());
        wire.say(&Request::Stats);
        assert!(matches!(wire.hear(), Message::Reply(Reply::Stats(_))));
        // Not earlier: the ring's own descriptor is closed just after it was sent.
        let before = scene.daemon.descriptors();
        let file = File::open("/proc/self/exe").unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        for _ in 0..50 {
            wire.say_with(&Request::Submit { stream, slots: vec![0] }, &file);
            assert!(matches!(wire.hear(), Message::Completed(done) if done.status == Status::Done));
            wire.say_with(&Request::Stats, &ours);
            assert!(matches!(wire.hear(), Message::Reply(Reply::Stats(_))));
        }
        assert_eq!(scene.daemon.descriptors(), before);
        drop(wire);
        scene.end();
    });
}

#[test]
fn a_frame_rewritten_while_it_is_resized_harms_only_itself() {
    bounded(|| {
        let scene = Scene::new();
        let mut wire = Wire::welcomed(&scene.daemon.socket());
        let spec = StreamSpec { slots: 1, ..oracle::big() };
        wire.say(&Request::Open { stream: 0, spec, named: false });
        // The reply, and the descriptor beside its first byte.
        let mut reply = [0; 4096];
        let (_, descriptor) = fdpass::receive(&wire.socket, &mut reply, MsgFlags::empty()).unwrap();
        let ring = Arc::new(RingLayout::new(&spec).unwrap());
        let region = Region::open(descriptor.unwrap().unwrap(), ring.len()).unwrap();
        let mut lease = leases(region, &ring).unwrap().remove(0);
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        // Against the client library's rules: the slot is the daemon's meanwhile.
        let scribbler = thread::spawn(move || {
            let mut value = 0_u8;
            while !stop.load(Ordering::Relaxed) {
                value = value.wrapping_mul(5).wrapping_add(17);
                lease.input_mut().fill(value);
            }
        });
        for n in 0..10 {
            wire.say(&Request::Submit { stream: 0, slots: vec![0] });
            assert!(matches!(wire.hear(), Message::Completed(done) if done.status == Status::Done));
            scene.honest.round_trip(n);
        }
        over.store(true, Ordering::Relaxed);
        scribbler.join().unwrap();
        drop(wire);
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
