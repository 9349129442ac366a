//! What users may have, how long they may take, and what becomes of frames that come too late. A
//! neighbour is timed beside who asks for too much in `chaos/shortage.rs`.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use resized_client::{
    Alpha, Client, Error, Filter, PixelFormat, Refusal, Resource, StreamSpec, Whose,
};
use resized_protocol::VERSION;
use resized_protocol::message::{Features, Goodbye, Message, Reply, Request};
use resized_protocol::shm::RingLayout;

use crate::oracle::{self, Checked};
use crate::skip::skip;
use crate::support::{Daemon, bounded, by, may_run, until};
use crate::wire::{Wire, bytes, hello};

/// Endpoint of the daemon that a process of another user asks.
const ENDPOINT: &str = "RESIZED_TEST_QUOTA_ENDPOINT";

/// Endpoint of the daemon to which a user who was lent connects.
const LENT: &str = "RESIZED_TEST_LENT_ENDPOINT";

/// Endpoint of the daemon to which another of those connects, and stays.
const STAYS: &str = "RESIZED_TEST_STAYS_ENDPOINT";

/// Bytes that count for each connection, for what its client may not read.
pub(crate) const UNREAD: u64 = 320 << 10;

/// A user that owns nothing; see /etc/passwd.
pub(crate) const NOBODY: u32 = 65_534;

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Refusal {
    match outcome {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

const fn quota(what: Resource, asked: u64, left: u64, limit: u64) -> Refusal {
    Refusal::Quota { whose: Whose::User, what, asked, left, limit }
}

#[test]
fn every_limit_of_a_user_holds_over_its_connections_and_comes_back() {
    bounded(|| {
        let limits = ["--user-connections", "3", "--user-streams", "4", "--user-slots", "10"];
        let daemon = Daemon::start(&[&limits[..], &["--user-memory", "3"]].concat());
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let others = [daemon.client(), daemon.client()];
        for _ in 0..50 {
            let refusal = refused(Client::connect(&daemon.endpoint()));
            assert_eq!(refusal, quota(Resource::Connections, 1, 0, 3));
        }
        let open =
            |client: usize, slots| others[client].open(&StreamSpec { slots, ..oracle::dot() });
        let streams: Vec<_> = (0..4).map(|n| open(n % 2, 2).unwrap()).collect();
        assert_eq!(refused(open(0, 1)), quota(Resource::Streams, 1, 0, 4));
        drop(streams);
        until("the streams are closed", || watcher.stats().unwrap().streams == 0);
        let stream = open(0, 7).unwrap();
        assert_eq!(refused(open(1, 4)), quota(Resource::Slots, 4, 3, 10));
        drop(open(1, 3).unwrap());
        drop(stream);
        until("the slots are back", || open(1, 10).is_ok());
        until("the streams are closed", || watcher.stats().unwrap().streams == 0);
        let big = StreamSpec { slots: 2, ..oracle::big() };
        let stream = others[0].open(&big).unwrap();
        let used = watcher.stats().unwrap().ring_bytes;
        let ring = RingLayout::new(&big).unwrap().len().get() as u64;
        assert!(used > ring, "what is kept beside it is charged as well");
        let refusal = refused(others[1].open(&StreamSpec { slots: 8, ..big }));
        let Refusal::Quota { asked, .. } = refusal else { panic!("{refusal}") };
        // The more slots the more lanes may be at crops of their own.
        assert!(asked >= used + 3 * ring, "{asked} bytes, {used} before");
        assert_eq!(
            refusal,
            quota(Resource::RingBytes, asked, (3 << 20) - used - 3 * UNREAD, 3 << 20)
        );
        // What was refused was charged to nobody, and those who were refused live on.
        drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        Checked::open(&others[1], oracle::mixed(1), 1).round_trip(0);
        drop((stream, others));
        daemon.await_rest(&watcher, descriptors);
        daemon.client();
    });
}

#[test]
fn a_user_that_asks_for_ring_bytes() {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        let client = Client::connect(&endpoint.parse().unwrap()).unwrap();
        let stream = client.open(&StreamSpec { slots: 3, ..oracle::big() }).unwrap();
        drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        assert!(client.open(&StreamSpec { slots: 64, ..oracle::big() }).is_err());
    }
}

#[test]
fn what_one_user_has_taken_another_still_has() {
    bounded(|| {
        let limits = ["--peers", "anyone", "--user-memory", "2", "--user-connections", "4"];
        let daemon = Daemon::start(&limits);
        let clients: Vec<_> = (0..4).map(|_| daemon.client()).collect();
        let _streams: Vec<_> = (0..2)
            .map_while(|_| clients[0].open(&StreamSpec { slots: 3, ..oracle::big() }).ok())
            .collect();
        assert!(matches!(refused(Client::connect(&daemon.endpoint())), Refusal::Quota { .. }));
        let open_up = |path: &std::path::Path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        open_up(daemon.dir());
        let itself = std::env::current_exe().unwrap();
        if !may_run(NOBODY, &itself, daemon.dir()) {
            return;
        }
        let mut other = Command::new(itself);
        other.args(["--exact", "quotas::a_user_that_asks_for_ring_bytes"]).uid(NOBODY);
        other.env(ENDPOINT, daemon.endpoint().to_string()).current_dir("/");
        let output = other.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    });
}

#[test]
fn a_user_that_is_lent_and_connects() {
    if let Ok(endpoint) = std::env::var(LENT) {
        let refusal = refused(Client::connect(&endpoint.parse().unwrap()));
        assert_eq!(refusal, quota(Resource::Connections, 1, 0, 3));
    }
}

#[test]
fn a_user_that_is_lent_and_stays() {
    if let Ok(endpoint) = std::env::var(STAYS) {
        let _clients = [(); 3].map(|()| Client::connect(&endpoint.parse().unwrap()).unwrap());
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn users_who_were_lent_have_the_quotas_of_whom_they_were_lent_to() {
    // For a daemon that sees a file of ours.
    const MOUNT: &str = "mount --bind \"$SUBUID\" /etc/subuid";
    let tried = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", MOUNT])
        .env("SUBUID", "/etc/passwd")
        .output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        return skip("mounts", &format!("there is no mount namespace of our own: {tried:?}"));
    }
    bounded(|| {
        let start = |daemon, dir: &std::path::Path| {
            std::fs::write(dir.join("subuid"), "nobody-known:1:5\n4242:100000:10\n").unwrap();
            let mount = format!(r#"{MOUNT} && exec "$0" "$@""#);
            let mut daemon = by(&["unshare", "--mount", "--", "sh", "-c", &mount], &daemon);
            daemon.env("SUBUID", dir.join("subuid"));
            daemon
        };
        let flags = ["--peers", "anyone", "--user-connections", "3", "--user-memory", "2"];
        let daemon = Daemon::start_as(&flags, start);
        std::fs::set_permissions(daemon.dir(), PermissionsExt::from_mode(0o755)).unwrap();
        let itself = std::env::current_exe().unwrap();
        // In a container without privileges these ids may be nobody's.
        if ![100_000, 100_009, 100_010].iter().all(|&user| may_run(user, &itself, daemon.dir())) {
            return;
        }
        let other = |user: u32, test: &str, endpoint: &str| {
            let mut other = Command::new(&itself);
            other.args(["--exact", test]).uid(user).current_dir("/");
            other.env(endpoint, daemon.endpoint().to_string());
            other.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            other.spawn().unwrap()
        };
        let passes = |other: Child| {
            let output = other.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        };
        let watcher = daemon.client();
        let stays = other(100_000, "quotas::a_user_that_is_lent_and_stays", STAYS);
        until("it has three", || watcher.stats().unwrap().sessions == 4);
        passes(other(100_009, "quotas::a_user_that_is_lent_and_connects", LENT));
        passes(other(100_010, "quotas::a_user_that_asks_for_ring_bytes", ENDPOINT));
        passes(stays);
    });
}

#[test]
fn who_never_says_hello_or_half_a_message_is_hung_up_on() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let mut silent = Wire::connect(&daemon.socket());
        let mut half = Wire::connect(&daemon.socket());
        let said = bytes(&hello(VERSION));
        half.raw(&said[..said.len() / 2]);
        let mut broken_off = Wire::welcomed(&daemon.socket());
        let stats = bytes(&Request::Stats);
        broken_off.raw(&[stats.as_slice(), &stats[..3]].concat());
        assert!(matches!(broken_off.hear(), Message::Reply(Reply::Stats(_))));
        // Who says a whole message in time may say it, and any number of them, byte by byte.
        let mut slow = Wire::welcomed(&daemon.socket());
        // A byte now and then is not enough.
        let mut endless = Wire::connect(&daemon.socket());
        let (version, features) = (VERSION, Features::default());
        let long = bytes(&Request::Hello { version, features, name: "x".repeat(10_000) });
        let mut messages = stats.repeat(8).into_iter();
        let cut_off = long.iter().any(|byte| {
            messages.next().iter().for_each(|byte| slow.raw(&[*byte]));
            std::thread::sleep(Duration::from_millis(100));
            endless.socket.write_all(&[*byte]).is_err()
        });
        assert!(cut_off, "its hello was heard");
        messages.for_each(|byte| slow.raw(&[byte]));
        for _ in 0..8 {
            assert!(matches!(slow.hear(), Message::Reply(Reply::Stats(_))));
        }
        for wire in [&mut silent, &mut half, &mut broken_off, &mut endless] {
            assert_eq!(wire.hear(), Message::Goodbye(Goodbye::Silence));
            assert_eq!(wire.hear_or_end().unwrap(), None);
        }
        // A client that has nothing to say is welcome to say nothing.
        Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
        drop(slow);
        daemon.await_rest(&client, descriptors);
    });
}

#[test]
fn frames_that_are_late_are_dropped_and_said_to_be() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = StreamSpec { slots: 24, ..oracle::big() };
        let flood = client.open(&spec).unwrap();
        let patient = Checked::open(&client, spec, 3);
        let hurried = StreamSpec { deadline: Some(Duration::from_micros(1)), ..spec };
        let hurried = client.open(&hurried).unwrap();
        let slots = |stream: &resized_client::Stream| {
            (0..24).map(|_| stream.loan().unwrap()).collect::<Vec<_>>()
        };
        let mut late = 0;
        for _ in 0..3 {
            let flooding = flood.submit_all(slots(&flood)).unwrap();
            let pendings = hurried.submit_all(slots(&hurried)).unwrap();
            (0..5).for_each(|n| patient.round_trip(n));
            for pending in pendings {
                match pending.wait() {
                    Ok(_) => {}
                    Err(Error::Late) => late += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            flooding.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        }
        assert!(late > 0, "every frame came in time");
        assert_eq!(client.stats().unwrap().devices[0].failed, 0);
    });
}

#[test]
fn what_a_streams_tables_take_is_charged() {
    const STREAMS: u64 = 8;
    /// KiB by which the daemon may grow beside: figures, what the allocator keeps.
    const GROWTH: u64 = 4096;
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "cpu"]);
        let client = daemon.client();
        let long = |format, filter, to| oracle::spec(format, filter, (16_384, 2), to);
        let weighed = |to| StreamSpec {
            alpha: Alpha::Weighs,
            ..long(PixelFormat::Rgba, Filter::Bicubic, to)
        };
        let mut mixed = long(PixelFormat::I420, Filter::Bicubic, (16_000, 4));
        mixed.destination.format = PixelFormat::Rgb24;
        for spec in [
            long(PixelFormat::Gray8, Filter::Lanczos3, (16_000, 3)),
            long(PixelFormat::Rgba, Filter::Bicubic, (12_000, 3)),
            long(PixelFormat::Rgb24, Filter::Lanczos3, (2000, 3)),
            long(PixelFormat::I420P10, Filter::Mitchell, (12_000, 3)),
            weighed((12_000, 3)),
            oracle::spec(PixelFormat::I420, Filter::Lanczos3, (2, 16_384), (3, 12_000)),
            mixed,
        ] {
            let spec = StreamSpec { slots: 1, ..spec };
            let bytes = || client.stats().unwrap().ring_bytes;
            let open = || -> Vec<_> { (0..STREAMS).map(|_| client.open(&spec).unwrap()).collect() };
            // What making tables takes beside them the allocator of each thread keeps for the next.
            let first = open();
            let (anonymous, before) = (daemon.anonymous_kib(), bytes());
            let streams = (first, open());
            let grown = daemon.anonymous_kib().saturating_sub(anonymous);
            let ring = RingLayout::new(&spec).unwrap().len().get() as u64;
            let charged = (bytes() - before - STREAMS * ring) / 1024;
            println!("{grown} KiB grown, {charged} KiB charged for tables");
            // Charged twice: a frame's own crop has tables too.
            assert!(grown <= charged / 2 + GROWTH, "{grown} of {charged} KiB: {spec:?}");
            drop(streams);
            until("the streams are closed", || client.stats().unwrap().streams == 0);
        }
        assert_eq!(client.stats().unwrap().ring_bytes, 0);
    });
}

#[test]
fn what_is_held_for_those_who_read_nothing_was_charged() {
    const CONNECTIONS: u64 = 64;
    /// KiB by which the daemon may grow beside: figures, what the allocator keeps.
    const GROWTH: u64 = 2048;
    bounded(|| {
        let daemon = Daemon::start(&["--devices", "cpu"]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let before = daemon.anonymous_kib();
        let wires: Vec<_> = (0..CONNECTIONS).map(|_| Wire::welcomed(&daemon.socket())).collect();
        // What has the longest answers: more than anybody keeps for them.
        let asked = bytes(&Request::Clients { from: 0 }).repeat(256);
        wires.iter().for_each(|wire| (&wire.socket).write_all(&asked).unwrap());
        let (mut size, mut quiet) = (before, 0);
        until("all are full", || {
            let now = daemon.anonymous_kib();
            quiet = if now == size { quiet + 1 } else { 0 };
            size = now;
            quiet == 100
        });
        let grown = daemon.anonymous_kib().saturating_sub(before);
        let sent = "/proc/sys/net/core/wmem_default";
        let sent: u64 = std::fs::read_to_string(sent).unwrap().trim().parse().unwrap();
        let held = grown + CONNECTIONS * sent / 1024;
        println!("{grown} KiB grown, {held} KiB held with what is in {CONNECTIONS} sockets");
        assert!(held <= CONNECTIONS * UNREAD / 1024 + GROWTH, "{grown} KiB grown");
        drop(wires);
        daemon.await_rest(&watcher, descriptors);
    });
}

#[test]
fn a_user_has_as_many_connections_as_there_is_memory_for() {
    bounded(|| {
        let daemon = Daemon::start(&["--user-memory", "1"]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let others = [daemon.client(), daemon.client()];
        let left = (1 << 20) - 3 * UNREAD;
        // It is the daemon's own, who may see who has it all.
        let lookers: Vec<_> = (0..4).map(|_| daemon.client()).collect();
        lookers.iter().for_each(|looker| assert_eq!(looker.clients().unwrap().len(), 7));
        let refusal = refused(daemon.connect());
        assert_eq!(refusal, quota(Resource::RingBytes, UNREAD, left, 1 << 20));
        assert_eq!(client.stats().unwrap().ring_bytes, 0);
        drop((others, lookers));
        daemon.await_rest(&client, descriptors);
        daemon.client();
    });
}
