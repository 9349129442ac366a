//! As many frames a second for a crowd of client processes as for two, and as many for each of them.
//!
//! Two clients' rings may fit into caches where a crowd's don't, whoever resizes them: so the crowd
//! stands beside a few clients with as much memory too.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::Client;
use resized_protocol::message::MAX_SLOTS;

use crate::clients::{Flood, IN_FLIGHT};
use crate::daemon::Daemon;
use crate::median;

const CROWD: usize = 256;
const TWO: usize = 2;

/// Clients with as many slots as the crowd has.
const WIDE: usize = CROWD * IN_FLIGHT as usize / MAX_SLOTS as usize;

/// Frames that each has, of the crowd, at the least while they are counted: a few more or less say
/// little then.
const COUNTED: usize = 60;

const TURNS: usize = 5;
const LOOK: Duration = Duration::from_secs(1);

/// Two of the crowd, a few who have as much memory, and all of the crowd, in turns: the others are
/// stopped.
pub(crate) fn crowd(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let watcher = daemon.connect();
    let start = |work| Flood::start(&daemon.endpoint, work);
    let crowd: Vec<_> = (0..CROWD).map(|_| start("film")).collect();
    let wide: Vec<_> = (0..WIDE).map(|_| start("wide")).collect();
    while frames(&watcher).iter().filter(|&&frames| frames > 0).count() < CROWD + WIDE {
        thread::sleep(LOOK);
    }
    let stop = |floods: &[Flood]| floods.iter().for_each(|flood| flood.signal(Signal::SIGSTOP));
    let go_on = |floods: &[Flood]| floods.iter().for_each(|flood| flood.signal(Signal::SIGCONT));
    let count = |floods: &[Flood]| {
        go_on(floods);
        let counted = count(&watcher, floods.len());
        stop(floods);
        counted
    };
    stop(&crowd);
    stop(&wide);
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let two = per_second(&count(&crowd[..TWO]));
        let few = per_second(&count(&wide));
        let many = count(&crowd);
        turns.push((per_second(&many), two, few, jain(&many)));
    }
    // None is left in the middle of a frame.
    go_on(&crowd);
    go_on(&wide);
    let many = median(turns.iter().map(|turn| turn.0));
    let [beside_two, beside_few] = [
        median(turns.iter().map(|turn| turn.0 / turn.1)),
        median(turns.iter().map(|turn| turn.0 / turn.2)),
    ];
    let jain = median(turns.iter().map(|turn| turn.3));
    let worst = turns.iter().map(|turn| turn.3).fold(1.0, f64::min);
    println!(
        "{CROWD} client processes: {many:.0} frames/s, {:.1} % of what {TWO} of them have (goal 95 %), {:.1} % of {WIDE} with \
         as much memory; Jain's index {jain:.4}, the worst of {TURNS} turns {worst:.4} (goal 0.99)",
        beside_two * 100.0,
        beside_few * 100.0
    );
    format!(
        r#"{{"figure":"crowd","many_fps":{many:.1},"beside_two":{beside_two:.4},"beside_as_much_memory":{beside_few:.4},"jain":{jain:.5},"worst_jain":{worst:.5}}}"#
    )
}

/// How long it took, and the frames meanwhile of each of so many clients: of those that are not
/// stopped.
fn count(watcher: &Client, going: usize) -> (Duration, Vec<f64>) {
    // Those who were stopped have frames in flight for a while, and those who go on have not.
    while look(watcher, frames(watcher)).len() != going {}
    let (begun, before) = (Instant::now(), frames(watcher));
    loop {
        let each = look(watcher, before.clone());
        if begun.elapsed() >= 4 * LOOK && each.iter().sum::<f64>() >= (COUNTED * going) as f64 {
            return (begun.elapsed(), each);
        }
    }
}

/// After a while: frames of each client that had any since `before`.
fn look(watcher: &Client, before: Vec<u64>) -> Vec<f64> {
    thread::sleep(LOOK);
    let each = before.iter().zip(frames(watcher)).map(|(before, after)| (after - before) as f64);
    each.filter(|&frames| frames > 0.0).collect()
}

/// Frames of each client so far.
fn frames(watcher: &Client) -> Vec<u64> {
    watcher.clients().unwrap().iter().map(|client| client.frames).collect()
}

fn per_second((length, frames): &(Duration, Vec<f64>)) -> f64 {
    frames.iter().sum::<f64>() / length.as_secs_f64()
}

/// (sum x)^2 / (n sum x^2), Jain, Chiu and Hawe 1984.
fn jain((_, frames): &(Duration, Vec<f64>)) -> f64 {
    let (sum, squares) =
        frames.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    sum * sum / (frames.len() as f64 * squares)
}
