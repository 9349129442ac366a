//! What goes wrong: one line says what, the exit code says that it did, and nothing is half-written.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::MOVING;
use crate::bench::{Bench, frame_names, wait_for};
use crate::skip::skip;

/// A sound file, with a picture on its cover.
const COVERED: &str = "-i cover.png -map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic";

/// Asserts a failure with one line that contains all of `parts`.
fn assert_fails(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "{line}");
    }
}

/// Asserts that a video failed where the others did not, and how the figures put it.
fn assert_failed_alone(bench: &Bench, failed: usize, why: &str) {
    let figures = bench.figures();
    assert_eq!(figures["stopped"], Value::Null);
    for row in figures["instances"].as_array().unwrap() {
        let fails = row["instance"] == failed;
        assert_eq!(row["complete"], !fails, "{row}");
        let error = row["error"].as_str();
        assert!(error.is_some() == fails && error.is_none_or(|error| error.contains(why)), "{row}");
    }
}

#[test]
fn a_video_that_is_missing_or_none_is_named_and_the_others_go_on() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let (missing, noise) = (bench.path("missing.mp4"), bench.path("noise.mp4"));
    fs::write(&noise, [0xA5; 5000]).unwrap();
    let (empty, cut) = (bench.path("empty.mp4"), bench.path("cut.mp4"));
    fs::write(&empty, "").unwrap();
    // Its index is at its end.
    let whole = fs::read(bench.clip("whole.mp4", MOVING, "-frames:v 9 -c:v mpeg4")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let sound = bench.clip("sound.wav", "sine=duration=0.1", "-c:a pcm_s16le");
    bench.clip("cover.png", MOVING, "-frames:v 1");
    let covered = bench.clip("covered.mp4", "sine=duration=0.1", COVERED);
    let bad = [
        (&*missing, "No such file"),
        (&noise, "Invalid data found when processing input: it was cut off, or is no video"),
        (&cut, "Invalid data found when processing input: it was cut off, or is no video"),
        (&empty, "it is empty"),
        (&sound, "no video"),
        (&covered, "no video in it, only a cover"),
        (Path::new("/"), ""),
    ];
    let options = "-m 0 --json figures.json --report report.html";
    for (video, why) in bad {
        let name = video.file_name().unwrap_or(video.as_os_str()).to_str().unwrap();
        let output = bench.run(&[&clip, video, &clip], options);
        assert_fails(&output, &[name, why]);
        assert_eq!([1, 3].map(|instance| bench.names(instance)), [frame_names(2), frame_names(2)]);
        assert!(!bench.path("out/vid-instance2").exists());
        assert_failed_alone(&bench, 2, why);
        // Why not is said once, and on the page.
        let failed = format!("{name}: failed");
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.lines().any(|line| line.ends_with(&failed)), "{table}");
        let report = fs::read_to_string(bench.path("report.html")).unwrap();
        assert!(report.contains(&format!("{failed}: ")), "{report}");
    }
    // All copies of it, and nothing else: what is left is to say so.
    fs::remove_dir_all(bench.path("out")).unwrap();
    fs::remove_file(bench.path("figures.json")).unwrap();
    let output = bench.run(&[&sound], options);
    assert_fails(&output, &["sound.wav", "no video"]);
    assert!(!bench.path("out").exists());
    // And where the page is.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "the report is report.html\n");
    assert_eq!(bench.figures()["instances"].as_array().unwrap().len(), 2);
}

#[test]
fn a_video_that_vanishes_is_named_and_the_others_go_on() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let mut command = bench.bounded(&[&clip]);
    command.args(["-n", "2", "-m", "3", "-q", "--json", "figures.json"]);
    let program = command.stderr(Stdio::piped()).spawn().unwrap();
    // Folders are made once it is open, for the first copy.
    wait_for(&bench.path("out/vid-instance2"));
    fs::remove_file(&clip).unwrap();
    assert_fails(&program.wait_with_output().unwrap(), &["clip.mkv: No such file"]);
    assert_failed_alone(&bench, 2, "No such file");
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(2), frame_names(0)]);
}

#[test]
fn what_a_video_is_called_does_nothing_to_a_terminal() {
    let bench = Bench::new();
    let name = "red\u{1b}[31m\nresize-videos.mkv";
    assert_fails(&bench.run(&[Path::new(name)], ""), &["red\\u{1b}[31m\\nresize-videos.mkv"]);
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    fs::rename(&clip, bench.path(name)).unwrap();
    let output = bench.run(&[&bench.path(name)], "");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !table.contains('\u{1b}'), "{table}");
    assert!(table.contains("  red\\u{1b}[31m\\nresize-videos.mkv\n"), "{table}");
}

#[test]
fn an_error_that_nobody_reads_is_an_error() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = bench.command(&[Path::new("missing.mkv")]).stderr(writer).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_folder_that_can_not_be_written_is_named() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    // A folder below a file: not even root can make one.
    fs::write(bench.path("out"), "a file").unwrap();
    assert_fails(&bench.run(&[&clip], ""), &["out/vid-instance1"]);
    assert_eq!(fs::read(bench.path("out")).unwrap(), b"a file");
    // The second of two: the first is not left behind.
    fs::remove_file(bench.path("out")).unwrap();
    fs::create_dir(bench.path("out")).unwrap();
    fs::write(bench.path("out/vid-instance2"), "a file").unwrap();
    assert_fails(&bench.run(&[&clip], ""), &["out/vid-instance2"]);
    assert!(!bench.path("out/vid-instance1").exists());
    // The figures' file is tried early too.
    fs::remove_file(bench.path("out/vid-instance2")).unwrap();
    assert_fails(&bench.run(&[&clip], "--json nowhere/figures.json"), &["nowhere/figures.json"]);
    assert!(!bench.path("out/vid-instance1").exists());
    assert_fails(&bench.run(&[&clip], "--report nowhere/report.html"), &["nowhere/report.html"]);
    assert_fails(&bench.run(&[&clip], "--report out"), &["out", "it is a folder"]);
    assert_fails(&bench.run(&[&clip], "--json one --report ./one"), &["one can't be both"]);
    // So is one that is there. Root can't write that either.
    assert_fails(&bench.run(&[&clip], "--json /proc/version"), &["can't write /proc/version"]);
    let video = fs::read(&clip).unwrap();
    for option in ["--json", "--report"] {
        for video in [&*clip, Path::new("file:clip.mkv")] {
            let output = bench.run(&[video], &format!("{option} clip.mkv"));
            assert_fails(&output, &["clip.mkv would take the place of the video "]);
        }
    }
    assert!(fs::read(&clip).unwrap() == video && !bench.path("out/vid-instance1").exists());
}

#[test]
fn a_daemon_that_is_not_there_is_named_and_nothing_is_made() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let advice = "; resizectl doctor --connect unix:nobody.sock says what to do about it";
    assert_fails(&bench.run(&[&clip], "--connect unix:nobody.sock"), &["unix:nobody.sock", advice]);
    let output = bench.command(&[&clip]).env("RESIZED_ENDPOINT", "unix:nobody.sock").output();
    assert_fails(&output.unwrap(), &["unix:nobody.sock", "; resizectl doctor says what to do"]);
    let output = bench.command(&[&clip]).env("RESIZED_ENDPOINT", "nonsense").output();
    assert_fails(&output.unwrap(), &["RESIZED_ENDPOINT", "nonsense"]);

    // One that hangs up, and is gone when it is looked for again.
    let listener = UnixListener::bind(bench.path("rude.sock")).unwrap();
    let rude = thread::spawn(move || drop(listener.accept().unwrap()));
    assert_fails(&bench.run(&[&clip], "--connect unix:rude.sock"), &["unix:rude.sock"]);
    rude.join().unwrap();
    assert!(!bench.path("out").exists());
}

#[test]
fn a_size_that_the_daemon_refuses_is_an_error_before_old_pictures_go() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let narrow = bench.clip("narrow.mkv", "testsrc2=size=16x600", "-frames:v 2 -c:v mpeg4");
    let huge = bench.clip("huge.nut", "color=size=16400x16", "-frames:v 1 -c:v rawvideo");
    assert!(bench.run(&[&clip], "-n 2 -m 0").status.success());
    let output = bench.run(&[&clip], "-s 20000x10");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("20000x10"));
    let output = bench.run(&[&clip, &narrow], "-s 640x-1");
    assert_fails(&output, &["narrow.mkv", "pictures of 640x24000", "16384"]);
    assert_fails(&bench.run(&[&clip, &huge], ""), &["huge.nut", "frames of 16400x16", "16384"]);
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(2), frame_names(2)]);
}

#[test]
fn a_size_that_the_daemon_refuses_later_is_an_error() {
    let bench = Bench::new();
    // The second part of the video is of another shape.
    let parts = [("a", "600x600"), ("b", "16x600")].map(|(name, size)| {
        let source = format!("testsrc2=size={size}");
        fs::read(bench.clip(&format!("{name}.mjpeg"), &source, "-frames:v 2 -c:v mjpeg")).unwrap()
    });
    let clip = bench.path("joined.mjpeg");
    fs::write(&clip, parts.concat()).unwrap();
    let good = bench.clip("good.mkv", MOVING, "-frames:v 50 -c:v mpeg4");
    let output = bench.run(&[&clip, &good], "-m 0 -q -s 640x-1 --json figures.json");
    assert_fails(&output, &["joined.mjpeg", "640x24000"]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.matches("640x24000").count(), 1, "{line}");
    assert_failed_alone(&bench, 1, "640x24000");
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(2), frame_names(50)]);
}

#[test]
fn broken_packets_are_skipped_and_counted() {
    let bench = Bench::new();
    let clip = bench.clip("clip.nut", MOVING, "-frames:v 10 -c:v png");
    let mut bytes = fs::read(&clip).unwrap();
    let starts: Vec<_> =
        (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"\x89PNG")).collect();
    assert_eq!(starts.len(), 10);
    for packet in [3, 6] {
        bytes[starts[packet]..][..64].fill(0x55);
    }
    fs::write(&clip, bytes).unwrap();
    let output = bench.run(&[&clip], "-n 1 --json figures.json");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bench.names(1), frame_names(8));
    let json = bench.figures();
    assert_eq!(json["instances"][0]["skipped"], 2);
    assert_eq!(json["instances"][0]["frames"], 8);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2 broken ones skipped"), "{text}");
}

#[test]
fn a_video_of_which_too_much_is_broken_is_an_error() {
    let bench = Bench::new();
    let clip = bench.clip("clip.nut", "color=size=16x16", "-frames:v 10010 -c:v png");
    let mut bytes = fs::read(&clip).unwrap();
    let starts: Vec<_> =
        (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"\x89PNG")).collect();
    starts[8..].iter().for_each(|&start| bytes[start..][..4].fill(0x55));
    fs::write(&clip, &bytes).unwrap();
    let options = "-m 0 -q --json figures.json --report report.html";
    let good = bench.clip("good.mkv", MOVING, "-frames:v 50 -c:v mpeg4");
    let output = bench.run(&[&clip, &good], options);
    assert_fails(&output, &["clip.nut", "10000 errors in a row"]);
    // Those that were decoded are there, and counted.
    assert_eq!([1, 2].map(|instance| bench.names(instance)), [frame_names(8), frame_names(50)]);
    assert_failed_alone(&bench, 1, "10000 errors in a row");
    assert_eq!(bench.figures()["instances"][0]["frames"], 8);
    assert_eq!(bench.figures()["total"]["frames"], 58);
    let report = fs::read_to_string(bench.path("report.html")).unwrap();
    assert!(report.contains("clip.nut: failed: 10000 errors in a row"), "{report}");
    // A head, and nothing that can be decoded behind it.
    bytes[starts[0]..].fill(0x55);
    fs::write(&clip, bytes).unwrap();
    assert_fails(&bench.run(&[&clip, &good], options), &["clip.nut", "not one frame of it"]);
    assert_failed_alone(&bench, 1, "not one frame");
}

#[test]
fn what_can_be_read_once_is_for_one_copy() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 3 -c:v mpeg4");
    for (name, place) in [("/dev/stdin", "/dev/stdin"), ("pipe:0", "pipe:0"), ("-", "/dev/stdin")] {
        let run = |options: &str| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut command = bench.command(&[Path::new(name)]);
            let child = command.args(options.split_whitespace()).stdin(reader);
            let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            drop(command); // and with it this end of the pipe
            let written = writer.write_all(&fs::read(&clip).unwrap());
            drop(writer);
            (child.wait_with_output().unwrap(), written.is_ok())
        };
        assert_fails(&run("-n 2").0, &[place, "is no file", "use -n 1"]);
        assert!(!bench.path("out").exists());
        let (output, written) = run("");
        assert!(output.status.success() && written, "{output:?}");
        assert_eq!(bench.names(1), frame_names(3));
        fs::remove_dir_all(bench.path("out")).unwrap();
    }
}

#[test]
fn a_pipe_can_not_give_an_index_that_is_behind_the_pictures() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mp4", MOVING, "-frames:v 50 -c:v mpeg4");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = bench.command(&[Path::new("-")]);
    let child = command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(command); // and with it this end of the pipe
    writer.write_all(&fs::read(&clip).unwrap()).unwrap();
    drop(writer);
    let why = "its index is behind its pictures, and a pipe is read once: name the file, or write it with \
               -movflags +faststart";
    assert_fails(&child.wait_with_output().unwrap(), &["/dev/stdin", why]);
}

#[test]
fn a_truncated_video_gives_the_frames_that_it_has() {
    let bench = Bench::new();
    // None says how many they were.
    for name in ["clip.ts", "clip.mpg"] {
        let clip = bench.clip(name, MOVING, "-frames:v 50 -c:v mpeg4 -g 10");
        let bytes = fs::read(&clip).unwrap();
        fs::write(&clip, &bytes[..bytes.len() / 2]).unwrap();
        let output = bench.run(&[&clip], "-n 1");
        assert!(output.status.success(), "{output:?}");
        let names = bench.names(1);
        assert_eq!(names, frame_names(names.len()));
        assert!((5..45).contains(&names.len()), "{}", names.len());
    }
}

#[test]
fn a_video_that_lacks_frames_of_its_index_is_an_error() {
    let bench = Bench::new();
    let options = "-frames:v 50 -c:v mpeg4 -g 10 -movflags +faststart";
    let good = bench.clip("good.mp4", MOVING, options);
    let bytes = fs::read(&good).unwrap();
    let clip = bench.path("cut.mp4");
    for name in ["cut.mp4", "/dev/stdin"] {
        fs::write(&clip, &bytes[..bytes.len() / 2]).unwrap();
        let mut command = bench.command(&[Path::new(name), &good]);
        command.args("-m 0 -q --json figures.json".split_whitespace());
        let output = command.stdin(fs::File::open(&clip).unwrap()).output().unwrap();
        let names = bench.names(1);
        assert_eq!(names, frame_names(names.len()));
        assert!((5..45).contains(&names.len()), "{}", names.len());
        let why = format!("ends early: {} of 50 frames", names.len());
        assert_fails(&output, &[name, &why]);
        assert_failed_alone(&bench, 1, &why);
        assert_eq!(bench.figures()["instances"][0]["frames"], names.len());
        assert_eq!(bench.names(2), frame_names(50));
    }
    // Matroska has no such index, but says when it ends.
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 50 -c:v mpeg4 -g 10");
    let bytes = fs::read(&clip).unwrap();
    fs::write(bench.path("whole.mkv"), &bytes).unwrap();
    fs::write(&clip, &bytes[..bytes.len() / 2]).unwrap();
    let output = bench.run(&[&clip], "-n 1");
    let names = bench.names(1);
    assert_eq!(names, frame_names(names.len()));
    assert!((5..45).contains(&names.len()), "{}", names.len());
    assert_fails(&output, &["clip.mkv", "ends early: after ", "of 2.0 seconds"]);
    // Where the length is of what the video was made of, it means nothing: others copy the tag, and what
    // writes Matroska into a pipe can't mend its header.
    let copy = "ffmpeg -v error -ss 1.5 -i whole.mkv -c copy short.nut && \
                ffmpeg -v error -ss 1.5 -i whole.mkv -c copy -f matroska - | cat > piped.mkv";
    let copied = Command::new("sh").args(["-c", copy]).current_dir(bench.path("")).status();
    assert!(copied.unwrap().success());
    for name in ["short.nut", "piped.mkv"] {
        assert!(bench.run(&[&bench.path(name)], "-n 1 -q").status.success(), "{name}");
        assert!((5..45).contains(&bench.names(1).len()), "{name}");
    }
    // What an edit list leaves out is not missing.
    let options = "-y -v error -ss 0.9 -i good.mp4 -c copy late.mp4".split_whitespace();
    let status = Command::new("ffmpeg").args(options).current_dir(bench.path("")).status();
    assert!(status.unwrap().success());
    assert!(bench.run(&[Path::new("late.mp4")], "-n 1 -q").status.success());
    assert!(bench.names(1).len() < 30, "{}", bench.names(1).len());
}

#[test]
fn a_video_that_can_not_be_read_to_its_end_is_an_error() {
    let bench = Bench::new();
    // Some of these formats take an error for the end.
    for (name, codec) in [("clip.mkv", "mpeg4"), ("clip.mpg", "mpeg2video"), ("clip.flv", "flv")] {
        bench.clip(name, MOVING, &format!("-frames:v 20 -c:v {codec}"));
        // By FFmpeg's concat protocol a file goes on as another. The first page of a process's
        // memory is never mapped: reading it is an I/O error.
        let video = format!("concat:{name}|/proc/self/mem");
        let output = bench.run(&[Path::new(&video)], "-n 1 -q");
        assert_fails(&output, &[name, "can't read on", "Input/output error"]);
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_whole_pictures_only() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 100 -c:v mpeg4");
    fs::create_dir(bench.path("out")).unwrap();
    let mounted = |script: &str| {
        let mut mounted = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size=300k none out && {script}");
        mounted.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]);
        mounted.current_dir(bench.path(""));
        mounted
    };
    let alone = mounted("true").output();
    if !alone.as_ref().is_ok_and(|output| output.status.success()) {
        return skip("mounts", &format!("there is no file system for this test alone: {alone:?}"));
    }
    let program = bench.command(&[&clip]);
    let output = mounted(r#"{ "$@"; code=$?; cp -a out/vid-instance1 seen; exit $code; }"#)
        .arg(program.get_program())
        .args(program.get_args())
        .args(["-n", "1", "-q", "--json", "figures.json", "--report", "report.html"])
        .env("XDG_RUNTIME_DIR", bench.path(""))
        .output()
        .unwrap();
    assert_fails(&output, &["vid-instance1/Frame", "No space left"]);
    let whole = fs::read_dir(bench.path("seen")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "jpg", "{}", path.display());
        turbojpeg::decompress(&fs::read(path).unwrap(), turbojpeg::PixelFormat::RGB).unwrap();
    });
    let whole = whole.count();
    assert!((1..100).contains(&whole));
    // And still told.
    let figures = bench.figures();
    assert!(figures["stopped"]["error"].as_str().unwrap().contains("No space left"), "{figures}");
    let row = &figures["instances"][0];
    assert_eq!((&row["complete"], &row["error"]), (&false.into(), &Value::Null));
    assert_eq!(row["frames"], whole);
    let report = fs::read_to_string(bench.path("report.html")).unwrap();
    assert!(report.contains("Stopped before its end: can't write out/"), "{report}");
}
