//! `resizectl video`, a front for resize-videos.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shop::{DEADLINE, Shop, mute};

/// A clip of so many frames.
fn clip(shop: &Shop, name: &str, frames: u32) {
    let (source, frames) = ("testsrc2=size=320x240:rate=25", frames.to_string());
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin", "-f", "lavfi", "-i", source, "-frames:v", &frames])
        .args(["-c:v", "mpeg4"])
        .arg(shop.path(name))
        .status()
        .expect("the ffmpeg tool is needed to make clips");
    assert!(status.success(), "{name}");
    // Of another package, so cargo does not promise that it is there.
    let program = Path::new(env!("CARGO_BIN_EXE_resizectl")).with_file_name("resize-videos");
    assert!(program.is_file(), "resize-videos is needed: cargo build -p resized-examples");
}

fn names(shop: &Shop, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(shop.path(folder)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn videos_become_numbered_pictures() {
    let shop = Shop::new();
    clip(&shop, "a.mkv", 3);
    clip(&shop, "b.mkv", 2);
    assert_eq!(shop.good("video a.mkv -s 64x -o out/%03d.jpg -q"), "");
    assert_eq!(names(&shop, "out"), ["001.jpg", "002.jpg", "003.jpg"]);
    let picture = shop.picture("out/003.jpg");
    assert_eq!((picture.width(), picture.height()), (64, 48));

    let said = shop.good("video a.mkv b.mkv -s 40x30 -o small/ --report report.html");
    let expected = ["a-00001.jpg", "a-00002.jpg", "a-00003.jpg", "b-00001.jpg", "b-00002.jpg"];
    assert_eq!(names(&shop, "small"), expected);
    let picture = shop.picture("small/b-00002.jpg");
    assert_eq!((picture.width(), picture.height()), (40, 30));
    let pictures = "the pictures are small/a-00001.jpg to small/b-00002.jpg\n";
    assert!(said.contains(pictures), "{said}");
    assert!(said.contains("\nb.mkv: done: 2 frames in ") && !said.contains("instance 2"), "{said}");
    let report = fs::read_to_string(shop.path("report.html")).unwrap();
    assert!(report.contains("<h1>2 videos to what fits into 40x30</h1>"), "{report}");

    let error = shop.bad("video a.mkv none.mkv b.mkv -s 40x20 -o some/ -q");
    assert_eq!(error, "resizectl video: none.mkv: No such file or directory\n");
    assert_eq!(names(&shop, "some"), expected);

    let error = shop.bad("video a.mkv b.mkv -s 40x20 -o new/%d.jpg");
    let expected = "resizectl video: a and b could both write new/1.jpg: put {name}, which stands \
                    for these names, into the file's name\n";
    assert_eq!(error, expected);
    // Of what its own command line says, too.
    let output = shop.run("video a.mkv -s 40x30 -o new/%5d.jpg");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("write %05d") && !said.contains("resize-videos"), "{said}");
    let said = shop.good("video a.mkv -s 40x30 -o one/%d.jpg --frames 1");
    assert!(said.ends_with("the picture is one/1.jpg\n"), "{said}");
    fs::rename(shop.path("a.mkv"), shop.path("\u{1b}[2J.mkv")).unwrap();
    let said = shop.good("video \u{1b}[2J.mkv -s 40x30 -o one/ --frames 1");
    assert!(said.ends_with("the picture is one/\\u{1b}[2J-00001.jpg\n"), "{said:?}");
    assert!(!shop.path("new").exists());
}

#[test]
fn a_size_says_what_becomes_of_another_shape() {
    let shop = Shop::new();
    clip(&shop, "a.mkv", 2); // 4:3
    for (options, size) in [
        ("", (80, 60)),
        ("--mode stretch", (200, 60)),
        ("--mode fit", (80, 60)),
        ("--mode fill", (200, 60)),
        ("--pad #ffffff", (200, 60)),
    ] {
        shop.good(&format!("video a.mkv -s 200x60 {options} -o out/%d.jpg -q"));
        let picture = shop.picture("out/2.jpg").to_rgb8();
        assert_eq!(picture.dimensions(), size, "{options}");
        let white = |x, y| picture.get_pixel(x, y).0.iter().all(|sample| *sample > 240);
        // The video is between the columns 60 and 140, and its first and last blocks.
        let padded =
            size.0 == 200 && (0..60).all(|y| [0, 40, 150, 199].iter().all(|&x| white(x, y)));
        assert_eq!(padded, options.starts_with("--pad"), "{options}");
    }
    let error = shop.bad("video a.mkv -s 40x20 --mode fill --pad ffffff -o new/%d.jpg");
    assert_eq!(error, "resizectl video: --pad is for --mode fit\n");
    let error = shop.bad("video a.mkv -s 40x --pad ffffff -o new/%d.jpg");
    assert_eq!(error, "resizectl video: --mode fill and --pad need both sides of --size\n");
    assert!(!shop.path("new").exists());
}

#[test]
fn what_a_device_is_called_does_nothing_to_a_terminal() {
    let shop = Shop::new();
    clip(&shop, "a.mkv", 3);
    let endpoint = mute(&shop, "cpu\u{1b}[2J");
    let mut command = shop.bounded();
    command.args(["video", "a.mkv", "-s", "64x", "-o", "out/", "--connect", &endpoint]);
    let mut program = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    // It says nothing more, and would be waited for.
    Command::new("kill").arg(program.id().to_string()).status().unwrap();
    program.wait().unwrap();
    assert!(greeting.ends_with(" resizes on: cpu\\u{1b}[2J\n"), "{greeting}");
}

#[test]
fn the_program_is_found_where_it_was_installed() {
    let shop = Shop::new();
    let (ours, front) = (env!("CARGO_BIN_EXE_resizectl"), shop.path("resizectl"));
    fs::hard_link(ours, &front).or_else(|_| fs::copy(ours, &front).map(drop)).unwrap();
    let run = |path: &Path| {
        let line = ["video", "-s", "64x48", "-o", "out/%d.jpg", "clip.mkv"];
        // Ended if it hangs, by programs that are found elsewhere.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", DEADLINE, "env", &format!("PATH={}", path.display())]);
        let output = command.arg(&front).args(line).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(&shop.path("bin"));
    assert_eq!(code, Some(1));
    assert!(said.starts_with("resizectl: resize-videos is neither beside"), "{said}");
    // One that says where it lies, and has an exit code of its own.
    let install = |name: &str| {
        let script = format!("#!/bin/sh\necho {name} $3; exit 7\n");
        let program = shop.file(name, script.as_bytes());
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    fs::create_dir(shop.path("bin")).unwrap();
    install("bin/resize-videos");
    assert_eq!(run(&shop.path("bin")), (Some(7), "bin/resize-videos --size=64x48\n".to_owned()));
    install("resize-videos");
    assert_eq!(run(&shop.path("bin")), (Some(7), "resize-videos --size=64x48\n".to_owned()));
}
