//! Clients that connect without end, say half of what they have to, or do not hear what they asked for.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use resized_protocol::VERSION;
use resized_protocol::message::Request;

use super::length;
use super::neighbour::{Scene, nothing, row};
use crate::oracle;
use crate::wire::{Wire, bytes, hello};

#[test]
fn a_thousand_connections_a_second_cost_a_neighbour_nothing() {
    let storm = |scene: &Scene<'_>| {
        let begun = Instant::now();
        let mut connected = 0_u32;
        while scene.goes_on() {
            let socket = UnixStream::connect(scene.daemon.socket()).unwrap();
            // Every third says something, and hangs up before it is answered.
            if connected.is_multiple_of(3) {
                let _ = (&socket).write_all(&bytes(&hello(VERSION)));
            }
            drop(socket);
            connected += 1;
            let due = begun + Duration::from_millis(1) * connected;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let rate = f64::from(connected) / begun.elapsed().as_secs_f64();
        println!("{rate:.0} connections a second");
        assert!(rate >= length(0.0, 900.0), "{rate}");
    };
    row(&[], nothing, storm);
}

#[test]
fn half_open_handshakes_cost_a_neighbour_nothing() {
    let hold = |scene: &Scene<'_>| {
        let said = bytes(&hello(VERSION));
        let half = |n: usize| {
            let mut wire = Wire::connect(&scene.daemon.socket());
            wire.raw(&said[..n % said.len()]);
            wire
        };
        while scene.goes_on() {
            let mut held: Vec<_> = (0..200).map(half).collect();
            // All of them are hung up on, in time.
            held.iter_mut().for_each(|wire| while wire.hear_or_end().unwrap().is_some() {});
        }
    };
    row(&[], nothing, hold);
}

/// One that asks for as much as goes into the socket, and reads nothing.
fn unread(socket: &Path) -> Wire {
    let wire = Wire::welcomed(socket);
    wire.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    // Streams whose descriptors nobody takes, then questions without end.
    for stream in 0..400 {
        let open = Request::Open { stream, spec: oracle::dot(), named: false };
        if (&wire.socket).write_all(&bytes(&open)).is_err() {
            break;
        }
    }
    let asking = bytes(&Request::Stats).repeat(1000);
    while (&wire.socket).write_all(&asking).is_ok() {}
    wire
}

#[test]
fn those_who_never_read_cost_a_neighbour_nothing() {
    let flood = |scene: &Scene<'_>| {
        while scene.goes_on() {
            let mut wires = Vec::new();
            for _ in 0..length(4, 16) {
                wires.push(unread(&scene.daemon.socket()));
            }
            // Beside one of each ring that there is.
            let (rings, held) = (scene.daemon.mapped_rings(), scene.daemon.descriptors());
            let most = 200 + 2 * wires.len() + rings;
            assert!(held < most, "{held} descriptors, {rings} rings");
        }
    };
    row(&[], nothing, flood);
}
