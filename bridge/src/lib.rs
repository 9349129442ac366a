//! A bridge: lets clients on other machines use this machine's daemon, by TCP or TLS.
//!
//! One frame walks through these files in this order: `door` lets a client in and `reach` finds the
//! daemon for it; `relay` copies its frames into the daemon's ring, and the resized ones back;
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
mod nats;
mod pictures;
mod reach;
mod relay;
mod replies;
mod tickets;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

pub use args::{Args, Unsafe};
use door::Door;
use nats::Member;

/// How long those inside may take for their last words when the bridge stops, and pictures to be
/// made or refused.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// What the bridge was told, or a file that was named, can't be used: to start again would not help.
#[derive(Debug, Error)]
#[error("{0:#}")]
pub struct BadSettings(pub anyhow::Error);

/// Serves in a tokio runtime until `stop` is over. `ready` is told where it listens.
pub async fn serve(
    args: &Args,
    ready: impl FnOnce(&[SocketAddr]),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    args.check().map_err(|error| BadSettings(error.into()))?;
    let (stopping, mut stopped) = watch::channel(false);
    let door = Arc::new(Door::new(args, stopped.clone()).map_err(BadSettings)?);
    let mut addresses = Vec::new();
    for address in &args.listen {
        let listener = listen(*address).with_context(|| address.to_string())?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(Arc::clone(&door).attend(listener));
    }
    let member = Member::new(args, &addresses, &door).await.map_err(BadSettings)?;
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
    // Clients look for a bridge again, and submit again what was in flight; single pictures that
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

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 1024;

/// An address of IPv6 is for that alone: whoever gives `[::]` beside `0.0.0.0` wants both.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, Ipv6V6Only, &true)?;
            socket
        }
    };
    // One that has just ended may have left connections behind.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_of_addresses_have_the_same_port() {
        let Ok(six) = listen("[::]:0".parse().unwrap()) else {
            eprintln!("SKIPPED: there is no IPv6");
            return;
        };
        let port = six.local_addr().unwrap().port();
        listen(([0, 0, 0, 0], port).into()).unwrap();
    }
}
