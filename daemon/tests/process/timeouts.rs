//! Clients that wait for no longer than they like: what they get is what they would have got by
//! waiting.

use std::cell::Cell;
use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use resized_client::{
    Client, Error, Frame, KeptStreams, Pending, Reconnect, StreamSpec, wait_any_timeout,
};

use crate::oracle::{self, Checked};
use crate::support::{Daemon, bounded, until};

const SHORT: Duration = Duration::from_millis(5);

/// Asks again and again.
fn poll(mut pending: Pending, timeout: Duration) -> Frame {
    loop {
        match pending.wait_timeout(timeout).unwrap() {
            Ok(frame) => return frame,
            Err(still) => pending = still,
        }
        thread::yield_now();
    }
}

#[test]
fn frames_that_are_not_done_stay_pending() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 2, ..oracle::mixed(2) }, 2);
        daemon.process.signal(Signal::SIGSTOP);
        let mut pending = stream.submit(0).unwrap();
        for timeout in [Duration::ZERO, SHORT, Duration::from_micros(1)] {
            pending = pending.wait_timeout(timeout).unwrap().unwrap_err();
        }
        daemon.process.signal(Signal::SIGCONT);
        // Reads what arrives although it never waits for it.
        stream.check(0, &poll(pending, Duration::ZERO));
        let pending = stream.submit(1).unwrap();
        stream.check(1, &pending.wait_timeout(Duration::MAX).unwrap().unwrap());
    });
}

#[test]
fn any_of_several_is_waited_for_as_long_as_is_said() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let stream = daemon.client().open(&oracle::dot()).unwrap();
        daemon.process.signal(Signal::SIGSTOP);
        let mut pendings: VecDeque<_> =
            (0..4).map(|n| (n, stream.loan().unwrap().submit().unwrap())).collect();
        for timeout in [Duration::ZERO, SHORT] {
            assert_eq!(wait_any_timeout(pendings.iter().map(|(_, it)| it), timeout).unwrap(), None);
        }
        daemon.process.signal(Signal::SIGCONT);
        while !pendings.is_empty() {
            // What walks over them may ask what it likes of them, and is asked once.
            let asked = Cell::new(0);
            let frames = pendings.iter().map(|(_, pending)| pending).inspect(|pending| {
                pending.is_ready();
                asked.set(asked.get() + 1);
            });
            let done = wait_any_timeout(frames, Duration::MAX).unwrap().unwrap();
            assert_eq!(asked.get(), pendings.len());
            assert!(pendings[done].1.is_ready());
            drop(pendings.remove(done));
        }
    });
}

#[test]
fn what_is_over_is_not_waited_for() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = StreamSpec { slots: 1, ..oracle::dot() };
        let streams = KeptStreams::new(client.clone(), 1);
        // What is there at once comes, over or not.
        let stream = client.opening(&spec).wait_until(|| false).unwrap().unwrap();
        let slot = stream.loan_until(|| true).unwrap().unwrap();
        assert!(stream.loan_until(|| true).unwrap().is_none());
        daemon.process.signal(Signal::SIGSTOP);
        let mut asked = 0;
        let third = || {
            asked += 1;
            asked == 3
        };
        let pending = slot.submit().unwrap().wait_until(third).unwrap().unwrap_err();
        assert_eq!(asked, 3);
        assert!(client.opening(&spec).wait_until(|| true).unwrap().is_err());
        assert!(streams.stream_until(&spec, || true).unwrap().is_none());
        daemon.process.signal(Signal::SIGCONT);
        drop(pending.wait_until(|| false).unwrap().unwrap());
        assert!(streams.stream_until(&spec, || false).unwrap().is_some());
    });
}

#[test]
fn slots_are_waited_for_as_long_as_is_said() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = client.open(&StreamSpec { slots: 1, ..oracle::dot() }).unwrap();
        let slot = stream.loan_timeout(Duration::ZERO).unwrap().unwrap();
        assert!(stream.loan_timeout(Duration::ZERO).unwrap().is_none());
        assert!(stream.loan_timeout(SHORT).unwrap().is_none());
        // Another thread brings it.
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stream.loan_timeout(Duration::MAX).unwrap().unwrap());
            assert!(stream.loan_timeout(SHORT).unwrap().is_none());
            drop(slot);
            drop(waiting.join().unwrap());
        });
        // A message brings it.
        daemon.process.signal(Signal::SIGSTOP);
        drop(stream.loan().unwrap().submit().unwrap());
        assert!(stream.loan_timeout(SHORT).unwrap().is_none());
        assert!(stream.try_loan().unwrap().is_none());
        daemon.process.signal(Signal::SIGCONT);
        until("a slot is free", || stream.try_loan().unwrap().is_some());
    });
}

#[test]
fn streams_that_are_not_opened_in_time_stay_asked_for_or_are_closed() {
    bounded(|| {
        let daemon = Daemon::start(&["--user-streams", "3"]);
        let client = daemon.client();
        daemon.process.signal(Signal::SIGSTOP);
        let openings: Vec<_> = (0..4)
            .map(|_| client.opening(&oracle::mixed(2)).wait_timeout(SHORT).unwrap().unwrap_err())
            .collect();
        let mut openings = openings.into_iter();
        let first = openings.next().unwrap().wait_timeout(Duration::ZERO).unwrap().unwrap_err();
        let second = openings.next().unwrap();
        // One that will be opened, one that will be refused.
        drop(openings);
        daemon.process.signal(Signal::SIGCONT);
        let stream = first.wait().unwrap();
        drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        until("the others are closed", || client.stats().unwrap().streams == 2);
        // Its answer has come, but nobody has fetched it.
        drop(second);
        until("that is closed", || client.stats().unwrap().streams == 1);
        drop(stream);
        until("all are closed", || client.stats().unwrap().streams == 0);
        assert_eq!(client.stats().unwrap().refused, 1);
    });
}

#[test]
fn who_waits_for_a_slot_reads_for_the_others_and_hands_the_reading_on() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 3, ..oracle::mixed(1) }, 2);
        for _ in 0..20 {
            daemon.process.signal(Signal::SIGSTOP);
            let loaned = stream.stream.loan().unwrap();
            drop(stream.submit(0).unwrap());
            let pending = stream.submit(1).unwrap();
            thread::scope(|scope| {
                // A message or the other thread brings a slot: here it is the thread, while nothing
                // is said.
                let loan = scope.spawn(|| drop(stream.stream.loan().unwrap()));
                thread::sleep(SHORT);
                let wait = scope.spawn(|| pending.wait().unwrap());
                thread::sleep(SHORT);
                drop(loaned);
                loan.join().unwrap();
                daemon.process.signal(Signal::SIGCONT);
                stream.check(1, &wait.join().unwrap());
            });
        }
    });
}

#[test]
fn who_only_asks_for_slots_learns_that_none_will_come() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.faithful_client();
        let stream = client.open(&StreamSpec { slots: 1, ..oracle::dot() }).unwrap();
        daemon.process.signal(Signal::SIGSTOP);
        drop(stream.loan().unwrap().submit().unwrap());
        assert!(stream.try_loan().unwrap().is_none());
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        until("the loss is seen", || stream.try_loan().is_err());
    });
}

#[test]
fn who_waits_for_ever_goes_on_when_who_does_not_is_gone() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 2, ..oracle::mixed(1) }, 2);
        daemon.process.signal(Signal::SIGSTOP);
        let [patient, impatient] = [0, 1].map(|n| stream.submit(n).unwrap());
        thread::scope(|scope| {
            // Reads for both, until its time is over.
            let first = scope.spawn(|| impatient.wait_timeout(10 * SHORT).unwrap().unwrap_err());
            let second = scope.spawn(|| patient.wait().unwrap());
            let impatient = first.join().unwrap();
            daemon.process.signal(Signal::SIGCONT);
            stream.check(0, &second.join().unwrap());
            stream.check(1, &impatient.wait().unwrap());
        });
    });
}

#[test]
fn a_daemon_that_changes_is_not_noticed_by_who_only_asks() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 3, ..oracle::mixed(6) }, 3);
        for (round, timeout) in [Duration::ZERO, SHORT, 40 * SHORT].into_iter().enumerate() {
            daemon.process.signal(Signal::SIGSTOP);
            let pending = stream.submit(round).unwrap();
            daemon.process.signal(Signal::SIGKILL);
            daemon.process.wait();
            // The loss is found out here, and nobody waits for the next daemon.
            let pending = pending.wait_timeout(timeout).unwrap().unwrap_err();
            let pending = pending.wait_timeout(timeout).unwrap().unwrap_err();
            daemon.start_again(&[]);
            stream.check(round, &poll(pending, timeout));
            stream.round_trip(round);
        }
    });
}

#[test]
fn frames_are_submitted_at_once_while_there_is_no_daemon() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let reconnect = Reconnect { within: Duration::MAX, ..Reconnect::default() };
        let client = Client::connect_with(&daemon.endpoint(), reconnect).unwrap();
        let stream = Checked::open(&client, StreamSpec { slots: 4, ..oracle::mixed(3) }, 4);
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        // Before anybody knows, and while it is looked for.
        let first = stream.submit(0).unwrap();
        let first = first.wait_timeout(SHORT).unwrap().unwrap_err();
        let [second, third] = [1, 2].map(|n| stream.submit(n).unwrap());
        drop(second);
        let third = third.wait_timeout(SHORT).unwrap().unwrap_err();
        daemon.start_again(&[]);
        stream.check(2, &third.wait().unwrap());
        stream.check(0, &poll(first, SHORT));
        (0..8).for_each(|n| stream.round_trip(n));
    });
}

#[test]
fn a_daemon_that_does_not_come_back_is_an_error_for_who_only_asks() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let reconnect = Reconnect { within: 60 * SHORT, ..Reconnect::default() };
        let client = Client::connect_with(&daemon.endpoint(), reconnect).unwrap();
        let stream = client.open(&StreamSpec { slots: 2, ..oracle::dot() }).unwrap();
        let faithful = daemon.faithful_client();
        let other = faithful.open(&oracle::dot()).unwrap();
        daemon.process.signal(Signal::SIGSTOP);
        let mut pending = stream.loan().unwrap().submit().unwrap();
        let lost = other.loan().unwrap().submit().unwrap();
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        let error = loop {
            match pending.wait_timeout(SHORT) {
                Ok(still) => pending = still.unwrap_err(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::GivenUp { tried: 2.., .. }), "{error}");
        assert!(stream.loan().unwrap().submit().is_err());
        // And at once, where none is looked for.
        let error = lost.wait_timeout(Duration::MAX).unwrap_err();
        assert!(matches!(error, Error::Disconnected | Error::Socket(_)), "{error}");
    });
}
