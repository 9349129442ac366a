//! Where the daemon's threads run: its lanes on a core each, if it was given few, and all others on
//! any.

use std::fs;
use std::ops::RangeInclusive;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::oracle::workout;
use crate::support::{Daemon, bounded, until};

/// The cores that this thread, and what it starts, may use.
fn given() -> Vec<usize> {
    let given = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|&core| given.is_set(core).unwrap()).collect()
}

/// The daemon's threads by name, and the cores that each may use; see proc(5).
fn threads(daemon: &Daemon) -> Vec<(String, Vec<usize>)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.process.0.id())).unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    // One that ends meanwhile is none.
    let thread = paths.filter_map(|path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Some((name.trim().to_owned(), cores?.trim().split(',').flat_map(range).collect()))
    });
    thread.collect()
}

/// `3`, or `3-5`.
fn range(text: &str) -> RangeInclusive<usize> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    first.parse().unwrap()..=last.parse().unwrap()
}

#[test]
fn each_of_a_few_cores_has_a_lane_that_stays_there() {
    bounded(|| {
        let given = given();
        let daemon = Daemon::start(&["--devices", "cpu"]);
        let lanes = thread::available_parallelism().unwrap().get();
        // The control groups that this runs in may give it less time than cores.
        let is_bound = lanes == given.len() && lanes <= 4;
        let expected: Vec<_> = (0..lanes)
            .map(|lane| if is_bound { vec![given[lane]] } else { given.clone() })
            .collect();
        until("each lane is where it should be", || {
            let all = threads(&daemon).into_iter();
            let mut of_lanes: Vec<_> =
                all.filter(|(name, _)| name.starts_with("cpu-")).map(|(_, cores)| cores).collect();
            of_lanes.sort();
            of_lanes == expected
        });
        workout(&daemon.client(), 1, 2);
        // One that a lane has just started may not have got there yet.
        until("all others may run anywhere", || {
            let is_other = |(name, _): &(String, _)| !name.starts_with("cpu-");
            threads(&daemon).into_iter().filter(is_other).all(|(_, cores)| cores == given)
        });
    });
}
