//! A daemon inside the process of its clients.

use std::os::unix::net::UnixStream;
use std::thread;

use resized::{Devices, Limits, Options, Server};
use resized_client::{Client, Error, Extent, KeptStreams, Refusal, StreamSpec};
use resized_protocol::message::Goodbye;

use crate::oracle::{self, Checked, workout};
use crate::quotas::UNREAD;
use crate::support::bounded;

fn client(server: &Server) -> Client {
    Client::from_socket(server.connect().unwrap()).unwrap()
}

#[test]
fn several_clients_share_one_embedded_daemon() {
    bounded(|| {
        let server = Server::embedded().unwrap();
        thread::scope(|scope| {
            for seed in 0..3 {
                let client = client(&server);
                scope.spawn(move || workout(&client, seed, 2));
            }
        });
        assert_eq!(client(&server).stats().unwrap().devices[0].failed, 0);
    });
}

#[test]
fn options_are_obeyed() {
    bounded(|| {
        let options =
            Options { devices: Devices::Null, memory: Some(UNREAD + 12_500), ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = client(&server);
        assert_eq!(client.devices()[..], ["null"]);
        let open = |slots| client.open(&StreamSpec { slots, ..oracle::dot() });
        assert!(matches!(open(2), Err(Error::Refused(Refusal::Quota { .. }))));
        drop(open(1).unwrap().loan().unwrap().submit().unwrap().wait().unwrap());
    });
}

/// Its user may have two streams.
fn of_two_streams() -> Server {
    let limits = Limits { streams: 2, ..Limits::default() };
    Server::embedded_with(Options { devices: Devices::Cpu, limits, ..Options::default() }).unwrap()
}

#[test]
fn no_stream_is_refused_for_those_that_are_kept() {
    bounded(|| {
        let server = of_two_streams();
        let client = client(&server);
        let spec = |side| {
            let mut spec = oracle::dot();
            spec.source.extent = Extent::new(side, side);
            spec
        };
        let resize = |kept: &KeptStreams, side| {
            let slot = kept.stream(&spec(side)).unwrap().loan().unwrap();
            drop(slot.submit().unwrap().wait().unwrap());
        };
        // Those used last are there without asking, and room is made before another is opened.
        let few = KeptStreams::new(client.clone(), 2);
        for (side, streams) in [(1, 1), (2, 2), (1, 2), (3, 2), (1, 2)] {
            resize(&few, side);
            assert_eq!(client.stats().unwrap().streams, streams);
        }
        let many = KeptStreams::new(client.clone(), 4);
        drop(few);
        for side in [1, 2, 3, 4, 1, 2, 3, 4] {
            resize(&many, side);
        }
        // The caller's own are not closed for one that would be kept.
        let _own = [5, 6].map(|side| many.open(&spec(side)).unwrap());
        let refused = many.stream(&spec(7)).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Quota { .. })), "{refused}");
        assert!(refused.is_shortage() && !refused.is_fatal());
    });
}

#[test]
fn two_threads_that_are_short_at_once_are_both_served() {
    bounded(|| {
        let server = of_two_streams();
        let kept = KeptStreams::new(client(&server), 2);
        thread::scope(|scope| {
            for thread in 0..2 {
                let kept = &kept;
                scope.spawn(move || {
                    for turn in 0..500 {
                        let mut spec = oracle::dot();
                        spec.source.extent = Extent::new(1 + thread, 1 + turn % 5);
                        // Each holds one at a time, so there is always room beside what is kept.
                        kept.stream(&spec).unwrap();
                    }
                });
            }
        });
    });
}

#[test]
fn dropping_the_server_completes_what_was_submitted() {
    bounded(|| {
        let server = Server::embedded().unwrap();
        let clients = [client(&server), client(&server)];
        let spec = StreamSpec { slots: 12, ..oracle::big() };
        let streams = clients.each_ref().map(|client| Checked::open(client, spec, 3));
        let submit = |stream: &Checked| (0..12).map(|n| stream.submit(n).unwrap()).collect();
        let pendings: [Vec<_>; 2] = streams.each_ref().map(submit);
        // Clients that are gone, and one that never said a word, hold nothing up.
        drop(client(&server));
        let silent = server.connect().unwrap();
        drop(server);
        for (stream, pendings) in streams.iter().zip(pendings) {
            for (n, pending) in pendings.into_iter().enumerate() {
                stream.check(n, &pending.wait().unwrap());
            }
            let error = stream.submit(0).and_then(|pending| pending.wait()).unwrap_err();
            assert!(matches!(error, Error::Goodbye(Goodbye::Stopping)), "{error}");
        }
        assert!(clients[0].stats().is_err() && clients[1].open(&spec).is_err());
        hears_that_it_stops(silent);
    });
}

#[test]
fn a_client_that_comes_too_late_is_told() {
    bounded(|| {
        let server = Server::embedded().unwrap();
        let sockets: Vec<_> = (0..20).map(|_| server.connect().unwrap()).collect();
        drop(server);
        sockets.into_iter().for_each(hears_that_it_stops);
    });
}

fn hears_that_it_stops(socket: UnixStream) {
    let error = Client::from_socket(socket).unwrap_err();
    assert!(matches!(error, Error::Goodbye(Goodbye::Stopping)), "{error}");
}
