//! JPEGs that wait for their turn: others do not wait for all of them, and what nobody wants any
//! more is not waited for.

use std::thread;
use std::time::{Duration, Instant};

use resized_client::{
    Client, Extent, FrameSpec, Jpeg, PixelFormat, Quality, Reconnect, StreamSpec, Subsampling,
};
use resized_protocol::message::{Completion, Goodbye, Message, Reply, Request, Status};
use resized_protocol::shm::RingLayout;
use turbojpeg::{Compressor, Image, Subsamp};

use crate::peer::{Peer, Scene};
use crate::support::bounded;

/// A gray JPEG of so many pixels in each direction.
fn gray_jpeg(side: usize) -> Vec<u8> {
    let pixels = vec![100; side * side];
    let mut compressor = Compressor::new().unwrap();
    compressor.set_progressive(true).unwrap();
    compressor.set_subsamp(Subsamp::Gray).unwrap();
    let format = turbojpeg::PixelFormat::GRAY;
    let image = Image { pixels: pixels.as_slice(), width: side, pitch: side, height: side, format };
    compressor.compress_to_vec(image).unwrap()
}

/// One that takes long: it says its last scan as often as that is read, only to be found unreadable.
fn slow_jpeg(side: usize) -> Vec<u8> {
    let jpeg = gray_jpeg(side);
    let is_scan = |marker: &[u8]| marker == [0xff, 0xda];
    let scans = jpeg.windows(2).filter(|marker| is_scan(marker)).count();
    let last = jpeg.windows(2).rposition(is_scan).unwrap();
    let (before, scan) = jpeg[..jpeg.len() - 2].split_at(last);
    [before, &scan.repeat(65 - scans), &[0xff, 0xd9]].concat()
}

/// A stream of gray JPEGs.
fn gray_jpegs(side: u32, slots: u32) -> StreamSpec {
    let source = FrameSpec::jpeg(PixelFormat::Gray8, Extent::new(side, side));
    let mut spec = StreamSpec { slots, ..StreamSpec::new(source, Extent::new(8, 8)) };
    spec.coding.jpeg_in = true;
    spec
}

/// Submits one of them.
fn submit_jpeg(peer: &mut Peer, stream: u32, slot: u32, jpeg: &[u8]) {
    peer.say(Request::Submit { stream, slots: vec![slot] });
    peer.raw(&(jpeg.len() as u32).to_le_bytes());
    peer.raw(jpeg);
}

/// Frames that wait to be decoded hold their streams' memory, also when those are closed: so there
/// are not many of them.
#[test]
fn streams_that_are_closed_with_jpegs_on_the_way_do_not_pile_up() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let (slow, small) = (slow_jpeg(2400), slow_jpeg(16));
        let mut peer = Peer::with_stream(&scene.bridge, gray_jpegs(2400, 16));
        (0..16).for_each(|slot| submit_jpeg(&mut peer, 0, slot, &slow));
        let maps = format!("/proc/{}/maps", scene.bridge.id());
        let mut most = 0;
        for stream in 1..=300 {
            peer.say(Request::Open { stream, spec: gray_jpegs(16, 4), named: false });
            loop {
                match peer.hear() {
                    Some(Message::Reply(Reply::Opened { .. })) => break,
                    Some(Message::Reply(Reply::Closed { .. }) | Message::Completed(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            (0..4).for_each(|slot| submit_jpeg(&mut peer, stream, slot, &small));
            peer.say(Request::Close { stream });
            let mapped = std::fs::read_to_string(&maps).unwrap();
            most = most.max(mapped.lines().filter(|line| line.contains("memfd")).count());
        }
        assert!(most < 100, "{most} rings at once");
        drop(peer);
        scene.end();
    });
}

/// One whose JPEGs take long, and many of them wait, before one with a frame now and then.
#[test]
fn who_submits_slow_jpegs_does_not_have_others_wait_for_all_of_them() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let slow = slow_jpeg(1200);
        let slots = 64.max(8 * thread::available_parallelism().unwrap().get() as u32);
        let stream = scene.bridge.client().open(&gray_jpegs(16, 2)).unwrap();
        let mut greedy = Peer::with_stream(&scene.bridge, gray_jpegs(1200, slots));
        (0..slots).for_each(|slot| submit_jpeg(&mut greedy, 0, slot, &slow));
        assert!(matches!(greedy.hear(), Some(Message::Completed(_))));
        for _ in 0..3 {
            let mut slot = stream.loan().unwrap();
            slot.write_jpeg(&gray_jpeg(16)).unwrap();
            drop(slot.submit().unwrap().wait().unwrap());
        }
        // Some of them still wait.
        greedy.say(Request::Close { stream: 0 });
        let mut done = 1;
        while let Some(Message::Completed(_)) = greedy.hear() {
            done += 1;
        }
        assert!(done < slots - 4, "{done}");
        drop(greedy);
        drop(stream);
        scene.end();
    });
}

/// Behind so many that their turns do not come soon.
#[test]
fn a_jpeg_that_waits_can_be_cancelled_and_be_late() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let (slow, small) = (slow_jpeg(1200), gray_jpeg(16));
        let ahead = 3 * thread::available_parallelism().unwrap().get() as u32;
        let made = RingLayout::new(&gray_jpegs(16, 2)).unwrap().output().rows_len();
        let mut peer = Peer::with_stream(&scene.bridge, gray_jpegs(1200, ahead));
        let live = StreamSpec { deadline: Some(Duration::from_millis(1)), ..gray_jpegs(16, 2) };
        for (stream, spec) in [(1, gray_jpegs(16, 2)), (2, live)] {
            peer.say(Request::Open { stream, spec, named: false });
            assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Opened { .. }))));
        }
        for _ in 0..2 {
            (0..ahead).for_each(|slot| submit_jpeg(&mut peer, 0, slot, &slow));
            (0..2).for_each(|slot| submit_jpeg(&mut peer, 1, slot, &small));
            submit_jpeg(&mut peer, 2, 0, &small);
            peer.say(Request::Cancel { stream: 1, slot: 1 });
            // Of which there is none.
            peer.say(Request::Cancel { stream: 1, slot: 2 });
            let mut ended = Vec::new();
            while ended.len() < ahead as usize + 3 {
                match peer.hear() {
                    Some(Message::Completed(completion)) => {
                        let Completion { stream, slot, status, .. } = completion;
                        if status == Status::Done {
                            peer.skip(made);
                        }
                        ended.push((stream, slot, status));
                    }
                    other => panic!("{other:?}"),
                }
            }
            ended.retain(|&(stream, ..)| stream > 0);
            ended.sort_by_key(|&(stream, slot, _)| (stream, slot));
            let expected = [(1, 0, Status::Done), (1, 1, Status::Cancelled), (2, 0, Status::Late)];
            assert_eq!(ended, expected);
        }
        drop(peer);
        scene.end();
    });
}

/// How long a bridge that stops may take over frames; then it says goodbye.
const LAST_FRAMES: Duration = Duration::from_secs(2);

#[test]
fn a_bridge_that_stops_does_what_has_come() {
    bounded(|| {
        let mut scene = Scene::new(&[]);
        let slow = slow_jpeg(400);
        let mut peer = Peer::with_stream(&scene.bridge, gray_jpegs(400, 8));
        (0..8).for_each(|slot| submit_jpeg(&mut peer, 0, slot, &slow));
        // They have come when this is answered.
        peer.say(Request::Stats);
        let mut done = 0;
        let mut hear = || {
            let message = peer.hear().unwrap();
            done += u32::from(matches!(message, Message::Completed(_)));
            message
        };
        while !matches!(hear(), Message::Reply(Reply::Stats(_))) {}
        let begun = Instant::now();
        scene.bridge.tell_to_stop();
        while hear() != Message::Goodbye(Goodbye::Stopping) {}
        assert!(done == 8 || begun.elapsed() >= LAST_FRAMES, "{done}");
        drop(peer);
        scene.bridge.has_stopped();
    });
}

/// Those at the daemon, and those that become JPEGs after it.
#[test]
fn a_bridge_that_stops_delivers_what_the_daemon_is_at() {
    bounded(|| {
        let mut scene = Scene::new(&[]);
        let client = Client::connect_with(&scene.bridge.endpoint(), Reconnect::NEVER).unwrap();
        let jpeg = gray_jpeg(400);
        let mut coded = gray_jpegs(400, 4);
        let (quality, subsampling) = (Quality::DEFAULT, Subsampling::Both);
        coded.coding.jpeg_out = Some(Jpeg { quality, subsampling });
        let coded = client.open(&coded).unwrap();
        let frame = FrameSpec::new(PixelFormat::Gray8, Extent::new(400, 400));
        let plain = StreamSpec { slots: 4, ..StreamSpec::new(frame, Extent::new(8, 8)) };
        let plain = client.open(&plain).unwrap();
        let mut pendings = Vec::new();
        for _ in 0..4 {
            let mut slot = coded.loan().unwrap();
            slot.write_jpeg(&jpeg).unwrap();
            pendings.extend([slot.submit().unwrap(), plain.loan().unwrap().submit().unwrap()]);
        }
        // They have come when this is answered.
        client.stats().unwrap();
        let begun = Instant::now();
        scene.bridge.tell_to_stop();
        let done = pendings.into_iter().filter_map(|pending| pending.wait().ok()).count();
        assert!(done == 8 || begun.elapsed() >= LAST_FRAMES, "{done}");
        drop((coded, plain, client));
        scene.bridge.has_stopped();
    });
}
