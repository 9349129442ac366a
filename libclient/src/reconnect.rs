//! Owns how a daemon that went away is found again: where, how often, for how long.
//!
//! Knows links, not what is shared between threads. Resizing has no side effects, so what a daemon did
//! not answer may be asked of the next one.
//!
//! Of a service of many bridges each search tries every place that is offered before it tries one again,
//! and whatever was wrong with one passes while there are others that were not tried, for as long as a
//! first attempt may take also where there is to be none after it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use resized_protocol::message::{Goodbye, Refusal, StreamSpec};
use resized_protocol::shm::Lease;

use crate::endpoint::PATIENCE;
#[cfg(feature = "remote")]
use crate::endpoint::{Remote, Scheme};
use crate::link::{Link, left};
use crate::places::Places;
#[cfg(feature = "remote")]
use crate::remote::{self, Credentials};
use crate::{Endpoint, Error};

/// Pauses are no shorter, whatever is asked for: who looks without any keeps a core busy with nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// A daemon that was never there is not looked for any longer, however long one that is lost is.
const FIRST: Duration = Duration::from_secs(30);

/// What a client does when its daemon goes away: it tries to connect again, at once and then after
/// pauses that double, opens its streams again and submits again what was in flight. Callers wait
/// as long, and notice nothing else, but that frames which have waited longer than their stream's
/// deadline by then are late. For the others that time begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause; a millisecond at the least, as all are.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// After so much time without a daemon, it is given up: everything that waits fails.
    /// [`Duration::MAX`]: never. One that was never there is after 30 seconds at the most.
    pub within: Duration,
}

impl Default for Reconnect {
    /// From 5 ms to half a second, for 30 seconds.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(500),
            within: Duration::from_secs(30),
        }
    }
}

impl Reconnect {
    /// Does not: everything fails as soon as the daemon is gone.
    pub const NEVER: Self =
        Self { first: Duration::ZERO, longest: Duration::ZERO, within: Duration::ZERO };
}

/// Where the daemon lives.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) endpoint: Endpoint,
    #[cfg(feature = "remote")]
    pub(crate) credentials: Credentials,
    pub(crate) reconnect: Reconnect,
}

/// A daemon that has said welcome and opened the streams that it was asked for.
pub(crate) struct Found {
    pub(crate) link: Link,
    pub(crate) devices: Vec<String>,
    /// The leases of each stream.
    pub(crate) rings: Vec<(u32, Vec<Lease>)>,
}

impl Home {
    /// Connects for the first time. Where nobody listens nobody is waited for, but a daemon that is
    /// just stopping may have a successor.
    pub(crate) fn first(&self) -> Result<Found, Error> {
        self.first_in(FIRST)
    }

    fn first_in(&self, most: Duration) -> Result<Found, Error> {
        let stopping =
            |error: &Error| is_mishap(error) || matches!(error, Error::Refused(Refusal::Stopping));
        let within = self.reconnect.within.min(most);
        self.search(within, Vec::new, stopping, || true).map_err(|(_, last)| self.explain(last))
    }

    /// Where nobody says welcome, says where that is.
    fn explain(&self, error: Error) -> Error {
        // A bridge that hangs up on who greets it could not say why.
        let hint = match &self.endpoint {
            Endpoint::Unix(_) => "",
            #[cfg(feature = "remote")]
            Endpoint::Remote(remote) => match remote.scheme {
                Scheme::Tcp => "; it may want TLS: write tls://",
                _ => "; it may want a certificate, or another one: $RESIZED_CERTIFICATE",
            },
        };
        let failed = |kind, text: String| Arc::new(io::Error::new(kind, text));
        let error = match error {
            Error::Silent => failed(ErrorKind::TimedOut, "it does not answer".into()),
            Error::Goodbye(why @ Goodbye::Silence) => failed(ErrorKind::TimedOut, why.to_string()),
            Error::Goodbye(why @ Goodbye::Stopping) => {
                failed(ErrorKind::ConnectionAborted, why.to_string())
            }
            error if is_loss(&error) => {
                failed(ErrorKind::ConnectionAborted, format!("it hung up{hint}"))
            }
            // Another service, more likely than a daemon or a bridge with a fault.
            Error::Codec(_) | Error::Unexpected(_) => {
                failed(ErrorKind::InvalidData, format!("{error}{hint}"))
            }
            Error::Socket(error) => error,
            error => return error,
        };
        Error::Connect { endpoint: self.endpoint.clone(), error }
    }

    /// Connects again after the connection was lost, and opens the streams that there are again.
    /// Gives up where that is wanted no longer.
    pub(crate) fn again(
        &self,
        lost: &Error,
        streams: impl Fn() -> Vec<(u32, StreamSpec)>,
        wanted: impl Fn() -> bool,
    ) -> Result<Found, Error> {
        self.search(self.reconnect.within, streams, may_pass, wanted).map_err(|(tried, last)| {
            let (lost, last) = (Box::new(lost.clone()), Box::new(last));
            Error::GivenUp { lost, tried, last }
        })
    }

    fn search(
        &self,
        within: Duration,
        streams: impl Fn() -> Vec<(u32, StreamSpec)>,
        may_pass: impl Fn(&Error) -> bool,
        wanted: impl Fn() -> bool,
    ) -> Result<Found, (u32, Error)> {
        let Reconnect { first, longest, .. } = self.reconnect;
        // None: beyond what there is of time.
        let end = Instant::now().checked_add(within);
        // The first attempt has its time whatever the bound, and shares it with those at other places.
        let first_ends = Instant::now() + PATIENCE;
        let bound = |elsewhere: bool| match end {
            Some(end) if elsewhere => Some(end.max(first_ends)),
            end => end,
        };
        let mut pause = first;
        let places = Arc::new(Places::default());
        for tried in 1.. {
            let end = bound(tried == 1 || places.has_others());
            let error = match self.attempt(end, &streams(), &places) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            pause = pause.max(SHORTEST);
            let elsewhere = places.has_others();
            let is_over = bound(elsewhere).is_some_and(|end| left(end) <= pause);
            if !(may_pass(&error) || elsewhere) || is_over || !wanted() {
                return Err((tried, error));
            }
            sleep(pause);
            pause = pause.saturating_mul(2).min(longest);
        }
        unreachable!("the bound comes before the numbers end")
    }

    #[cfg_attr(not(feature = "remote"), allow(unused_variables))]
    fn attempt(
        &self,
        end: Option<Instant>,
        streams: &[(u32, StreamSpec)],
        places: &Arc<Places>,
    ) -> Result<Found, Error> {
        let (mut link, devices) = match &self.endpoint {
            Endpoint::Unix(path) => {
                let mut link = Link::dial(path, end)?;
                let devices = link.greet(false)?;
                (link, devices)
            }
            #[cfg(feature = "remote")]
            Endpoint::Remote(remote) => self.greet(remote, end, places)?,
        };
        let mut rings = Vec::with_capacity(streams.len());
        for (number, spec) in streams {
            rings.push((*number, link.open(*number, spec)?));
        }
        Ok(Found { link, devices, rings })
    }

    #[cfg(feature = "remote")]
    fn greet(
        &self,
        remote: &Remote,
        end: Option<Instant>,
        places: &Arc<Places>,
    ) -> Result<(Link, Vec<String>), Error> {
        let failed =
            |error| Error::Connect { endpoint: self.endpoint.clone(), error: Arc::new(error) };
        let dialled = remote::dial(remote, &self.credentials, places, end);
        let (socket, broke, reported) = dialled.map_err(failed)?;
        let mut link = Link::over(socket, end);
        link.broke = broke;
        match link.greet(false) {
            Ok(devices) => Ok((link, devices)),
            Err(error) => Err(match reported.try_recv() {
                Ok(Err(error)) => failed(error),
                _ => error,
            }),
        }
    }
}

/// Whether the daemon, or one after it, may do better in a moment.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Connect { .. } => true,
        Error::Refused(refusal) => matches!(
            refusal,
            Refusal::Stopping
                | Refusal::Quota { .. }
                | Refusal::System { .. }
                | Refusal::Device
                | Refusal::Unreachable
                // Bridge and client are not given a new one in the same moment.
                | Refusal::Token
        ),
        // Of ours: too many descriptors, say.
        Error::Region(error) => error.errno().is_some(),
        error => is_mishap(error),
    }
}

/// Whether the daemon is gone, through no doing of ours, so that our frames are another's to do. Where one that
/// lives has hung up on us for what we did, or we on it, another would do so, too: what is in flight is lost.
pub(crate) fn is_loss(error: &Error) -> bool {
    match error {
        Error::Disconnected | Error::Goodbye(Goodbye::Stopping) => true,
        // It died with requests unread.
        Error::Socket(error) => error.kind() == ErrorKind::ConnectionReset,
        _ => false,
    }
}

/// Whether a new connection ended in a way that another may not.
fn is_mishap(error: &Error) -> bool {
    let silence = matches!(error, Error::Silent | Error::Goodbye(Goodbye::Silence));
    silence || matches!(error, Error::Socket(_)) || is_loss(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use resized_protocol::codec::CodecError;

    use super::*;
    use crate::Breach;

    #[test]
    fn who_would_wait_for_ever_does_not_for_a_daemon_that_was_never_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hangs up");
        let listener = UnixListener::bind(&path).unwrap();
        let hang_up = move || listener.incoming().flatten().for_each(drop);
        std::thread::spawn(hang_up);
        let home = Home {
            endpoint: Endpoint::Unix(path),
            #[cfg(feature = "remote")]
            credentials: Credentials::default(),
            reconnect: Reconnect { within: Duration::MAX, ..Reconnect::default() },
        };
        let error = home.first_in(Duration::from_millis(20)).map(drop).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(&home.endpoint.to_string()), "{error}");
    }

    #[test]
    fn who_is_not_welcomed_is_told_where() {
        let home = Home {
            endpoint: Endpoint::Unix("/nowhere/socket".into()),
            #[cfg(feature = "remote")]
            credentials: Credentials::default(),
            reconnect: Reconnect::default(),
        };
        let reset = io::Error::from(ErrorKind::ConnectionReset);
        for (error, expected) in [
            (Error::Silent, ErrorKind::TimedOut),
            (Error::Goodbye(Goodbye::Silence), ErrorKind::TimedOut),
            (Error::Goodbye(Goodbye::Stopping), ErrorKind::ConnectionAborted),
            (Error::Disconnected, ErrorKind::ConnectionAborted),
            (Error::Socket(Arc::new(reset)), ErrorKind::ConnectionAborted),
            // Another service's words.
            (Error::Codec(CodecError::TooLong), ErrorKind::InvalidData),
            (Error::Unexpected(Breach::ReplyToNothing), ErrorKind::InvalidData),
        ] {
            let explained = home.explain(error);
            let Error::Connect { error, .. } = &explained else { panic!("{explained:?}") };
            assert_eq!(error.kind(), expected);
            assert!(explained.to_string().contains("unix:/nowhere/socket"), "{explained}");
        }
        // What was said to this client is its own answer.
        for refusal in
            [Error::Refused(Refusal::Token), Error::Goodbye(Goodbye::Refused(Refusal::Token))]
        {
            assert_eq!(home.explain(refusal.clone()).to_string(), refusal.to_string());
        }
    }

    #[test]
    fn who_asks_for_no_pauses_has_short_ones() {
        let dir = tempfile::tempdir().unwrap();
        let within = Duration::from_millis(30);
        let home = Home {
            endpoint: Endpoint::Unix(dir.path().join("nobody")),
            #[cfg(feature = "remote")]
            credentials: Credentials::default(),
            reconnect: Reconnect { within, ..Reconnect::NEVER },
        };
        let error = home.again(&Error::Disconnected, Vec::new, || true).err();
        let Some(Error::GivenUp { tried, .. }) = error else { panic!("{error:?}") };
        assert!((1..=30).contains(&tried), "{tried}");
    }
}
