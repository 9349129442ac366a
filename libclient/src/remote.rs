//! Owns the way to a daemon on another machine: a carrier between this client and a bridge.
//!
//! The carrier is one thread for each connection. To the client it is a daemon, over a socket pair,
//! with rings of its own in memory that both have; to the bridge it says what the client says, with
//! the pixels behind it. So the client notices no difference: the copies are hidden from it, and a
//! connection that is lost is lost as a daemon is, and found again likewise. A bridge that
//! breaks the protocol ends the connection, as a daemon does.
//!
//! Knows nothing of how frames are resized. [`wire`], [`rings`] and [`watched`] are the
//! bridge's too.

mod carrier;
pub mod credentials;
#[cfg(feature = "nats")]
mod nats;
mod outbox;
pub mod rings;
pub mod watched;
pub mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout};
use resized_protocol::VERSION;
use resized_protocol::remote::Call;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::endpoint::PATIENCE as SILENCE;
pub use crate::endpoint::is_loopback;
use crate::endpoint::{Remote, Scheme};
use crate::link::{Broke, Link, answer_by};
use crate::places::Places;
use crate::{Client, Error};
pub use credentials::{Credentials, CredentialsError};
use watched::Watched;
use wire::{Sender, Stream};

/// How long the other end may take for the next piece of what it has begun to send, or to take the next
/// piece of what it is sent.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why client and bridge do not understand each other, and would not another time: at the same address,
/// that is. A service of many may offer another bridge.
#[derive(Debug)]
pub(crate) enum Mismatch {
    /// TLS is spoken there, and not here.
    Tls,
    /// TLS is spoken here, and not there.
    Plain,
    /// What TLS was shown here was not taken there, for that reason.
    Certificate(io::Error),
    /// What was said there is no message, or none that may be said then.
    Broke(Error),
}

impl Mismatch {
    /// In words, with what to do about it.
    fn at(self, address: &str) -> io::Error {
        let words = match self {
            Self::Tls => format!("TLS is spoken there: write tls://{address}"),
            Self::Plain => {
                format!("TLS is not spoken there: if it need not be, write tcp://{address}")
            }
            Self::Certificate(error) => {
                format!("{error}: it may want a certificate, or another one: $RESIZED_CERTIFICATE")
            }
            Self::Broke(error) => error.to_string(),
        };
        io::Error::new(io::ErrorKind::InvalidData, words)
    }
}

/// First whether the connecting succeeded. Then, if the connection ended in a way that any other would, why: that
/// is sent before the socket is closed.
pub(crate) type Reported = mpsc::Receiver<io::Result<()>>;

/// Connects to the bridge. Gives the client's end of a socket that a daemon seems to be at.
pub(crate) fn dial(
    remote: &Remote,
    credentials: &Credentials,
    places: &Arc<Places>,
    end: Option<Instant>,
) -> io::Result<(UnixStream, Broke, Reported)> {
    let deadline = answer_by(end);
    let fixed = remote.is_fixed().then(|| remote.address.clone());
    let (remote, credentials, places) = (remote.clone(), credentials.clone(), Arc::clone(places));
    let connected = async move || {
        let connected = timeout_at(deadline.into(), connect(&remote, &credentials, &places)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    carried(connected, fixed)
}

/// A client of a bridge that is at the other end of a socket, and hears no knock: for tests, and for the
/// fuzzer's target `answers`, where nothing is to be found, and what bridges say is made up.
pub fn client_of(bridge: UnixStream) -> Result<Client, Error> {
    let connected = async move || {
        bridge.set_nonblocking(true)?;
        let bridge = tokio::net::UnixStream::from_std(bridge)?;
        Ok::<Stream, _>(Box::new(bridge))
    };
    let (socket, broke, _) = carried(connected, None)?;
    let mut link = Link::over(socket, None);
    link.broke = broke;
    Client::greeted(link, false, None)
}

/// Has a thread carry between a bridge, once that is connected, and the client's end of a socket. Whoever
/// would find the same bridge again says what its address is.
fn carried(
    connected: impl AsyncFnOnce() -> io::Result<Stream> + Send + 'static,
    fixed: Option<String>,
) -> io::Result<(UnixStream, Broke, Reported)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ours, theirs) = UnixStream::pair()?;
    let (report, reported) = mpsc::channel();
    let broke = Broke::default();
    let noted = broke.clone();
    let carry = move || {
        // Writing to a bridge that has hung up is an error, not the end of the program, also where
        // nobody asked for that: only Rust's own programs do.
        let _ = SigSet::from(Signal::SIGPIPE).thread_block();
        runtime.block_on(async move {
            match connected().await {
                Ok(bridge) => {
                    let _ = report.send(Ok(()));
                    let Ok(client) = Watched::new(theirs) else { return };
                    let mismatch = carrier::carry(&client, bridge).await;
                    // The client's socket is still open.
                    match (mismatch, fixed) {
                        (Some(Mismatch::Broke(error)), _) => noted.note(error),
                        (Some(mismatch), Some(address)) => {
                            let _ = report.send(Err(mismatch.at(&address)));
                        }
                        _ => {}
                    }
                }
                Err(error) => drop(report.send(Err(error))),
            }
        });
    };
    thread::Builder::new().name("resized remote".into()).spawn(carry)?;
    reported.recv().unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()))?;
    Ok((ours, broke, reported))
}

/// Connects, and knocks.
#[cfg_attr(not(feature = "nats"), allow(unused_variables))]
async fn connect(given: &Remote, credentials: &Credentials, places: &Places) -> io::Result<Stream> {
    let bad = |error: CredentialsError| io::Error::new(io::ErrorKind::InvalidInput, error);
    let (remote, token) = match given.scheme {
        #[cfg(feature = "nats")]
        Scheme::Nats => nats::find(&given.address, credentials, places).await?,
        Scheme::Tcp | Scheme::Tls => {
            (given.clone(), credentials.token().map_err(bad)?.unwrap_or_default())
        }
    };
    let socket = TcpStream::connect(&remote.address).await?;
    let near = || Ok::<_, io::Error>(socket.peer_addr()?.ip().to_canonical().is_loopback());
    if remote.scheme == Scheme::Tcp && !token.is_empty() && !near()? {
        let words =
            format!("others could read the token on the way: write tls://{}", remote.address);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    prepare(&socket, SILENCE)?;
    let mut stream: Stream = if remote.scheme == Scheme::Tls {
        let name = remote.host().to_owned().try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "not a name that a certificate may be for")
        })?;
        let connector = TlsConnector::from(credentials.client().map_err(bad)?);
        let connected = connector.connect(name, socket).await;
        Box::new(connected.map_err(|error| credentials.explain(error, given))?)
    } else {
        Box::new(socket)
    };
    let knock = Call::Knock { version: VERSION, token };
    Sender::new(&mut stream, PATIENCE).send(&knock, &[]).await?;
    Ok(stream)
}

/// Between two questions of the system's whether the other end is still there, when nothing else is
/// said.
const PROBES: Duration = Duration::from_secs(2);

/// Sends what there is at once, and has the system find out when the other end's is gone without a
/// word, as machines without power and cut links are: it has not acknowledged, for so long, what
/// was sent, or has taken nothing more, or has not answered while nothing was sent.
pub fn prepare(socket: &TcpStream, silence: Duration) -> io::Result<()> {
    let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    socket.set_nodelay(true)?;
    setsockopt(socket, TcpUserTimeout, &millis)?;
    setsockopt(socket, KeepAlive, &true)?;
    // The first after a while; the last when the time is over, however many those are.
    let probes = PROBES.as_secs() as u32;
    setsockopt(socket, TcpKeepIdle, &(millis / 2000).clamp(1, 5 * probes))?;
    setsockopt(socket, TcpKeepInterval, &probes.min(1.max(millis / 4000)))?;
    Ok(())
}
