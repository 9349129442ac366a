//! What a daemon holds after much work: what it held before.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use resized_client::StreamSpec;
use resized_protocol::fdpass::receive;
use resized_protocol::message::{Message, Reply, Request};

use crate::oracle::{self, Checked};
use crate::support::{Daemon, bounded, until};
use crate::wire::Wire;

/// KiB by which the daemon may have grown: the allocator keeps some of what is freed.
const GROWTH: u64 = 6 * 1024;

#[test]
fn streams_and_frames_leave_nothing() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        let turn = |n: usize| {
            let spec = StreamSpec { slots: 4, ..oracle::mixed(n % 35) };
            let stream = client.open(&spec).unwrap();
            let slots = (0..4).map(|_| stream.loan().unwrap()).collect();
            let pendings = stream.submit_all(slots).unwrap();
            // Some are waited for, some cancelled, some still in flight when the stream is closed.
            pendings.into_iter().take(n % 5).for_each(|pending| drop(pending.wait().unwrap()));
        };
        (0..35).for_each(turn);
        daemon.await_rest(&client, descriptors);
        let before = daemon.anonymous_kib();
        (0..200).for_each(turn);
        let dots = client.open(&StreamSpec { slots: 16, ..oracle::dot() }).unwrap();
        for _ in 0..200 {
            let slots = (0..16).map(|_| dots.loan().unwrap()).collect();
            let pendings = dots.submit_all(slots).unwrap();
            pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        }
        drop(dots);
        daemon.await_rest(&client, descriptors);
        let grown = daemon.anonymous_kib().saturating_sub(before);
        assert!(grown < GROWTH, "{grown} KiB more");
        Checked::open(&client, oracle::mixed(3), 1).round_trip(0);
    });
}

#[test]
fn a_client_that_keeps_a_closed_streams_memory_pays_for_it() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let mut keeper = Wire::welcomed(&daemon.socket());
        keeper.say(&Request::Open { stream: 0, spec: oracle::big(), named: false });
        let mut bytes = [0; 4096];
        let (_, kept) = receive(&keeper.socket, &mut bytes, MsgFlags::empty()).unwrap();
        let ring = File::from(kept.unwrap().unwrap());
        let charged = || watcher.stats().unwrap().ring_bytes;
        let before = charged();
        assert!(before > 0 && before <= 2 * 512 * ring.metadata().unwrap().blocks());
        keeper.say(&Request::Close { stream: 0 });
        assert!(matches!(keeper.hear(), Message::Reply(Reply::Closed { stream: 0 })));
        // Also when it is gone who had it opened.
        drop(keeper);
        until("it is gone", || watcher.stats().unwrap().sessions == 1);
        thread::sleep(Duration::from_millis(50));
        assert_eq!((charged(), daemon.mapped_rings()), (before, 0));
        assert!(ring.metadata().unwrap().blocks() > 0);
        drop(ring);
        daemon.await_rest(&watcher, descriptors);
    });
}

#[test]
fn connections_leave_nothing() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        for _ in 0..100 {
            let client = daemon.client();
            let stream = client.open(&oracle::dot()).unwrap();
            drop(client);
            let pending = stream.loan().unwrap().submit().unwrap();
            drop(stream);
            let frame = pending.wait().unwrap();
            assert_eq!(frame.to_packed(), [0]);
        }
        daemon.await_rest(&watcher, descriptors);
    });
}
