//! A daemon whose rings the bridge can't have.

use std::convert::Infallible;
use std::future;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net;
use std::thread;

use nix::sys::socket::MsgFlags;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::fdpass;
use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Backing, Message};
use resized_protocol::stats::Stats;
use tokio::io;
use tokio::time::timeout;

use super::*;
use crate::account::Memory;

/// Grants streams, as they should be or others, with a descriptor that is no memory; until it hears
/// of no more requests it notes which it closes.
fn daemon(mut socket: net::UnixStream, granted: fn(StreamSpec) -> StreamSpec) -> Vec<u32> {
    let (mut inbox, mut closed) = (Inbox::new(), Vec::new());
    loop {
        while let Some(request) = inbox.pop::<Request>().unwrap() {
            let mut descriptor = None;
            let reply = match request {
                Request::Open { stream, spec, .. } => {
                    let ring = RingLayout::new(&granted(spec)).unwrap();
                    descriptor = Some(socket.as_fd());
                    Reply::Opened { stream, ring, backing: Backing::Descriptor }
                }
                Request::Close { stream } => {
                    closed.push(stream);
                    Reply::Closed { stream }
                }
                Request::Stats => Reply::Stats(Stats::default()),
                other => panic!("{other:?}"),
            };
            let mut bytes = Vec::new();
            encode(&Message::Reply(reply), &mut bytes).unwrap();
            fdpass::send(&socket, &bytes, descriptor, MsgFlags::empty()).unwrap();
        }
        if inbox.fill(|room| socket.read(room)).unwrap().0 == 0 {
            return closed;
        }
    }
}

/// What a client and the bridge have between them.
type Wire = io::DuplexStream;

/// A conversation of a client with that daemon: how it ends, and which streams were closed.
async fn between<C: Future<Output = ()>>(
    granted: fn(StreamSpec) -> StreamSpec,
    conversation: impl FnOnce(Sender<io::WriteHalf<Wire>>, Receiver<io::ReadHalf<Wire>>) -> C,
) -> (End, Vec<u32>) {
    let patience = Duration::from_secs(60);
    let (near, far) = net::UnixStream::pair().unwrap();
    let near = Watched::new(near).unwrap();
    let daemon = thread::spawn(move || daemon(far, granted));
    let (client, bridge) = io::duplex(1 << 16);
    let (from_client, to_client) = io::split(bridge);
    let mut to_client = Sender::new(to_client, patience);
    let memory = Arc::new(Memory::new(u64::MAX));
    let account = Account::new(1 << 20, memory);
    let limits = Limits { pixels: 1, patience };
    let lanes = Lanes::start("lane", 1).unwrap();
    let from_client = Client { receiver: Receiver::new(from_client, patience), name: "", account };
    let relay = relay(from_client, &mut to_client, &near, limits, lanes, future::pending());
    let (reader, writer) = io::split(client);
    let (said, heard) = (Sender::new(writer, patience), Receiver::new(reader, patience));
    let conversation = async {
        conversation(said, heard).await;
        future::pending::<Infallible>().await
    };
    let end = tokio::select! {
        end = timeout(patience, relay) => end.expect("an end"),
        never = conversation => match never {},
    };
    drop(near);
    (end, daemon.join().unwrap())
}

fn spec() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
    StreamSpec::new(source, Extent::new(4, 4))
}

#[tokio::test]
async fn a_ring_that_the_bridge_can_not_have_costs_its_stream_alone() {
    let (end, closed) = between(
        |spec| spec,
        async |mut said, mut heard| {
            // Twice: what the first took is given back.
            for stream in [3, 4] {
                for request in [
                    Request::Open { stream, spec: spec(), named: false },
                    Request::Stats,
                    Request::Stats,
                ] {
                    said.send(&Call::Request(request), &[]).await.unwrap();
                }
                let refused = heard.next().await.unwrap();
                assert!(
                    matches!(refused, Some(Message::Reply(Reply::Refused(Refusal::System { .. })))),
                    "{refused:?}"
                );
                for _ in 0..2 {
                    let stats = heard.next().await.unwrap();
                    assert!(matches!(stats, Some(Message::Reply(Reply::Stats(_)))), "{stats:?}");
                }
            }
            // It has heard that the last one is to be closed before it answers this.
            said.send(&Call::Request(Request::Stats), &[]).await.unwrap();
            assert!(heard.next::<Message>().await.unwrap().is_some());
        },
    )
    .await;
    assert!(matches!(end, End::HungUp), "{end}");
    assert_eq!(closed, [3, 4]);
}

#[tokio::test]
async fn a_ring_of_another_layout_is_the_end() {
    let other = |spec| StreamSpec { slots: 1, ..spec };
    assert_ne!(RingLayout::new(&other(spec())), RingLayout::new(&spec()));
    let (end, _) = between(other, async |mut said, _heard| {
        let open = Request::Open { stream: 0, spec: spec(), named: false };
        said.send(&Call::Request(open), &[]).await.unwrap();
        future::pending().await
    })
    .await;
    assert!(matches!(&end, End::Breach(Breach::RingLayout)), "{end}");
}
