//! Owns the bridge's part in a NATS service: it answers who asks for a place, while it has room.
//!
//! Knows nothing of frames. A server that goes away is looked for again by the client library; open streams
//! notice nothing of it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use async_nats::ConnectOptions;
use async_nats::service::{Request, ServiceExt};
use futures_util::StreamExt;
use resized_protocol::VERSION;
use resized_protocol::codec;
use resized_protocol::remote::{Offer, STREAM_SUBJECT};
use tokio::sync::watch;

use crate::args::Args;
use crate::door::Door;
use crate::relay::stopped;

/// Requests that wait to be looked at: what is more is lost, and who asked asks again.
const WAITING: usize = 64;

/// A service that was joined.
pub(crate) struct Member {
    servers: Vec<String>,
    options: ConnectOptions,
    /// Where clients are sent.
    endpoint: String,
    door: Arc<Door>,
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
        let mut options = ConnectOptions::new()
            .name("resized-bridge")
            .retry_on_initial_connect()
            .subscription_capacity(WAITING);
        if let Some(path) = &args.nats_credentials {
            let read = options.credentials_file(path).await;
            options = read.with_context(|| path.display().to_string())?;
        }
        let endpoint = match &args.advertise {
            Some(endpoint) => endpoint.to_string(),
            None => {
                let known = listening.iter().find(|address| !address.ip().is_unspecified());
                let address =
                    known.context("--nats takes --advertise: where clients can connect")?;
                let scheme = if args.certificate.is_some() { "tls" } else { "tcp" };
                format!("{scheme}://{address}")
            }
        };
        Ok(Some(Self { servers: args.nats.clone(), options, endpoint, door: Arc::clone(door) }))
    }

    /// Answers until the bridge stops.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let Self { servers, options, endpoint, door } = self;
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
        loop {
            let request: Request = tokio::select! {
                Some(request) = asked.next() => request,
                () = stopped(&mut stop) => break,
                else => break,
            };
            let Some(offer) = door.offer(&endpoint) else { continue };
            let mut bytes = Vec::new();
            if codec::encode(&offer, &mut bytes).is_ok()
                && let Err(error) = request.respond(Ok(bytes.into())).await
            {
                tracing::warn!(%error, "an offer could not be made");
            }
        }
        let _ = service.stop().await;
        let _ = client.drain().await;
        Ok(())
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
