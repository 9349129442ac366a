//! Owns the way to the daemon: where it is, connecting to it while others do, and whether it is away.
//!
//! It is away once a client could not be brought to it because nobody listens there, or nobody whom the
//! bridge may speak to, and until somebody does: that is looked for once a second, without a word. A daemon
//! that is busy, hangs, or refuses is there: its own clients wait for it, too. The client that finds out is
//! refused; one of a service tries other bridges then, and those that lost the daemon come again.
//! Knows nothing of who wants that. Invariant: no thread waits for a daemon that is busy, except at
//! most one that looks where there is a daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resized_client::remote::watched::Watched;
use resized_client::{Endpoint, EndpointError};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Between two attempts while too many others connect.
const PAUSE: Duration = Duration::from_millis(5);

/// Between two looks for a daemon that is away.
const GLANCE: Duration = Duration::from_secs(1);

/// For the daemon to be reached.
const PROMPTNESS: Duration = Duration::from_secs(5);

/// A daemon beside the bridge.
pub(crate) struct Daemon {
    /// None: where clients find it.
    endpoint: Option<Endpoint>,
    looking: Arc<Mutex<()>>,
    away: watch::Sender<bool>,
}

impl Daemon {
    pub(crate) fn new(endpoint: Option<Endpoint>) -> Self {
        Self { endpoint, looking: Arc::default(), away: watch::Sender::new(false) }
    }

    pub(crate) fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Waits until it is there, or is not.
    pub(crate) async fn turns(&self, away: bool) {
        let _ = self.away.subscribe().wait_for(|&is_away| is_away == away).await;
    }

    /// A connection to it for a client.
    pub(crate) async fn reach(self: &Arc<Self>) -> io::Result<Watched> {
        let reached = self.connect(PROMPTNESS).await;
        if let Err(error) = &reached
            && is_nobody(error)
            && !self.away.send_replace(true)
        {
            tracing::error!(%error, "the daemon is away: nobody is let in until it is back");
            tokio::spawn(Arc::clone(self).comes_back());
        }
        Watched::new(reached?.into_std()?)
    }

    async fn comes_back(self: Arc<Self>) {
        loop {
            sleep(GLANCE).await;
            if self.connect(PROMPTNESS).await.is_ok() {
                break;
            }
        }
        self.away.send_replace(false);
        tracing::info!("the daemon is back");
    }

    /// A connection to it, in that time.
    async fn connect(&self, within: Duration) -> io::Result<UnixStream> {
        let connect = async {
            match self.find().await? {
                Endpoint::Unix(path) => connect(&path).await,
                other => Err(io::Error::other(format!("{other} is no daemon's own socket"))),
            }
        };
        timeout(within, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn find(&self) -> io::Result<Endpoint> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let turn = Arc::clone(&self.looking).lock_owned().await;
        let look = move || {
            let _turn = turn;
            Endpoint::discover()
        };
        spawn_blocking(look).await.map_err(io::Error::other)?.map_err(|error| match error {
            EndpointError::NotFound(_) => io::Error::new(io::ErrorKind::NotFound, error),
            error => io::Error::other(error),
        })
    }
}

/// Whether there is nobody who would listen to the bridge, rather than one who can't just now.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    matches!(error.kind(), ConnectionRefused | NotFound | PermissionDenied)
}

/// Waits for as long as too many others connect: the system does not say when there is room.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };

    use super::*;

    #[tokio::test]
    async fn a_daemon_at_which_too_many_wait_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy.sock");
        let listener =
            socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut before = Vec::new();
        while let Ok(one) = UnixStream::connect(&path).await {
            before.push(one);
        }
        let daemon = Daemon::new(Some(Endpoint::Unix(path)));
        let late = daemon.connect(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(!is_nobody(&late));
        let accept = async {
            sleep(2 * PAUSE).await;
            let listener = net::UnixListener::from(listener);
            (listener.accept().unwrap(), listener)
        };
        let waits = daemon.connect(Duration::from_secs(60));
        let (connected, _accepted) = tokio::join!(waits, accept);
        connected.unwrap();
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(Some(Endpoint::Unix(dir.path().join("none.sock"))));
        let gone = daemon.connect(Duration::MAX).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_daemon_is_away_from_the_client_that_finds_nobody_until_somebody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resized.sock");
        let daemon = Arc::new(Daemon::new(Some(Endpoint::Unix(path.clone()))));
        assert!(!daemon.is_away());
        for refused in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
            assert_eq!(daemon.reach().await.unwrap_err().kind(), refused);
            assert!(daemon.is_away());
            let _ = std::fs::remove_file(&path);
            // Which says nothing.
            let listener = net::UnixListener::bind(&path).unwrap();
            daemon.turns(false).await;
            daemon.reach().await.unwrap();
            assert!(!daemon.is_away());
            // It leaves its file behind.
            drop(listener);
        }
    }
}
