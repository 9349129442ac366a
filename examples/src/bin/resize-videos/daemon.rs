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
    /// with a line that says which, unless the run ends before it says a word.
    pub(crate) fn find(endpoint: Option<&Endpoint>, stop: &Stop) -> Result<(Self, Option<String>)> {
        let daemon = Self(Found::find(endpoint)?);
        let found = daemon.0.clone();
        let Some(client) = stop.ask(move || found.connect())?.transpose()? else {
            return Ok((daemon, None));
        };
        // A bridge, or whoever is behind it, may call its devices anything.
        let devices: Vec<_> = client.devices().iter().map(|name| shown(name)).collect();
        let devices = devices.join(", ");
        let greeting = match &daemon.0 {
            Found::Running(_) => format!("{} resizes on: {devices}", daemon.place()),
            Found::Embedded(_) => {
                format!("No daemon runs, so {} resizes on: {devices}", daemon.place())
            }
        };
        Ok((daemon, Some(greeting)))
    }

    /// Which it is, in words.
    pub(crate) fn place(&self) -> String {
        match &self.0 {
            Found::Running(endpoint) => format!("The daemon at {endpoint}"),
            Found::Embedded(_) => "one inside this process".to_owned(),
        }
    }

    /// What its devices have done so far, if it says so.
    pub(crate) fn look(&self, stop: &Stop) -> Option<Look> {
        if let Found::Running(Endpoint::Remote(remote)) = &self.0
            && !remote.is_fixed()
        {
            return None; // many daemons, and each look is at another
        }
        let found = self.0.clone();
        let stats = move || found.connect().and_then(|client| client.stats());
        let stats = stop.ask_at_the_end(stats).ok()??.ok()?;
        Some(Look { at: Instant::now(), devices: stats.devices })
    }

    /// A new connection, to a daemon that was there before: where it is away it is waited for, as by a
    /// client that had one. None if the run ends before.
    pub(crate) fn connect_again(&self, stop: &Stop) -> Result<Option<Client>> {
        let Reconnect { first, longest, within } = Reconnect::default();
        let (begun, mut pause) = (Instant::now(), first);
        loop {
            let found = self.0.clone();
            let error = match stop.ask(move || found.connect())? {
                Some(Ok(client)) => return Ok(Some(client)),
                Some(Err(error)) if !stop.is_set() => error,
                Some(Err(_)) | None => return Ok(None),
            };
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_daemon_that_never_says_welcome_does_not_keep_a_run_from_ending() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silent.sock");
        let silent = UnixListener::bind(&path).unwrap();
        let daemon = Daemon(Found::Running(Endpoint::Unix(path)));
        // One that has begun before, and has all the patience that clients have.
        let found = daemon.0.clone();
        let patient = thread::spawn(move || found.connect());
        let patient_one = silent.accept().unwrap();
        let stop = Stop::on_signals().unwrap();
        thread::scope(|scope| {
            let connecting = scope.spawn(|| daemon.connect_again(&stop));
            let asking = silent.accept().unwrap();
            stop.fail(anyhow!("another instance has failed"));
            assert!(connecting.join().unwrap().unwrap().is_none());
            drop(asking);
        });
        assert!(daemon.look(&stop).is_none() && stop.is_forsaken());
        assert!(!patient.is_finished());
        drop(patient_one);
    }
}
