//! Owns the way to the daemon: where it is, connecting to it while others do, and whether it is there.
//!
//! It is there while it serves the bridge itself, which has a connection of its own for that: one that says
//! hello and nothing more, and ends when the daemon does. A daemon that is lost is away once it did not
//! welcome the bridge again, so one that is replaced at its socket never is.
//! Knows nothing of who wants that. Invariant: no thread waits for a daemon that is busy, except at
//! most one that looks where there is a daemon.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resized_client::Endpoint;
use resized_client::remote::wire::{Receiver, Sender, WireError};
use resized_protocol::VERSION;
use resized_protocol::message::{Features, Message, Reply, Request};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Between two attempts while too many others connect.
const PAUSE: Duration = Duration::from_millis(5);

/// Between two looks for a daemon that is away.
const GLANCE: Duration = Duration::from_millis(100);

/// For the daemon to be reached, and as long for its welcome.
const PROMPTNESS: Duration = Duration::from_secs(5);

/// A daemon beside the bridge.
pub(crate) struct Daemon {
    /// None: where clients find it.
    endpoint: Option<Endpoint>,
    looking: Arc<Mutex<()>>,
    /// Not before that is known.
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

    /// Keeps up with whether it is there.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            match self.greet().await {
                Ok(mut daemon) => {
                    if self.away.send_replace(false) {
                        tracing::info!("the daemon is back");
                    }
                    // It says nothing unasked but goodbye.
                    let mut said = Receiver::new(&mut daemon, PROMPTNESS);
                    let _ = said.next::<Message>().await;
                }
                Err(error) => {
                    if !self.away.send_replace(true) {
                        tracing::error!(%error, "the daemon is away: nobody is let in until it is back");
                    }
                    sleep(GLANCE).await;
                }
            }
        }
    }

    /// A connection that the daemon serves.
    async fn greet(&self) -> io::Result<UnixStream> {
        let mut daemon = self.connect(PROMPTNESS).await?;
        let (reader, writer) = daemon.split();
        let hello = Request::Hello {
            version: VERSION,
            features: Features::default(),
            name: "resized-bridge".into(),
        };
        Sender::new(writer, PROMPTNESS).send(&hello, &[]).await?;
        let mut said = Receiver::new(reader, PROMPTNESS);
        match timeout(PROMPTNESS, said.next()).await {
            Ok(Ok(Some(Message::Reply(Reply::Welcome { .. })))) => Ok(daemon),
            Ok(Ok(Some(Message::Goodbye(goodbye)))) => Err(io::Error::other(goodbye.to_string())),
            Ok(Err(WireError::Io(error))) => Err(error),
            Ok(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
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
