//! Frames a second of several clients: with work, beside the same kernels in this process; and without.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use resized::device::cpu::Cpu;
use resized::device::{Band, Device, Resizer, Scratch};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};

use crate::clients::{IN_FLIGHT, Process, Work};
use crate::daemon::Daemon;
use crate::{TURNS, film, median};

const CLIENTS: usize = 4;
const TAX_TURNS: usize = 100;

/// As many as can be in flight, on a device that does nothing: how many messages a second.
pub(crate) fn messages(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "null");
    let frames = Work::of("messages").frames;
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| Process::start(&daemon.endpoint, "messages")).collect();
    let fps = median((0..TURNS).map(|_| per_second(frames, || turn(&mut clients))));
    println!(
        "many in flight, null device, {CLIENTS} clients: {fps:.0} frames/s (goal 300,000 on two cores)"
    );
    format!(r#"{{"figure":"messages","ours_fps":{fps:.0}}}"#)
}

fn turn(clients: &mut [Process]) {
    clients.iter_mut().for_each(Process::go);
    clients.iter_mut().for_each(Process::await_answer);
}

/// Frames a second of the kernels on all cores, in this process and through the daemon. What else
/// goes on in the machine changes both from one moment to the next: many short turns.
pub(crate) fn tax(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let cores = thread::available_parallelism().unwrap().get();
    let spec = film(IN_FLIGHT * CLIENTS as u32);
    let frames = Work::of("film").frames;
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _descriptor) = Region::create(ring.len()).unwrap();
    let resizer = Cpu::new(cores).open(&spec, &ring).unwrap();
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| Process::start(&daemon.endpoint, "film")).collect();
    let mut turns = Vec::new();
    for turn in 0..TAX_TURNS {
        let bare = per_second(frames, || in_process(cores, &region, &ring, &*resizer, frames));
        let ours = per_second(frames, || self::turn(&mut clients));
        // The first brings pages and caches.
        if turn > 0 {
            turns.push((bare, ours));
        }
    }
    let [bare, ours] =
        [median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1))];
    let ratio = median(turns.iter().map(|(bare, ours)| ours / bare));
    println!(
        "1080p -> 640x360 I420 bicubic, {CLIENTS} clients: {ours:.0} frames/s, in process {bare:.0}: {:.1} % (goal 97 %)",
        ratio * 100.0
    );
    format!(
        r#"{{"figure":"tax","ours_fps":{ours:.1},"in_process_fps":{bare:.1},"ratio":{ratio:.4}}}"#
    )
}

/// Of the frames of one turn.
fn per_second(frames: usize, turn: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    turn();
    (frames * CLIENTS) as f64 / begun.elapsed().as_secs_f64()
}

fn in_process(
    cores: usize,
    region: &Region,
    ring: &RingLayout,
    resizer: &dyn Resizer,
    frames: usize,
) {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                loop {
                    let frame = next.fetch_add(1, Ordering::Relaxed);
                    if frame as usize >= frames * CLIENTS {
                        break;
                    }
                    let slot = SlotMemory::new(region, ring, frame % ring.slots()).unwrap();
                    resizer.resize(slot, Band::WHOLE, &mut scratch).unwrap();
                }
            });
        }
    });
}
