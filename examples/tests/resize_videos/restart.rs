//! A daemon that goes and comes back while videos are decoded into its slots.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resized::{Devices, Listener, Options, Peers, Server};

use crate::bench::{Bench, frame_names, wait_for};

fn daemon(socket: &Path) -> Server {
    on(socket, Devices::Cpu)
}

fn on(socket: &Path, devices: Devices) -> Server {
    let listener = Listener::bind(socket, Peers::Owner).unwrap();
    Server::at(listener, Options { devices, ..Options::default() }).unwrap()
}

#[test]
fn a_daemon_that_comes_back_costs_no_picture() {
    let (bench, disturbed) = (Bench::new(), Bench::new());
    let options = "-frames:v 120 -c:v libx264 -preset veryfast -bf 3 -refs 8 -pix_fmt yuv420p";
    let clip = bench.clip("clip.mkv", "testsrc2=size=322x242", options);
    let run = |bench: &Bench| {
        let mut command = bench.bounded(&[&clip]);
        command.args(["-n", "2", "-m", "0", "-s", "480x360", "-q"]);
        command
    };
    assert!(run(&bench).status().unwrap().success());

    let socket = disturbed.path("resized.sock");
    let mut server = daemon(&socket);
    let endpoint = format!("unix:{}", socket.display());
    let mut program = run(&disturbed).args(["--connect", &endpoint]).spawn().unwrap();
    for number in [10, 40, 70] {
        let picture = disturbed.path(&format!("out/vid-instance1/Frame{number:05}.jpg"));
        let begun = Instant::now();
        while !picture.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{number}");
            assert!(program.try_wait().unwrap().is_none_or(|status| status.success()), "{number}");
            thread::sleep(Duration::from_millis(2));
        }
        server.stop().unwrap();
        server = daemon(&socket);
    }
    assert!(program.wait().unwrap().success());
    server.stop().unwrap();
    for instance in [1, 2] {
        assert_eq!(disturbed.names(instance), frame_names(120));
        for name in frame_names(120) {
            let [calm, shaken] = [&bench, &disturbed].map(|bench| {
                fs::read(bench.path(&format!("out/vid-instance{instance}/{name}"))).unwrap()
            });
            assert!(calm == shaken, "{name} of instance {instance}");
        }
    }
}

/// A program whose first instance has ended and whose second has begun, and found no daemon at the socket.
fn left_alone(bench: &Bench, socket: &Path) -> Child {
    let clip = bench.clip("clip.mkv", "testsrc2=size=64x48", "-frames:v 3 -c:v mpeg4");
    let server = daemon(socket);
    let mut command = bench.bounded(&[&clip]);
    command.args(["-n", "2", "-m", "1", "-s", "32x24", "-q"]);
    command.arg("--connect").arg(format!("unix:{}", socket.display()));
    let begun = Instant::now();
    let mut program = command.spawn().unwrap();
    while !bench.path("out/vid-instance1/Frame00003.jpg").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(2));
    }
    server.stop().unwrap();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert!(program.try_wait().unwrap().is_none_or(|status| status.success()));
        thread::sleep(Duration::from_millis(2));
    }
    program
}

#[test]
fn a_daemon_that_is_away_when_an_instance_starts_is_waited_for() {
    let bench = Bench::new();
    let socket = bench.path("resized.sock");
    let mut program = left_alone(&bench, &socket);
    let server = daemon(&socket);
    assert!(program.wait().unwrap().success());
    server.stop().unwrap();
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(3), frame_names(3)]);
}

#[test]
fn who_waits_for_a_daemon_heeds_a_signal() {
    let bench = Bench::new();
    let mut program = left_alone(&bench, &bench.path("resized.sock"));
    kill(Pid::from_raw(program.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(130));
}

#[test]
fn frames_are_counted_for_who_resized_them_whatever_came_after() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", "testsrc2=size=64x48", "-frames:v 2000 -c:v mpeg4");
    let socket = bench.path("resized.sock");
    let first = daemon(&socket);
    let mut command = bench.bounded(&[&clip]);
    command.args(["-n", "1", "-s", "32x24", "-q", "--json", "figures.json"]);
    command.arg("--connect").arg(format!("unix:{}", socket.display()));
    let mut program = command.spawn().unwrap();
    wait_for(&bench.path("out/vid-instance1/Frame00010.jpg"));
    first.stop().unwrap();
    let second = on(&socket, Devices::Null);
    assert!(program.wait().unwrap().success());
    second.stop().unwrap();
    let figures = bench.figures();
    let devices = figures["instances"][0]["devices"].as_object().unwrap();
    let frames = |name: &str| devices[name].as_u64().unwrap();
    assert!(frames("cpu") >= 10 && frames("null") > 0, "{figures}");
    assert_eq!((devices.len(), frames("cpu") + frames("null")), (2, 2000));
}
