//! Peers that say exactly what they are told to, and an honest client that they must not disturb.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use resized_client::{PixelFormat, Stream, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::message::{Features, Goodbye, Message, Reply, Request, Violation};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;

use crate::support::{Bridge, Local, resized, spec, until};

/// A peer that says exactly what it is told to.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) inbox: Inbox,
}

impl Peer {
    pub(crate) fn new(bridge: &Bridge) -> Self {
        Self { socket: bridge.socket(), inbox: Inbox::new() }
    }

    /// One that has knocked, been welcomed, and has stream 0.
    pub(crate) fn with_stream(bridge: &Bridge, spec: StreamSpec) -> Self {
        let mut peer = Self::new(bridge);
        peer.knock();
        peer.say(hello());
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Welcome { .. }))));
        peer.say(Request::Open { stream: 0, spec, named: false });
        assert!(matches!(peer.hear(), Some(Message::Reply(Reply::Opened { stream: 0, .. }))));
        peer
    }

    pub(crate) fn call(&mut self, call: &Call) {
        let mut bytes = Vec::new();
        encode(call, &mut bytes).unwrap();
        self.raw(&bytes);
    }

    pub(crate) fn knock(&mut self) {
        self.call(&Call::Knock { version: VERSION, token: String::new() });
    }

    pub(crate) fn say(&mut self, request: Request) {
        self.call(&Call::Request(request));
    }

    /// The bridge may hang up meanwhile.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next message; none at the end, or if what comes is none.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.inbox.pop().ok()? {
                return Some(message);
            }
            match self.inbox.fill(|room| self.socket.read(room)) {
                Ok((0, _)) => return None,
                Ok(_) => {}
                Err(error) => {
                    is_over(&error);
                    return None;
                }
            }
        }
    }

    /// Hears a frame of so many bytes out.
    pub(crate) fn skip(&mut self, len: usize) {
        let there = self.inbox.take(len).len();
        self.socket.read_exact(&mut vec![0; len - there]).unwrap();
    }

    /// To the last byte: that it comes, not what it is.
    pub(crate) fn listen_to_the_end(&mut self) {
        while self.hear().is_some() {}
        let mut rest = Vec::new();
        if let Err(error) = self.socket.read_to_end(&mut rest) {
            is_over(&error);
        }
    }

    #[track_caller]
    pub(crate) fn expect_violation(&mut self, violation: Violation) {
        assert_eq!(self.hear(), Some(Message::Goodbye(Goodbye::Violation(violation))));
        assert_eq!(self.hear(), None);
    }
}

/// A connection that was cut off has ended, one that says nothing has not.
#[track_caller]
pub(crate) fn is_over(error: &io::Error) {
    let waits = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    assert!(!waits, "neither said goodbye nor hung up");
}

pub(crate) fn hello() -> Request {
    Request::Hello { version: VERSION, features: Features(u64::MAX), name: "a peer".into() }
}

/// A bridge, and an honest client of it.
pub(crate) struct Scene {
    pub(crate) bridge: Bridge,
    pub(crate) honest: Stream,
    pub(crate) expected: Vec<u8>,
    pub(crate) spec: StreamSpec,
    pub(crate) local: Local,
}

impl Scene {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let local = Local::start();
        let bridge = Bridge::start(&local, flags);
        let spec = spec(PixelFormat::Bgra, 2);
        let honest = bridge.client().open(&spec).unwrap();
        let expected = resized(&local.client().open(&spec).unwrap(), 9).unwrap();
        Self { bridge, honest, expected, spec, local }
    }

    #[track_caller]
    pub(crate) fn all_is_well(&self) {
        assert_eq!(resized(&self.honest, 9).unwrap(), self.expected);
    }

    /// Nothing is left of others.
    pub(crate) fn end(self) {
        self.all_is_well();
        let client = self.local.client();
        until("nothing is left", || {
            let stats = client.stats().unwrap();
            stats.streams == 1 && stats.sessions == 2
        });
    }

    pub(crate) fn frame_len(&self) -> usize {
        RingLayout::new(&self.spec).unwrap().input().rows_len()
    }
}
