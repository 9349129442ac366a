//! One client used by several threads, and one stream by two.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
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
fn who_waits_for_a_frame_that_was_given_up_gets_the_slot_that_another_thread_frees() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = client.open(&StreamSpec { slots: 2, ..oracle::dot() }).unwrap();
        let held = stream.loan().unwrap();
        // The daemon says nothing of the other one until it is continued.
        daemon.process.signal(Signal::SIGSTOP);
        drop(stream.loan().unwrap().submit().unwrap());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(stream.loan().unwrap()));
            thread::sleep(Duration::from_millis(100));
            assert!(!waiting.is_finished());
            drop(held);
            until("there is a slot", || waiting.is_finished());
        });
        daemon.process.signal(Signal::SIGCONT);
        let _both = [stream.loan().unwrap(), stream.loan().unwrap()];
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
