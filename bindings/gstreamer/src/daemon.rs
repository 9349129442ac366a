//! Owns the way to a daemon: the one that all clients find, or one in this process where none runs.
//!
//! Knows no pipelines. Invariant: all elements that have a daemon in this process have the same.

use std::io;
use std::sync::Arc;

use resized::{Server, ServerError};
use resized_client::{Client, Endpoint, EndpointError, Reconnect};
use thiserror::Error;

/// What is given for an endpoint to have the daemon in this process.
const EMBEDDED: &str = "embedded";

/// Why there is no daemon.
#[derive(Debug, Error)]
pub(crate) enum NoDaemon {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] resized_client::Error),
    #[error("no daemon runs, and none could be started in this process: {0}")]
    Embedded(#[from] ServerError),
    #[error("no connection to the daemon in this process: {0}")]
    Socket(#[from] io::Error),
}

/// A connection to a daemon.
pub(crate) struct Connection {
    // Declared, and so dropped, before the daemon that it is to.
    pub(crate) client: Client,
    _server: Option<Arc<Server>>,
}

impl Connection {
    /// Without an endpoint the daemon is looked for where all clients do.
    pub(crate) fn new(endpoint: Option<&str>, reconnect: Reconnect) -> Result<Self, NoDaemon> {
        let found = match endpoint {
            None => Endpoint::running()?,
            Some(EMBEDDED) => None,
            Some(text) => Some(text.parse()?),
        };
        match found {
            Some(endpoint) => {
                let client = Client::connect_with(&endpoint, reconnect)?;
                Ok(Self { client, _server: None })
            }
            None => {
                let server = Server::shared()?;
                let client = Client::from_socket(server.connect()?)?;
                Ok(Self { client, _server: Some(server) })
            }
        }
    }
}
