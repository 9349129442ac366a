//! Owns the conversation before frames flow: hello, opening of streams, figures.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use resized_protocol::VERSION;
use resized_protocol::message::{Backing, Features, Reply, Request, Stats, StreamSpec};
use resized_protocol::shm::{self, Region, RingLayout};

use crate::connection::Connection;
use crate::slots::Slots;
use crate::{Endpoint, Error, Stream};

/// A connection to a daemon. Clones share it; it closes with the last of them and of their streams.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    devices: Arc<[String]>,
    named_segments: bool,
}

impl Client {
    /// Connects to the daemon at `endpoint`.
    pub fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let Endpoint::Unix(path) = endpoint;
        let socket = UnixStream::connect(path).map_err(|source| Error::Connect {
            endpoint: endpoint.clone(),
            source: Arc::new(source),
        })?;
        Self::from_socket(socket)
    }

    /// Talks to a daemon over a socket that is already connected, such as an embedded daemon's.
    pub fn from_socket(socket: UnixStream) -> Result<Self, Error> {
        Self::hello(socket, false)
    }

    /// As [`from_socket`](Self::from_socket), with rings in named segments instead of passed
    /// descriptors. Only for a daemon that was started with `--allow-named-segments` by the same user:
    /// with any other, opening a stream is refused.
    pub fn from_socket_with_named_segments(socket: UnixStream) -> Result<Self, Error> {
        Self::hello(socket, true)
    }

    fn hello(socket: UnixStream, named_segments: bool) -> Result<Self, Error> {
        let connection = Connection::new(socket);
        let features = if named_segments { Features::NAMED_SEGMENTS } else { Features::default() };
        let name = std::env::current_exe()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
        let hello = Request::Hello { version: VERSION, features, name };
        let (reply, _) = connection.ask(|_| hello)?;
        connection.set_welcomed();
        match reply {
            Reply::Welcome { devices, .. } => Ok(Self {
                connection: Arc::new(connection),
                devices: devices.into(),
                named_segments,
            }),
            _ => Err(Error::Unexpected("another reply to a hello")),
        }
    }

    /// Names of the daemon's devices; a receipt's device is an index into it.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// What the daemon has done since it started.
    pub fn stats(&self) -> Result<Stats, Error> {
        match self.connection.ask(|_| Request::Stats)? {
            (Reply::Stats(stats), _) => Ok(stats),
            _ => Err(Error::Unexpected("another reply to a request for figures")),
        }
    }

    /// Opens a stream: the daemon makes a ring of `spec.slots` slots, mapped into both processes.
    pub fn open(&self, spec: &StreamSpec) -> Result<Stream, Error> {
        let named = self.named_segments;
        let (Reply::Opened { stream, ring, backing }, descriptor) = self
            .connection
            .ask(|outgoing| Request::Open { stream: outgoing.new_stream(), spec: *spec, named })?
        else {
            return Err(Error::Unexpected("another reply to the opening of a stream"));
        };
        // From here on the stream is open, and closed again by the drop of this.
        let opened = Stream::new(Arc::clone(&self.connection), stream, spec);
        if RingLayout::new(spec).as_ref() != Ok(&ring) {
            return Err(Error::Unexpected("a ring of another layout than its stream's"));
        }
        let region = match (backing, descriptor) {
            (Backing::Descriptor, Some(descriptor)) => Region::open(descriptor, ring.len())?,
            (Backing::Named(name), _) => Region::open_named(&name, ring.len())?,
            (Backing::Descriptor, None) => {
                return Err(Error::Unexpected("a stream without a descriptor"));
            }
        };
        let leases = shm::leases(region, &Arc::new(ring))?;
        self.connection.add_stream(stream, Slots::new(leases));
        Ok(opened)
    }
}
