//! Peers that are no honest clients, or slow ones: each is cut off, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use resized_client::{Credentials, Extent, Filter, FrameSpec, PixelFormat, Stream, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::{CodecError, Inbox, encode};
use resized_protocol::message::{
    Completion, Features, Goodbye, Message, Reply, Request, Status, Violation,
};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;
use turbojpeg::{Compressor, Image, Subsamp};

use crate::support::{
    Authority, Bridge, DEADLINE, Local, bounded, connect, noise, resized, spec, text, until,
};

/// A peer that says exactly what it is told to.
struct Peer {
    socket: TcpStream,
    inbox: Inbox,
}

impl Peer {
    fn new(bridge: &Bridge) -> Self {
        Self { socket: bridge.socket(), inbox: Inbox::new() }
    }

    /// One that has knocked, been welcomed, and has stream 0.
    fn with_stream(bridge: &Bridge, spec: StreamSpec) -> Self {
        let mut peer = Self::new(bridge);
        peer.knock();
        peer.say(hello());
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Welcome { .. }))));
        peer.say(Request::Open { stream: 0, spec, named: false });
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Opened { stream: 0, .. }))));
        peer
    }

    fn call(&mut self, call: &Call) {
        let mut bytes = Vec::new();
        encode(call, &mut bytes).unwrap();
        self.raw(&bytes);
    }

    fn knock(&mut self) {
        self.call(&Call::Knock { version: VERSION, token: String::new() });
    }

    fn say(&mut self, request: Request) {
        self.call(&Call::Request(request));
    }

    /// The bridge may hang up meanwhile.
    fn raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next message; none at the end, or if what comes is none.
    fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.inbox.pop().ok()? {
                return Some(message);
            }
            if self.inbox.fill(|room| self.socket.read(room)).map_or(0, |(read, _)| read) == 0 {
                return None;
            }
        }
    }

    /// To the last byte: that it comes, not what it is.
    fn listen_to_the_end(&mut self) {
        while self.hear().is_some() {}
        let mut rest = Vec::new();
        let _ = self.socket.read_to_end(&mut rest);
    }

    #[track_caller]
    fn expect_violation(&mut self, violation: Violation) {
        assert_eq!(self.hear(), Some(Message::Goodbye(Goodbye::Violation(violation))));
        assert_eq!(self.hear(), None);
    }
}

fn hello() -> Request {
    Request::Hello { version: VERSION, features: Features(u64::MAX), name: "a peer".into() }
}

/// A bridge, and an honest client of it.
struct Scene {
    bridge: Bridge,
    honest: Stream,
    expected: Vec<u8>,
    spec: StreamSpec,
    local: Local,
}

impl Scene {
    fn new(flags: &[&str]) -> Self {
        let local = Local::start();
        let bridge = Bridge::start(&local, flags);
        let spec = spec(PixelFormat::Bgra, 2);
        let honest = bridge.client().open(&spec).unwrap();
        let expected = resized(&local.client().open(&spec).unwrap(), 9).unwrap();
        Self { bridge, honest, expected, spec, local }
    }

    #[track_caller]
    fn all_is_well(&self) {
        assert_eq!(resized(&self.honest, 9).unwrap(), self.expected);
    }

    /// Nothing is left of others.
    fn end(self) {
        self.all_is_well();
        let client = self.local.client();
        until("nothing is left", || {
            let stats = client.stats().unwrap();
            stats.streams == 1 && stats.sessions == 2
        });
    }

    fn frame_len(&self) -> usize {
        RingLayout::new(&self.spec).unwrap().input().rows_len()
    }
}

#[test]
fn slots_and_streams_must_be_the_peers_own() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let submit = |stream, slots: &[u32]| Request::Submit { stream, slots: slots.into() };
        let frame = noise(scene.frame_len(), 1);
        for (request, frames, violation) in [
            (submit(1, &[0]), 0, Violation::UnknownStream(1)),
            (submit(0, &[2]), 0, Violation::UnknownSlot { stream: 0, slot: 2 }),
            (submit(0, &[0, 0]), 1, Violation::SlotBusy { stream: 0, slot: 0 }),
            (submit(0, &[]), 0, Violation::EmptySubmit),
            (Request::Close { stream: 5 }, 0, Violation::UnknownStream(5)),
            (hello(), 0, Violation::SecondHello),
        ] {
            let mut peer = Peer::with_stream(&scene.bridge, scene.spec);
            peer.say(request);
            (0..frames).for_each(|_| peer.raw(&frame));
            if frames == 0 {
                peer.expect_violation(violation);
            } else {
                // A completion may come first.
                peer.listen_to_the_end();
            }
            scene.all_is_well();
        }
        scene.end();
    });
}

#[test]
fn jpegs_that_are_longer_than_their_frames() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let mut spec = scene.spec;
        spec.source = FrameSpec::jpeg(PixelFormat::Rgb24, spec.source.extent);
        spec.coding.jpeg_in = true;
        let longest = RingLayout::new(&spec).unwrap().input().longest_coded() as u32;
        for len in [longest + 1, u32::MAX] {
            let mut peer = Peer::with_stream(&scene.bridge, spec);
            peer.say(Request::Submit { stream: 0, slots: vec![0] });
            peer.raw(&len.to_le_bytes());
            peer.expect_violation(Violation::CodedLen { stream: 0, len });
        }
        // The longest is read to its end.
        let mut peer = Peer::with_stream(&scene.bridge, spec);
        peer.say(Request::Submit { stream: 0, slots: vec![0] });
        peer.raw(&longest.to_le_bytes());
        peer.raw(&vec![0xff; longest as usize]);
        let message = peer.hear();
        let Some(Message::Completed(Completion { status: Status::Unreadable, .. })) = message
        else {
            panic!("{message:?}")
        };
        drop(peer);
        scene.end();
    });
}

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
        let stream = scene.bridge.client().open(&gray_jpegs(16, 2)).unwrap();
        let mut greedy = Peer::with_stream(&scene.bridge, gray_jpegs(1200, 64));
        (0..64).for_each(|slot| submit_jpeg(&mut greedy, 0, slot, &slow));
        assert!(matches!(greedy.hear(), Some(Message::Completed(_))));
        for _ in 0..3 {
            let mut slot = stream.loan().unwrap();
            slot.write_jpeg(&gray_jpeg(16)).unwrap();
            slot.submit().unwrap().wait().unwrap();
        }
        // Most of them still wait, unless there are as many cores.
        greedy.say(Request::Close { stream: 0 });
        let mut done = 1;
        while let Some(Message::Completed(_)) = greedy.hear() {
            done += 1;
        }
        let cores = thread::available_parallelism().unwrap().get();
        assert!(done < 60.max(2 * cores + 1), "{done}");
        drop(greedy);
        drop(stream);
        scene.end();
    });
}

#[test]
fn who_knocks_at_a_bridge_that_stops_is_told_so() {
    bounded(|| {
        let mut scene = Scene::new(&[]);
        let mut peer = Peer::new(&scene.bridge);
        // Who came later is let in, so it is at the door.
        scene.bridge.client();
        scene.bridge.tell_to_stop();
        until("it stops", || scene.bridge.log().contains("stopping"));
        peer.knock();
        assert_eq!(peer.hear(), Some(Message::Goodbye(Goodbye::Stopping)));
        drop(peer);
        scene.bridge.has_stopped();
    });
}

#[test]
fn half_a_handshake() {
    bounded(|| {
        let local = Local::start();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("bridge", false);
        let flags = ["--certificate", text(&certificate), "--key", text(&key)];
        let bridge = Bridge::start(&local, &[&flags[..], &["--connections", "1"]].concat());
        // The first bytes of a ClientHello: of its record, and of half of it.
        let mut half = bridge.socket();
        half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
        // And none that could be TLS is heard out.
        let mut plain = bridge.socket();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        for socket in [&mut plain, &mut half] {
            let mut alert = Vec::new();
            let _ = socket.read_to_end(&mut alert);
            // Nothing but an alert, if that.
            assert!(alert.is_empty() || alert[0] == 0x15, "{alert:?}");
        }
        // Neither has had the only place there is.
        let trusting =
            Credentials { authorities: Some(authority.certificate()), ..Credentials::default() };
        until("there is room", || connect(&bridge.secure(), &trusting).is_ok());
    });
}

#[test]
fn any_number_of_silent_ones_keep_nobody_out() {
    bounded(|| {
        let scene = Scene::new(&["--connections", "2"]);
        let mut silent: Vec<_> = (0..400).map(|_| scene.bridge.socket()).collect();
        let client = connect(&scene.bridge.endpoint(), &Credentials::default()).unwrap();
        // Those who came first had to go; the last may still say something.
        assert_eq!(silent[0].read(&mut [0]).unwrap_or(0), 0);
        let last = silent.last_mut().unwrap();
        last.write_all(&[0xff; 4]).unwrap();
        let mut answer = Vec::new();
        last.read_to_end(&mut answer).unwrap();
        assert!(!answer.is_empty());
        drop((silent, client));
        scene.end();
    });
}

/// What the bridge holds of its own, in KiB.
fn resident(bridge: &Bridge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn two_hundred_who_do_not_read_take_little_memory() {
    bounded(|| {
        let scene = Scene::new(&["--connections", "250"]);
        let small = FrameSpec::new(PixelFormat::Gray8, Extent::new(64, 64));
        let large = StreamSpec::new(small, Extent::new(1024, 512));
        let large = StreamSpec { slots: 2, filter: Filter::Nearest, ..large };
        let frame = noise(RingLayout::new(&large).unwrap().input().rows_len(), 3);
        let before = resident(&scene.bridge);
        let crowd: Vec<_> = (0..200)
            .map(|_| {
                let mut peer = Peer::with_stream(&scene.bridge, large);
                for slot in 0..2 {
                    peer.say(Request::Submit { stream: 0, slots: vec![slot] });
                    peer.raw(&frame);
                }
                peer
            })
            .collect();
        scene.all_is_well();
        // Each has a MiB on its way, which stays in its ring, and in sockets.
        let grown = resident(&scene.bridge).saturating_sub(before);
        assert!(grown < 200 * 64, "{grown} KiB");
        drop(crowd);
        scene.end();
    });
}

#[test]
fn bytes_that_are_no_calls() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let too_long = Violation::Codec(CodecError::TooLong);
        let malformed = Violation::Codec(CodecError::Malformed);
        for (bytes, violation) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], too_long),
            (&[0xff; 4], too_long),
            (&[4, 0, 0, 0, 9, 0, 0, 0], malformed),
            // A knock whose token has more bytes than there are in the world.
            (&[14, 0, 0, 0, 0, 0, 0, 0, 4, 0, 255, 255, 255, 255, 255, 255, 255, 255], malformed),
        ] {
            let mut peer = Peer::new(&scene.bridge);
            peer.raw(bytes);
            peer.expect_violation(violation);
            let mut peer = Peer::with_stream(&scene.bridge, scene.spec);
            peer.raw(bytes);
            peer.expect_violation(violation);
        }
        let mut early = Peer::new(&scene.bridge);
        early.say(hello());
        early.expect_violation(Violation::NoHello);
        let mut twice = Peer::new(&scene.bridge);
        twice.knock();
        twice.knock();
        twice.expect_violation(Violation::SecondHello);
        scene.end();
    });
}

#[test]
fn noise_in_place_of_everything() {
    bounded(|| {
        let scene = Scene::new(&["--patience", "1"]);
        for seed in 0..60 {
            let mut peer = Peer::with_stream(&scene.bridge, scene.spec);
            let mut bytes = noise(700, seed);
            // Half of them begin as a call of a plausible length does.
            if seed % 2 == 0 {
                bytes[..8].copy_from_slice(&[20 + seed as u8, 0, 0, 0, 1, 0, 0, 0]);
                bytes[8..12].copy_from_slice(&[(seed % 9) as u8, 0, 0, 0]);
            }
            peer.raw(&bytes);
            let _ = peer.socket.shutdown(std::net::Shutdown::Write);
            peer.listen_to_the_end();
        }
        scene.end();
    });
}

#[test]
fn who_says_nothing_or_half_of_it_is_cut_off() {
    bounded(|| {
        let scene = Scene::new(&["--patience", "1"]);
        let mut silent = Peer::new(&scene.bridge);
        let mut half_a_knock = Peer::new(&scene.bridge);
        half_a_knock.raw(&[14, 0, 0, 0, 0]);
        let mut half_a_frame = Peer::with_stream(&scene.bridge, scene.spec);
        half_a_frame.say(Request::Submit { stream: 0, slots: vec![0] });
        half_a_frame.raw(&noise(scene.frame_len() / 2, 1));
        for peer in [&mut half_a_frame, &mut half_a_knock] {
            peer.listen_to_the_end();
        }
        assert_eq!(silent.hear(), Some(Message::Goodbye(Goodbye::Silence)));
        scene.end();
    });
}

#[test]
fn who_sends_a_byte_now_and_then_is_cut_off() {
    bounded(|| {
        let scene = Scene::new(&["--patience", "1"]);
        let mut message = Peer::with_stream(&scene.bridge, scene.spec);
        let mut frame = Peer::with_stream(&scene.bridge, scene.spec);
        frame.say(Request::Submit { stream: 0, slots: vec![0] });
        // Beginning as a message of a hundred bytes does.
        let bytes = [100, 0, 0, 0].into_iter().chain(std::iter::repeat(1));
        let begun = Instant::now();
        for byte in bytes {
            let sent = [&mut message, &mut frame].map(|peer| peer.socket.write_all(&[byte]));
            if sent.iter().all(Result::is_err) {
                break;
            }
            assert!(begun.elapsed() < DEADLINE / 2, "still listened to");
            thread::sleep(Duration::from_millis(100));
        }
        scene.end();
    });
}

#[test]
fn who_does_not_read_stalls_itself_alone() {
    bounded(|| {
        let scene = Scene::new(&["--patience", "2"]);
        // Frames that no socket holds many of.
        let mut large = scene.spec;
        (large.source.extent.width, large.destination.extent.width) = (2000, 2000);
        (large.source.extent.height, large.destination.extent.height) = (500, 500);
        large.slots = 8;
        let len = RingLayout::new(&large).unwrap().input().rows_len();
        let mut deaf = Peer::with_stream(&scene.bridge, large);
        for slot in 0..8 {
            deaf.say(Request::Submit { stream: 0, slots: vec![slot] });
            deaf.raw(&vec![slot as u8; len]);
            scene.all_is_well();
        }
        until("it is cut off", || scene.local.client().stats().unwrap().streams == 1);
        scene.end();
    });
}

#[test]
fn frames_come_whole_behind_their_completions() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let mut peer = Peer::with_stream(&scene.bridge, scene.spec);
        let output = RingLayout::new(&scene.spec).unwrap().output().clone();
        for _ in 0..3 {
            peer.say(Request::Submit { stream: 0, slots: vec![1] });
            peer.raw(&vec![77; scene.frame_len()]);
            let message = peer.hear();
            let Some(Message::Completed(Completion { slot: 1, status: Status::Done, .. })) =
                message
            else {
                panic!("{message:?}")
            };
            let mut frame = vec![0; output.rows_len()];
            let there = peer.inbox.take(frame.len());
            let rest = there.len();
            frame[..rest].copy_from_slice(there);
            peer.socket.read_exact(&mut frame[rest..]).unwrap();
            let plane = output.planes()[0];
            for row in frame.chunks(plane.stride) {
                let (pixels, padding) = row.split_at(plane.row_bytes());
                assert!(pixels.iter().all(|&byte| byte == 77));
                // Nobody's bytes lie between the rows.
                assert!(padding.iter().all(|&byte| byte == 0));
            }
        }
        drop(peer);
        scene.end();
    });
}
