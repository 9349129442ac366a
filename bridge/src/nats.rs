//! Owns the bridge's part in a NATS service: it answers clients that ask for a place, with an offer or
//! that it has none, and passes on those that bring a single picture.
//!
//! Knows nothing of frames and pictures. A server that goes away is looked for again by the client
//! library; open streams notice nothing of it.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_nats::connection::State;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::error::Error as ServiceError;
use async_nats::service::{Request, Service, ServiceExt};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt;
use resized_client::remote::credentials::certificates;
use resized_client::remote::is_loopback;
use resized_protocol::VERSION;
use resized_protocol::codec;
use resized_protocol::remote::{Offer, PICTURE_SUBJECT, STREAM_SUBJECT};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::DRAIN;
use crate::args::Args;
use crate::door::Door;
use crate::lock::lock;
use crate::pictures::{Pictures, turn_away};
use crate::relay::stopped;

/// Requests that wait to be looked at, which takes no time worth speaking of and waits for nobody:
/// what is more is lost, and who asked asks again.
const WAITING: usize = 256;

/// Between two questions whether the server is still there. One that misses two answers has gone
/// without a word, as machines without power do.
const PING: Duration = Duration::from_secs(5);

/// For pictures that have arrived when the bridge stops: what is not made by then is refused, as
/// long as there is time to say so.
const LAST_PICTURES: Duration = DRAIN.saturating_sub(Duration::from_secs(1));

/// What is said in place of an offer.
const NO_ROOM: &str = "this bridge is full or without its daemon: ask again";

/// Of which one bridge takes each picture.
const PICTURE_GROUP: &str = "pictures";

/// A service that was joined.
pub(crate) struct Member {
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    /// Where clients are sent.
    endpoint: String,
    door: Arc<Door>,
    /// None if none are taken.
    pictures: Option<Arc<Pictures>>,
}

impl Member {
    /// None if no server was named.
    pub(crate) async fn new(
        args: &Args,
        listening: &[SocketAddr],
        door: &Arc<Door>,
    ) -> Result<Option<Self>> {
        if args.nats.is_empty() {
            return Ok(None);
        }
        if args.nats_ca.is_none() && args.nats.iter().any(is_in_the_clear) {
            tracing::warn!(
                "NATS: unless the server has TLS, pictures and tokens can be read on the way: write \
                 tls://HOST:PORT, or take --nats-ca"
            );
        }
        let mut options = ConnectOptions::new()
            .name("resized-bridge")
            .retry_on_initial_connect()
            .ping_interval(PING)
            .subscription_capacity(WAITING)
            .event_callback(log());
        if let Some(path) = &args.nats_credentials {
            let read = options.credentials_file(path).await;
            options = read.with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &args.nats_ca {
            certificates(path)?; // to know now whether there are any
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        let endpoint = match &args.advertise {
            Some(endpoint) => endpoint.to_string(),
            None => {
                let address = reachable(listening, &args.nats).context(
                    "--nats takes --advertise, where clients can connect: --listen names no address by \
                     which other machines could",
                )?;
                let scheme = if args.certificate.is_some() { "tls" } else { "tcp" };
                format!("{scheme}://{address}")
            }
        };
        Ok(Some(Self {
            servers: args.nats.clone(),
            options,
            endpoint,
            door: Arc::clone(door),
            pictures: Pictures::new(args)?,
        }))
    }

    /// Answers until the bridge stops, and then what has arrived by then.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let Self { servers, options, endpoint, door, pictures } = self;
        let failed = |error: async_nats::Error| anyhow!("NATS: {error}");
        let client = options.connect(servers).await.context("NATS")?;
        let service = client
            .service_builder()
            .description("Resizes video frames and images")
            .start("resized", env!("CARGO_PKG_VERSION"))
            .await
            .map_err(failed)?;
        // A queue group of its own for each bridge: all of them are asked.
        let own = service.info().await.id;
        let asked = service.endpoint_builder().name("stream").queue_group(own).add(STREAM_SUBJECT);
        let mut asked = asked.await.map_err(failed)?;
        let counter = match pictures {
            Some(pictures) => {
                let counter = Counter::open(&service, &client, pictures).await.map_err(failed)?;
                Some(tokio::spawn(counter.serve()))
            }
            None => None,
        };
        loop {
            let request: Request = tokio::select! {
                Some(request) = asked.next() => request,
                () = stopped(&mut stop) => break,
                else => break,
            };
            if request.message.reply.is_none() {
                continue;
            }
            let mut bytes = Vec::new();
            let answer = match door.offer(&endpoint).map(|offer| codec::encode(&offer, &mut bytes))
            {
                Some(Ok(())) => Ok(bytes.into()),
                _ => Err(ServiceError { status: NO_ROOM.to_owned(), code: 503 }),
            };
            if let Err(error) = request.respond(answer).await {
                tracing::warn!(%error, "an answer could not be given");
            }
        }
        // Who asks meanwhile hears that nobody is there, and asks no bridge that does not answer.
        drop(asked);
        let _ = service.stop().await;
        if let Some(counter) = counter
            && client.connection_state() == State::Connected
        {
            let _ = counter.await;
        }
        let _ = client.drain().await;
        Ok(())
    }
}

/// Whether machines on the way there may read all that is said.
fn is_in_the_clear(server: &ServerAddr) -> bool {
    !server.tls_required() && !is_loopback(server.host())
}

/// Where the service's clients can connect, if they can. Where it has a server on another machine they may
/// be on others, too.
fn reachable<'a>(listening: &'a [SocketAddr], servers: &[ServerAddr]) -> Option<&'a SocketAddr> {
    let is_local = servers.iter().all(|server| is_loopback(server.host()));
    listening.iter().find(|address| {
        let ip = address.ip().to_canonical();
        !ip.is_unspecified() && (is_local || !ip.is_loopback())
    })
}

/// What is wrong with the connection, as it was said last.
#[derive(Default)]
struct Trouble(Mutex<String>);

impl Trouble {
    /// Whether that was not just said.
    fn is_new(&self, error: String) -> bool {
        let mut said = lock(&self.0);
        let is_new = *said != error;
        *said = error;
        is_new
    }

    fn is_over(&self) {
        lock(&self.0).clear();
    }
}

/// Logs what becomes of the connection: what is wrong with it once, however often that is so.
fn log() -> impl Fn(Event) -> Ready<()> + Send + Sync {
    let trouble = Trouble::default();
    move |event| {
        match event {
            Event::Connected => {
                trouble.is_over();
                tracing::info!("NATS: joined the service");
            }
            Event::Disconnected => {
                tracing::warn!("NATS: the server is lost; trying until one answers")
            }
            Event::ClientError(error) => {
                if trouble.is_new(error.to_string()) {
                    tracing::warn!(%error, "NATS: can't join the service; trying until it can");
                }
            }
            Event::SlowConsumer(_) => {
                tracing::warn!("NATS: more was asked than could be looked at; some is lost");
            }
            Event::Draining | Event::Closed => {}
            other => tracing::warn!("NATS: {other}"),
        }
        ready(())
    }
}

/// Where single pictures are taken.
struct Counter {
    requests: Endpoint,
    /// Those that have a place: there are no more than that.
    at_work: JoinSet<()>,
    /// Those that have none, and are told so.
    turned_away: JoinSet<()>,
    client: Client,
    pictures: Arc<Pictures>,
}

impl Counter {
    async fn open(
        service: &Service,
        client: &Client,
        pictures: Arc<Pictures>,
    ) -> Result<Self, async_nats::Error> {
        let endpoint = service.endpoint_builder().name("picture").queue_group(PICTURE_GROUP);
        let requests = endpoint.add(PICTURE_SUBJECT).await?;
        let (at_work, turned_away) = (JoinSet::new(), JoinSet::new());
        Ok(Self { requests, at_work, turned_away, client: client.clone(), pictures })
    }

    /// Takes requests until the service has stopped, and answers those that have arrived. What the
    /// server sends in the same moment is lost: who asked asks again.
    async fn serve(mut self) {
        loop {
            let request = tokio::select! {
                request = self.requests.next() => request,
                Some(_) = self.at_work.join_next() => continue,
                Some(_) = self.turned_away.join_next() => continue,
            };
            match request {
                Some(request) => self.take(request),
                None => break,
            }
        }
        if timeout(LAST_PICTURES, self.all_answered()).await.is_err() {
            self.pictures.give_up();
            self.all_answered().await;
        }
        let _ = self.client.flush().await;
    }

    /// Has a request answered. Waits for nothing, so that requests don't pile up in the subscription,
    /// whose bytes nobody counts.
    fn take(&mut self, mut request: Request) {
        if request.message.reply.is_none() {
            return;
        }
        match self.pictures.place(request.message.payload.len()) {
            Some(place) => {
                let (pictures, client) = (Arc::clone(&self.pictures), self.client.clone());
                self.at_work.spawn(pictures.answer(client, request, place));
            }
            // What is more is lost, as beyond what the subscription holds.
            None if self.turned_away.len() >= WAITING => {}
            None => {
                request.message.payload.clear();
                self.turned_away.spawn(turn_away(request));
            }
        }
    }

    async fn all_answered(&mut self) {
        while self.turned_away.join_next().await.is_some() {}
        while self.at_work.join_next().await.is_some() {}
    }
}

impl Door {
    /// A place at the bridge, if there is room.
    fn offer(&self, endpoint: &str) -> Option<Offer> {
        let free = u32::try_from(self.room()).unwrap_or(u32::MAX);
        let token = if free == 0 { None } else { self.tickets.issue() }?;
        Some(Offer { version: VERSION, endpoint: endpoint.to_owned(), token, free })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_not_sent_to_their_own_machines() {
        let reachable = |listening: &[&str], servers: &[&str]| {
            let listening: Vec<_> = listening.iter().map(|at| at.parse().unwrap()).collect();
            let servers: Vec<_> = servers.iter().map(|server| server.parse().unwrap()).collect();
            reachable(&listening, &servers).map(ToString::to_string)
        };
        let at = |address: &str| Some(address.to_owned());
        for near in ["nats://127.0.0.1", "nats://localhost:1", "nats://[::1]"] {
            assert_eq!(reachable(&["0.0.0.0:1", "127.0.0.1:1"], &[near]), at("127.0.0.1:1"));
            assert_eq!(reachable(&["127.0.0.1:1"], &[near, "nats://203.0.113.1"]), None);
        }
        for far in ["nats://203.0.113.1", "nats://broker.example", "tls://[2001:db8::1]"] {
            for own in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "0.0.0.0:1"] {
                assert_eq!(reachable(&[own], &[far]), None, "{own} {far}");
                assert_eq!(reachable(&[own, "203.0.113.2:1"], &[far]), at("203.0.113.2:1"));
            }
        }
    }

    #[test]
    fn what_others_could_read_on_the_way_is_known() {
        for (server, clear) in [
            ("nats://127.0.0.1", false),
            ("nats://localhost", false),
            ("nats://[::1]:4222", false),
            ("tls://broker.example", false),
            ("nats://broker.example", true),
            ("broker.example:4222", true),
            ("nats://192.0.2.1", true),
        ] {
            assert_eq!(is_in_the_clear(&server.parse().unwrap()), clear, "{server}");
        }
    }

    #[test]
    fn trouble_is_said_once_until_it_is_another_or_over() {
        let trouble = Trouble::default();
        let said = ["refused", "refused", "no rights", "no rights"];
        assert_eq!(said.map(|why| trouble.is_new(why.into())), [true, false, true, false]);
        trouble.is_over();
        assert!(trouble.is_new("no rights".into()));
    }
}
