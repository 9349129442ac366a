//! Owns the way to the daemon: where it is, and connecting to it while others do.
//!
//! Knows nothing of who wants that. Invariant: no thread waits for a daemon that is busy, except at
//! most one that looks where there is a daemon.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resized_client::Endpoint;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Between two attempts while too many others connect.
const PAUSE: Duration = Duration::from_millis(5);

/// A daemon beside the bridge.
pub(crate) struct Daemon {
    /// None: where clients find it.
    endpoint: Option<Endpoint>,
    looking: Arc<Mutex<()>>,
}

impl Daemon {
    pub(crate) fn new(endpoint: Option<Endpoint>) -> Self {
        Self { endpoint, looking: Arc::default() }
    }

    /// A connection to it, in that time.
    pub(crate) async fn connect(&self, within: Duration) -> io::Result<UnixStream> {
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
        spawn_blocking(look).await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
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
}
