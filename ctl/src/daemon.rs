//! Owns the choice of the daemon: one that runs, or one inside this process.

use anyhow::{Context, Result};
use resized::Server;
use resized_client::{Client, Endpoint};

/// The daemon that a program uses.
#[derive(Debug)]
pub enum Daemon {
    /// One that runs, here or behind a bridge.
    Running(Endpoint),
    /// One of this process's own.
    Embedded(Server),
}

impl Daemon {
    /// The daemon at `endpoint`; without one, the daemon that runs, else one inside this process.
    pub fn find(endpoint: Option<&Endpoint>) -> Result<Self> {
        let found = endpoint.cloned().map_or_else(Endpoint::running, |given| Ok(Some(given)))?;
        found.map_or_else(Self::embedded, |endpoint| Ok(Self::Running(endpoint)))
    }

    /// One inside this process.
    pub(crate) fn embedded() -> Result<Self> {
        let server = Server::embedded().context("can't start a daemon in this process")?;
        Ok(Self::Embedded(server))
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Client> {
        Ok(match self {
            Self::Running(endpoint) => Client::connect(endpoint)?,
            Self::Embedded(server) => {
                let socket = server.connect().context("can't reach the daemon in this process")?;
                Client::from_socket(socket)?
            }
        })
    }
}
