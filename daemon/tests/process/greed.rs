//! Clients that take and do not give: they stall themselves, and nobody else.

use std::io::{self, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::MsgFlags;
use nix::unistd::geteuid;
use resized_client::{Client, Refusal, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::Inbox;
use resized_protocol::fdpass::{all_read, receive};
use resized_protocol::message::{Features, Goodbye, Message, Reply, Request, Status, Violation};

use crate::oracle::{self, Checked};
use crate::quotas::NOBODY;
use crate::support::{Daemon, Folder, bounded, by_shell, may_run, until};
use crate::wire::{Wire, bytes, hello};

/// KiB by which a daemon may grow for clients that do not read.
const GROWTH: u64 = 8 * 1024;

/// Says it again and again, reading nothing, until the daemon takes no more. Returns how often, and
/// what of the last one did not go.
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
            drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
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

/// As many of these streams opened and closed as go into the socket, with nothing read.
fn open_and_close(wire: &Wire, streams: u32) {
    wire.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    for stream in 0..streams {
        let open = Request::Open { stream, spec: oracle::dot(), named: false };
        let both = [bytes(&open), bytes(&Request::Close { stream })].concat();
        if (&wire.socket).write_all(&both).is_err() {
            break;
        }
    }
}

#[test]
fn a_thousand_requests_in_one_read_are_answered_as_they_are_heard() {
    const ASKED: usize = 1500;
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "null"]);
        let client = daemon.client();
        // Streams make the answers long.
        let streams: Vec<_> = (0..24).map(|_| client.open(&oracle::dot()).unwrap()).collect();
        let mut asker = Wire::welcomed(&daemon.socket());
        asker.say(&Request::Clients { from: 0 });
        let Message::Reply(Reply::Clients(clients)) = asker.hear() else { panic!("no clients") };
        let many = clients.iter().find(|client| client.streams == 24).unwrap().client;
        let ask = bytes(&Request::Streams { client: many, from: 0 }).repeat(ASKED);
        let before = daemon.anonymous_kib();
        let mut wires: Vec<_> = (0..4)
            .map(|_| {
                let mut wire = Wire::connect(&daemon.socket());
                // Of a long message that comes in two pieces there is room for so many.
                let (version, features) = (VERSION, Features::default());
                let long = bytes(&Request::Hello { version, features, name: "x".repeat(16_000) });
                let (half, rest) = long.split_at(8_000);
                wire.raw(half);
                thread::sleep(Duration::from_millis(50));
                wire.raw(&[rest, &ask].concat());
                wire
            })
            .collect();
        let hear_of_all = |wire: &mut Wire| match wire.hear() {
            Message::Reply(Reply::Streams(listed)) => assert!(!listed.is_empty()),
            other => panic!("{other:?}"),
        };
        for wire in &mut wires {
            assert!(matches!(wire.hear(), Message::Reply(Reply::Welcome { .. })));
            hear_of_all(wire);
        }
        // It is at all of them now, and at others' frames as well.
        drop(streams[0].loan().unwrap().submit().unwrap().wait().unwrap());
        let grown = daemon.anonymous_kib().saturating_sub(before);
        assert!(grown < GROWTH, "{grown} KiB more");
        for wire in &mut wires {
            (1..ASKED).for_each(|_| hear_of_all(wire));
        }
    });
}

/// Everything that is still said, and how many descriptors come with it.
fn all_that_was_passed(wire: &Wire) -> (Vec<Message>, usize) {
    let (mut inbox, mut messages, mut descriptors) = (Inbox::new(), Vec::new(), 0);
    loop {
        let receive = |room: &mut [u8]| {
            let (len, descriptor) = receive(&wire.socket, room, MsgFlags::empty())?;
            descriptors += usize::from(descriptor.is_some());
            Ok::<_, io::Error>(len)
        };
        match inbox.fill(receive) {
            Ok((1.., _)) => {}
            Ok(_) => return (messages, descriptors),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (messages, descriptors);
            }
            Err(error) => panic!("{error}"),
        }
        while let Some(message) = inbox.pop().unwrap() {
            messages.push(message);
        }
    }
}

#[test]
fn one_who_takes_no_descriptor_has_one_on_its_way_and_is_told() {
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "null"]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let hostile = Wire::welcomed(&daemon.socket());
        open_and_close(&hostile, 2000);
        // Neither the opening that waits nor what came of it keeps others from theirs.
        for _ in 0..200 {
            drop(
                client
                    .open(&oracle::dot())
                    .unwrap()
                    .loan()
                    .unwrap()
                    .submit()
                    .unwrap()
                    .wait()
                    .unwrap(),
            );
        }
        // It closes what it was refused: so it is hung up on, and all is given back but its place, and the ring that is on its
        // way to it.
        until("it is hung up on", || daemon.log().contains("is not open"));
        until("its streams are gone", || client.stats().unwrap().streams == 0);
        assert!(client.stats().unwrap().ring_bytes > 0);
        assert_eq!(client.stats().unwrap().sessions, 2);
        let (messages, passed) = all_that_was_passed(&hostile);
        let expected = [
            Message::Reply(Reply::Closed { stream: 0 }),
            Message::Reply(Reply::Refused(Refusal::System { errno: Errno::ETOOMANYREFS as i32 })),
            Message::Goodbye(Goodbye::Violation(Violation::UnknownStream(1))),
        ];
        assert!(matches!(messages[0], Message::Reply(Reply::Opened { stream: 0, .. })));
        assert_eq!((&messages[1..], passed), (&expected[..], 1));
        assert!(daemon.log().contains("the client did not read its last ring"));
        // It keeps the connection, but nothing of it is in the kernel any more.
        daemon.await_rest(&client, descriptors);
    });
}

/// Has the daemon hold what a connection can: its socket, that once more to wait for room in it, and a
/// ring's descriptor for which there is none.
fn take_descriptors(daemon: &Daemon, wire: &mut Wire) {
    let before = daemon.descriptors();
    while daemon.descriptors() == before {
        wire.say(&Request::Stats);
        until("it is read", || all_read(&wire.socket).unwrap());
    }
    wire.say_open(oracle::dot(), false);
    // Its file, which the daemon has open, too, and that file again for the client.
    until("a ring waits as well", || daemon.descriptors() == before + 3);
}

#[test]
fn those_who_have_the_daemon_hold_descriptors_leave_enough_for_who_comes_next() {
    bounded(|| {
        let few = |command, _: &Path| by_shell(r#"ulimit -n 64; exec "$0" "$@""#, &command);
        let daemon = Daemon::start_as(&["--devices", "null"], few);
        let mut greedy = Vec::new();
        loop {
            let mut wire = Wire::connect(&daemon.socket());
            // Who is turned away may be so before.
            let _ = (&wire.socket).write_all(&bytes(&hello(VERSION)));
            match wire.hear() {
                Message::Reply(Reply::Welcome { .. }) => {}
                Message::Goodbye(Goodbye::Refused(_)) => break,
                other => panic!("{other:?}"),
            }
            take_descriptors(&daemon, &mut wire);
            greedy.push(wire);
        }
        drop(greedy.pop());
        let mut next = None;
        until("there is room", || {
            next = daemon.connect().ok();
            next.is_some()
        });
        Checked::open(&next.unwrap(), oracle::dot(), 1);
    });
}

#[test]
fn one_who_reads_late_gets_every_stream() {
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "null"]);
        let mut late = Wire::welcomed(&daemon.socket());
        for stream in 0..100 {
            late.say(&Request::Open { stream, spec: oracle::dot(), named: false });
        }
        let (client, other) = (daemon.client(), daemon.client());
        until("the first is open", || client.stats().unwrap().streams == 1);
        // Others have theirs meanwhile, and it no second one.
        (0..20).for_each(|_| drop(other.open(&oracle::dot()).unwrap()));
        until("others' are closed", || client.stats().unwrap().streams == 1);
        for wanted in 0..100 {
            match late.hear() {
                Message::Reply(Reply::Opened { stream, .. }) => assert_eq!(stream, wanted),
                other => panic!("{other:?}"),
            }
        }
    });
}

/// Linux counts what is on its way against the daemon's user, and refuses it more than it may have
/// open: but not to root.
#[test]
fn those_who_take_no_descriptors_do_not_keep_others_from_theirs() {
    bounded(|| {
        let as_nobody = |command: &mut Command, dir: &Path| {
            command.current_dir("/");
            if geteuid().is_root() {
                command.uid(NOBODY);
                chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        };
        let folder = Folder::new();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            if !may_run(NOBODY, Path::new(env!("CARGO_BIN_EXE_resized")), folder.path()) {
                return;
            }
        }
        let mut daemon = Daemon::start_as(&["--devices", "null"], |command, dir| {
            let mut few = by_shell(r#"ulimit -n 256; exec "$0" "$@""#, &command);
            as_nobody(&mut few, dir);
            few
        });
        let socket = daemon.socket();
        let neighbour = daemon.faithful_client();
        let (_, descriptors) = daemon.at_rest(&neighbour);
        let served = || {
            for _ in 0..20 {
                let stream = neighbour.open(&oracle::dot()).unwrap();
                drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
            }
        };
        // More than there may be, if each answer or each connection that was hung up on left one
        // behind.
        let unread: Vec<_> = (0..16).map(|_| Wire::welcomed(&socket)).collect();
        unread.iter().for_each(|wire| open_and_close(wire, 50));
        served();
        let hung_up_on: Vec<_> = (0..300)
            .map(|_| {
                let wire = Wire::connect(&socket);
                let open = Request::Open { stream: 0, spec: oracle::dot(), named: false };
                // The last of them are turned away, maybe before they have said it.
                let said = [hello(VERSION), open, Request::Close { stream: 7 }];
                let said: Vec<_> = said.iter().flat_map(bytes).collect();
                let _ = (&wire.socket).write_all(&said);
                wire
            })
            .collect();
        served();
        drop((unread, hung_up_on));
        daemon.await_rest(&neighbour, descriptors);
        served();
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
    });
}
