//! A daemon for programs that are to work anywhere: the one that runs, or one in this process where none does.
//!
//! ```no_run
//! use resized_anywhere::Daemon;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Daemon::find(None)?.connect()?;
//! println!("resized on {:?}", client.devices());
//! # Ok(())
//! # }
//! ```
//!
//! Owns that choice, and may link both sides for it. Knows no frames.

#![warn(clippy::missing_errors_doc)]

use std::fmt;
use std::sync::Arc;

use resized::{Server, ServerError};
use resized_client::{Client, Endpoint, EndpointError, Error, Reconnect};
use thiserror::Error as ThisError;

/// What the daemon in this process is called where others are called by their endpoints.
pub const EMBEDDED: &str = "embedded";

/// The daemon that a program uses.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// One that runs, here or behind a bridge.
    Running(Endpoint),
    /// The one in this process, of all who ask for it here. It lives as long as any of them, or of the
    /// clients that [`connect`](Self::connect) gave out, or of their streams and frames.
    Embedded(Arc<Server>),
}

/// Why there is no daemon.
#[derive(Debug, ThisError)]
pub enum NoDaemon {
    /// `$RESIZED_ENDPOINT` is no endpoint.
    #[error(transparent)]
    Variable(EndpointError),
    /// What was given is none, nor the name of the one in this process.
    #[error("{0}, or '{EMBEDDED}' for a daemon in this process")]
    Name(EndpointError),
    /// None can be started in this process.
    // Quoted, and so no source.
    #[error("can't start a daemon in this process: {0}")]
    Embedded(ServerError),
}

impl Daemon {
    /// The daemon at `endpoint`; without one, the daemon that runs [where all clients
    /// look](Endpoint::running), else the one in this process.
    ///
    /// # Errors
    ///
    /// [`Variable`](NoDaemon::Variable), [`Embedded`](NoDaemon::Embedded).
    pub fn find(endpoint: Option<&Endpoint>) -> Result<Self, NoDaemon> {
        let found = match endpoint {
            Some(given) => Some(given.clone()),
            None => Endpoint::running().map_err(NoDaemon::Variable)?,
        };
        found.map_or_else(Self::embedded, |endpoint| Ok(Self::Running(endpoint)))
    }

    /// The daemon of that name: an endpoint, or `embedded` for the one in this process.
    ///
    /// # Errors
    ///
    /// [`Name`](NoDaemon::Name), [`Embedded`](NoDaemon::Embedded).
    pub fn named(name: &str) -> Result<Self, NoDaemon> {
        match name {
            EMBEDDED => Self::embedded(),
            endpoint => endpoint.parse().map(Self::Running).map_err(NoDaemon::Name),
        }
    }

    /// The one in this process, on every core.
    ///
    /// # Errors
    ///
    /// [`Embedded`](NoDaemon::Embedded).
    pub fn embedded() -> Result<Self, NoDaemon> {
        Server::shared().map(Self::Embedded).map_err(NoDaemon::Embedded)
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`]; [`Socket`](Error::Socket) where this process has no descriptors left.
    pub fn connect(&self) -> Result<Client, Error> {
        self.connect_with(Reconnect::default())
    }

    /// As [`connect`](Self::connect), and says what to do when the daemon goes away. The one in this
    /// process does not.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub fn connect_with(&self, reconnect: Reconnect) -> Result<Client, Error> {
        match self {
            Self::Running(endpoint) => Client::connect_with(endpoint, reconnect),
            Self::Embedded(server) => {
                let socket = server.connect().map_err(|error| Error::Socket(Arc::new(error)))?;
                Client::from_socket_of(socket, Arc::clone(server))
            }
        }
    }
}

impl fmt::Display for Daemon {
    /// As [`named`](Self::named) takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(endpoint) => endpoint.fmt(f),
            Self::Embedded(_) => f.write_str(EMBEDDED),
        }
    }
}

#[cfg(test)]
mod tests {
    use resized::{Devices, Listener, Options, Peers};
    use resized_client::{Extent, FrameSpec, PixelFormat, StreamSpec};

    use super::*;

    #[test]
    fn a_name_is_an_endpoint_or_embedded() {
        let inside = Daemon::named("embedded").unwrap();
        assert!(matches!(inside, Daemon::Embedded(_)));
        let running = Daemon::named("unix:/run/x").unwrap();
        assert!(matches!(&running, Daemon::Running(Endpoint::Unix(path)) if path.ends_with("x")));
        assert_eq!([inside, running].map(|daemon| daemon.to_string()), ["embedded", "unix:/run/x"]);
        let said = Daemon::named("embeded").unwrap_err().to_string();
        assert!(said.starts_with("'embeded' is no endpoint: write unix:"), "{said}");
        assert!(said.ends_with(", or 'embedded' for a daemon in this process"), "{said}");
    }

    #[test]
    fn one_that_is_named_is_not_replaced_by_one_inside() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(dir.path().join("socket"));
        let daemon = Daemon::find(Some(&endpoint)).unwrap();
        assert!(matches!(daemon.connect(), Err(Error::Connect { .. })));
        let Endpoint::Unix(path) = &endpoint else { unreachable!("it is one") };
        let options = Options { devices: Devices::Cpu, ..Options::default() };
        let _server = Server::at(Listener::bind(path, Peers::Owner).unwrap(), options).unwrap();
        assert!(daemon.connect().is_ok());
    }

    #[test]
    fn the_one_inside_lives_as_long_as_any_who_needs_it() {
        let (client, server) = {
            let daemon = Daemon::embedded().unwrap();
            let Daemon::Embedded(server) = &daemon else { unreachable!("it is") };
            (daemon.connect().unwrap(), Arc::downgrade(server))
        };
        let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(16, 16));
        let stream = client.open(&StreamSpec::new(source, Extent::new(8, 8))).unwrap();
        drop(client);
        let mut slot = stream.loan().unwrap();
        slot.write_packed(&[7; 256]).unwrap();
        let frame = slot.submit().unwrap().wait().unwrap();
        drop(stream);
        assert!(server.upgrade().is_some());
        assert_eq!(frame.to_packed(), [7; 64]);
        drop(frame);
        assert!(server.upgrade().is_none());
    }
}
