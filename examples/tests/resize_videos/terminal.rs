//! What is shown on a terminal, and what becomes of a run whose terminal goes away.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::MOVING;
use crate::bench::{Bench, frame_names, wait_for};
use crate::service::Service;

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
    let mut command = bench.bounded(&[&clip]);
    command.args(["-n", "2", "-m", "0", "--json", "figures.json", "--report", "report.html"]);
    let (mut program, screen) = on_a_terminal(command, "xterm");
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    drop(screen);
    assert!(program.wait().unwrap().success());
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(200), frame_names(200)]);
    assert_eq!(bench.figures()["stopped"], Value::Null);
    assert!(bench.path("report.html").exists());
}

/// What is shown until these words are there, or else until the last who has the terminal has closed it:
/// then reading it is an error.
fn shown_until(words: &str, screen: &mut PtyMaster) -> String {
    let (mut said, mut more) = (Vec::new(), [0; 4096]);
    let is_there = |said: &[u8]| said.windows(words.len()).any(|part| part == words.as_bytes());
    while !is_there(&said)
        && let Ok(len @ 1..) = screen.read(&mut more)
    {
        said.extend_from_slice(&more[..len]);
    }
    // What is half there is none of the words.
    String::from_utf8_lossy(&said).into_owned()
}

/// All that is still to be shown.
fn shown(mut screen: PtyMaster) -> String {
    let (mut said, mut more) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = screen.read(&mut more) {
        said.extend_from_slice(&more[..len]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

const LOST: &str = "lost the daemon, looking for it";

#[test]
fn bars_say_that_the_daemon_is_lost_and_that_a_signal_came() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2000 -c:v libx264 -preset ultrafast");
    let service = Service::start();
    let mut command = bench.bounded(&[&clip]);
    command.args(["-n", "1", "--connect", &service.endpoint()]);
    let (mut program, mut screen) = on_a_terminal(command, "xterm");
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    drop(service);
    let before = shown_until(LOST, &mut screen);
    assert!(before.contains(LOST), "{before}");
    kill(Pid::from_raw(program.id().cast_signed()), Signal::SIGINT).unwrap();
    let after = shown(screen);
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert!(after.contains("ending; Ctrl-C again ends at once"), "{before}{after}");
}

#[test]
fn a_dumb_terminal_has_lines_that_say_how_far_it_is() {
    let bench = Bench::new();
    let clip = bench.clip("clip.ts", MOVING, "-frames:v 100 -c:v mpeg2video -g 1");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = bench.bounded(&[Path::new("/dev/stdin")]);
    command.args(["-n", "1"]).stdin(reader);
    let (mut program, screen) = on_a_terminal(command, "dumb");
    let bytes = fs::read(clip).unwrap();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    writer.write_all(first).unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    // A frame that comes two seconds after the instance has begun is told of.
    thread::sleep(Duration::from_millis(2100));
    writer.write_all(rest).unwrap();
    drop(writer);
    let said = shown(screen);
    assert!(program.wait().unwrap().success());
    let (before, _) = said.split_once("stdin: done: 100 frames").expect(&said);
    assert!(before.contains(" fps"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}
