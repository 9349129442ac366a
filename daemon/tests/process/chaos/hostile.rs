//! Clients that do on purpose what no client library would: lengths that lie, descriptors sent at the
//! daemon, slots written while they are the daemon's. Each that breaks the protocol is told how.
//!
//! The neighbour is timed beside one that does the same honestly.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::socket::MsgFlags;
use resized_client::StreamSpec;
use resized_protocol::codec::{CodecError, MAX_MESSAGE};
use resized_protocol::fdpass;
use resized_protocol::message::{Message, Reply, Request, Status, Violation};
use resized_protocol::shm::{Region, RingLayout, leases};

use super::neighbour::{Scene, row};
use crate::oracle;
use crate::support::until;
use crate::wire::{Wire, bytes};

/// What is no request, and what the daemon has against it.
fn lies() -> Vec<(Vec<u8>, CodecError)> {
    let message = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
    // A submit of stream 0 with more slots than there are bytes in the world.
    let slots = [2_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let slots = [slots, u64::MAX.to_le_bytes().to_vec()].concat();
    let mut trailing = bytes(&Request::Stats);
    trailing[0] += 1;
    trailing.push(0);
    vec![
        (message(&[0xff; 8]), CodecError::Malformed),
        (message(&[]), CodecError::Malformed),
        (message(&[0; 3]), CodecError::Malformed),
        (message(&6_u32.to_le_bytes()), CodecError::Malformed),
        (message(&slots), CodecError::Malformed),
        ((MAX_MESSAGE as u32 + 1).to_le_bytes().into(), CodecError::TooLong),
        (u32::MAX.to_le_bytes().into(), CodecError::TooLong),
        (trailing, CodecError::Trailing),
        // An HTTP client.
        (b"GET / HTTP/1.1\r\n\r\n".into(), CodecError::TooLong),
    ]
}

#[test]
fn lengths_that_lie_and_bytes_that_are_no_request_harm_nobody_else() {
    let opened = |scene: &Scene<'_>| {
        let mut wire = Wire::welcomed(&scene.daemon.socket());
        assert_eq!(wire.open(StreamSpec { slots: 2, ..oracle::dot() }), 0);
        wire
    };
    let honest = move |scene: &Scene<'_>| {
        while scene.goes_on() {
            for _ in lies() {
                for mut wire in [Wire::welcomed(&scene.daemon.socket()), opened(scene)] {
                    wire.say(&Request::Stats);
                    assert!(matches!(wire.hear(), Message::Reply(Reply::Stats(_))));
                }
            }
        }
    };
    let lie = move |scene: &Scene<'_>| {
        let mut told = 0;
        while scene.goes_on() || told == 0 {
            for (said, error) in lies() {
                // At once, and amid honest traffic.
                for mut wire in [Wire::connect(&scene.daemon.socket()), opened(scene)] {
                    wire.raw(&said);
                    wire.expect_violation(Violation::Codec(error));
                    told += 1;
                }
            }
        }
    };
    row(&[], honest, lie);
}

/// Submits and asks; `sends` descriptors with it that nobody asked for.
fn exchange(scene: &Scene<'_>, sends: bool) {
    let mut wire = Wire::welcomed(&scene.daemon.socket());
    let stream = wire.open(oracle::dot());
    // Not earlier: who was there before takes a moment to go, and the ring's own descriptor is closed
    // just after it was sent.
    until("there are but the watcher, the neighbour and this one", || {
        wire.say(&Request::Stats);
        matches!(wire.hear(), Message::Reply(Reply::Stats(stats)) if stats.sessions == 3)
    });
    let before = scene.daemon.descriptors();
    let file = File::open("/proc/self/exe").unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let submit = Request::Submit { stream, slots: vec![0] };
    while scene.goes_on() {
        for _ in 0..50 {
            if sends {
                wire.say_with(&submit, &file)
            } else {
                wire.say(&submit)
            }
            assert!(matches!(wire.hear(), Message::Completed(done) if done.status == Status::Done));
            if sends {
                wire.say_with(&Request::Stats, &ours)
            } else {
                wire.say(&Request::Stats)
            }
            assert!(matches!(wire.hear(), Message::Reply(Reply::Stats(_))));
        }
        assert_eq!(scene.daemon.descriptors(), before);
    }
}

#[test]
fn descriptors_sent_at_the_daemon_are_not_kept() {
    row(&[], |scene| exchange(scene, false), |scene| exchange(scene, true));
}

/// Frames of one slot, while another thread writes: into this slot, if it `rewrites`, or else as much
/// into memory of its own.
fn scribble(scene: &Scene<'_>, rewrites: bool) {
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
    let scribbler = thread::spawn(move || {
        let mut own = vec![0; lease.input_mut().len()];
        // Against the client library's rules: the slot is the daemon's meanwhile.
        let bytes = if rewrites { lease.input_mut() } else { &mut own[..] };
        let mut value = 0_u8;
        while !stop.load(Ordering::Relaxed) {
            value = value.wrapping_mul(5).wrapping_add(17);
            bytes.fill(value);
        }
    });
    while scene.goes_on() {
        wire.say(&Request::Submit { stream: 0, slots: vec![0] });
        assert!(matches!(wire.hear(), Message::Completed(done) if done.status == Status::Done));
    }
    over.store(true, Ordering::Relaxed);
    scribbler.join().unwrap();
}

#[test]
fn a_frame_rewritten_while_it_is_resized_harms_only_itself() {
    row(&[], |scene| scribble(scene, false), |scene| scribble(scene, true));
}
