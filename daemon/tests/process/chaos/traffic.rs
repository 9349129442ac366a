//! Clients that say what no client says: bytes without meaning, and real traffic with some of it changed.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resized_client::StreamSpec;
use resized_protocol::VERSION;
use resized_protocol::message::{Cropped, Message, Reply, Request};
use resized_protocol::placement::Crop;

use super::length;
use super::neighbour::{Scene, nothing, row};
use crate::oracle;
use crate::support::Daemon;
use crate::wire::{Wire, bytes, hello};

/// What an honest client says, from the hello to the end.
fn real_traffic() -> Vec<u8> {
    let crop = Crop { left: 1.0, top: 1.0, width: 2.5, height: 2.25 };
    let mut said = vec![hello(VERSION)];
    for stream in 0..3 {
        let spec = StreamSpec { slots: 4, ..oracle::mixed(stream as usize * 5) };
        said.push(Request::Open { stream, spec, named: stream == 1 });
        said.push(Request::Submit { stream, slots: vec![0, 1, 2] });
        said.push(Request::SubmitCropped { stream, slots: vec![Cropped { slot: 3, crop }] });
        said.push(Request::Cancel { stream, slot: 1 });
        said.push(Request::Stats);
        said.push(Request::Clients { from: 0 });
        said.push(Request::Streams { client: 0, from: 0 });
    }
    said.push(Request::Close { stream: 1 });
    said.iter().flat_map(bytes).collect()
}

/// xorshift64* (Vigna 2016): the same every time, or it could not be found again.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

/// The traffic with some of it changed: bytes, numbers at their edges, parts left out or said twice.
fn mutated(traffic: &[u8], noise: &mut Noise) -> Vec<u8> {
    const EDGES: [u32; 8] = [0, 1, 255, 256, u32::MAX, i32::MAX as u32, 16 * 1024, 16 * 1024 + 1];
    let mut said = traffic.to_vec();
    for _ in 0..=noise.next(4) {
        let at = noise.next(said.len());
        match noise.next(6) {
            0 => said[at] = noise.next(256) as u8,
            1 => said[at] ^= 1 << noise.next(8),
            2 => {
                let at = at.min(said.len() - 4);
                let edge = EDGES[noise.next(EDGES.len())];
                said[at..at + 4].copy_from_slice(&edge.to_le_bytes());
            }
            3 => said.truncate(at.max(8)),
            4 => drop(said.drain(at..(at + noise.next(40)).min(said.len() - 8).max(at))),
            _ => {
                let part = said[at..(at + noise.next(200)).min(said.len())].to_vec();
                said.splice(at..at, part);
            }
        }
    }
    said
}

/// Clients that connect, say something and hang up, over and over, on as many threads.
struct Storm {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Storm {
    /// What they say is the traffic; or, if they are `mad`, bytes without meaning, or the traffic
    /// with some of it changed.
    fn begin(daemon: &Daemon, traffic: &[u8], mad: bool) -> Self {
        let over = Arc::<AtomicBool>::default();
        let begin = |seed| {
            let (socket, traffic, over) = (daemon.socket(), traffic.to_vec(), over.clone());
            thread::spawn(move || {
                let mut noise = Noise(seed);
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    let wire = Wire::connect(&socket);
                    let said = match noise.next(4) {
                        _ if !mad => traffic.clone(),
                        0 => (0..noise.next(5000)).map(|_| noise.next(256) as u8).collect(),
                        _ => mutated(&traffic, &mut noise),
                    };
                    // The daemon hangs up in the middle, as it should. Some read what it has to say.
                    let _ = (&wire.socket).write_all(&said);
                    let _ = wire.socket.shutdown(std::net::Shutdown::Write);
                    if noise.next(2) == 0 {
                        let _ = (&wire.socket).read_to_end(&mut Vec::new());
                    }
                    count += 1;
                }
                count
            })
        };
        let threads = [1, 2, 3].map(begin).into();
        Self { over, threads }
    }

    /// How many connections there were.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

#[test]
fn random_bytes_and_mutated_traffic_harm_nobody_else() {
    // The neighbour is timed beside as many that do the same and say what clients say.
    let sane = |scene: &Scene<'_>| {
        let sane = Storm::begin(scene.daemon, &real_traffic(), false);
        nothing(scene);
        assert!(sane.end() > 0);
    };
    let attack = |scene: &Scene<'_>| {
        let (daemon, traffic) = (scene.daemon, real_traffic());
        let mad = Storm::begin(daemon, &traffic, true);
        let begun = Instant::now();
        while begun.elapsed() < length(Duration::from_secs(2), Duration::from_secs(120)) {
            nothing(scene);
            thread::sleep(Duration::from_millis(100));
        }
        let mad = mad.end();
        println!("{mad} connections with bytes that no client says");
        assert!(mad > 0);
        // The traffic itself is what it says it is.
        let mut wire = Wire::connect(&daemon.socket());
        wire.raw(&traffic);
        let mut closed = false;
        while !closed {
            closed = matches!(wire.hear(), Message::Reply(Reply::Closed { stream: 1 }));
        }
    };
    row(&["--allow-named-segments"], sane, attack);
}
