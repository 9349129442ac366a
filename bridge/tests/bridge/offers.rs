//! Offers that lead nowhere cost a client of the service an attempt, while others are made.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use resized_client::{
    Client, Credentials, Extent, FrameSpec, PixelFormat, Reconnect, Refusal, StreamSpec,
};
use resized_protocol::VERSION;
use resized_protocol::codec::encode;
use resized_protocol::message::{Goodbye, Message};
use resized_protocol::remote::{Offer, STREAM_SUBJECT};

use crate::broker::Broker;
use crate::caller::Caller;
use crate::cluster::Node;
use crate::port::free_port;
use crate::support::{bounded, connect, resized, spec, until};

/// Offers that place, with more room than any bridge has, to everybody who asks.
fn offer(caller: &Caller, at: SocketAddr) {
    let (endpoint, token) = (format!("tcp://{at}"), "none".to_owned());
    let mut bytes = Vec::new();
    encode(&Offer { version: VERSION, endpoint, token, free: u32::MAX }, &mut bytes).unwrap();
    let nats = caller.nats.clone();
    let mut asked = caller.runtime.block_on(nats.subscribe(STREAM_SUBJECT)).unwrap();
    caller.runtime.block_on(nats.flush()).unwrap();
    caller.runtime.spawn(async move {
        while let Some(question) = asked.next().await {
            nats.publish(question.reply.unwrap(), bytes.clone().into()).await.unwrap();
        }
    });
}

/// Where that is done to all who come.
fn place(receive: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || receive(client.unwrap()));
        }
    });
    address
}

fn refuse(mut client: TcpStream) {
    let mut bytes = Vec::new();
    encode(&Message::Goodbye(Goodbye::Refused(Refusal::Token)), &mut bytes).unwrap();
    client.write_all(&bytes).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
}

fn say_nothing(mut client: TcpStream) {
    let _ = client.read_to_end(&mut Vec::new());
}

#[test]
fn places_that_lead_nowhere_are_passed_while_there_are_others() {
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &[]);
        drop(broker.client());
        let caller = Caller::new(&broker, Duration::from_secs(1));
        let nobody = ([127, 0, 0, 1], free_port()).into();
        for place in [nobody, place(refuse), place(say_nothing)] {
            offer(&caller, place);
        }
        let spec = spec(PixelFormat::I420, 2);
        let stream = Client::connect(&broker.endpoint()).unwrap().open(&spec).unwrap();
        let expected = resized(&stream, 1).unwrap();
        let _other = Node::start(&broker, &[]);
        node.bridge.kill();
        assert_eq!(resized(&stream, 1).unwrap(), expected);
    });
}

#[test]
fn who_never_looks_again_tries_the_other_places_too() {
    bounded(|| {
        let broker = Broker::start();
        let _node = Node::start(&broker, &[]);
        drop(broker.client());
        let caller = Caller::new(&broker, Duration::from_secs(1));
        for place in [([127, 0, 0, 1], free_port()).into(), place(refuse)] {
            offer(&caller, place);
        }
        for _ in 0..10 {
            connect(&broker.endpoint(), &Credentials::default()).unwrap();
        }
    });
}

#[test]
fn who_is_offered_only_what_it_can_not_take_is_told() {
    bounded(|| {
        let broker = Broker::start();
        let caller = Caller::new(&broker, Duration::from_secs(1));
        (1..3).for_each(|host| offer(&caller, ([192, 0, 2, host], 1).into()));
        let error = connect(&broker.endpoint(), &Credentials::default()).unwrap_err();
        let said = "no bridge of the service has room; 2 may";
        assert!(error.to_string().contains(said), "{error}");
    });
}

#[test]
fn a_bridge_without_memory_offers_nothing() {
    bounded(|| {
        let broker = Broker::start();
        // With many more places than the other.
        let full = Node::start(&broker, &["--memory", "32", "--connections", "1000"]);
        drop(broker.client());
        let spec_of = |side| {
            let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(side, side));
            StreamSpec { slots: 1, ..StreamSpec::new(source, Extent::new(16, 16)) }
        };
        let greedy = full.bridge.client();
        let small = spec_of(512);
        let taken: Vec<_> = std::iter::from_fn(|| greedy.open(&small).ok()).collect();
        assert!(taken.len() > 32, "{}", taken.len());
        until("it offers nothing", || {
            connect(&broker.endpoint(), &Credentials::default()).is_err()
        });
        let _node = Node::start(&broker, &["--memory", "32"]);
        drop(broker.client());
        let clients = [(); 3].map(|()| broker.client().open(&spec_of(2000)).unwrap());
        drop((clients, taken));
    });
}

#[test]
fn a_client_is_told_when_all_places_were_tried() {
    bounded(|| {
        let broker = Broker::start();
        let caller = Caller::new(&broker, Duration::from_secs(1));
        (0..2).for_each(|_| offer(&caller, place(refuse)));
        // As long as it may help.
        let reconnect = Reconnect { within: Duration::MAX, ..Reconnect::default() };
        let connected = Client::connect_as(&broker.endpoint(), reconnect, &Credentials::default());
        assert!(connected.unwrap_err().to_string().contains("token"));
        assert!(connect(&broker.endpoint(), &Credentials::default()).is_err());
    });
}
