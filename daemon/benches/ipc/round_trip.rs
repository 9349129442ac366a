//! One frame at a time through a daemon that does nothing with it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::daemon::Daemon;
use crate::{TURNS, film, median, percentiles};

const ROUNDS: usize = 4_000;
/// Bytes between those of a submit of one slot, 28, and those of its completion, 42.
const MESSAGE: usize = 35;

/// Where the two ends of a round trip run. A scheduler that finds them on one core leaves them
/// there, and one that finds them on two leaves them too: what a wake-up costs differs much, so
/// each end of the yardstick is placed as ours is.
#[derive(Clone, Copy)]
pub(crate) enum Placement {
    OneCore,
    TwoCores,
}

/// Runs `spawn` so that the process it starts stays on that core, and this thread on core 0.
fn placed(placement: Placement, spawn: impl FnOnce() -> Child) -> Child {
    let core = |core| {
        let mut set = CpuSet::new();
        set.set(core).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    };
    core(match placement {
        Placement::OneCore => 0,
        Placement::TwoCores => 1,
    });
    let child = spawn();
    core(0);
    child
}

/// One frame at a time through a daemon that does nothing with it, beside bare messages of about the
/// same size between two processes.
pub(crate) fn round_trip(placement: Placement, dir: &Path) -> String {
    let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let daemon =
        Daemon::start_by(dir, "null", |command| placed(placement, || command.spawn().unwrap()));
    let stream = daemon.connect().open(&film(1)).unwrap();
    let path = dir.join("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut echo = Command::new(std::env::current_exe().unwrap());
    let mut peer = placed(placement, || echo.arg("echo").arg(&path).spawn().unwrap());
    let mut socket = listener.accept().unwrap().0;

    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let bare = percentiles(ROUNDS, || {
            let mut message = [0; MESSAGE];
            socket.write_all(&message).unwrap();
            socket.read_exact(&mut message).unwrap();
        });
        let round = || drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        let ours = percentiles(ROUNDS, round);
        turns.push((bare, ours));
    }
    drop(socket);
    peer.wait().unwrap();
    std::fs::remove_file(&path).unwrap();
    sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
    let bare = median(turns.iter().map(|turn| turn.0.0));
    let ours = median(turns.iter().map(|turn| turn.1.0));
    let p50 = median(turns.iter().map(|(bare, ours)| ours.0 / bare.0));
    let p99 = median(turns.iter().map(|(bare, ours)| ours.1 / bare.1));
    let place = match placement {
        Placement::OneCore => "on one core",
        Placement::TwoCores => "on two cores",
    };
    println!(
        "one frame at a time, null device, {place}: p50 {ours:.1} us, bare ping-pong {bare:.1} us: \
         {p50:.2}x (goal 1.5x), p99 {p99:.2}x (goal 3x)"
    );
    format!(
        r#"{{"figure":"round trip {place}","ours_us":{ours:.2},"bare_us":{bare:.2},"p50_ratio":{p50:.3},"p99_ratio":{p99:.3}}}"#
    )
}

/// Sends back whatever comes, until the other end is gone.
pub(crate) fn echo(path: &Path) {
    let mut socket = UnixStream::connect(path).unwrap();
    let mut message = [0; MESSAGE];
    while socket.read_exact(&mut message).is_ok() {
        socket.write_all(&message).unwrap();
    }
}
