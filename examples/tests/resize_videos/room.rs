//! More videos at once than the daemon has room for.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use resized::Limits;
use resized_client::{Client, Extent, FrameSpec, PixelFormat, StreamSpec};

use crate::bench::{Bench, frame_names};
use crate::service::Service;
use crate::{MOVING, stdout};

#[test]
fn videos_wait_for_room() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 8 -c:v mpeg4");
    // Of another size midway, and so of another stream.
    let parts = ["160x120", "120x160"].map(|size| {
        let source = format!("testsrc2=size={size}");
        fs::read(bench.clip("part.mjpeg", &source, "-frames:v 8 -c:v mjpeg")).unwrap()
    });
    let changing = bench.path("changing.mjpeg");
    fs::write(&changing, parts.concat()).unwrap();
    let videos: [&Path; 8] =
        std::array::from_fn(|index| if index % 2 == 0 { &*clip } else { &*changing });
    let limits: [fn(&mut Limits); 2] = [
        |limits| limits.streams = 2,
        |limits| limits.connections = 3, // of which the bridge may have one
    ];
    for limit in limits {
        let service = Service::with(|options, _| limit(&mut options.limits));
        let options = format!("-n 8 -m 0 -s 160x --connect {}", service.endpoint());
        stdout(&bench.run(&videos, &options));
        for instance in 1..=8 {
            let frames = if instance % 2 == 0 { 16 } else { 8 };
            assert_eq!(bench.names(instance), frame_names(frames), "instance {instance}");
        }
    }
}

#[test]
fn where_many_wait_no_more_start() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 2 -c:v mpeg4");
    let service = Service::with(|options, _| options.limits.streams = 1);
    let options = format!("-n 18 -m 0 -q --json figures.json --connect {}", service.endpoint());
    stdout(&bench.run(&[&clip], &options));
    let figures = bench.figures();
    let number = |instance: usize, name| figures["instances"][instance][name].as_f64().unwrap();
    // Somebody has had the only stream, nearly to its end, before the last may start.
    let halves =
        (0..17).map(|instance| number(instance, "started_s") + number(instance, "seconds") / 2.0);
    assert!(number(17, "started_s") >= halves.fold(f64::MAX, f64::min), "{figures}");
}

#[test]
fn who_asks_for_more_than_there_is_is_refused() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 8 -c:v mpeg4");
    // Held by nobody, and by somebody else, for ever.
    for (streams, taken) in [(0, false), (1, true)] {
        let service = Service::with(|options, _| options.limits.streams = streams);
        let client = Client::connect(&service.endpoint().parse().unwrap()).unwrap();
        let gray = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
        let spec = StreamSpec::new(gray, gray.extent);
        let _stream = taken.then(|| client.open(&spec).unwrap());
        let output = bench.run(&[&clip], &format!("-n 3 -m 0 --connect {}", service.endpoint()));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains("clip.mkv: refused: another stream is asked for"), "{line}");
    }
}

#[test]
fn videos_are_closed_until_their_turn() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", MOVING, "-frames:v 20 -c:v mpeg4");
    let clips = [(); 64].map(|()| &*clip);
    let service = Service::with(|options, _| options.limits.streams = 1);
    let mut command = bench.command(&clips);
    command.args(["-m", "0", "-q", "--connect", &service.endpoint()]);
    let (begun, mut program) = (Instant::now(), command.spawn().unwrap());
    let descriptors = format!("/proc/{}/fd", program.id());
    let (mut most, mut samples) = (0, 0);
    while program.try_wait().unwrap().is_none() {
        let entries = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        let open = entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == clip));
        most = most.max(open.count());
        samples += 1;
        if begun.elapsed() > Duration::from_secs(120) {
            program.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert!(program.wait().unwrap().success());
    // Those that have no stream yet, and one or two that have.
    assert!(samples > 10 && (1..=20).contains(&most), "{most} of {samples}");
}

#[test]
fn one_that_can_not_begin_keeps_no_other_from_it() {
    let bench = Bench::new();
    let clip = bench.clip("clip.mkv", "testsrc2=size=64x48", "-frames:v 2 -c:v mpeg4");
    let large = bench.clip("large.mkv", "color=size=1920x1080", "-frames:v 2 -c:v mpeg4");
    // Room for one ring of large frames, which somebody has, and for all of the others.
    let cores = thread::available_parallelism().unwrap().get();
    let slots = (2 * cores + 2).min(32) as u32;
    let ring_bytes = u64::from(slots) * 5_500_000;
    let service = Service::with(|options, _| options.limits.ring_bytes = ring_bytes);
    let client = Client::connect(&service.endpoint().parse().unwrap()).unwrap();
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(1920, 1080));
    let mut spec = StreamSpec::new(source, Extent::new(32, 24));
    spec.slots = slots;
    let _stream = client.open(&spec).unwrap();
    let videos: [&Path; 18] =
        std::array::from_fn(|index| if index == 0 { &*large } else { &*clip });
    let options = format!("-m 0 -s 32x24 -q --json figures.json --connect {}", service.endpoint());
    let output = bench.run(&videos, &options);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let figures = bench.figures();
    let number = |instance: usize, name| figures["instances"][instance][name].as_f64().unwrap();
    assert_eq!(number(0, "frames"), 0.0, "{figures}");
    assert!((1..18).all(|instance| number(instance, "frames") == 2.0), "{figures}");
    assert!(number(17, "started_s") < number(0, "started_s") + number(0, "seconds"), "{figures}");
}
