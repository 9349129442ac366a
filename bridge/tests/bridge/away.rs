//! A bridge whose daemon is away draws no clients that others would serve.

use std::io::ErrorKind;
use std::net::TcpStream;

use resized_client::{Client, Credentials, Error, PixelFormat};

use crate::broker::Broker;
use crate::cluster::Node;
use crate::support::{Bridge, Local, bounded, connect, resized, spec, until};

#[test]
fn nobody_listens_while_the_daemon_is_away() {
    bounded(|| {
        let mut local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let connect = || connect(&bridge.endpoint(), &Credentials::default());
        for _ in 0..2 {
            assert!(connect().is_ok());
            local.stop();
            // Who comes before the bridge knows of it is told.
            until("nobody listens", || {
                matches!(connect(), Err(Error::Connect { error, .. })
                    if error.kind() == ErrorKind::ConnectionRefused)
            });
            local.start_again();
            until("somebody listens", || connect().is_ok());
        }
        let said = bridge.log();
        assert!(
            said.contains("the daemon is away") && said.contains("the daemon is back"),
            "{said}"
        );
    });
}

#[test]
fn a_bridge_whose_daemon_is_away_offers_nothing() {
    bounded(|| {
        let broker = Broker::start();
        // With more room than the other, so that those who ask would all come here.
        let mut away = Node::start(&broker, &["--connections", "200"]);
        drop(broker.client());
        let client = Client::connect(&broker.endpoint()).unwrap();
        let spec = spec(PixelFormat::I420, 2);
        let stream = client.open(&spec).unwrap();
        let expected = resized(&stream, 1).unwrap();
        let there = Node::start(&broker, &["--connections", "20"]);
        away.local.stop();
        until("another has joined", || {
            connect(&broker.endpoint(), &Credentials::default()).is_ok()
        });
        // Whoever found out was served elsewhere.
        until("the bridge knows", || {
            connect(&broker.endpoint(), &Credentials::default()).unwrap();
            TcpStream::connect(away.bridge.address).is_err()
        });
        for _ in 0..10 {
            connect(&broker.endpoint(), &Credentials::default()).unwrap();
        }
        assert_eq!(resized(&stream, 1).unwrap(), expected);
        until("all others have left", || there.sessions() == 1);
        // Back again it is asked as before.
        away.local.start_again();
        let mut clients = Vec::new();
        until("it has clients", || {
            clients.extend(connect(&broker.endpoint(), &Credentials::default()));
            // The bridge itself comes for a moment.
            away.sessions() > 1
        });
    });
}
