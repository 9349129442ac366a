//! Owns the way to the daemon: what is said of it, what its devices have done, and how it is met again
//! where it was away.

use std::time::Instant;

use anyhow::Result;
use resizectl::terminal::shown;
use resized_anywhere::Daemon as Found;
use resized_client::{Client, DeviceStats, Endpoint, Error, Reconnect, Refusal};

use crate::stop::Stop;

/// What the devices of a daemon have done until now.
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) devices: Vec<DeviceStats>,
}

/// The daemon that serves this run.
pub(crate) struct Daemon(Found);

impl Daemon {
    /// The daemon at `endpoint`; without one, the daemon that runs, else one inside this process. Comes
    /// with a line that says which.
    pub(crate) fn find(endpoint: Option<&Endpoint>) -> Result<(Self, String)> {
        let daemon = Self(Found::find(endpoint)?);
        // A bridge, or whoever is behind it, may call its devices anything.
        let devices: Vec<_> =
            daemon.0.connect()?.devices().iter().map(|name| shown(name)).collect();
        let devices = devices.join(", ");
        let greeting = match &daemon.0 {
            Found::Running(_) => format!("{} resizes on: {devices}", daemon.place()),
            Found::Embedded(_) => {
                format!("No daemon runs, so {} resizes on: {devices}", daemon.place())
            }
        };
        Ok((daemon, greeting))
    }

    /// Which it is, in words.
    pub(crate) fn place(&self) -> String {
        match &self.0 {
            Found::Running(endpoint) => format!("The daemon at {endpoint}"),
            Found::Embedded(_) => "one inside this process".to_owned(),
        }
    }

    /// What its devices have done so far, if it says so.
    pub(crate) fn look(&self) -> Option<Look> {
        if let Found::Running(Endpoint::Remote(remote)) = &self.0
            && !remote.is_fixed()
        {
            return None; // many daemons, and each look is at another
        }
        let stats = self.0.connect().and_then(|client| client.stats()).ok()?;
        Some(Look { at: Instant::now(), devices: stats.devices })
    }

    /// A new connection, to a daemon that was there before: where it is away it is waited for, as by a
    /// client that had one. None if the run ends before.
    pub(crate) fn connect_again(&self, stop: &Stop) -> Result<Option<Client>> {
        let Reconnect { first, longest, within } = Reconnect::default();
        let (begun, mut pause) = (Instant::now(), first);
        loop {
            let error = match self.0.connect() {
                Ok(client) => return Ok(Some(client)),
                Err(error) => error,
            };
            if stop.is_set() {
                return Ok(None);
            }
            // By its address, or behind its bridge.
            let away =
                matches!(error, Error::Connect { .. } | Error::Refused(Refusal::Unreachable));
            if !away || begun.elapsed() >= within {
                return Err(error.into());
            }
            stop.sleep_until(Instant::now() + pause);
            if stop.is_set() {
                return Ok(None);
            }
            pause = (2 * pause).min(longest);
        }
    }
}
