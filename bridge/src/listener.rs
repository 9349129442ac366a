//! Owns the sockets at which the bridge listens: how they are opened, and how nobody listens at one for
//! a while.
//!
//! Knows nothing of who connects.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 1024;

/// Between two attempts to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// An address of IPv6 is for that alone: whoever gives `[::]` beside `0.0.0.0` wants both.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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

/// Nobody listens there until `over`: who connects is refused by the system.
pub(crate) async fn pause(
    listener: TcpListener,
    over: impl Future<Output = ()>,
) -> io::Result<TcpListener> {
    let address = listener.local_addr()?;
    drop(listener);
    over.await;
    loop {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            // Another has come meanwhile.
            Err(error) => tracing::warn!(%address, %error, "can't listen again yet"),
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

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

    #[tokio::test]
    async fn nobody_listens_in_a_pause_and_then_somebody_does() {
        let mut listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..2 {
            let client = TcpStream::connect(address).await.unwrap();
            listener.accept().await.unwrap();
            drop(client);
            let (over, wait) = oneshot::channel();
            let paused = tokio::spawn(pause(listener, async { wait.await.unwrap() }));
            let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
            while !TcpStream::connect(address).await.is_err_and(refused) {
                yield_now().await;
            }
            over.send(()).unwrap();
            listener = paused.await.unwrap().unwrap();
        }
    }
}
