//! One client used by several threads, and one stream by two.

use std::sync::mpsc::sync_channel;
use std::thread;

use resized_client::StreamSpec;

use crate::oracle::{self, Checked, workout};
use crate::support::{Daemon, bounded, until};

#[test]
fn threads_with_streams_of_their_own_share_a_client() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        thread::scope(|scope| {
            for seed in 0..4 {
                let client = client.clone();
                scope.spawn(move || workout(&client, seed, 3));
            }
            scope.spawn(|| {
                for _ in 0..200 {
                    client.stats().unwrap();
                }
            });
        });
        until("the streams are closed", || client.stats().unwrap().streams == 0);
    });
}

#[test]
fn a_producer_and_a_consumer_share_a_stream() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        for (spec, frames) in [(oracle::mixed(2), 100), (oracle::big(), 30), (oracle::dot(), 300)] {
            for slots in [1, 3] {
                let stream = Checked::open(&client, StreamSpec { slots, ..spec }, 3);
                let (submitted, pendings) = sync_channel(8);
                thread::scope(|scope| {
                    let stream = &stream;
                    scope.spawn(move || {
                        for n in 0..frames {
                            submitted.send(stream.submit(n).unwrap()).unwrap();
                        }
                    });
                    for (n, pending) in pendings.iter().enumerate() {
                        match n % 10 {
                            9 => drop(pending),
                            _ => stream.check(n, &pending.wait().unwrap()),
                        }
                    }
                });
            }
        }
    });
}

#[test]
fn threads_fight_for_the_slots_of_a_stream() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 2, ..oracle::mixed(0) }, 3);
        thread::scope(|scope| {
            for thread in 0..5 {
                let stream = &stream;
                scope.spawn(move || (0..40).for_each(|n| stream.round_trip(thread + n)));
            }
        });
    });
}
