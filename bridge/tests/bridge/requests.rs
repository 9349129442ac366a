//! Requests of which the bridge answers some and the daemon the others.

use resized_protocol::codec::encode;
use resized_protocol::message::{Message, Refusal, Reply, Request};
use resized_protocol::remote::Call;

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
