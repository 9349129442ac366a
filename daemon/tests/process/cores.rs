//! Where lanes run: on a core each, of those that the daemon was given.

use std::fs;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::oracle::workout;
use crate::support::{Daemon, bounded, until};

/// The cores that this thread, and what it starts, may use.
fn cores() -> Vec<usize> {
    let given = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|&core| given.is_set(core).unwrap()).collect()
}

/// For each of the daemon's lanes of cores, the cores that it may use, as proc(5) writes them.
fn lanes(daemon: &Daemon) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.process.0.id())).unwrap();
    let of_lane = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap();
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        name.starts_with("cpu-").then(|| cores.unwrap().trim().to_owned())
    };
    let mut lanes: Vec<_> = tasks.filter_map(|task| of_lane(task.unwrap())).collect();
    lanes.sort_by_key(|cores| cores.parse::<usize>().ok());
    lanes
}

/// A daemon that this thread starts has a lane for each of the thread's cores, which stays there.
fn check() {
    let daemon = Daemon::start(&[]);
    let given: Vec<_> = cores().iter().map(usize::to_string).collect();
    // The control groups that this runs in may give it less time than cores.
    if thread::available_parallelism().unwrap().get() == given.len() {
        until("each lane is on a core of its own", || lanes(&daemon) == given);
    }
    workout(&daemon.client(), 1, 2);
}

#[test]
fn each_lane_has_a_core_of_those_that_the_daemon_was_given() {
    bounded(|| {
        check();
        let last = cores().pop().unwrap();
        let mut only = CpuSet::new();
        only.set(last).unwrap();
        sched_setaffinity(Pid::from_raw(0), &only).unwrap();
        assert_eq!(cores(), [last]);
        check();
    });
}
