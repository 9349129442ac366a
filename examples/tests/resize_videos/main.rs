//! The program as a user runs it: a process of its own, on clips with a known content.

mod bench;
mod browser;
mod colour;
mod remote;
mod report;
mod restart;
mod room;
#[path = "../common/service.rs"]
mod service;
#[path = "../../../daemon/tests/common/skip.rs"]
mod skip;
mod stop;
mod terminal;
mod trouble;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

use bench::{Bench, frame_names, turned};
use serde_json::Value;

/// A moving picture with sharp edges and all hues.
const MOVING: &str = "testsrc2=size=320x240:rate=25";

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_instance_writes_every_frame_in_the_size_asked_for() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 30 -c:v mpeg4");
    let text = stdout(&bench.run(&[&clip], "-m 0 -s 64x48"));
    for instance in [1, 2] {
        assert_eq!(bench.names(instance), frame_names(30));
        for number in 1..=30 {
            let picture = bench.picture(instance, number);
            assert_eq!((picture.width, picture.height), (64, 48));
        }
    }
    assert!(text.lines().next().unwrap().contains("inside this process"), "{text}");
    assert!(text.contains("instance 2: done: 30 frames in"), "{text}");
    assert!(text.contains("p99 ms"), "{text}");
    let all = text.lines().find(|line| line.trim_start().starts_with("all")).expect(&text);
    assert_eq!(all.split_whitespace().nth(1), Some("60"), "{text}");
    let folders = "the pictures are in out/vid-instance1 to vid-instance2";
    assert_eq!(text.lines().last().unwrap(), folders, "{text}");
}

#[test]
fn videos_are_dealt_out_in_turn_and_figures_are_written() {
    let bench = Bench::new();
    let short = bench.clip("short.mkv", MOVING, "-frames:v 5 -c:v mpeg4");
    let long = bench.clip("long.mkv", MOVING, "-frames:v 7 -c:v mpeg4");
    let text = stdout(&bench.run(&[&short, &long], "-n 3 -m 0.1 -q --json figures.json"));
    assert_eq!(text, "");
    let counts = [1, 2, 3].map(|instance| bench.names(instance).len());
    assert_eq!(counts, [5, 7, 5]);

    let json = bench.figures();
    assert_eq!(keys(&json), ["instances", "stopped", "total"]);
    assert_eq!(json["stopped"], Value::Null);
    assert_eq!(keys(&json["total"]), ["fps", "frames", "seconds"]);
    assert_eq!(json["total"]["frames"], 17);
    let instances = json["instances"].as_array().unwrap();
    for (index, (instance, video)) in instances.iter().zip([&short, &long, &short]).enumerate() {
        let expected = "complete devices error fps frames instance latency_ms seconds skipped \
                        started_s video written_ms";
        assert_eq!(keys(instance).join(" "), expected);
        assert_eq!((&instance["complete"], &instance["error"]), (&true.into(), &Value::Null));
        assert_eq!(instance["instance"], index + 1);
        assert_eq!(instance["video"], video.to_str().unwrap());
        assert_eq!(instance["frames"], counts[index]);
        assert_eq!(instance["skipped"], 0);
        let number = |value: &Value| value.as_f64().unwrap();
        let devices = instance["devices"].as_object().unwrap();
        assert_eq!(devices.values().map(number).sum::<f64>(), counts[index] as f64);
        assert!(number(&instance["started_s"]) >= 0.1 * index as f64);
        let rate = counts[index] as f64 / number(&instance["seconds"]);
        assert!((number(&instance["fps"]) / rate - 1.0).abs() < 1e-6);
        let [latency, written] = ["latency_ms", "written_ms"].map(|name| {
            assert_eq!(keys(&instance[name]), ["max", "p50", "p90", "p99"]);
            ["p50", "p90", "p99", "max"].map(|share| number(&instance[name][share]))
        });
        assert!(latency[0] > 0.0 && latency.is_sorted() && written.is_sorted(), "{instance}");
        // What was written was received before; the histograms have three digits.
        assert!((0..4).all(|share| written[share] > 0.998 * latency[share]), "{instance}");
    }
    assert_eq!(instances.len(), 3);
}

#[test]
fn frames_may_be_left_out() {
    let bench = Bench::new();
    // Each a little whiter than the one before; decoded into slots and not.
    let source = "color=black:size=320x240,geq=lum='16+2*N':cb=128:cr=128";
    for (name, codec) in [("h264.mkv", "libx264 -qp 1"), ("rgb.mkv", "ffv1 -pix_fmt bgr0")] {
        let clip = bench.clip(name, source, &format!("-frames:v 100 -c:v {codec}"));
        let white = |number| i32::from(bench.picture(1, number).middle()[1]);
        for (options, count) in
            [("--every 30", 4), ("--frames 7", 7), ("--every 10 --frames 3", 3), ("--every 101", 1)]
        {
            let text = stdout(
                &bench.run(&[&clip], &format!("-n 1 -s 64x48 --json figures.json {options}")),
            );
            assert_eq!(bench.names(1), frame_names(count), "{options}");
            assert!(text.contains(&format!("{name}: done: {count} frames in ")), "{text}");
            assert_eq!(bench.figures()["instances"][0]["complete"], true);
            let every = options
                .strip_prefix("--every ")
                .map_or(1, |rest| rest.split(' ').next().unwrap().parse().unwrap());
            for number in 1..=count {
                let expected = 2.0 * every as f64 * (number - 1) as f64 * 255.0 / 219.0;
                assert!((f64::from(white(number)) - expected).abs() < 3.0, "{options} {number}");
            }
        }
    }
}

#[test]
fn a_report_says_that_frames_were_left_out() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 9 -c:v mpeg4");
    let report = |options: &str| {
        stdout(&bench.run(&[&clip], &format!("-n 1 -s 64x48 --report report.html {options}")));
        fs::read_to_string(bench.path("report.html")).unwrap()
    };
    let rows = [
        "<dt>Pictures of</dt><dd>one frame of 2</dd>",
        "<dt>Pictures of each instance</dt><dd>3 at most</dd>",
    ];
    let (some, all) = (report("--every 2 --frames 3"), report(""));
    for row in rows {
        assert!(some.contains(row) && !all.contains(row), "{row}");
    }
}

#[test]
fn figures_and_report_may_go_where_the_pictures_go() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let options = "-n 1 -s 64x48 --json out/figures.json --report out/report.html";
    for _ in ["out is made", "out is there"] {
        stdout(&bench.run(&[&clip], options));
        assert!(bench.path("out/figures.json").exists() && bench.path("out/report.html").exists());
        assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 3);
    }
}

#[test]
fn who_can_not_start_takes_no_time() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let output = bench.run(&[Path::new("missing.mkv"), &clip], "-m 5 -q --json figures.json");
    assert_eq!(output.status.code(), Some(1));
    let figures = bench.figures();
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&figures["instances"][1]["started_s"]) < 5.0, "{figures}");
    assert!(number(&figures["total"]["seconds"]) < 5.0, "{figures}");
}

#[test]
fn figures_and_videos_may_come_and_go_by_what_is_open_already() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    // Of which none can be opened by its name.
    for (video, figures) in
        [("/dev/stdin", "-"), ("pipe:0", "/dev/stdout"), ("/dev/fd/0", "/dev/fd/1")]
    {
        let [(ours, theirs), (mut told, telling)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        let mut command = bench.bounded(&[Path::new(video)]);
        command.args(["-n", "1", "-q", "--json", figures]);
        let mut program =
            command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(telling)).spawn().unwrap();
        drop(command);
        let _ = (&ours).write_all(&fs::read(&clip).unwrap());
        drop(ours);
        let mut json = String::new();
        told.read_to_string(&mut json).unwrap();
        assert!(program.wait().unwrap().success());
        let figures: Value = serde_json::from_str(&json).expect(&json);
        assert_eq!(figures["total"]["frames"], 2);
    }
    let output = bench.run(&[&clip], "-n 1 -q --report -");
    assert!(stdout(&output).starts_with("<!DOCTYPE html>"));
    assert!(!bench.path("-").exists());
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_side_may_follow_from_the_aspect_ratio() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", "testsrc2=size=300x200", "-frames:v 2 -c:v mpeg4");
    for (size, expected) in [("640x-1", (640, 427)), ("-1x50", (75, 50)), ("1x-1", (1, 1))] {
        stdout(&bench.run(&[&clip], &format!("-n 1 -s {size}")));
        let picture = bench.picture(1, 2);
        assert_eq!((picture.width, picture.height), expected);
    }
    // Samples that are not square, as the coded video says, the file around it, or both.
    for (name, options) in
        [("pal.mkv", "-c:v mpeg4"), ("pal.mp4", "-c:v libx264"), ("pal.webm", "-c:v libvpx-vp9")]
    {
        let options = format!("-frames:v 2 {options}");
        let clip = bench.clip(name, "testsrc2=size=720x576,setsar=16/15", &options);
        stdout(&bench.run(&[&clip], "-n 1 -s 160x-1"));
        let picture = bench.picture(1, 2);
        assert_eq!((picture.width, picture.height), (160, 120), "{name}");
    }
    // The file around it is believed.
    let wide = "-i pal.mp4 -map 1 -c copy -aspect 16:9";
    let wide = bench.clip("wide.mp4", MOVING, wide);
    stdout(&bench.run(&[&wide], "-n 1 -s 160x-1"));
    let picture = bench.picture(1, 2);
    assert_eq!((picture.width, picture.height), (160, 90));
    // And on its side.
    let lying = turned(&bench.path("pal.mp4"), [0, 1, -1, 0]);
    stdout(&bench.run(&[&lying], "-n 1 -s 120x-1"));
    let picture = bench.picture(1, 2);
    assert_eq!((picture.width, picture.height), (120, 160));
    // At a slant it stays as it is, and that is said.
    let slanted = turned(&bench.path("pal.mp4"), [1, 1, -1, 1]);
    let text = stdout(&bench.run(&[&slanted], "-n 1 -s 160x-1"));
    let picture = bench.picture(1, 2);
    assert_eq!((picture.width, picture.height), (160, 120));
    assert_eq!(text.matches("[1, 1, -1, 1].mp4 asks to be shown at a slant").count(), 1, "{text}");
}

#[test]
fn a_video_may_be_called_after_a_time() {
    let bench = Bench::new();
    let name = "2026-05-01T12:30:00.mkv";
    fs::rename(bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4"), bench.path(name)).unwrap();
    let text = stdout(&bench.run(&[name.as_ref()], "-n 1 -s 64x48"));
    assert_eq!(bench.names(1), frame_names(2));
    assert!(text.contains(name), "{text}");
}

#[test]
fn every_filter_is_offered() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 3 -c:v mpeg4");
    for filter in resized_client::Filter::ALL.map(resized_client::Filter::name) {
        stdout(&bench.run(&[&clip], &format!("-n 1 -s 64x48 --filter {filter}")));
        assert_eq!(bench.names(1), frame_names(3));
    }
}

#[test]
fn frames_of_an_earlier_run_are_removed_and_nothing_else() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let folder = bench.path("out/vid-instance1");
    fs::create_dir_all(&folder).unwrap();
    for name in ["Frame00001.jpg", "Frame00099.jpg", "Frame123456.jpg", ".resize-videos-1-7.part"] {
        fs::write(folder.join(name), "old").unwrap();
    }
    for name in ["keep.txt", "Frame1.jpg", "Frame00001.png"] {
        fs::write(folder.join(name), "mine").unwrap();
    }
    stdout(&bench.run(&[&clip], "-n 1"));
    let expected = ["Frame00001.jpg", "Frame00001.png", "Frame00002.jpg", "Frame1.jpg", "keep.txt"];
    assert_eq!(bench.names(1), expected);
}

#[test]
fn frames_may_change_size_in_the_middle_of_a_video() {
    let bench = Bench::new();
    let parts = [("a", "160x120"), ("b", "120x120"), ("c", "160x120")].map(|(name, size)| {
        let source = format!("testsrc2=size={size}");
        fs::read(bench.clip(&format!("{name}.mjpeg"), &source, "-frames:v 12 -c:v mjpeg")).unwrap()
    });
    let clip = bench.path("joined.mjpeg");
    fs::write(&clip, parts.concat()).unwrap();
    stdout(&bench.run(&[&clip], "-n 1 -s 80x-1"));
    assert_eq!(bench.names(1), frame_names(36));
    for (number, height) in [(1, 60), (12, 60), (13, 80), (24, 80), (25, 60), (36, 60)] {
        assert_eq!(bench.picture(1, number).height, height, "frame {number}");
    }
}
