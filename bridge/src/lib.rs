//! A bridge: lets clients on other machines use this machine's daemon, by TCP or TLS.
//!
//! One frame walks through these files in this order: `listener` and `door` let a client in and `reach`
//! finds the daemon for it; `relay` copies its frames into the daemon's ring, and the resized ones back;
//! `coded` says what becomes of those that are JPEGs, `jpeg` reads and writes them, when `lanes`
//! has a turn for it. `account` grants what all that takes. To the daemon each connection is a
//! client; the daemon opens no socket to other machines, and holds no key. Members of a NATS
//! service (`nats`) take single `pictures` too.

mod account;
mod args;
mod coded;
mod door;
mod jpeg;
mod lanes;
mod listener;
mod lock;
mod nats;
mod pictures;
mod reach;
mod relay;
mod replies;
mod tickets;

#[cfg(test)]
#[path = "../../daemon/tests/common/skip.rs"]
mod skip;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use resized_client::remote::credentials::CredentialsError;
use resized_service::may_pass;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

pub use args::{Args, Unsafe};
use door::Door;
use listener::Socket;
use nats::Member;

/// How long those inside may take for their last words when the bridge stops, and pictures to be
/// made or refused.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// How long one who was sent away may take to hang up: what it has still sent is read meanwhile, or the
/// system would cut our last words off.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// What the bridge was told, or a file that was named, can't be used: to start again would not help.
#[derive(Debug, Error)]
#[error("{0:#}")]
pub struct BadSettings(pub anyhow::Error);

/// The settings are to blame for what was tried with them, unless the system lacked something for it.
fn to_blame(error: anyhow::Error) -> anyhow::Error {
    let systems = match error.downcast_ref() {
        Some(CredentialsError::Unreadable { error, .. }) => Some(error),
        _ => error.downcast_ref(),
    };
    match systems.is_some_and(may_pass) {
        true => error,
        false => BadSettings(error).into(),
    }
}

/// Serves in a tokio runtime until `stop` is over. `ready` is told where it listens.
pub async fn serve(
    args: &Args,
    ready: impl FnOnce(&[SocketAddr]),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    args.check().map_err(|error| BadSettings(error.into()))?;
    let (stopping, mut stopped) = watch::channel(false);
    let door = Arc::new(Door::new(args, stopped.clone()).map_err(to_blame)?);
    let mut addresses = Vec::new();
    for address in &args.listen {
        let listening = Socket::bind(*address).and_then(|socket| Ok((socket.open()?, socket)));
        let (listener, socket) = listening.with_context(|| address.to_string())?;
        addresses.push(socket.address);
        tokio::spawn(Arc::clone(&door).attend(socket, listener));
    }
    let member = Member::new(args, &addresses, &door).await.map_err(to_blame)?;
    let mut member = match member {
        Some(member) => tokio::spawn(member.serve(stopped)),
        None => tokio::spawn(async move {
            relay::stopped(&mut stopped).await;
            Ok(())
        }),
    };
    ready(&addresses);
    let left = tokio::select! {
        () = stop => None,
        left = &mut member => Some(left),
    };
    let _ = stopping.send(true);
    // Clients look for a bridge again, and submit again what is not done by then; single pictures that
    // came are made.
    let last_words = async {
        door.empty().await;
        if left.is_none() {
            let _ = (&mut member).await;
        }
    };
    let _ = timeout(DRAIN, last_words).await;
    match left {
        None => Ok(()),
        Some(left) => left?,
    }
}
