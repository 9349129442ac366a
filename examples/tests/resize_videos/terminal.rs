//! What is shown on a terminal, and what becomes of a run whose terminal goes away.

use std::fs::File;
use std::process::{Child, Command};

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use serde_json::Value;

use crate::MOVING;
use crate::bench::{Bench, frame_names, wait_for};

/// Runs a program on a terminal of this kind. Only this process has the end where it is looked at.
fn on_a_terminal(mut command: Command, kind: &str) -> (Child, PtyMaster) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let screen = posix_openpt(flags).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let terminal =
        File::options().read(true).write(true).open(ptsname_r(&screen).unwrap()).unwrap();
    let program = command.env("TERM", kind).stdout(terminal).spawn().unwrap();
    (program, screen)
}

#[test]
fn a_terminal_that_goes_away_stops_no_run() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 200 -c:v mpeg4");
    let mut command = bench.command(&[&clip]);
    command.args(["-n", "2", "-m", "0", "--json", "figures.json", "--report", "report.html"]);
    let (mut program, screen) = on_a_terminal(command, "xterm");
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    drop(screen);
    assert!(program.wait().unwrap().success());
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(200), frame_names(200)]);
    assert_eq!(bench.figures()["stopped"], Value::Null);
    assert!(bench.path("report.html").exists());
}
