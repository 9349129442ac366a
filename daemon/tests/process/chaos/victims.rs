//! Client processes that are killed or stopped with frames in flight, by nobody's fault of theirs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::length;
use super::neighbour::{Scene, nothing, row, row_of_frames, work_of};
use crate::clients::{self, IN_FLIGHT};
use crate::oracle::{self, Checked};
use crate::support::{Daemon, Process};

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
fn one_client_killed_mid_frame() {
    killed(1);
}

#[test]
fn many_clients_killed_mid_frame() {
    killed(length(8, 50));
}

#[test]
fn clients_that_are_stopped() {
    let stop = |scene: &Scene<'_>| {
        let daemon = scene.daemon;
        let longest = work_of(&daemon.client(), &oracle::big());
        let victims = victims(daemon, 2);
        while scene.goes_on() {
            victims.iter().for_each(|victim| victim.signal(Signal::SIGSTOP));
            // Others come and go meanwhile.
            for _ in 0..10 {
                Checked::open(&daemon.client(), oracle::mixed(1), 1).round_trip(0);
                thread::sleep(Duration::from_millis(10));
            }
            victims.iter().for_each(|victim| victim.signal(Signal::SIGCONT));
            thread::sleep(Duration::from_millis(20));
        }
        kill_all(victims);
        longest
    };
    row_of_frames(&[], nothing, stop);
}
