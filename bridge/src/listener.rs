//! Owns the addresses at which the bridge listens: how a socket gets one, and how nobody listens there for
//! a while.
//!
//! Knows nothing of who connects, and when that is wanted. Invariant: a port is the bridge's for as long
//! as its socket is there, whether anybody listens or not: another could have clients' tokens by it.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen,
    setsockopt, shutdown, socket,
};
use tokio::net::TcpListener;

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;

/// A socket with an address, at which nobody listens yet.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: net::TcpListener,
    pub(crate) address: SocketAddr,
}

impl Socket {
    /// An address of IPv6 is for that alone: whoever gives `[::]` beside `0.0.0.0` wants both.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
        if address.is_ipv6() {
            setsockopt(&socket, Ipv6V6Only, &true)?;
        }
        // A bridge that has just ended may have left connections behind.
        setsockopt(&socket, ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        let socket = net::TcpListener::from(socket);
        let bound = socket.local_addr()?;
        // The system takes back a port that it chose when nobody listens there, and none that it was told.
        if address.port() == 0 { Self::bind(bound) } else { Ok(Self { socket, address: bound }) }
    }

    /// Listens there.
    pub(crate) fn open(&self) -> io::Result<TcpListener> {
        setsockopt(&self.socket, ReuseAddr, &true)?;
        listen(&self.socket, Backlog::new(BACKLOG)?)?;
        // Tokio does not forget that a socket was shut down; of another descriptor it knows nothing.
        TcpListener::from_std(self.socket.try_clone()?)
    }

    /// Nobody listens there from now on, nor can anybody else: who connects is refused by the system.
    pub(crate) fn close(&self, listener: TcpListener) -> io::Result<()> {
        drop(listener);
        setsockopt(&self.socket, ReuseAddr, &false)?;
        // Linux ends listening by this, and leaves the socket its address.
        Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Read)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::net::{TcpSocket, TcpStream};

    use super::*;
    use crate::skip::skip;

    fn local() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn both_kinds_of_addresses_have_the_same_port() {
        let Ok(six) = Socket::bind("[::]:0".parse().unwrap()) else {
            return skip("ipv6", "there is no IPv6");
        };
        let _six = six.open().unwrap();
        let four = Socket::bind(([0, 0, 0, 0], six.address.port()).into()).unwrap();
        four.open().unwrap();
    }

    #[tokio::test]
    async fn nobody_listens_while_it_is_closed_and_then_somebody_does() {
        let chosen = Socket::bind(local()).unwrap();
        let address = chosen.address;
        // The second time with a port that was asked for.
        let told = async |socket: Socket| {
            let mut listener = socket.open().unwrap();
            let mut inside = Vec::new();
            for _ in 0..3 {
                inside.push(TcpStream::connect(address).await.unwrap());
                inside.push(listener.accept().await.unwrap().0);
                socket.close(listener).unwrap();
                let refused = TcpStream::connect(address).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                listener = socket.open().unwrap();
            }
        };
        told(chosen).await;
        told(Socket::bind(address).unwrap()).await;
    }

    #[tokio::test]
    async fn nobody_else_takes_the_port_of_one_that_is_closed() {
        let socket = Socket::bind(local()).unwrap();
        // Nor with the connections of those who are inside.
        let listener = socket.open().unwrap();
        let client = TcpStream::connect(socket.address).await.unwrap();
        let served = listener.accept().await.unwrap();
        socket.close(listener).unwrap();
        let any = ([0, 0, 0, 0], socket.address.port()).into();
        for (address, reuse) in [(socket.address, true), (any, true), (socket.address, false)] {
            let other = TcpSocket::new_v4().unwrap();
            other.set_reuseaddr(reuse).unwrap();
            let taken = other.bind(address).and_then(|()| other.listen(1));
            assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse, "{address} {reuse}");
        }
        let listener = socket.open().unwrap();
        let again = TcpStream::connect(socket.address).await.unwrap();
        listener.accept().await.unwrap();
        drop((client, served, again));
    }
}
