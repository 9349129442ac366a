//! Peers that are no honest clients, or slow ones: each is cut off, and nobody else notices.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use resized_client::{
    Credentials, Crop, Error, Extent, Filter, FrameSpec, PixelFormat, Refusal, StreamSpec,
};
use resized_protocol::codec::{CodecError, Inbox, encode};
use resized_protocol::message::{
    Completion, Cropped, Goodbye, Message, Reply, Request, Status, Violation,
};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;
use tokio::net::TcpSocket;

use crate::peer::{Peer, Scene, hello, is_over};
use crate::support::{Authority, Bridge, DEADLINE, Local, bounded, connect, noise, text, until};

#[test]
fn slots_and_streams_must_be_the_peers_own() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let submit = |stream, slots: &[u32]| Request::Submit { stream, slots: slots.into() };
        let frame = noise(scene.frame_len(), 1);
        let made = RingLayout::new(&scene.spec).unwrap().output().rows_len();
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
            let mut said = peer.hear();
            // The frame before may be done first.
            if let Some(Message::Completed(done)) = &said
                && frames > 0
            {
                assert_eq!(done.status, Status::Done);
                peer.skip(made);
                said = peer.hear();
            }
            assert_eq!(said, Some(Message::Goodbye(Goodbye::Violation(violation))));
            assert_eq!(peer.hear(), None);
            scene.all_is_well();
        }
        scene.end();
    });
}

#[test]
fn crops_outside_of_their_frames_end_the_connection() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let mut jpegs = scene.spec;
        jpegs.source = FrameSpec::jpeg(PixelFormat::Rgb24, Extent::new(640, 480));
        jpegs.coding.jpeg_in = true;
        for (spec, frame) in [(scene.spec, noise(scene.frame_len(), 1)), (jpegs, vec![0; 4])] {
            let whole = Crop::whole(spec.source.extent);
            for crop in [
                Crop { width: f64::NAN, ..whole },
                Crop { height: -1.0, ..whole },
                Crop { left: 1.0, ..whole },
            ] {
                let mut peer = Peer::with_stream(&scene.bridge, spec);
                let slots = vec![Cropped { slot: 0, crop }];
                peer.say(Request::SubmitCropped { stream: 0, slots });
                peer.raw(&frame);
                peer.expect_violation(Violation::Crop { stream: 0, slot: 0 });
            }
        }
        scene.end();
    });
}

#[test]
fn jpegs_that_are_longer_than_their_frames_end_the_connection() {
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
fn half_a_handshake_keeps_nobody_out() {
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
            if let Err(error) = socket.read_to_end(&mut alert) {
                is_over(&error);
            }
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
        match silent[0].read(&mut [0]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => is_over(&error),
        }
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
        let near = scene.local.client();
        until("all results are made", || near.stats().unwrap().devices[0].frames >= 402);
        let (mut size, mut quiet) = (before, 0);
        until("the bridge takes in no more of them", || {
            let now = resident(&scene.bridge);
            quiet = if now == size { quiet + 1 } else { 0 };
            size = now;
            quiet == 100
        });
        // Each has a MiB on its way, which stays in its ring, and in sockets.
        let grown = size.saturating_sub(before);
        assert!(grown < 200 * 64, "{grown} KiB");
        drop((crowd, near));
        scene.end();
    });
}

#[test]
fn bytes_that_are_no_calls_end_the_connection() {
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
fn noise_in_place_of_everything_harms_nobody_else() {
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

/// Peers that were let in and have nothing to say, all from an address that is nobody else's.
fn idle(bridge: &Bridge, count: usize) -> Vec<Peer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let connected = || async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(bridge.address).await.unwrap().into_std().unwrap()
    };
    let idle = |_| {
        let socket = runtime.block_on(connected());
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(DEADLINE / 2)).unwrap();
        let mut peer = Peer { socket, inbox: Inbox::new() };
        peer.knock();
        peer.say(hello());
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Welcome { .. }))));
        peer
    };
    (0..count).map(idle).collect()
}

#[test]
fn those_who_take_all_places_and_say_nothing_make_room_for_others() {
    bounded(|| {
        let scene = Scene::new(&["--connections", "4"]);
        let mut idle = idle(&scene.bridge, 3);
        let client = scene.bridge.client();
        client.open(&scene.spec).unwrap();
        assert_eq!(idle[0].hear(), Some(Message::Goodbye(Goodbye::Stopping)));
        assert_eq!(idle[0].hear(), None);
        // One address has no more than its part.
        let full = connect(&scene.bridge.endpoint(), &Credentials::default()).unwrap_err();
        assert!(matches!(full, Error::Refused(Refusal::Quota { .. })), "{full}");
        scene.all_is_well();
        drop((client, idle));
        scene.end();
    });
}

/// Asks without end, and reads nothing, until nothing more of it is taken.
fn ask_without_end(peer: &mut Peer) {
    let mut asked = Vec::new();
    (0..1000).for_each(|_| encode(&Call::Request(Request::Stats), &mut asked).unwrap());
    peer.socket.set_nonblocking(true).unwrap();
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 100 {
        match peer.socket.write(&asked[sent % asked.len()..]) {
            Ok(more) => (sent, quiet) = (sent + more, 0),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(5));
                quiet += 1;
            }
        }
    }
}

#[test]
fn those_who_take_all_places_and_do_not_read_make_room_for_others() {
    bounded(|| {
        let scene = Scene::new(&["--connections", "4"]);
        let mut idle = idle(&scene.bridge, 3);
        idle.iter_mut().for_each(ask_without_end);
        let client = scene.bridge.client();
        client.open(&scene.spec).unwrap();
        scene.all_is_well();
        drop((client, idle));
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
