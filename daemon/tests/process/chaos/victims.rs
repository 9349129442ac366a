//! Client processes that are killed or stopped with frames in flight, by nobody's fault of theirs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::Client;

use super::length;
use super::neighbour::{Scene, nothing, row, row_of_frames, work_of};
use crate::clients::{self, IN_FLIGHT, overloaded};
use crate::oracle::{self, Checked};
use crate::support::{Daemon, Process, until};

/// So many processes with frames in flight.
fn victims(daemon: &Daemon, count: usize) -> Vec<Process> {
    processes(daemon, "clients::a_client_that_is_killed", count)
}

/// So many that run the client of that name, with frames in flight.
pub(super) fn processes(daemon: &Daemon, test: &str, count: usize) -> Vec<Process> {
    let start = |seed| {
        let mut command = clients::client_process(test, &daemon.endpoint(), seed);
        Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    };
    let mut clients: Vec<_> = (0..count).map(start).collect();
    for client in &mut clients {
        let mut said = BufReader::new(client.0.stdout.take().unwrap());
        let mut lines = said.by_ref().lines();
        assert!(lines.any(|line| line.unwrap().contains(IN_FLIGHT)), "a client ended early");
        // It has more to say in the end.
        client.0.stdout = Some(said.into_inner());
    }
    clients
}

pub(super) fn kill_all(victims: Vec<Process>) {
    victims.iter().for_each(|victim| victim.signal(Signal::SIGKILL));
    for mut victim in victims {
        victim.wait();
    }
}

/// Has each end as it likes to, after the frames that it has in flight.
fn end_all(mut clients: Vec<Process>) {
    for client in &mut clients {
        client.0.stdin.take().unwrap().write_all(b"!").unwrap();
    }
    for mut client in clients {
        assert!(client.wait().success());
    }
}

/// So many clients with frames in flight, of which a tenth end at once, again and again, with as many
/// others in their places; then all.
fn come_and_go(scene: &Scene<'_>, count: usize, end: fn(Vec<Process>)) {
    let few = count.div_ceil(10);
    let mut clients = victims(scene.daemon, count);
    let mut ended = 0;
    while scene.goes_on() || ended == 0 {
        end(clients.drain(..few).collect());
        ended += few;
        clients.extend(victims(scene.daemon, few));
    }
    println!("{ended} ended and were replaced, then {count}");
    end(clients);
}

/// The neighbour has its part of the machine beside as many that come and go in good order.
fn killed(count: usize) {
    let undisturbed = move |scene: &Scene<'_>| come_and_go(scene, count, end_all);
    row(&[], undisturbed, move |scene| come_and_go(scene, count, kill_all));
}

#[test]
fn one_client_killed_mid_frame_leaves_nothing() {
    killed(1);
}

#[test]
fn many_clients_killed_mid_frame_leave_nothing() {
    killed(length(8, 50));
}

/// What the daemon holds for its clients.
#[derive(Debug, PartialEq)]
struct Held {
    sessions: u32,
    charged: u64,
    rings: usize,
    descriptors: usize,
}

impl Held {
    fn now(daemon: &Daemon, client: &Client) -> Self {
        let stats = client.stats().unwrap();
        let (sessions, charged) = (stats.sessions, stats.ring_bytes);
        Self { sessions, charged, rings: daemon.mapped_rings(), descriptors: daemon.descriptors() }
    }

    /// Waits until it holds just this: others come and go.
    fn await_again(&self, daemon: &Daemon, client: &Client) {
        until(&format!("the daemon holds {self:?}"), || Self::now(daemon, client) == *self);
    }
}

#[test]
fn clients_that_are_stopped_hold_what_they_were_charged_for() {
    const VICTIMS: usize = 3;
    let stop = |scene: &Scene<'_>| {
        let daemon = scene.daemon;
        let client = daemon.client();
        let before = Held::now(daemon, &client);
        let longest = work_of(&client, &oracle::big());
        before.await_again(daemon, &client);
        let streams = overloaded().map(|spec| client.open(&spec).unwrap());
        let charged = client.stats().unwrap().ring_bytes - before.charged;
        drop(streams);
        let victims = victims(daemon, VICTIMS);
        victims.iter().for_each(|victim| victim.signal(Signal::SIGSTOP));
        let begun = Instant::now();
        let theirs = Held {
            sessions: before.sessions + VICTIMS as u32,
            charged: before.charged + VICTIMS as u64 * charged,
            rings: before.rings + VICTIMS * overloaded().len(),
            // Their sockets, and the files of their rings.
            descriptors: before.descriptors + VICTIMS * (1 + overloaded().len()),
        };
        while scene.goes_on() || begun.elapsed() < length(Duration::ZERO, Duration::from_secs(10)) {
            // Others come and go meanwhile.
            Checked::open(&daemon.client(), oracle::mixed(1), 1).round_trip(0);
            theirs.await_again(daemon, &client);
            thread::sleep(Duration::from_millis(10));
        }
        // Nobody has hung up on them.
        victims.iter().for_each(|victim| victim.signal(Signal::SIGCONT));
        end_all(victims);
        longest
    };
    row_of_frames(&[], nothing, stop);
}

#[test]
fn clients_that_are_stopped_amid_a_message_are_hung_up_on() {
    let stop = |scene: &Scene<'_>| {
        let daemon = scene.daemon;
        let client = daemon.client();
        let before = Held::now(daemon, &client);
        let longest = work_of(&client, &oracle::big());
        let test = "clients::a_client_that_is_stopped_amid_a_message";
        let mut victims = processes(daemon, test, 2);
        victims.iter().for_each(|victim| victim.signal(Signal::SIGSTOP));
        before.await_again(daemon, &client);
        while scene.goes_on() {
            thread::sleep(Duration::from_millis(10));
        }
        for victim in &mut victims {
            victim.signal(Signal::SIGCONT);
            // It was told why.
            assert!(victim.wait().success());
        }
        longest
    };
    row_of_frames(&[], nothing, stop);
}
