//! Programs in C, under valgrind, with daemons that serve, go away and come back.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use resized_client::{Client, Endpoint, Extent, Filter, FrameSpec, PixelFormat, StreamSpec};

use crate::service::{Service, endpoint, socket};
use crate::toolbox::{Leaks, Linked, Toolbox, assert_good, good, watched};

/// A picture as a PPM, with a comment in its head, and its pixels.
fn picture(extent: Extent) -> (Vec<u8>, Vec<u8>) {
    let bytes = extent.pixels() * 3;
    let pixels: Vec<_> = (0..bytes).map(|at| (at * 7 + at / 97 + at * at / 5000) as u8).collect();
    let head = format!("P6 # {extent}\n{} {}\n255\n", extent.width, extent.height);
    ([head.as_bytes(), &pixels].concat(), pixels)
}

/// The same by the Rust client.
fn resized(socket: &Path, from: Extent, to: Extent, pixels: &[u8]) -> Vec<u8> {
    let client = Client::connect(&Endpoint::Unix(socket.to_owned())).unwrap();
    let source = FrameSpec::new(PixelFormat::Rgb24, from);
    let spec = StreamSpec { filter: Filter::Lanczos3, ..StreamSpec::new(source, to) };
    let mut slot = client.open(&spec).unwrap().loan().unwrap();
    slot.write_packed(pixels).unwrap();
    slot.submit().unwrap().wait().unwrap().to_packed()
}

#[test]
fn the_example_resizes_a_picture() {
    let toolbox = Toolbox::shared();
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let _daemon = Service::daemon(&socket);
    let (from, to) = (Extent::new(161, 90), Extent::new(64, 36));
    let (file, pixels) = picture(from);
    fs::write(dir.path().join("in.ppm"), file).unwrap();
    let wanted = [b"P6\n64 36\n255\n", &resized(&socket, from, to, &pixels)[..]].concat();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/resize.c");
    for linked in [Linked::Dynamically, Linked::Statically] {
        let program = toolbox.compile(&source, &format!("resize-{linked:?}"), linked);
        let run = |command: &mut Command, arguments: [&str; 3]| {
            command.args(arguments).current_dir(dir.path());
            command.env("RESIZED_ENDPOINT", endpoint(&socket)).output().unwrap()
        };
        let mut command = watched(&program, Leaks::All);
        let output = run(&mut command, ["in.ppm", "64x36", "out.ppm"]);
        assert_good(&command, &output);
        assert!(fs::read(dir.path().join("out.ppm")).unwrap() == wanted, "{linked:?}");
        // What goes wrong is said, and nothing is left behind either.
        for (arguments, words) in [
            (["in.ppm", "64x36", "/nowhere/out.ppm"], "/nowhere/out.ppm: No such file"),
            (["missing.ppm", "64x36", "out.ppm"], "missing.ppm: No such file"),
            (["in.ppm", "large", "out.ppm"], "usage: "),
            (["in.ppm", "0x36", "out.ppm"], "open: refused: destination frame: 0x36 has no pixels"),
            (["/dev/null", "64x36", "out.ppm"], "this is no PPM"),
        ] {
            let output = run(&mut watched(&program, Leaks::All), arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && said.contains(words), "{words}: {output:?}");
        }
    }
}

#[test]
fn all_that_there_is_works() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let _daemon = Service::daemon(&socket);
    let program = Toolbox::shared().program("whole");
    good(watched(&program, Leaks::All).arg(endpoint(&socket)));
}

#[test]
fn misuse_is_refused_and_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let _daemon = Service::daemon(&socket);
    let program = Toolbox::shared().program("misuse");
    good(watched(&program, Leaks::All).arg(endpoint(&socket)));
}

/// Runs a program that says what should become of whom it uses, and waits until it has.
fn run_with(program: &Path, endpoint: &str, leaks: Leaks, mut become_of: impl FnMut(&str)) {
    let mut command = watched(program, leaks);
    command.arg(endpoint).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        become_of(&line.unwrap());
        // If it has ended, how it did says more.
        let _ = input.write_all(b"done\n");
    }
    let output = child.wait_with_output().unwrap();
    assert_good(&command, &output);
}

#[test]
fn a_daemon_that_goes_away_is_an_error_or_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let mut daemon = Some(Service::daemon(&socket));
    let mut said = Vec::new();
    run_with(&Toolbox::shared().program("gone"), &endpoint(&socket), Leaks::All, |line| {
        // Stopped first, if it runs.
        daemon = None;
        daemon = (line == "start").then(|| Service::daemon(&socket));
        said.push(line.to_owned());
    });
    assert_eq!(said, ["stop", "start", "stop"]);
}

#[test]
fn frames_travel_as_jpegs_and_a_bridge_that_goes_away_ends_no_program() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let _daemon = Service::daemon(&socket);
    let (bridge, endpoint) = Service::bridge(&socket);
    let mut bridge = Some(bridge);
    let mut said = 0;
    run_with(&Toolbox::shared().program("remote"), &endpoint, Leaks::Lost, |line| {
        assert_eq!(line, "stop");
        bridge = None;
        said += 1;
    });
    assert_eq!(said, 1);
}
