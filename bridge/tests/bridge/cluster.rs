//! Several bridges, each with a daemon of its own, that have joined a NATS service: clients go
//! where there is room, and on elsewhere when that is lost.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use resized_client::{Client, Credentials, Endpoint, Error, PixelFormat, Refusal};
use resized_protocol::VERSION;
use resized_protocol::codec::Inbox;
use resized_protocol::message::{Goodbye, Message, Reply};
use resized_protocol::remote::{Call, Offer, STREAM_SUBJECT};

use crate::broker::Broker;
use crate::caller::Caller;
use crate::peer::{Peer, hello};
use crate::port::free_port;
use crate::support::{
    Authority, Bridge, Local, bounded, connect, everybody_gets_on, resized, spec, text, until,
};

impl Broker {
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = Self::spawn(self.folder.path(), self.address, &[]);
        self.listens("nats");
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("{}/stream", self.url()).parse().unwrap()
    }

    /// A client of whatever bridge has joined by now.
    pub(crate) fn client(&self) -> Client {
        let mut client = None;
        until("a bridge has joined", || {
            client = connect(&self.endpoint(), &Credentials::default()).ok();
            client.is_some()
        });
        client.unwrap()
    }
}

pub(crate) struct Node {
    pub(crate) local: Local,
    pub(crate) bridge: Bridge,
}

impl Node {
    pub(crate) fn start(broker: &Broker, flags: &[&str]) -> Self {
        let local = Local::start();
        let url = broker.url();
        let bridge = Bridge::start(&local, &[&["--nats", &url], flags].concat());
        Self { local, bridge }
    }

    pub(crate) fn sessions(&self) -> u32 {
        // Without the one that asks.
        self.local.client().stats().unwrap().sessions - 1
    }
}

#[test]
fn a_node_that_is_killed_costs_no_frame() {
    bounded(|| a_node_that_goes_costs_no_frame(|node| node.bridge.kill()));
}

#[test]
fn a_node_that_stops_costs_no_frame() {
    bounded(|| a_node_that_goes_costs_no_frame(|node| node.bridge.stop()));
}

/// Has one of three go so, with streams.
fn a_node_that_goes_costs_no_frame(go: fn(&mut Node)) {
    const STREAMS: usize = 8;
    let broker = Broker::start();
    let mut nodes: Vec<_> = (0..3).map(|_| Node::start(&broker, &[])).collect();
    drop(broker.client());
    let spec = spec(PixelFormat::I420, 3);
    let near = nodes[0].local.client().open(&spec).unwrap();
    let expected: Vec<_> = (0..5).map(|seed| resized(&near, seed).unwrap()).collect();
    drop(near);
    let (over, rounds) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; STREAMS]);
    thread::scope(|scope| {
        for rounds in &rounds {
            let (over, expected, endpoint) = (&over, &expected, broker.endpoint());
            scope.spawn(move || {
                let stream = Client::connect(&endpoint).unwrap().open(&spec).unwrap();
                let mut seeds = (0..5).cycle();
                while !over.load(Ordering::Relaxed) {
                    let seed = seeds.next().unwrap();
                    assert_eq!(resized(&stream, seed).unwrap(), expected[seed as usize]);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        everybody_gets_on(&rounds);
        // Whichever has most.
        let busiest = (0..3).max_by_key(|&node| nodes[node].sessions()).unwrap();
        assert!(nodes[busiest].sessions() > 0);
        go(&mut nodes[busiest]);
        everybody_gets_on(&rounds);
        // The rest is shared by those that are left.
        let left = |(node, _): &(usize, &Node)| *node != busiest;
        let sessions = nodes.iter().enumerate().filter(left).map(|(_, node)| node.sessions());
        assert_eq!(sessions.sum::<u32>(), STREAMS as u32);
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_broker_that_is_gone_stops_no_stream_and_is_found_again() {
    bounded(|| {
        // Where no connection of others can be when it comes again.
        let mut broker = Broker::start_at((Ipv4Addr::LOCALHOST, free_port()).into());
        let node = Node::start(&broker, &[]);
        let spec = spec(PixelFormat::Gray8, 2);
        let stream = broker.client().open(&spec).unwrap();
        let expected = resized(&node.local.client().open(&spec).unwrap(), 3).unwrap();
        broker.kill();
        assert_eq!(resized(&stream, 3).unwrap(), expected);
        let error = connect(&broker.endpoint(), &Credentials::default()).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        broker.start_again();
        assert_eq!(resized(&stream, 3).unwrap(), expected);
        let again = broker.client().open(&spec).unwrap();
        assert_eq!(resized(&again, 3).unwrap(), expected);
    });
}

#[test]
fn bridges_that_are_full_say_so() {
    bounded(|| {
        let broker = Broker::start();
        let nodes = [
            Node::start(&broker, &["--connections", "1"]),
            Node::start(&broker, &["--connections", "2"]),
        ];
        drop(broker.client());
        until("all have joined and are empty", || {
            nodes.iter().all(|node| node.sessions() == 0) && {
                let clients: Vec<_> = (0..3)
                    .map_while(|_| connect(&broker.endpoint(), &Credentials::default()).ok())
                    .collect();
                clients.len() == 3
            }
        });
        until("they are empty again", || nodes.iter().all(|node| node.sessions() == 0));
        let clients: Vec<_> = (0..3).map(|_| broker.client()).collect();
        assert_eq!(nodes.each_ref().map(Node::sessions), [1, 2]);
        let error = connect(&broker.endpoint(), &Credentials::default()).unwrap_err();
        // Of those that have said so in time.
        let said = error.to_string();
        let said = said.split_once("no bridge of the service has room: ").expect(&said).1;
        assert!(said.starts_with("2 are full") || said.starts_with("one is full"), "{said}");
        drop(clients);
    });
}

#[test]
fn offers_let_in_without_the_bridges_own_token() {
    bounded(|| {
        let broker = Broker::start();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("bridge", false);
        let token = authority.write("token", "nobody knows");
        let port = free_port();
        let advertised = format!("tls://localhost:{port}");
        let listen = format!("127.0.0.1:{port}");
        let flags = [
            "--certificate",
            text(&certificate),
            "--key",
            text(&key),
            "--token",
            text(&token),
            "--advertise",
            &advertised,
            "--listen",
            &listen,
        ];
        let node = Node::start(&broker, &flags);
        let trusting =
            Credentials { authorities: Some(authority.certificate()), ..Credentials::default() };
        let direct = connect(&advertised.parse().unwrap(), &trusting).unwrap_err();
        assert!(direct.to_string().contains("token"), "{direct}");
        until("the bridge has joined", || connect(&broker.endpoint(), &trusting).is_ok());
        drop(node);
    });
}

#[test]
fn questions_that_take_no_answer_take_no_place() {
    bounded(|| {
        let broker = Broker::start();
        let authority = Authority::new();
        let token = authority.write("token", "nobody knows");
        let node = Node::start(&broker, &["--token", text(&token)]);
        drop(broker.client());
        let caller = Caller::new(&broker, Duration::from_secs(10));
        let ask = || {
            let asked = caller.nats.request(STREAM_SUBJECT, "".into());
            offer(&caller.runtime.block_on(asked).unwrap().payload)
        };
        let first = ask();
        // More than offers that are good at the same time, in pieces that the bridge has room for.
        for _ in 0..110 {
            caller.runtime.block_on(async {
                for _ in 0..100 {
                    caller.nats.publish(STREAM_SUBJECT, "".into()).await.unwrap();
                }
            });
            ask();
        }
        let mut peer = Peer::new(&node.bridge);
        peer.call(&Call::Knock { version: VERSION, token: first.token });
        peer.say(hello());
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Welcome { .. }))));
    });
}

fn offer(bytes: &[u8]) -> Offer {
    let mut inbox = Inbox::new();
    let mut rest = bytes;
    inbox.fill(|room| rest.read(room)).unwrap();
    inbox.pop().unwrap().unwrap()
}

#[test]
fn an_offer_lets_in_once() {
    bounded(|| {
        let broker = Broker::start();
        let authority = Authority::new();
        let token = authority.write("token", "nobody knows");
        let node = Node::start(&broker, &["--token", text(&token)]);
        let caller = Caller::new(&broker, Duration::from_secs(1));
        let mut answer = None;
        until("the bridge has joined", || {
            let asked = caller.nats.request(STREAM_SUBJECT, "".into());
            answer = caller.runtime.block_on(asked).ok();
            answer.is_some()
        });
        let Offer { token, .. } = offer(&answer.unwrap().payload);
        let knock = || {
            let mut peer = Peer::new(&node.bridge);
            peer.call(&Call::Knock { version: VERSION, token: token.clone() });
            peer.say(hello());
            peer.hear()
        };
        assert!(matches!(knock(), Some(Message::Reply(Reply::Welcome { .. }))));
        assert_eq!(knock(), Some(Message::Goodbye(Goodbye::Refused(Refusal::Token))));
    });
}
