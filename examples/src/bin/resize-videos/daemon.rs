//! Owns the choice of the daemon: one that runs, or one inside this process.

use anyhow::{Context, Result};
use resized::Server;
use resized_client::{Client, Endpoint, EndpointError};

/// The daemon that serves this run.
pub(crate) enum Daemon {
    Running(Endpoint),
    Embedded(Server),
}

impl Daemon {
    /// The daemon at `endpoint`; without one, the daemon that runs, else one inside this process. Comes
    /// with a line that says which.
    pub(crate) fn find(endpoint: Option<&Endpoint>) -> Result<(Self, String)> {
        let found = match endpoint {
            Some(endpoint) => Some(endpoint.clone()),
            None => match Endpoint::discover() {
                Ok(endpoint) => Some(endpoint),
                Err(EndpointError::NotFound(_)) => None,
                Err(error) => return Err(error.into()),
            },
        };
        let (daemon, place) = match found {
            Some(endpoint) => {
                let place = format!("The daemon at {endpoint}");
                (Self::Running(endpoint), place)
            }
            None => {
                let server = Server::embedded().context("can't start a daemon in this process")?;
                let place = "No daemon runs, so one inside this process";
                (Self::Embedded(server), place.to_owned())
            }
        };
        let devices = daemon.connect()?.devices().join(", ");
        Ok((daemon, format!("{place} resizes on: {devices}")))
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Client> {
        Ok(match self {
            Self::Running(endpoint) => Client::connect(endpoint)?,
            Self::Embedded(server) => {
                let socket = server.connect().context("can't reach the daemon in this process")?;
                Client::from_socket(socket)?
            }
        })
    }
}
