//! Sessions, each between a client's end that a test holds and a daemon without lanes.

mod scene;

use std::sync::atomic::Ordering;

use resized_protocol::codec::encode;
use resized_protocol::fdpass;
use resized_protocol::message::{Filter, Goodbye, Message, Refusal, Reply, Request, Status};
use resized_protocol::shm::{self, Lease, Region, RingLayout};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream as Peer;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use self::scene::{Nothing, SEES_ALL, Scene, TURNS, hear, open, open_as, run, say};
use super::*;
use crate::job::{Owner, StreamId};
use crate::scheduler::Lanes;

#[test]
fn one_who_opens_without_end_leaves_others_their_turn() {
    run(async {
        let scene = Scene::new();
        let mut greedy = Vec::new();
        for number in 0..10 {
            greedy.push(scene.client(1, number).await);
        }
        // None of them is done before the test says so.
        for peer in &greedy {
            say(peer, &open(Filter::Nearest)).await;
        }
        while scene.opening.load(Ordering::SeqCst) < TURNS {
            sleep(Duration::from_millis(1)).await;
        }
        let mut modest = scene.client(2, 10).await;
        say(&modest, &open(Filter::Bicubic)).await;
        assert!(matches!(hear(&mut modest).await, Message::Reply(Reply::Opened { .. })));
        say(&modest, &Request::Close { stream: 0 }).await;
        assert!(matches!(hear(&mut modest).await, Message::Reply(Reply::Closed { .. })));
        greedy.iter().for_each(|_| scene.gate.send(()).unwrap());
        for peer in &mut greedy {
            assert!(matches!(hear(peer).await, Message::Reply(Reply::Opened { .. })));
        }
    });
}

#[test]
fn a_stream_that_no_device_takes_is_refused_and_costs_nothing() {
    run(async {
        let scene = Scene::new();
        let mut peer = scene.client(1, 0).await;
        for (stream, filter) in [(0, Filter::Area), (1, Filter::Mitchell)] {
            say(&peer, &open_as(stream, filter)).await;
            assert_eq!(hear(&mut peer).await, Message::Reply(Reply::Refused(Refusal::Device)));
            assert_eq!(scene.shared.metrics.streams.read(), 0);
            assert_eq!(scene.shared.accounts.ring_bytes(), 0);
        }
        say(&peer, &open_as(2, Filter::Bicubic)).await;
        assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Opened { .. })));
    });
}

#[test]
fn a_daemon_that_stops_opens_nothing_that_still_waits_for_its_turn() {
    run(async {
        let scene = Scene::new();
        let mut peers = Vec::new();
        for number in 0..10 {
            peers.push(scene.client(1, number).await);
        }
        for peer in &peers {
            say(peer, &open(Filter::Nearest)).await;
        }
        while scene.opening.load(Ordering::SeqCst) < TURNS {
            sleep(Duration::from_millis(1)).await;
        }
        scene.stop.send_replace(true);
        let mut heard = JoinSet::new();
        for mut peer in peers {
            heard.spawn(async move { (hear(&mut peer).await, peer) });
        }
        // Those who were at it go on; all others are told before.
        for _ in TURNS..10 {
            let (reply, _) = heard.join_next().await.unwrap().unwrap();
            assert_eq!(reply, Message::Reply(Reply::Refused(Refusal::Stopping)));
        }
        (0..TURNS).for_each(|_| scene.gate.send(()).unwrap());
        while let Some(opened) = heard.join_next().await {
            let (opened, mut peer) = opened.unwrap();
            assert!(matches!(opened, Message::Reply(Reply::Opened { .. })));
            assert_eq!(hear(&mut peer).await, Message::Goodbye(Goodbye::Stopping));
        }
        assert_eq!(scene.opening.load(Ordering::SeqCst), TURNS);
    });
}

/// How often others had their turn while that task was at it.
async fn turns_during<T>(task: JoinHandle<T>) -> (usize, T) {
    let mut turns = 0;
    while !task.is_finished() {
        turns += 1;
        yield_now().await;
    }
    (turns, task.await.unwrap())
}

#[test]
fn who_asks_without_end_as_the_daemon_stops_leaves_others_their_turn() {
    run(async {
        let scene = Scene::new();
        let (peer, mut session) = scene.unheard(1, 0, SEES_ALL).await;
        let mut asked = Vec::new();
        for _ in 0..3000 {
            encode(&Request::Streams { client: 7, from: 0 }, &mut asked).unwrap();
        }
        assert_eq!(peer.try_write(&asked).unwrap(), asked.len());
        let drained = tokio::spawn(async move {
            let end = session.drain().await;
            (session, end)
        });
        let (turns, (session, end)) = turns_during(drained).await;
        assert!(matches!(end, End::Stopping { .. }), "{end}");
        assert!(session.inbox.is_empty());
        assert!(turns > 2, "{turns}");
    });
}

#[test]
fn what_came_while_nobody_looked_is_no_silence() {
    run(async {
        let scene = Scene::new();
        // A session looks at its clock and at its socket in any order.
        for number in 0..32 {
            let (mut peer, mut session) = scene.unheard(1, number, SEES_ALL).await;
            session.due = Some(Instant::now() - Duration::from_secs(1));
            tokio::spawn(session.run());
            assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Welcome { .. })));
        }
        // Nothing, and a part of something, are silence.
        for part in [0, 3] {
            let (mut peer, mut session) = scene.unheard(1, 32, SEES_ALL).await;
            session.read().await.unwrap();
            session.inbox = Inbox::new();
            assert_eq!(peer.try_write(&[7, 0, 0, 0][..part]).unwrap_or(0), part);
            session.due = Some(Instant::now() - Duration::from_secs(1));
            tokio::spawn(session.run());
            assert_eq!(hear(&mut peer).await, Message::Goodbye(Goodbye::Silence));
        }
    });
}

#[test]
fn who_leaves_any_number_of_streams_leaves_others_their_turn() {
    run(async {
        let scene = Scene::new();
        let (_peer, mut session) = scene.unheard(1, 0, SEES_ALL).await;
        let Request::Open { spec, .. } = open(Filter::Bicubic) else { unreachable!() };
        let counted = scene.shared.metrics.streams.count();
        let account = Arc::clone(session.place.account());
        let owner = Owner { account: &account, client: &session.metrics, counted };
        let id = StreamId { user: 1, client: 0, number: 0 };
        let devices = scene.shared.scheduler.devices();
        let (stream, _) = Stream::open(id, &spec, false, devices, owner).unwrap();
        let stream = Arc::new(stream);
        session.streams = (0..100_000).map(|number| (number, Arc::clone(&stream))).collect();
        let withdrawn = tokio::spawn(async move { session.withdraw().await });
        let (turns, withdrawn) = turns_during(withdrawn).await;
        assert_eq!(withdrawn.len(), 100_000);
        assert!(turns > 2, "{turns}");
    });
}

#[test]
fn a_frame_that_is_cancelled_before_a_lane_takes_it_is_not_resized() {
    run(async {
        let scene = Scene::new();
        let mut peer = scene.client(1, 0).await;
        say(&peer, &open(Filter::Bicubic)).await;
        assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Opened { .. })));
        say(&peer, &Request::Submit { stream: 0, slots: vec![0, 1, 2] }).await;
        say(&peer, &Request::Cancel { stream: 0, slot: 1 }).await;
        let ask = Request::Streams { client: 0, from: 0 };
        // Once this is answered all that was said before is heard.
        say(&peer, &ask).await;
        assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Streams(_))));
        let lanes = Lanes::start(&scene.shared.scheduler, &Arc::new(Nothing)).unwrap();
        let mut ended = [None; 3];
        for _ in 0..3 {
            let Message::Completed(done) = hear(&mut peer).await else { panic!("no frame") };
            ended[done.slot as usize] = Some(done.status);
        }
        assert_eq!(ended, [Status::Done, Status::Cancelled, Status::Done].map(Some));
        // Too late: it is the client's again, and nothing comes of it.
        say(&peer, &Request::Cancel { stream: 0, slot: 0 }).await;
        say(&peer, &ask).await;
        let Message::Reply(Reply::Streams(streams)) = hear(&mut peer).await else {
            panic!("no streams");
        };
        let [stream] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!((stream.frames, stream.cancelled, stream.failed), (2, 1, 0));
        drop(lanes);
    });
}

#[test]
fn a_client_that_does_not_read_has_one_ring_on_its_way() {
    run(async {
        let scene = Scene::new();
        let mut unread = scene.client(1, 0).await;
        for stream in 0..3 {
            say(&unread, &open_as(stream, Filter::Bicubic)).await;
        }
        let streams = || scene.shared.metrics.streams.read();
        while streams() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        // One of the same user's.
        let mut other = scene.client(1, 1).await;
        for stream in 0..20 {
            say(&other, &open_as(stream, Filter::Bicubic)).await;
            assert!(matches!(hear(&mut other).await, Message::Reply(Reply::Opened { .. })));
            say(&other, &Request::Close { stream }).await;
            assert!(matches!(hear(&mut other).await, Message::Reply(Reply::Closed { .. })));
        }
        assert_eq!(streams(), 1);
        for wanted in 0..2 {
            match hear(&mut unread).await {
                Message::Reply(Reply::Opened { stream, .. }) => assert_eq!(stream, wanted),
                other => panic!("{other:?}"),
            }
        }
        while streams() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        // What waits is told when the daemon stops.
        say(&unread, &open_as(3, Filter::Bicubic)).await;
        sleep(Duration::from_millis(20)).await;
        scene.stop.send_replace(true);
        assert!(matches!(hear(&mut unread).await, Message::Reply(Reply::Opened { .. })));
        assert_eq!(hear(&mut unread).await, Message::Reply(Reply::Refused(Refusal::Stopping)));
    });
}

#[test]
fn a_place_is_kept_until_what_was_passed_is_read() {
    run(async {
        let scene = Scene::new();
        let peers = [scene.client(1, 0).await, scene.client(1, 1).await];
        for peer in &peers {
            say(peer, &open(Filter::Bicubic)).await;
        }
        while scene.shared.metrics.streams.read() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        // Both are hung up on.
        for peer in &peers {
            say(peer, &Request::Close { stream: 7 }).await;
        }
        let sessions = || scene.shared.metrics.sessions.read();
        while scene.shared.metrics.streams.read() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(sessions(), 2);
        let [mut reads, leaves] = peers;
        assert!(matches!(hear(&mut reads).await, Message::Reply(Reply::Opened { .. })));
        assert!(matches!(hear(&mut reads).await, Message::Goodbye(Goodbye::Violation(_))));
        while sessions() == 2 {
            sleep(Duration::from_millis(1)).await;
        }
        drop(leaves);
        while sessions() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Opens a stream, and maps its ring as a client does.
async fn map(peer: &Peer) -> Vec<Lease> {
    say(peer, &open(Filter::Bicubic)).await;
    let mut bytes = [0; 4096];
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    let receive = || fdpass::receive(peer, &mut bytes, flags);
    let (_, descriptor) = peer.async_io(Interest::READABLE, receive).await.unwrap();
    let Request::Open { spec, .. } = open(Filter::Bicubic) else { unreachable!() };
    let layout = Arc::new(RingLayout::new(&spec).unwrap());
    let region = Region::open(descriptor.unwrap().unwrap(), layout.len()).unwrap();
    shm::leases(region, &layout).unwrap()
}

#[test]
fn a_ring_is_its_clients_until_it_lets_go_of_it() {
    run(async {
        // One whose session is cut short, as by a panic, and one who hangs up.
        for is_cut in [true, false] {
            let scene = Scene::new();
            let (peer, task) = scene.welcomed(1, 0, SEES_ALL).await;
            let mut leases = map(&peer).await;
            leases[0].input_mut().fill(7);
            match is_cut {
                true => task.abort(),
                false => drop(peer),
            }
            while scene.shared.metrics.streams.read() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            let accounts = &scene.shared.accounts;
            let take_back = || {
                accounts.that_keep_rings().iter().for_each(|account| account.take_back());
                accounts.ring_bytes()
            };
            let taken = take_back();
            assert!(taken > leases[0].layout().len().get() as u64, "{taken}");
            assert_eq!(leases[0].input()[0], 7);
            drop(leases);
            assert_eq!(take_back(), 0);
        }
    });
}

#[test]
fn one_who_is_not_welcome_is_told_so_and_hung_up_on() {
    run(async {
        let scene = Scene::new();
        let rights = Rights { welcome: false, ..SEES_ALL };
        let (mut peer, task) = scene.session(7, 0, rights).await;
        let refused = Message::Reply(Reply::Refused(Refusal::User { uid: 7 }));
        assert_eq!(hear(&mut peer).await, refused);
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        task.await.unwrap();
        assert_eq!(scene.shared.metrics.sessions.read(), 0);
        assert_eq!(scene.shared.metrics.refused.read(), 1);
    });
}

#[test]
fn named_segments_are_for_those_alone_who_may_have_them() {
    run(async {
        let scene = Scene::new();
        for (number, named_segments) in [(0, false), (1, true)] {
            let rights = Rights { named_segments, ..SEES_ALL };
            let (mut peer, _) = scene.session(1, number, rights).await;
            let Message::Reply(Reply::Welcome { features, .. }) = hear(&mut peer).await else {
                panic!("not welcome");
            };
            assert_eq!(features.contains(Features::NAMED_SEGMENTS), named_segments);
            let Request::Open { stream, spec, .. } = open(Filter::Bicubic) else { unreachable!() };
            say(&peer, &Request::Open { stream, spec, named: true }).await;
            match hear(&mut peer).await {
                Message::Reply(Reply::Opened { .. }) if named_segments => {}
                Message::Reply(Reply::Refused(Refusal::NamedSegments)) if !named_segments => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn who_does_not_see_all_sees_its_own_users_clients_alone() {
    run(async {
        let scene = Scene::new();
        let mut peers = Vec::new();
        for (number, uid) in [(0, 1), (1, 2), (2, 1)] {
            let rights = Rights { sees_all: uid == 2, ..SEES_ALL };
            let mut peer = scene.welcomed(uid, number, rights).await.0;
            say(&peer, &open(Filter::Bicubic)).await;
            assert!(matches!(hear(&mut peer).await, Message::Reply(Reply::Opened { .. })));
            peers.push(peer);
        }
        for (peer, seen) in peers.iter_mut().zip([&[0, 2][..], &[0, 1, 2], &[0, 2]]) {
            say(peer, &Request::Clients { from: 0 }).await;
            let Message::Reply(Reply::Clients(clients)) = hear(peer).await else {
                panic!("no clients");
            };
            assert!(clients.iter().map(|client| &client.client).eq(seen), "{clients:?}");
            for client in 0..3 {
                say(peer, &Request::Streams { client, from: 0 }).await;
                let Message::Reply(Reply::Streams(streams)) = hear(peer).await else {
                    panic!("no streams");
                };
                assert_eq!(streams.len(), usize::from(seen.contains(&client)), "{client}");
            }
        }
    });
}
