//! Clients that take and do not give: they stall themselves, and nobody else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use resized_client::{Client, StreamSpec};
use resized_protocol::message::{Message, Reply, Request, Status};

use crate::oracle::{self, Checked};
use crate::support::{Daemon, bounded, until};
use crate::wire::{Wire, bytes};

/// KiB by which a daemon may grow for clients that do not read.
const GROWTH: u64 = 8 * 1024;

/// Says it again and again, reading nothing, until the daemon takes no more. Returns how often, and what
/// of the last one did not go.
fn flood(wire: &Wire, request: &Request) -> (usize, Vec<u8>) {
    let bytes = bytes(request);
    wire.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    for said in 0.. {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match (&wire.socket).write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (said, if rest.len() < bytes.len() { rest.to_vec() } else { vec![] });
                }
                Err(error) => panic!("{error}"),
            }
            assert!(said < 1_000_000, "the daemon takes everything");
        }
    }
    unreachable!()
}

#[test]
fn those_who_do_not_read_stall_only_themselves() {
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "null"]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let stream = client.open(&oracle::dot()).unwrap();
        let served = || drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        (0..100).for_each(|_| served());
        let before = daemon.anonymous_kib();

        let mut submitter = Wire::welcomed(&daemon.socket());
        // The null device is done before the next request is read, so the slot is free again.
        let number = submitter.open(oracle::dot());
        let submit = Request::Submit { stream: number, slots: vec![0] };
        let (submits, rest_of_submit) = flood(&submitter, &submit);
        served();
        let mut asker = Wire::welcomed(&daemon.socket());
        let (asked, rest_of_ask) = flood(&asker, &Request::Stats);
        served();
        let idlers: Vec<_> = (0..8).map(|_| Wire::welcomed(&daemon.socket())).collect();
        idlers.iter().for_each(|idler| drop(flood(idler, &Request::Stats)));
        (0..100).for_each(|_| served());
        let grown = daemon.anonymous_kib().saturating_sub(before);
        assert!(grown < GROWTH, "{grown} KiB more");

        // Whoever reads after all has lost nothing.
        for _ in 0..submits {
            match submitter.hear() {
                Message::Completed(done) => {
                    assert_eq!((done.stream, done.slot), (number, 0));
                    assert_eq!(done.status, Status::Done);
                }
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..asked {
            assert!(matches!(asker.hear(), Message::Reply(Reply::Stats(_))));
        }
        submitter.raw(&rest_of_submit);
        asker.raw(&rest_of_ask);
        drop((submitter, asker, idlers, stream));
        daemon.await_rest(&client, descriptors);
    });
}

#[test]
fn a_flood_does_not_keep_others_waiting_or_the_daemon_from_stopping() {
    bounded(|| {
        let mut daemon = Daemon::start(&["--devices", "null"]);
        let client = daemon.client();
        let stream = client.open(&oracle::dot()).unwrap();
        // Asks without end on one thread, and reads the answers on another.
        let over = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for _ in 0..2 {
            let mut wire = Wire::welcomed(&daemon.socket());
            let mut socket = wire.socket.try_clone().unwrap();
            let stop = Arc::clone(&over);
            threads.push(thread::spawn(move || {
                let asking = bytes(&Request::Stats).repeat(500);
                while !stop.load(Ordering::Relaxed) && socket.write_all(&asking).is_ok() {}
            }));
            let answers = Arc::clone(&answers);
            threads.push(thread::spawn(move || {
                while let Ok(Some(_)) = wire.hear_or_end() {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        until("the flood is on", || answers.load(Ordering::Relaxed) > 10_000);
        for _ in 0..50 {
            stream.loan().unwrap().submit().unwrap().wait().unwrap();
        }
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_client_may_have_all_slots_of_many_streams_in_flight() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = StreamSpec { slots: 256, ..oracle::dot() };
        let streams: Vec<_> = (0..24).map(|_| client.open(&spec).unwrap()).collect();
        let mut pendings = Vec::new();
        for (n, stream) in streams.iter().enumerate() {
            for value in 0..=255_u8 {
                let mut slot = stream.loan().unwrap();
                slot.write_packed(&[value ^ n as u8]).unwrap();
                pendings.push((value ^ n as u8, slot.submit().unwrap()));
            }
        }
        for (value, pending) in pendings {
            assert_eq!(pending.wait().unwrap().to_packed(), [value]);
        }
    });
}

#[test]
fn one_who_floods_and_one_who_does_not_both_get_on() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let endpoint = daemon.endpoint();
        let over = Arc::new(AtomicBool::new(false));
        let flooder = {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let client = Client::connect(&endpoint).unwrap();
                let spec = StreamSpec { slots: 32, ..oracle::big() };
                let stream = Checked::open(&client, spec, 2);
                let mut pendings: Vec<_> = (0..32).map(|n| stream.submit(n)).collect();
                let mut served = 0;
                while !over.load(Ordering::Relaxed) {
                    let pending = pendings.remove(0).unwrap();
                    stream.check(served, &pending.wait().unwrap());
                    pendings.push(stream.submit(served));
                    served += 1;
                }
                served
            })
        };
        let client = daemon.client();
        let modest = Checked::open(&client, StreamSpec { slots: 1, ..oracle::big() }, 2);
        until("the flood is on", || client.stats().unwrap().devices[0].frames > 32);
        (0..15).for_each(|n| modest.round_trip(n));
        over.store(true, Ordering::Relaxed);
        assert!(flooder.join().unwrap() > 0);
    });
}
