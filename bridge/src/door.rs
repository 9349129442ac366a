//! Owns the way in: accepts connections, and lets in who shows what is asked for, in time.
//!
//! Knows nothing of what is said inside. Invariants: nothing is read into memory of a size that the peer
//! chose; who is not let in is told why, as far as it speaks the protocol at all; no more are at the door
//! and inside together than the limit says, and a few who are told so.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use resized_client::Endpoint;
use resized_client::remote::credentials::{certificates, private_key, read_token};
use resized_client::remote::prepare;
use resized_client::remote::wire::{Receiver, Sender, Stream, WireError};
use resized_protocol::VERSION;
use resized_protocol::message::{Goodbye, Message, Refusal, Resource, Violation, Whose};
use resized_protocol::remote::Call;
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::{ServerConfig, WebPkiClientVerifier};

use crate::args::Args;
use crate::jpeg::Codec;
use crate::lanes::{Lanes, cores};
use crate::relay::{Limits, relay, stopped};
use crate::tickets::Tickets;

/// For the TLS handshake and the knock together.
const PROMPTNESS: Duration = Duration::from_secs(5);

/// How long one who was sent away may take to hang up: what it has still sent is read meanwhile, or the
/// system would cut our last words off.
const FAREWELL: Duration = Duration::from_secs(2);

/// Connections beyond the limit that are told so at the same time.
const TURNED_AWAY: usize = 16;

/// Pause after a failed accept: out of descriptors, say. Trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What everybody who comes in shares.
pub(crate) struct Door {
    daemon: Option<Endpoint>,
    tls: Option<TlsAcceptor>,
    token: Option<PathBuf>,
    /// What was offered to clients that come by NATS.
    pub(crate) tickets: Tickets,
    limits: Limits,
    lanes: Lanes<Codec>,
    connections: usize,
    inside: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// Why somebody is not let in.
enum Unwelcome {
    /// Said to the client.
    Goodbye(Goodbye),
    /// It is no client, or gone.
    Deaf(io::Error),
}

impl Door {
    pub(crate) fn new(args: &Args, stop: watch::Receiver<bool>) -> Result<Self> {
        if let Some(path) = &args.token {
            read_token(path)?; // to know now whether there is one
        }
        Ok(Self {
            daemon: args.daemon.clone(),
            tls: tls(args)?,
            token: args.token.clone(),
            tickets: Tickets::default(),
            limits: Limits {
                bytes: args.connection_memory << 20,
                pixels: args.megapixels * 1_000_000,
                patience: args.patience,
            },
            lanes: Lanes::start("jpeg", cores())?,
            connections: args.connections,
            inside: Arc::new(Semaphore::new(args.connections)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            stop,
        })
    }

    /// Lets clients in until the bridge stops.
    pub(crate) async fn attend(self: Arc<Self>, listener: TcpListener) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut stop) => return,
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Connections that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.inside.available_permits()
    }

    /// Waits until all who are inside have left.
    pub(crate) async fn empty(&self) {
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let _ = self.inside.acquire_many(all).await;
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let door = Arc::clone(self);
        if let Ok(place) = Arc::clone(&self.inside).try_acquire_owned() {
            tokio::spawn(async move { door.receive(socket, peer, Some(place)).await });
        } else if let Ok(place) = Arc::clone(&self.turned_away).try_acquire_owned() {
            tokio::spawn(async move {
                door.receive(socket, peer, None).await;
                drop(place);
            });
        }
    }

    /// One connection, from its first byte to its last.
    async fn receive(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let stream = timeout(PROMPTNESS, self.greet(socket)).await;
        let stream = match stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::info!(%peer, %error, "no connection");
                return;
            }
        };
        let (mut reader, writer) = tokio::io::split(stream);
        let mut client = Receiver::new(&mut reader, self.limits.patience);
        let mut to_client = Sender::new(writer, self.limits.patience);
        let knocked = timeout(PROMPTNESS, self.knock(&mut client, place.is_some())).await;
        match knocked.unwrap_or(Err(Unwelcome::Goodbye(Goodbye::Silence))) {
            Ok(daemon) => {
                tracing::debug!(%peer, "let in");
                let (name, stop) = (peer.to_string(), self.stop.clone());
                let lanes = self.lanes.clone();
                let end =
                    relay(client, &mut to_client, daemon, &name, self.limits, lanes, stop).await;
                tracing::debug!(%peer, %end, "connection over");
            }
            Err(Unwelcome::Goodbye(goodbye)) => {
                tracing::info!(%peer, why = %goodbye, "not let in");
                let _ = to_client.send(&Message::Goodbye(goodbye), &[]).await;
            }
            Err(Unwelcome::Deaf(error)) => {
                tracing::info!(%peer, %error, "no client");
                return;
            }
        }
        let _ = to_client.end().await;
        let mut ignored = [0; 4096];
        let farewell =
            async { while reader.read(&mut ignored).await.is_ok_and(|read| read > 0) {} };
        let _ = timeout(FAREWELL, farewell).await;
    }

    async fn greet(&self, socket: TcpStream) -> io::Result<Stream> {
        prepare(&socket, self.limits.patience)?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.accept(socket).await?)),
            None => Ok(Box::new(socket)),
        }
    }

    /// Hears the knock and connects to the daemon for who knocked rightly.
    async fn knock(
        &self,
        client: &mut Receiver<impl tokio::io::AsyncRead + Unpin>,
        room: bool,
    ) -> Result<UnixStream, Unwelcome> {
        let refused = |refusal| Unwelcome::Goodbye(Goodbye::Refused(refusal));
        let (version, token) = match client.next::<Call>().await {
            Ok(Some(Call::Knock { version, token })) => (version, token),
            Ok(Some(Call::Request(_))) => {
                return Err(Unwelcome::Goodbye(Goodbye::Violation(Violation::NoHello)));
            }
            Ok(None) => return Err(Unwelcome::Deaf(io::ErrorKind::UnexpectedEof.into())),
            Err(WireError::Codec(error)) => {
                return Err(Unwelcome::Goodbye(Goodbye::Violation(Violation::Codec(error))));
            }
            Err(WireError::Io(error)) => return Err(Unwelcome::Deaf(error)),
        };
        if version != VERSION {
            return Err(refused(Refusal::Version { daemon: VERSION, client: version }));
        }
        if let Some(path) = &self.token
            && !self.tickets.take(&token)
        {
            // Anew each time: tokens are replaced.
            let known = read_token(path).inspect_err(|error| tracing::error!(%error, "no token"));
            if !known.is_ok_and(|known| bool::from(known.as_bytes().ct_eq(token.as_bytes()))) {
                return Err(refused(Refusal::Token));
            }
        }
        if !room {
            return Err(refused(Refusal::Quota {
                whose: Whose::Bridge,
                what: Resource::Connections,
                asked: 1,
                left: 0,
                limit: self.connections as u64,
            }));
        }
        let daemon = self.daemon.clone();
        let connected = tokio::task::spawn_blocking(|| connect(daemon)).await;
        connected.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|error| {
            tracing::error!(%error, "the daemon can't be reached");
            refused(Refusal::Unreachable)
        })
    }
}

/// A connection of its own to the daemon. Waits for as long as too many others connect.
fn connect(daemon: Option<Endpoint>) -> io::Result<UnixStream> {
    let found = daemon.map_or_else(Endpoint::discover, Ok);
    match found.map_err(io::Error::other)? {
        Endpoint::Unix(path) => UnixStream::connect(path),
        other => Err(io::Error::other(format!("{other} is no daemon's own socket"))),
    }
}

fn tls(args: &Args) -> Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&args.certificate, &args.key) else { return Ok(None) };
    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match &args.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| path.display().to_string())?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.with_context(|| path.display().to_string())?)
        }
    };
    let config = config
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .with_context(|| format!("{} and {}", certificate.display(), key.display()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
