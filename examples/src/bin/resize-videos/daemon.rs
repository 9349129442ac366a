//! Owns the choice of the daemon: one that runs, or one inside this process.

use std::time::Instant;

use anyhow::{Context, Result};
use resized::Server;
use resized_client::{Client, DeviceStats, Endpoint, Error, Reconnect, Refusal};

use crate::stop::Stop;

/// What the devices of a daemon have done until now.
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) devices: Vec<DeviceStats>,
}

/// The daemon that serves this run.
pub(crate) enum Daemon {
    Running(Endpoint),
    Embedded(Server),
}

impl Daemon {
    /// The daemon at `endpoint`; without one, the daemon that runs, else one inside this process. Comes
    /// with a line that says which.
    pub(crate) fn find(endpoint: Option<&Endpoint>) -> Result<(Self, String)> {
        let found = endpoint.cloned().map_or_else(Endpoint::running, |given| Ok(Some(given)))?;
        let daemon = match found {
            Some(endpoint) => Self::Running(endpoint),
            None => {
                let server = Server::embedded().context("can't start a daemon in this process")?;
                Self::Embedded(server)
            }
        };
        let devices = daemon.connect()?.devices().join(", ");
        let greeting = match &daemon {
            Self::Running(_) => format!("{} resizes on: {devices}", daemon.place()),
            Self::Embedded(_) => {
                format!("No daemon runs, so {} resizes on: {devices}", daemon.place())
            }
        };
        Ok((daemon, greeting))
    }

    /// Which it is, in words.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Running(endpoint) => format!("The daemon at {endpoint}"),
            Self::Embedded(_) => "one inside this process".to_owned(),
        }
    }

    /// What its devices have done so far, if it says so.
    pub(crate) fn look(&self) -> Option<Look> {
        if let Self::Running(endpoint) = self
            && endpoint.to_string().starts_with("nats:")
        {
            return None; // many daemons, and each look is at another
        }
        let stats = self.connect().and_then(|client| Ok(client.stats()?)).ok()?;
        Some(Look { at: Instant::now(), devices: stats.devices })
    }

    /// A new connection, to a daemon that was there before: where it is away it is waited for, as by a
    /// client that had one. None if the run ends before.
    pub(crate) fn connect_again(&self, stop: &Stop) -> Result<Option<Client>> {
        let Reconnect { first, longest, within } = Reconnect::default();
        let (begun, mut pause) = (Instant::now(), first);
        loop {
            let error = match self.connect() {
                Ok(client) => return Ok(Some(client)),
                Err(error) => error,
            };
            // By its address, or behind its bridge.
            let away = matches!(
                error.downcast_ref(),
                Some(Error::Connect { .. } | Error::Refused(Refusal::Unreachable))
            );
            if !away || begun.elapsed() >= within {
                return Err(error);
            }
            stop.sleep_until(Instant::now() + pause);
            if stop.is_set() {
                return Ok(None);
            }
            pause = (2 * pause).min(longest);
        }
    }

    /// A new connection.
    fn connect(&self) -> Result<Client> {
        Ok(match self {
            Self::Running(endpoint) => Client::connect(endpoint)?,
            Self::Embedded(server) => {
                let socket = server.connect().context("can't reach the daemon in this process")?;
                Client::from_socket(socket)?
            }
        })
    }
}
