//! Owns a raw connection: says what no client library would, byte by byte.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::MsgFlags;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::message::{
    Features, Goodbye, Message, Reply, Request, StreamSpec, Violation,
};
use resized_protocol::{VERSION, fdpass};

use crate::support::DEADLINE;

pub(crate) struct Wire {
    pub(crate) socket: UnixStream,
    inbox: Inbox,
    streams: u32,
}

/// A message with its length, as bytes.
pub(crate) fn bytes(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(request, &mut bytes).unwrap();
    bytes
}

impl Wire {
    /// A connection on which nothing has been said.
    pub(crate) fn connect(socket: &Path) -> Self {
        let socket = UnixStream::connect(socket).unwrap();
        socket.set_read_timeout(Some(DEADLINE / 2)).unwrap();
        Self { socket, inbox: Inbox::new(), streams: 0 }
    }

    /// A connection that has been welcomed, with every feature there is.
    pub(crate) fn welcomed(socket: &Path) -> Self {
        let mut wire = Self::connect(socket);
        wire.say(&hello(VERSION));
        assert!(matches!(wire.hear(), Message::Reply(Reply::Welcome { .. })));
        wire
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn say(&mut self, request: &Request) {
        self.raw(&bytes(request));
    }

    /// Says it with a descriptor beside it.
    pub(crate) fn say_with(&mut self, request: &Request, descriptor: impl AsFd) {
        let bytes = bytes(request);
        let descriptor = Some(descriptor.as_fd());
        let sent = fdpass::send(&self.socket, &bytes, descriptor, MsgFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Message {
        self.hear_or_end().unwrap().expect("a message, not the end")
    }

    /// The next message, or `None` at the connection's end.
    pub(crate) fn hear_or_end(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.inbox.pop().unwrap() {
                return Ok(Some(message));
            }
            let mut socket = &self.socket;
            match self.inbox.fill(|room| socket.read(room)) {
                Ok((0, _)) => return Ok(None),
                Ok(_) => {}
                // Who was stopped as it read goes on: see signal(7).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The daemon hung up before it had read everything.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The last message: a violation. Then the end.
    #[track_caller]
    pub(crate) fn expect_violation(&mut self, violation: Violation) {
        assert_eq!(self.hear(), Message::Goodbye(Goodbye::Violation(violation)));
        assert_eq!(self.hear_or_end().unwrap(), None);
    }

    /// Asks for the next stream.
    pub(crate) fn say_open(&mut self, spec: StreamSpec, named: bool) {
        self.say(&Request::Open { stream: self.streams, spec, named });
        self.streams += 1;
    }

    /// Opens a stream and lets its descriptor go.
    pub(crate) fn open(&mut self, spec: StreamSpec) -> u32 {
        self.say_open(spec, false);
        match self.hear() {
            Message::Reply(Reply::Opened { stream, .. }) => stream,
            other => panic!("{other:?}"),
        }
    }
}

/// A hello that offers every feature there is.
pub(crate) fn hello(version: u16) -> Request {
    Request::Hello { version, features: Features(u64::MAX), name: "a test".into() }
}
