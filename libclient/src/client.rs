//! Owns the conversation before frames flow: hello, opening of streams, figures.

use std::any::Any;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use resized_protocol::message::{Reply, Request, StreamSpec};
use resized_protocol::stats::{ClientStats, Stats, StreamStats};

use crate::connection::Connection;
use crate::link::Link;
use crate::reconnect::{Found, Home, Reconnect};
#[cfg(feature = "remote")]
use crate::remote::Credentials;
use crate::{Breach, Endpoint, Error, Opening, Stream};

/// A connection to a daemon. Clones share it; it closes with the last of them and of their streams.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    named_segments: bool,
}

impl Client {
    /// Connects to the daemon that [is found](Endpoint::discover): by `$RESIZED_ENDPOINT`, else the user's
    /// own, else the machine's.
    ///
    /// # Errors
    ///
    /// [`Endpoint`](Error::Endpoint) where none is found; those of [`connect`](Self::connect).
    pub fn discover() -> Result<Self, Error> {
        Self::connect(&Endpoint::discover()?)
    }

    /// Connects to the daemon at `endpoint`. If that daemon goes away later, the client
    /// [looks for it again](Reconnect) at the same place.
    ///
    /// # Errors
    ///
    /// [`Connect`](Error::Connect) where nobody answers, or nobody whom the client understands, trusts or
    /// may reach; [`Refused`](Error::Refused) where the daemon, or the bridge before it, does not take this
    /// user, token or version, or no more connections.
    pub fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        Self::connect_with(endpoint, Reconnect::default())
    }

    /// As [`connect`](Self::connect), and says what to do when the daemon goes away.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub fn connect_with(endpoint: &Endpoint, reconnect: Reconnect) -> Result<Self, Error> {
        Self::at(Home {
            endpoint: endpoint.clone(),
            #[cfg(feature = "remote")]
            credentials: Credentials::from_env(),
            reconnect,
        })
    }

    /// As [`connect_with`](Self::connect_with), with credentials for a bridge other than those
    /// [from the environment](Credentials::from_env):
    ///
    /// ```no_run
    /// use resized_client::{Client, Credentials, Error, Reconnect};
    ///
    /// fn main() -> Result<(), Error> {
    ///     let credentials = Credentials {
    ///         token: Some("/etc/camera/token".into()),
    ///         authorities: Some("/etc/camera/ca.pem".into()),
    ///         ..Credentials::default()
    ///     };
    ///     let bridge = "tls://hub.example:7788".parse()?;
    ///     let client = Client::connect_as(&bridge, Reconnect::default(), &credentials)?;
    ///     println!("{:?}", client.devices());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    #[cfg(feature = "remote")]
    pub fn connect_as(
        endpoint: &Endpoint,
        reconnect: Reconnect,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let (endpoint, credentials) = (endpoint.clone(), credentials.clone());
        Self::at(Home { endpoint, credentials, reconnect })
    }

    fn at(home: Home) -> Result<Self, Error> {
        let Found { link, devices, .. } = home.first()?;
        let home = Some(home).filter(|home| home.reconnect != Reconnect::NEVER);
        let connection = Arc::new(Connection::new(link, devices, home));
        Ok(Self { connection, named_segments: false })
    }

    /// Talks to a daemon over a socket that is already connected, such as an embedded daemon's. When
    /// that daemon goes away everything fails: nobody knows where another would be.
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused), as [`connect`](Self::connect) says; [`Goodbye`](Error::Goodbye) where the daemon
    /// stops; [`Silent`](Error::Silent), [`Disconnected`](Error::Disconnected) and [`Socket`](Error::Socket).
    pub fn from_socket(socket: UnixStream) -> Result<Self, Error> {
        Self::hello(socket, false, None)
    }

    /// As [`from_socket`](Self::from_socket), and keeps `daemon`, which ends when it is dropped: that is
    /// when the connection is closed, behind the last of the client's clones, streams and frames.
    ///
    /// # Errors
    ///
    /// Those of [`from_socket`](Self::from_socket).
    pub fn from_socket_of(
        socket: UnixStream,
        daemon: impl Any + Send + Sync,
    ) -> Result<Self, Error> {
        Self::hello(socket, false, Some(Box::new(daemon)))
    }

    /// As [`from_socket`](Self::from_socket), with rings in named segments instead of passed
    /// descriptors. Only for a daemon that was started with `--allow-named-segments` by the same user:
    /// with any other, opening a stream is refused.
    ///
    /// # Errors
    ///
    /// Those of [`from_socket`](Self::from_socket).
    pub fn from_socket_with_named_segments(socket: UnixStream) -> Result<Self, Error> {
        Self::hello(socket, true, None)
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> std::sync::Weak<Connection> {
        Arc::downgrade(&self.connection)
    }

    fn hello(
        socket: UnixStream,
        named_segments: bool,
        daemon: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Self, Error> {
        Self::greeted(Link::over(socket, None), named_segments, daemon)
    }

    /// Says hello to whoever is never looked for again.
    pub(crate) fn greeted(
        mut link: Link,
        named_segments: bool,
        daemon: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Self, Error> {
        let devices = link.greet(named_segments)?;
        let connection = Arc::new(Connection::new(link, devices, None).keeping(daemon));
        Ok(Self { connection, named_segments })
    }

    /// Names of the devices of the daemon that is there now. A receipt's device is an index into them,
    /// but into those of the daemon that resized the frame: one in its place may have others.
    pub fn devices(&self) -> Arc<[String]> {
        Arc::clone(self.connection.state().devices())
    }

    /// Whether the daemon went away, and [another](Reconnect) is looked for: calls that wait do until
    /// it is found, or given up, and then fail. By what has been read so far, and only threads that
    /// wait read; `false` where there is no home to look at, or no hope.
    pub fn is_lost(&self) -> bool {
        self.connection.state().is_lost()
    }

    /// What the daemon has done since it started.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn stats(&self) -> Result<Stats, Error> {
        match self.connection.ask(&Request::Stats)? {
            Reply::Stats(stats) => Ok(stats),
            _ => Err(Error::Unexpected(Breach::OtherReply)),
        }
    }

    /// The clients that are connected to the daemon: those of this user, or all if this is root or the
    /// daemon's own.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn clients(&self) -> Result<Vec<ClientStats>, Error> {
        pages(
            |client: &ClientStats| client.client,
            |from| match self.connection.ask(&Request::Clients { from })? {
                Reply::Clients(page) => Ok(page),
                _ => Err(Error::Unexpected(Breach::OtherReply)),
            },
        )
    }

    /// The open streams of one of those.
    ///
    /// # Errors
    ///
    /// [Fatal](Error::is_fatal) ones.
    pub fn streams_of(&self, client: u64) -> Result<Vec<StreamStats>, Error> {
        pages(
            |stream: &StreamStats| stream.stream.into(),
            |from| {
                // There are no more numbers.
                let Ok(from) = from.try_into() else { return Ok(Vec::new()) };
                match self.connection.ask(&Request::Streams { client, from })? {
                    Reply::Streams(page) => Ok(page),
                    _ => Err(Error::Unexpected(Breach::OtherReply)),
                }
            },
        )
    }

    /// Opens a stream: the daemon makes a ring of `spec.slots` slots, mapped into both processes.
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused) for what the daemon does not grant, [`Region`](Error::Region) where
    /// this process can't map the ring: then nothing is opened. Else [fatal](Error::is_fatal) ones.
    pub fn open(&self, spec: &StreamSpec) -> Result<Stream, Error> {
        self.opening(spec).wait()
    }

    /// As [`open`](Self::open), for who can't wait for as long as it takes. The daemon makes a client's next
    /// ring once the last one was received, by a thread that waits for anything of this client's: where none
    /// does, the next stream is refused after ten seconds, with `ETOOMANYREFS`.
    pub fn opening(&self, spec: &StreamSpec) -> Opening {
        Opening::new(Arc::clone(&self.connection), spec, self.named_segments)
    }
}

/// All of a list whose pages are asked for by the first number that is not known yet, up to an empty
/// one.
fn pages<T>(
    number: impl Fn(&T) -> u64,
    page: impl Fn(u64) -> Result<Vec<T>, Error>,
) -> Result<Vec<T>, Error> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(first) = from {
        let page = page(first)?;
        let Some(last) = page.last().map(&number) else { break };
        // Or it would be asked for without end.
        if last < first {
            return Err(Error::Unexpected(Breach::PageAgain));
        }
        from = last.checked_add(1);
        all.extend(page);
    }
    Ok(all)
}
