//! The short programs, run as their reader would, on a daemon and a bridge.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use turbojpeg::{Image, PixelFormat, Subsamp};

use crate::page::ROOT;
use crate::service::Service;
use crate::shell;

/// The program, told where the daemon is.
fn command(program: &str, service: &Service) -> Command {
    let mut command = Command::new(program);
    command.env("RESIZED_ENDPOINT", service.endpoint()).env_remove("RESIZED_TOKEN_FILE");
    command
}

/// Runs it, and it must succeed. What it said, line by line.
#[track_caller]
fn good(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A JPEG of one colour but for a dark left end of so many columns.
fn jpeg(path: &Path, (width, height): (usize, usize), dark: usize, rgb: [u8; 3]) {
    let row: Vec<u8> = (0..width).flat_map(|x| if x < dark { [0; 3] } else { rgb }).collect();
    let pixels = row.repeat(height);
    let format = PixelFormat::RGB;
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
    fs::write(path, turbojpeg::compress(image, 90, Subsamp::Sub2x2).unwrap()).unwrap();
}

/// Extent of a JPEG, and what it has at its left end and in its middle.
#[track_caller]
fn seen(path: &Path) -> ((usize, usize), [u8; 3], [u8; 3]) {
    let image = turbojpeg::decompress(&fs::read(path).unwrap(), PixelFormat::RGB).unwrap();
    let pixel = |x: usize| {
        let at = image.height / 2 * image.pitch + 3 * x;
        [0, 1, 2].map(|channel| image.pixels[at + channel])
    };
    ((image.width, image.height), pixel(0), pixel(image.width / 2))
}

fn is_near(found: [u8; 3], wanted: [u8; 3]) -> bool {
    found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 4)
}

/// What `make demo-cluster` shows.
#[test]
fn a_cluster_that_loses_the_busiest_of_its_nodes_loses_no_frame() {
    const FRAMES: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x480:rate=25"]);
    ffmpeg.args(["-frames:v", &FRAMES.to_string(), "-c:v", "mpeg4", "-pix_fmt", "yuv420p"]);
    assert!(ffmpeg.arg(&clip).status().unwrap().success());
    let mut demo = Command::new(Path::new(ROOT).join("examples/demo-cluster.sh"));
    demo.arg(shell::programs()).arg(&clip).args(["-n", "3", "-m", "0", "-s", "320x240", "-o"]);
    demo.arg(dir.path()).env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    let said = good(&mut demo);
    assert!(said.iter().any(|line| line.contains("is dead")), "{said:?}");
    for instance in 1..=3 {
        let folder = dir.path().join(format!("vid-instance{instance}"));
        assert_eq!(fs::read_dir(folder).unwrap().count(), FRAMES, "{said:?}");
    }
}

/// Where nothing is left to lose.
#[test]
fn a_cluster_that_loses_no_node_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for program in ["resized", "resized-bridge", "resizectl"] {
        symlink(shell::programs().join(program), dir.path().join(program)).unwrap();
    }
    let stand_in = dir.path().join("resize-videos");
    fs::write(&stand_in, "#!/bin/sh\n").unwrap();
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let mut demo = Command::new(Path::new(ROOT).join("examples/demo-cluster.sh"));
    demo.arg(dir.path()).arg("/nowhere.mp4");
    demo.env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    let demo = demo.output().unwrap();
    let said = String::from_utf8_lossy(&demo.stderr);
    assert_eq!(demo.status.code(), Some(1), "{said}");
    assert!(said.contains("over before a node could be killed"), "{said}");
}

/// What `make demo` leaves when its terminal goes away.
#[test]
fn a_demo_whose_terminal_goes_away_leaves_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = shell::programs().join("resized");
    symlink(daemon, dir.path().join("resized")).unwrap();
    let stand_in = dir.path().join("resize-videos");
    fs::write(&stand_in, "#!/bin/sh\necho begun\nexec sleep 1000\n").unwrap();
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever runs the tests may have it ignored, as nohup has, and then a shell can't trap it.
    let mut demo = Command::new("env");
    demo.arg("--default-signal=HUP").arg(Path::new(ROOT).join("examples/demo.sh"));
    demo.arg(dir.path()).env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    let mut demo =
        demo.env("TMPDIR", dir.path()).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<_> = said.take(2).collect();
    assert_eq!(said[1], "begun");
    let daemon = said[0].split([' ', ',']).nth(4).unwrap();
    let daemon = Path::new("/proc").join(daemon);
    assert!(daemon.exists(), "{said:?}");
    killpg(Pid::from_raw(demo.id().cast_signed()), Signal::SIGHUP).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(129));
    assert!(!daemon.exists());
    // The link and the stand-in, and no socket's folder.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_first_frame() {
    let said = good(&mut command(env!("CARGO_BIN_EXE_first-frame"), &Service::start()));
    // The ramp, sixteen pixels to one, in four rows.
    let row: Vec<_> = said[0].trim_matches(['[', ']']).split(',').map(str::trim).collect();
    let row: Vec<f64> = row.into_iter().map(|grey| grey.parse().unwrap()).collect();
    assert_eq!(row.len(), 16);
    // But at its ends, where a filter's window is cut.
    for (index, grey) in row.iter().enumerate().skip(2).take(12) {
        assert!((grey - (16.0 * index as f64 + 7.5)).abs() <= 1.0, "{row:?}");
    }
    assert!(said[1..4].iter().all(|line| *line == said[0]), "{said:?}");
    assert!(said[4].starts_with("resized by cpu"), "{said:?}");
}

#[test]
fn of_a_live_picture_each_frame_is_accounted_for() {
    let service = Service::start();
    let said = good(command(env!("CARGO_BIN_EXE_webcam"), &service).args(["12", "12"]));
    let (last, shown) = said.split_last().unwrap();
    let numbers: Vec<usize> =
        last.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [frames, showed, late, overtaken] = numbers[..] else { panic!("{last}") };
    assert_eq!((frames, showed), (12, shown.len()), "{said:?}");
    assert_eq!(showed + late + overtaken, 12, "{said:?}");
    let order: Vec<usize> = shown
        .iter()
        .map(|line| {
            let rest = line.strip_prefix("frame ").unwrap();
            let (number, grey) =
                rest.strip_suffix(" is its grey").unwrap().split_once(": ").unwrap();
            assert_eq!(number, grey, "another frame's pixels");
            number.parse().unwrap()
        })
        .collect();
    assert!(order.is_sorted_by(|one, next| one < next), "{said:?}");
}

#[test]
fn stills_of_any_size_fill_the_size_asked_for() {
    let (service, dir) = (Service::start(), tempfile::tempdir().unwrap());
    let pictures = [
        ("a", (320, 200)),
        ("b", (320, 200)),
        ("c", (100, 400)),
        ("d", (33, 35)),
        ("e", (320, 200)),
    ];
    let mut program = command(env!("CARGO_BIN_EXE_stills"), &service);
    program.current_dir(&dir).args(["64", "48", "out"]);
    let colour = |index: usize| [200, 40 * index as u8, 90];
    for (index, (name, extent)) in pictures.into_iter().enumerate() {
        let name = format!("{name}.jpg");
        jpeg(&dir.path().join(&name), extent, 0, colour(index));
        program.arg(name);
    }
    assert_eq!(good(&mut program), ["5 pictures of 64x48 are in out"]);
    for (index, (name, _)) in pictures.into_iter().enumerate() {
        let (extent, left, middle) = seen(&dir.path().join(format!("out/{name}.jpg")));
        assert_eq!(extent, (64, 48));
        assert!(is_near(left, colour(index)) && is_near(middle, colour(index)), "{name}: {left:?}");
    }
    fs::remove_file(dir.path().join("out/c.jpg")).unwrap();
    fs::create_dir(dir.path().join("out/c.jpg")).unwrap();
    let taken = program.output().unwrap();
    assert!(complaint(&taken).contains("out/c.jpg"), "{taken:?}");
    let nothing = program.arg("none.jpg").output().unwrap();
    assert!(!nothing.status.success());
    assert!(complaint(&nothing).contains("none.jpg"), "{nothing:?}");
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn boxes_found_in_a_tensor_are_mapped_back() {
    let said = good(&mut command(env!("CARGO_BIN_EXE_letterbox"), &Service::start()));
    let wanted = [
        "the picture is 640x360 of the tensor, 140 rows from its top",
        "found 200,230 to 360,320 in the tensor",
        "found 400,180 to 720,360 in the video",
    ];
    assert_eq!(said, wanted);
}

#[test]
fn many_clients_get_their_own_frames() {
    let service = Service::start();
    let said = good(command(env!("CARGO_BIN_EXE_many-clients"), &service).args(["6", "15"]));
    let (device, clients) = said.split_last().unwrap();
    assert_eq!(clients.len(), 6, "{said:?}");
    assert!(clients.iter().all(|line| line.ends_with(", many-clients: 15 frames")), "{said:?}");
    assert!(device.ends_with(": 90 frames since the daemon started"), "{said:?}");
    // As many as there may be, not as many as frames are wide.
    let service = Service::start();
    let said = good(command(env!("CARGO_BIN_EXE_many-clients"), &service).args(["110", "1"]));
    assert_eq!(said.len(), 111, "{said:?}");
}

#[test]
fn jpegs_go_to_another_machine_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let [token, photo, small] =
        ["token", "photo.jpg", "small.jpg"].map(|name| dir.path().join(name));
    fs::write(&token, "open sesame\n").unwrap();
    jpeg(&photo, (800, 600), 100, [30, 160, 220]);
    let service = Service::with(|_, args| args.token = Some(token.clone()));
    let run = || {
        let mut program = command(env!("CARGO_BIN_EXE_remote-client"), &service);
        program.arg(service.remote()).arg(&photo).arg("160").arg(&small);
        program
    };
    let refused = run().output().unwrap();
    assert!(!refused.status.success());
    assert!(complaint(&refused).contains("RESIZED_TOKEN_FILE"), "{refused:?}");
    assert!(!small.exists());

    let said = good(run().env("RESIZED_TOKEN_FILE", &token));
    let (extent, left, middle) = seen(&small);
    assert_eq!(extent, (160, 120));
    assert!(is_near(left, [0; 3]) && is_near(middle, [30, 160, 220]), "{left:?} {middle:?}");
    let [before, after] = [&photo, &small].map(|path| fs::metadata(path).unwrap().len());
    let wanted = format!(
        "800x600 in {before} bytes became 160x120 in {after} bytes, at {}",
        service.remote()
    );
    assert_eq!(said, [wanted]);
}
