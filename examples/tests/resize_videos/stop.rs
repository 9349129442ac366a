//! Runs that end before their time, whatever they wait for at that moment.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::MOVING;
use crate::bench::{Bench, frame_names, wait_for};
use crate::service::Service;

fn interrupt(program: &Child) {
    send(Signal::SIGINT, program);
}

fn send(signal: Signal, program: &Child) {
    kill(Pid::from_raw(program.id().cast_signed()), signal).unwrap();
}

/// How a program ended, which should be soon.
fn code(mut program: Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = program.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > Duration::from_secs(60) {
            program.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A pipe that half of a clip of 100 frames comes from, and then nothing more: its other end, once that
/// half is written. Frame 40 is the last that is sure to be whole.
fn stalled(bench: &Bench) -> thread::JoinHandle<File> {
    let clip = bench.clip("clip.ts", MOVING, "-frames:v 100 -c:v mpeg2video -g 1");
    let bytes = fs::read(clip).unwrap();
    let pipe = bench.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    thread::spawn(move || {
        let mut writer = File::options().write(true).open(pipe).unwrap();
        writer.write_all(&bytes[..bytes.len() / 2]).unwrap();
        writer
    })
}

#[test]
fn who_waits_for_a_pipe_heeds_a_signal() {
    let bench = Bench::new();
    let pipe = stalled(&bench);
    let mut command = bench.command(&[Path::new("pipe")]);
    command.args(["-n", "1", "--json", "figures.json", "--report", "report.html"]);
    let program = command.stdout(Stdio::null()).spawn().unwrap();
    let pipe = pipe.join().unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00040.jpg"));
    // Then it waits; where it does not yet, this is easier for it.
    thread::sleep(Duration::from_millis(300));
    interrupt(&program);
    assert_eq!(code(program), Some(130));
    drop(pipe);
    let figures = bench.figures();
    assert_eq!(figures["stopped"]["signal"], 2);
    let row = &figures["instances"][0];
    assert_eq!((&row["complete"], &row["error"]), (&false.into(), &Value::Null));
    let frames = row["frames"].as_u64().unwrap() as usize;
    assert!((40..=50).contains(&frames) && bench.names(1) == frame_names(frames), "{figures}");
    assert!(bench.path("report.html").exists());
}

#[test]
fn who_waits_for_a_pipe_heeds_that_others_fail() {
    let bench = Bench::new();
    let pipe = stalled(&bench);
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 4000 -c:v mpeg4");
    let mut command = bench.command(&[Path::new("pipe"), &clip]);
    command.args(["-m", "0", "-q", "--json", "figures.json"]);
    let program = command.spawn().unwrap();
    let pipe = pipe.join().unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00040.jpg"));
    wait_for(&bench.path("out/vid-instance2/Frame00003.jpg"));
    thread::sleep(Duration::from_millis(300));
    fs::rename(bench.path("out/vid-instance2"), bench.path("gone")).unwrap();
    assert_eq!(code(program), Some(1));
    drop(pipe);
    assert!(bench.figures()["stopped"]["error"].as_str().unwrap().contains("vid-instance2"));
    assert_eq!(bench.figures()["instances"][0]["error"], Value::Null);
}

/// Runs a program that `asks` somebody who never answers, and interrupts it then.
fn interrupted_before_anything_is_made<A>(
    bench: &Bench,
    mut command: Command,
    asks: impl FnOnce() -> A,
) {
    let said = File::create(bench.path("said")).unwrap();
    let program = command.args(["--json", "figures.json"]).stderr(said).spawn().unwrap();
    let asking = asks();
    interrupt(&program);
    assert_eq!(code(program), Some(130));
    drop(asking);
    assert_eq!(fs::read_to_string(bench.path("said")).unwrap(), "");
    assert!(!bench.path("out").exists());
    assert_eq!(bench.figures()["stopped"]["signal"], 2);
}

#[test]
fn who_waits_for_an_address_heeds_a_signal_before_anything_is_made() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let video = format!("http://{}/clip.mkv", silent.local_addr().unwrap());
    let command = bench.command(&[Path::new(&video)]);
    interrupted_before_anything_is_made(&bench, command, || silent.accept().unwrap());
}

#[test]
fn who_waits_for_a_daemon_heeds_a_signal_before_anything_is_made() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let silent = UnixListener::bind(bench.path("silent.sock")).unwrap();
    let mut command = bench.command(&[&clip]);
    command.args(["--connect", "unix:silent.sock"]);
    interrupted_before_anything_is_made(&bench, command, || silent.accept().unwrap());
}

#[test]
fn who_waits_for_frames_heeds_a_signal() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2000 -c:v libx264 -preset ultrafast");
    let service = Service::start();
    let mut command = bench.command(&[&clip]);
    command.args(["-n", "1", "-q", "--json", "figures.json", "--report", "report.html"]);
    let program = command.args(["--connect", &service.endpoint()]).spawn().unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    drop(service);
    // Time to submit to nobody what there are slots for; less does not matter.
    thread::sleep(Duration::from_millis(500));
    interrupt(&program);
    assert_eq!(code(program), Some(130));
    let figures = bench.figures();
    assert_eq!(figures["stopped"]["signal"], 2);
    assert_eq!(figures["instances"][0]["frames"], bench.names(1).len());
}

#[test]
fn who_has_read_all_of_a_video_and_lost_frames_of_it_is_not_done() {
    let bench = Bench::new();
    let clip = bench.clip("clip.ts", MOVING, "-frames:v 100 -c:v mpeg2video -g 1");
    let bytes = fs::read(clip).unwrap();
    // What is left has room in the slots.
    let (most, rest) = bytes.split_at(bytes.len() * 98 / 100);
    let pipe = bench.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let service = Service::start();
    let mut command = bench.command(&[Path::new("pipe")]);
    command.args(["-n", "1", "-q", "--json", "figures.json"]);
    let program = command.args(["--connect", &service.endpoint()]).spawn().unwrap();
    let mut writer = File::options().write(true).open(pipe).unwrap();
    writer.write_all(most).unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00095.jpg"));
    drop(service);
    writer.write_all(rest).unwrap();
    drop(writer);
    // Time to submit the rest to nobody; where that is not done yet, this is easier for it.
    thread::sleep(Duration::from_millis(500));
    interrupt(&program);
    assert_eq!(code(program), Some(130));
    let row = &bench.figures()["instances"][0];
    assert_eq!((&row["complete"], &row["error"]), (&false.into(), &Value::Null));
    assert!(row["frames"].as_u64().unwrap() < 100, "{row}");
}

#[test]
fn an_interrupt_stops_all_instances_and_leaves_whole_pictures_only() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 1000 -c:v mpeg4");
    // The second instance waits for its turn when the signal comes.
    let program = bench
        .command(&[&clip])
        .args(["-n", "2", "-m", "1000", "-s", "2400x1800"])
        .args(["--report", "report.html", "--json", "figures.json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
    interrupt(&program);
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let names = bench.names(1);
    assert!((3..1000).contains(&names.len()), "{}", names.len());
    assert_eq!(names, frame_names(names.len()));
    assert_eq!(bench.names(2), frame_names(0));
    for number in 1..=names.len() {
        assert_eq!(bench.picture(1, number).width, 2400);
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("stopped: {} frames", names.len())), "{text}");
    let report = fs::read_to_string(bench.path("report.html")).unwrap();
    assert!(report.contains("Stopped by a signal before its end."), "{report}");
    assert!(report.contains(&format!("<b>{}</b><span>frames in ", names.len())), "{report}");
    assert!(text.contains("p99 ms") && text.contains("clip.mkv: stopped"), "{text}");
    let figures = bench.figures();
    assert_eq!(figures["stopped"]["signal"], 2);
    // The second had not begun.
    assert_eq!(figures["instances"].as_array().unwrap().len(), 1);
    let row = &figures["instances"][0];
    assert_eq!((&row["complete"], &row["error"]), (&false.into(), &Value::Null));
    assert_eq!(row["frames"], names.len());
}

#[test]
fn a_hangup_ends_a_run_in_good_order_unless_it_is_to_be_ignored() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 1000 -c:v mpeg4");
    let program = bench.command(&[&clip]);
    for (first, code_then) in [("true", 129), ("trap '' HUP", 0)] {
        // Whoever runs the tests may have it ignored.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", "sh", "-c", &format!(r#"{first}; exec "$@""#), "sh"]);
        command.arg(program.get_program());
        command.args(program.get_args()).args(["-n", "1", "-q", "--json", "figures.json"]);
        command.env("XDG_RUNTIME_DIR", bench.path("")).env_remove("RESIZED_ENDPOINT");
        let run = command.current_dir(bench.path("")).spawn().unwrap();
        wait_for(&bench.path("out/vid-instance1/Frame00003.jpg"));
        send(Signal::SIGHUP, &run);
        assert_eq!(code(run), Some(code_then));
        assert_eq!(bench.figures()["stopped"]["signal"].as_u64().is_some(), code_then != 0);
        fs::remove_dir_all(bench.path("out")).unwrap();
    }
}
