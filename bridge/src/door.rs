//! Owns the way in: accepts connections, and lets in who shows what is asked for, in time.
//!
//! Knows nothing of what is said inside. Invariants: nothing is read into memory of a size that the
//! peer chose; a peer that is not let in is told why, as far as it speaks the protocol at all,
//! unless it has to make room; no more are inside than the limit says. Those who have shown nothing
//! yet take no place `inside`: at the door there are other places, in a `line`.

mod inside;
mod line;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use resized_client::remote::credentials::{certificates, private_key, read_tokens};
use resized_client::remote::prepare;
use resized_client::remote::watched::Watched;
use resized_client::remote::wire::{Receiver, Sender, Stream, WireError};
use resized_protocol::VERSION;
use resized_protocol::message::{Goodbye, Message, Refusal, Resource, Violation, Whose};
use resized_protocol::remote::Call;
use resized_service::memory;
use subtle::{Choice, ConstantTimeEq};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::{ServerConfig, WebPkiClientVerifier};

use crate::FAREWELL;
use crate::account::{Account, Memory};
use crate::args::Args;
use crate::jpeg::Codec;
use crate::lanes::{Lanes, cores};
use crate::listener::Socket;
use crate::lock::lock;
use crate::reach::Daemon;
use crate::relay::{Client, End, Limits, relay, stopped};
use crate::tickets::Tickets;
use inside::{Inside, Place};
use line::Line;

/// For the TLS handshake, and as long for the knock.
const PROMPTNESS: Duration = Duration::from_secs(5);

/// How often a bridge that stops looks whether anybody is left at the door.
const DOOR_GLANCE: Duration = Duration::from_millis(10);

/// Pause after a failed accept: out of descriptors, say. Trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pause where nobody can listen, for the same reasons.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// What everybody who comes in shares.
pub(crate) struct Door {
    daemon: Arc<Daemon>,
    tls: Option<TlsAcceptor>,
    token: Option<PathBuf>,
    /// What was offered to clients that come by NATS.
    pub(crate) tickets: Tickets,
    /// Bytes that each may have, and what all have.
    bytes: u64,
    memory: Arc<Memory>,
    limits: Limits,
    lanes: Lanes<Codec>,
    connections: usize,
    inside: Arc<Inside>,
    /// Who has not been let in yet.
    line: Mutex<Line>,
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
            read_tokens(path)?; // to know now whether there is one
        }
        let quarter = || memory::total().map_or(u64::MAX, |total| total / 4);
        let memory = args.memory.map_or_else(quarter, |mebibytes| mebibytes << 20);
        Ok(Self {
            daemon: Arc::new(Daemon::new(args.daemon.clone())),
            tls: tls(args)?,
            token: args.token.clone(),
            tickets: Tickets::default(),
            bytes: args.connection_memory << 20,
            memory: Arc::new(Memory::new(memory)),
            limits: Limits { pixels: args.megapixels * 1_000_000, patience: args.patience },
            lanes: Lanes::start("jpeg", cores())?,
            connections: args.connections,
            inside: Inside::new(args.connections),
            line: Mutex::default(),
            stop,
        })
    }

    /// Lets clients in until the bridge stops. While the daemon is away nobody listens: balancers and
    /// clients see by that to go elsewhere.
    pub(crate) async fn attend(self: Arc<Self>, socket: Socket, mut listener: TcpListener) {
        let mut stop = self.stop.clone();
        let attend = async {
            loop {
                tokio::select! {
                    () = self.admit_all(&listener) => {}
                    () = self.daemon.turns(true) => {}
                }
                let address = socket.address;
                if let Err(error) = socket.close(listener) {
                    tracing::warn!(%address, %error, "can't refuse connections");
                }
                self.daemon.turns(false).await;
                listener = loop {
                    match socket.open() {
                        Ok(listener) => break listener,
                        Err(error) => tracing::warn!(%address, %error, "can't listen again yet"),
                    }
                    sleep(LISTEN_PAUSE).await;
                };
            }
        };
        tokio::select! {
            () = attend => {}
            () = stopped(&mut stop) => {}
        }
    }

    async fn admit_all(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Connections that there is room for, with rings: none while the daemon is away.
    pub(crate) fn room(&self) -> u64 {
        match self.daemon.is_away() {
            true => 0,
            false => self.memory.room(self.inside.free() as u64),
        }
    }

    /// Waits until all who are inside have left, and those at the door have been told what they are
    /// to be told.
    pub(crate) async fn empty(&self) {
        self.inside.await_free(self.connections).await;
        let nobody = async {
            while !self.line().is_empty() {
                sleep(DOOR_GLANCE).await;
            }
        };
        let _ = timeout(FAREWELL, nobody).await;
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let door = Arc::clone(self);
        // Held until it is in the line: it may leave that at once.
        let mut line = self.line();
        let number = line.next();
        let task = tokio::spawn(async move {
            door.receive(socket, peer, number).await;
            door.line().leave(number);
        });
        line.enter(peer.ip(), task.abort_handle());
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }

    /// One connection, from its first byte to its last.
    async fn receive(&self, socket: TcpStream, peer: SocketAddr, number: u64) {
        let stream = timeout(PROMPTNESS, self.greet(socket)).await;
        let stream = match stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                // Those who look whether somebody listens come every second.
                match has_left(&error) {
                    true => tracing::debug!(%peer, %error, "no connection"),
                    false => tracing::info!(%peer, %error, "no connection"),
                }
                return;
            }
        };
        let (mut reader, writer) = tokio::io::split(stream);
        let mut client = Receiver::new(&mut reader, self.limits.patience);
        let mut to_client = Sender::new(writer, self.limits.patience);
        let knocked = timeout(PROMPTNESS, self.knock(&mut client)).await;
        let knocked = knocked.unwrap_or(Err(Unwelcome::Goodbye(Goodbye::Silence)));
        let account = Account::new(self.bytes, Arc::clone(&self.memory));
        let connected = async {
            knocked?;
            let place = self.enter(peer, &account, number).await?;
            Ok::<_, Unwelcome>((place, self.reach().await?))
        };
        let connected = connected.await;
        let place = match connected {
            Ok((mut place, daemon)) => {
                tracing::debug!(%peer, "let in");
                let name = peer.to_string();
                let client = Client { receiver: client, name: &name, account };
                match self.serve(client, &mut to_client, &daemon, &mut place).await {
                    Some(end) => tracing::debug!(%peer, %end, "connection over"),
                    None => {
                        tracing::debug!(%peer, "connection cut off");
                        return;
                    }
                }
                Some(place)
            }
            Err(Unwelcome::Goodbye(goodbye)) => {
                tracing::info!(%peer, why = %goodbye, "not let in");
                let _ = to_client.send(&Message::Goodbye(goodbye), &[]).await;
                None
            }
            Err(Unwelcome::Deaf(error)) => {
                tracing::debug!(%peer, %error, "no client");
                return;
            }
        };
        let farewell = async {
            let _ = to_client.end().await;
            let mut ignored = [0; 4096];
            while reader.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
        };
        let _ = timeout(FAREWELL, farewell).await;
        drop(place);
    }

    /// One inside, until it is over. None if its place is wanted, and it takes too long to hear of that: it
    /// does not read, so there is nothing more to say.
    async fn serve(
        &self,
        client: Client<'_, impl AsyncRead + Unpin>,
        to_client: &mut Sender<impl AsyncWrite + Unpin>,
        daemon: &Watched,
        place: &mut Place,
    ) -> Option<End> {
        let (mut stop, wanted) = (self.stop.clone(), Notify::new());
        let over = async {
            tokio::select! {
                () = stopped(&mut stop) => End::Stopping,
                () = wanted.notified() => End::MakesRoom,
            }
        };
        let too_late = async {
            place.is_wanted().await;
            wanted.notify_one();
            sleep(FAREWELL).await;
        };
        let lanes = self.lanes.for_another();
        tokio::select! {
            end = relay(client, to_client, daemon, self.limits, lanes, over) => Some(end),
            () = too_late => None,
        }
    }

    async fn greet(&self, socket: TcpStream) -> io::Result<Stream> {
        prepare(&socket, self.limits.patience)?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.accept(socket).await?)),
            None => Ok(Box::new(socket)),
        }
    }

    /// Hears the knock, and whether it is a right one.
    async fn knock(&self, client: &mut Receiver<impl AsyncRead + Unpin>) -> Result<(), Unwelcome> {
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
            && !self.tickets.take(&token, Instant::now())
        {
            // Anew each time: tokens are replaced.
            let known = read_tokens(path).inspect_err(|error| tracing::error!(%error, "no token"));
            if !known.is_ok_and(|known| is_among(&known, &token)) {
                return Err(refused(Refusal::Token));
            }
        }
        Ok(())
    }

    /// A place inside, for one who knocked rightly.
    async fn enter(
        &self,
        peer: SocketAddr,
        account: &Arc<Account>,
        number: u64,
    ) -> Result<Place, Unwelcome> {
        // Nor is there a place then.
        if *self.stop.borrow() {
            return Err(Unwelcome::Goodbye(Goodbye::Stopping));
        }
        let full = Refusal::Quota {
            whose: Whose::Bridge,
            what: Resource::Connections,
            asked: 1,
            left: 0,
            limit: self.connections as u64,
        };
        let place = self.inside.enter(peer.ip(), account).await.ok_or_else(|| refused(full))?;
        // Before the daemon is waited for: from here on nobody at the door is in its way.
        if !self.line().leave(number) {
            return Err(Unwelcome::Deaf(io::ErrorKind::ConnectionAborted.into()));
        }
        Ok(place)
    }

    /// A connection to the daemon, for one who has a place.
    async fn reach(&self) -> Result<Watched, Unwelcome> {
        let mut stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.daemon.reach() => connected,
            () = stopped(&mut stop) => return Err(Unwelcome::Goodbye(Goodbye::Stopping)),
        };
        connected.map_err(|error| {
            tracing::error!(%error, "the daemon can't be reached");
            refused(Refusal::Unreachable)
        })
    }
}

/// In a time that tells nothing of the others, nor of which it is.
fn is_among(known: &[String], token: &str) -> bool {
    let equal = |known: &String| known.as_bytes().ct_eq(token.as_bytes());
    known.iter().fold(Choice::from(0), |any, known| any | equal(known)).into()
}

const fn refused(refusal: Refusal) -> Unwelcome {
    Unwelcome::Goodbye(Goodbye::Refused(refusal))
}

/// Whether it said nothing wrong, only nothing, or not enough in time.
fn has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | UnexpectedEof)
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
