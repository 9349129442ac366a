//! Requests of which the bridge answers some and the daemon the others.

use std::thread;
use std::time::Duration;

use resized_client::{Extent, FrameSpec, PixelFormat, StreamSpec};
use resized_protocol::codec::encode;
use resized_protocol::message::{Message, Refusal, Reply, Request};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;

use crate::peer::{Peer, Scene};
use crate::support::bounded;

const PAIRS: u32 = 60;

#[test]
fn replies_come_in_the_order_of_the_requests_whoever_gives_them() {
    bounded(|| {
        let scene = Scene::new(&["--connection-memory", "1"]);
        let mut peer = Peer::with_stream(&scene.bridge, scene.spec);
        let mut large = scene.spec;
        large.source.extent.width = 16000;
        for round in 0..200 {
            // In one piece, so that the daemon answers the first while the last are read.
            let mut bytes = Vec::new();
            for n in 0..PAIRS {
                let stream = 1 + PAIRS * round + n;
                let open = Request::Open { stream, spec: large, named: false };
                for request in [open, Request::Stats] {
                    encode(&Call::Request(request), &mut bytes).unwrap();
                }
            }
            peer.raw(&bytes);
            for _ in 0..PAIRS {
                let refused = peer.hear();
                let quota = matches!(
                    refused,
                    Some(Message::Reply(Reply::Refused(Refusal::Quota { limit: 0x10_0000, .. })))
                );
                assert!(quota, "{round}: {refused:?}");
                let stats = peer.hear();
                let is_next = matches!(stats, Some(Message::Reply(Reply::Stats(_))));
                assert!(is_next, "{round}: {stats:?}");
            }
        }
        drop(peer);
        scene.end();
    });
}

fn layout(spec: &StreamSpec) -> RingLayout {
    RingLayout::new(spec).unwrap()
}

/// The daemon gives a ring up that waits for ten seconds behind one that nobody takes.
#[test]
fn streams_that_are_asked_for_behind_a_large_frame_are_opened_once_it_is_read() {
    bounded(|| {
        let scene = Scene::new(&[]);
        let small = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
        let large = StreamSpec { slots: 1, ..StreamSpec::new(small, Extent::new(8192, 4096)) };
        let spec = StreamSpec { slots: 1, ..StreamSpec::new(small, small.extent) };
        let mut peer = Peer::with_stream(&scene.bridge, large);
        peer.say(Request::Submit { stream: 0, slots: vec![0] });
        peer.raw(&vec![0; layout(&large).input().rows_len()]);
        // It is being written.
        peer.socket.peek(&mut [0]).unwrap();
        for stream in [1, 2] {
            peer.say(Request::Open { stream, spec, named: false });
        }
        thread::sleep(Duration::from_secs(11));
        assert!(matches!(peer.hear(), Some(Message::Completed(_))));
        peer.skip(layout(&large).output().rows_len());
        for expected in [1, 2] {
            let reply = peer.hear();
            let Some(Message::Reply(Reply::Opened { stream, .. })) = reply else {
                panic!("{reply:?}")
            };
            assert_eq!(stream, expected);
        }
        drop(peer);
        scene.end();
    });
}
