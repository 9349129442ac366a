//! A daemon inside the process of its clients.

use std::thread;

use resized::{Devices, Options, Server};
use resized_client::{Client, Error, Refusal, StreamSpec};
use resized_protocol::message::Goodbye;

use crate::oracle::{self, Checked, workout};
use crate::support::bounded;

fn client(server: &Server) -> Client {
    Client::from_socket(server.connect().unwrap()).unwrap()
}

#[test]
fn several_clients_of_one_embedded_daemon() {
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
            Options { devices: Devices::Null, memory: Some(10_000), ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = client(&server);
        assert_eq!(client.devices()[..], ["null"]);
        let open = |slots| client.open(&StreamSpec { slots, ..oracle::dot() });
        assert!(matches!(open(2), Err(Error::Refused(Refusal::Quota { .. }))));
        open(1).unwrap().loan().unwrap().submit().unwrap().wait().unwrap();
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
        assert!(Client::from_socket(silent).is_err());
    });
}

#[test]
fn a_client_that_comes_too_late_is_told() {
    bounded(|| {
        let server = Server::embedded().unwrap();
        let socket = server.connect().unwrap();
        drop(server);
        assert!(Client::from_socket(socket).is_err());
    });
}
