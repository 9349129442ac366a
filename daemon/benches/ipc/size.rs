//! What clients and streams cost beside the memory of their rings.

use std::path::Path;
use std::time::{Duration, Instant};

use resized_client::{Client, Stream};
use resized_protocol::shm::{Region, RingLayout};

use crate::daemon::Daemon;
use crate::{TURNS, film, median, thumbnail};

const IDLE: usize = 200;

/// Memory of the daemon for a client that has a stream, did something once, and is quiet.
pub(crate) fn idle(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let client = || {
        let client = daemon.connect();
        let stream = client.open(&thumbnail()).unwrap();
        one_by_one(&stream, 1);
        (client, stream)
    };
    // What the daemon needs for any at all.
    let _first: Vec<(Client, Stream)> = (0..20).map(|_| client()).collect();
    let before = daemon.size().0;
    let _clients: Vec<_> = (0..IDLE).map(|_| client()).collect();
    let each = (daemon.size().0 - before) as f64 / IDLE as f64;
    println!("an idle client with a stream: {each:.1} KiB of the daemon's memory (goal 64)");
    format!(r#"{{"figure":"idle client","kib":{each:.2}}}"#)
}

/// Opening a stream and closing it, beside what it takes to make as much memory of ordinary pages
/// and throw that away; and what its own takes, whose pages are huge.
pub(crate) fn opening(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let client = daemon.connect();
    let spec = film(4);
    let ring = RingLayout::new(&spec).unwrap();
    let time = |open: &dyn Fn()| {
        let times = (0..50).map(|_| {
            let begun = Instant::now();
            open();
            begun.elapsed()
        });
        median(times.map(|time: Duration| time.as_secs_f64() * 1e6))
    };
    let turns: Vec<_> = (0..TURNS)
        .map(|_| {
            let bare = time(&|| drop(Region::create_named(ring.len()).unwrap()));
            let huge = time(&|| drop(Region::create(ring.len()).unwrap()));
            (bare, huge, time(&|| drop(client.open(&spec).unwrap())))
        })
        .collect();
    let bare = median(turns.iter().map(|turn| turn.0));
    let huge = median(turns.iter().map(|turn| turn.1));
    let ours = median(turns.iter().map(|turn| turn.2));
    let ratio = median(turns.iter().map(|(bare, _, ours)| ours / bare));
    println!(
        "opening a stream of {} MiB: {ours:.0} us, ordinary pages alone {bare:.0} us: {ratio:.2}x (goal 1.5x); its own \
         huge ones {huge:.0} us",
        ring.len().get() >> 20
    );
    format!(
        r#"{{"figure":"opening","ours_us":{ours:.1},"bare_us":{bare:.1},"huge_us":{huge:.1},"ratio":{ratio:.3}}}"#
    )
}

fn one_by_one(stream: &Stream, frames: usize) {
    (0..frames).for_each(|_| drop(stream.loan().unwrap().submit().unwrap().wait().unwrap()));
}

/// Memory and descriptors of the daemon over many frames and many streams.
pub(crate) fn flat(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let small = thumbnail();
    let client = daemon.connect();
    // With what is held, and the bytes of rings: those are not the daemon's own memory.
    let size = || (daemon.size(), client.stats().unwrap().ring_bytes);
    let stream = client.open(&small).unwrap();
    one_by_one(&stream, 1_000);
    let before = size();
    one_by_one(&stream, 10_000);
    let frames = report("10,000 frames", before, size());
    drop(stream);
    // First as many as it takes until the allocator of every thread has its arena.
    (0..500).for_each(|_| one_by_one(&client.open(&small).unwrap(), 1));
    let before = size();
    (0..200).for_each(|_| one_by_one(&client.open(&small).unwrap(), 1));
    let streams = report("200 streams opened and closed", before, size());
    format!("{frames},\n {streams}")
}

fn report(what: &str, before: ((u64, usize), u64), after: ((u64, usize), u64)) -> String {
    let (((resident, descriptors), rings), ((resident_after, descriptors_after), rings_after)) =
        (before, after);
    println!(
        "{what}: resident {resident} -> {resident_after} KiB, descriptors {descriptors} -> \
         {descriptors_after}, rings {rings} -> {rings_after} bytes"
    );
    format!(
        r#"{{"figure":"{what}","resident_kib":[{resident},{resident_after}],"descriptors":[{descriptors},{descriptors_after}],"ring_bytes":[{rings},{rings_after}]}}"#
    )
}
