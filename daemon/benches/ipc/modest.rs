//! One frame at a time beside clients that flood the daemon.

use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use resized::device::cpu::Cpu;
use resized::device::{Band, Device, Scratch};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};

use crate::clients::Flood;
use crate::daemon::Daemon;
use crate::{TURNS, film, median, percentiles};

const FLOODS: usize = 8;

/// One frame at a time beside clients that flood the daemon, and without them: they are stopped.
pub(crate) fn modest(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let floods: Vec<_> = (0..FLOODS).map(|_| Flood::start(&daemon.endpoint, "film")).collect();
    let client = daemon.connect();
    let stream = client.open(&film(1)).unwrap();
    let signal = |signal| {
        floods.iter().for_each(|flood| flood.signal(signal));
        thread::sleep(Duration::from_millis(50));
    };
    while client.stats().unwrap().streams < FLOODS as u32 + 1 {
        thread::sleep(Duration::from_millis(5));
    }
    let cpu = Cpu::new(1);
    let spec = film(1);
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _descriptor) = Region::create(ring.len()).unwrap();
    let resizer = cpu.open(&spec, &ring).unwrap();
    let mut scratch = Scratch::default();
    let mut work = || {
        let slot = SlotMemory::new(&region, &ring, 0).unwrap();
        resizer.resize(slot, Band::WHOLE, &mut scratch).unwrap();
    };
    let round = || drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        signal(Signal::SIGSTOP);
        let (work, alone) = (percentiles(500, &mut work), percentiles(500, round));
        signal(Signal::SIGCONT);
        let beside = percentiles(500, round);
        turns.push((work, alone, beside));
    }
    // Of three times alone and one frame's work.
    let p50 = median(turns.iter().map(|(work, alone, beside)| beside.0 / (3.0 * alone.0 + work.0)));
    let p99 = median(turns.iter().map(|(work, alone, beside)| beside.1 / (3.0 * alone.1 + work.0)));
    let work = median(turns.iter().map(|turn| turn.0.0));
    let alone = median(turns.iter().map(|turn| turn.1.0));
    let beside = median(turns.iter().map(|turn| turn.2.0));
    println!(
        "one 1080p frame at a time beside {FLOODS} flooding clients: p50 {beside:.0} us, alone {alone:.0} us, \
         one frame's work {work:.0} us: {p50:.2} of three times alone and one frame (goal 1.0), p99 {p99:.2}"
    );
    format!(
        r#"{{"figure":"modest","beside_us":{beside:.1},"alone_us":{alone:.1},"work_us":{work:.1},"p50_of_bound":{p50:.3},"p99_of_bound":{p99:.3}}}"#
    )
}
