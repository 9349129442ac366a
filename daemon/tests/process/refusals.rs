//! Requests that can't be granted: the client is told why, and its session lives on.

use std::os::unix::net::UnixStream;
use std::path::Path;

use resized_client::{
    Client, Crop, Error, Extent, Filter, PixelFormat, Refusal, Resource, Stream, StreamSpec, Whose,
};
use resized_protocol::VERSION;
use resized_protocol::frame::FrameError;
use resized_protocol::message::{Backing, Message, Reply, Request};

use crate::oracle::{self, Checked, spec, workout};
use crate::support::{Daemon, bounded, until};
use crate::wire::{Wire, hello};

#[track_caller]
fn refusal(opened: Result<Stream, Error>) -> Refusal {
    match opened {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn sized(from: (u32, u32), to: (u32, u32)) -> StreamSpec {
    spec(PixelFormat::Rgba, Filter::Bicubic, from, to)
}

#[test]
fn specs_that_can_not_be_are_refused_and_the_session_lives_on() {
    bounded(|| {
        let daemon = Daemon::start(&["--memory", "16"]);
        let client = daemon.client();
        let (before, descriptors) = daemon.at_rest(&client);
        let refused = |spec| {
            let refusal = refusal(client.open(&spec));
            Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
            refusal
        };
        for (w, h) in [(0, 5), (5, 0), (0, 0)] {
            let error = FrameError::Empty(Extent::new(w, h));
            assert_eq!(refused(sized((w, h), (4, 4))), Refusal::Source(error));
            assert_eq!(refused(sized((4, 4), (w, h))), Refusal::Destination(error));
        }
        for (w, h) in [(16_385, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            let error = FrameError::TooLong(Extent::new(w, h));
            assert_eq!(refused(sized((w, h), (4, 4))), Refusal::Source(error));
            assert_eq!(refused(sized((4, 4), (w, h))), Refusal::Destination(error));
        }
        for asked in [0, 101, u32::MAX] {
            let spec = StreamSpec { weight: asked, ..oracle::dot() };
            assert_eq!(refused(spec), Refusal::Weight { asked });
        }
        // Files are a bridge's to read.
        let mut coded = sized((4, 4), (4, 4));
        coded.coding.jpeg_in = true;
        assert_eq!(refused(coded), Refusal::Coded);
        for asked in [0, 257, u32::MAX] {
            let spec = StreamSpec { slots: asked, ..oracle::dot() };
            assert_eq!(refused(spec), Refusal::Slots { asked });
        }
        let mut tensor = sized((4, 4), (4, 4));
        tensor.source.format = oracle::tensor();
        assert_eq!(refused(tensor), Refusal::Format(oracle::tensor()));
        for (left, width) in [(-1.0, 2.0), (3.0, 1.5), (0.0, 0.0), (0.0, f64::INFINITY)] {
            let crop = Crop { left, top: 0.0, width, height: 4.0 };
            let spec = StreamSpec { crop: Some(crop), ..sized((4, 4), (4, 4)) };
            assert_eq!(refused(spec), Refusal::Crop { crop, extent: Extent::new(4, 4) });
        }
        let mut infinite = sized((4, 4), (4, 4));
        infinite.normalisation.scale[1] = f32::INFINITY;
        assert_eq!(refused(infinite), Refusal::Normalisation);
        // 16 MiB are all there is.
        let limit = 16 << 20;
        match refused(sized((2048, 2048), (1, 1))) {
            Refusal::Quota { whose, what, asked, left, limit: given } => {
                assert_eq!((whose, what), (Whose::User, Resource::RingBytes));
                assert!(asked > limit && left <= limit && given == limit);
            }
            other => panic!("{other:?}"),
        }
        let most = StreamSpec { slots: 256, ..sized((16_384, 16_384), (16_384, 16_384)) };
        let ring_bytes =
            |refusal| matches!(refusal, Refusal::Quota { what: Resource::RingBytes, .. });
        assert!(ring_bytes(refused(most)));
        let rest = daemon.at_rest(&client);
        assert_eq!((rest.0.streams, rest.0.ring_bytes), (0, before.ring_bytes));
        assert_eq!(rest.1, descriptors);
    });
}

#[test]
fn another_version_is_told_so_and_hung_up_on() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        for client in [0, VERSION + 1, u16::MAX] {
            let mut wire = Wire::connect(&daemon.socket());
            wire.say(&hello(client));
            let refused = Refusal::Version { daemon: VERSION, client };
            assert_eq!(wire.hear(), Message::Reply(Reply::Refused(refused)));
            assert_eq!(wire.hear_or_end().unwrap(), None);
        }
        workout(&daemon.client(), 0, 1);
    });
}

fn named_client(daemon: &Daemon) -> Client {
    let socket = UnixStream::connect(daemon.socket()).unwrap();
    Client::from_socket_with_named_segments(socket).unwrap()
}

#[test]
fn named_segments_are_refused_unless_allowed() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = named_client(&daemon);
        for _ in 0..2 {
            assert_eq!(refusal(client.open(&oracle::dot())), Refusal::NamedSegments);
        }
        assert_eq!(client.stats().unwrap().ring_bytes, 0);
        workout(&daemon.client(), 0, 1);
    });
}

#[test]
fn named_segments_work_where_allowed_and_leave_no_file() {
    bounded(|| {
        let daemon = Daemon::start(&["--allow-named-segments"]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        workout(&named_client(&daemon), 2, 2);
        // Not asked for, not given.
        workout(&daemon.client(), 2, 1);
        let open = |wire: &mut Wire| {
            wire.say_open(oracle::big(), true);
            match wire.hear() {
                Message::Reply(Reply::Opened { backing: Backing::Named(name), stream, .. }) => {
                    let file = Path::new("/dev/shm").join(name.trim_start_matches('/'));
                    assert!(file.exists());
                    (stream, file)
                }
                other => panic!("{other:?}"),
            }
        };
        let mut wire = Wire::welcomed(&daemon.socket());
        let (stream, closed) = open(&mut wire);
        let (_, left) = open(&mut wire);
        wire.say(&Request::Close { stream });
        assert_eq!(wire.hear(), Message::Reply(Reply::Closed { stream }));
        assert!(!closed.exists());
        drop(wire);
        until("the segment's file is gone", || !left.exists());
        daemon.await_rest(&watcher, descriptors);
    });
}
