//! Owns a Unix socket and its registration with the runtime, which is for reading alone.
//!
//! tokio's own sockets are watched for both directions, and a Unix socket becomes writable each time
//! its peer reads: the carrier and the bridge would be woken for nothing by every frame. What is
//! written goes into the socket at once, which is watched for room only while it is full.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::MsgFlags;
use resized_protocol::fdpass;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected socket that the runtime watches.
#[derive(Debug)]
pub struct Watched(AsyncFd<UnixStream>);

fn watch(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the descriptor is the `UnixStream`'s, and stays open and the same as long as that lives,
    // which the `AsyncFd` owns. Nobody outside of this file can reach it to put another in its place,
    // and nobody in it does.
    let watched = unsafe { AsyncFd::register_with_interest(socket, interest) };
    watched.map_err(|error| error.into_parts().1)
}

impl Watched {
    /// Has the socket watched by the runtime that runs this.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        watch(socket, Interest::READABLE).map(Self)
    }

    /// What is read, and what is written to.
    pub fn split(&self) -> (&Self, Writer<'_>) {
        (self, Writer { socket: self.0.get_ref(), full: None })
    }

    /// Reads by `read`, which does not wait and says whether there may be more; before, waits until
    /// there is something.
    pub async fn read_by<T>(
        &self,
        mut read: impl FnMut(&UnixStream) -> io::Result<(T, bool)>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.0.readable().await?;
            match read(ready.get_inner()) {
                Ok((what, more)) => {
                    // Spares the read that would only say so.
                    if !more {
                        ready.clear_ready();
                    }
                    return Ok(what);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsyncRead for &Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let unfilled = room.initialize_unfilled();
            match ready.get_inner().read(unfilled) {
                Ok(read) => {
                    if 0 < read && read < unfilled.len() {
                        ready.clear_ready();
                    }
                    room.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// The half that is written to.
#[derive(Debug)]
pub struct Writer<'a> {
    socket: &'a UnixStream,
    /// Another descriptor of the socket while it is full, watched for room.
    full: Option<AsyncFd<UnixStream>>,
}

impl Writer<'_> {
    /// Sends as much as there is room for, waiting for any, and a descriptor beside it.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut room = match &self.full {
                Some(full) => Some(ready!(full.poll_write_ready(context))?),
                None => None,
            };
            match fdpass::send(self.socket, bytes, descriptor, MsgFlags::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &mut room {
                    Some(room) => room.clear_ready(),
                    None => self.full = Some(watch(self.socket.try_clone()?, Interest::WRITABLE)?),
                },
                sent => {
                    self.full = None;
                    return Poll::Ready(sent);
                }
            }
        }
    }
}

impl AsyncWrite for Writer<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, bytes, None)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_reads_wakes_nobody() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Watched::new(ours).unwrap();
        let (mut reader, mut writer) = ours.split();
        // Nothing has come: from here on any event shows.
        let mut room = [0; 8];
        let mut context = Context::from_waker(Waker::noop());
        let nothing = Pin::new(&mut reader).poll_read(&mut context, &mut ReadBuf::new(&mut room));
        assert!(nothing.is_pending());
        writer.write_all(&[1; 8]).await.unwrap();
        theirs.read_exact(&mut room).unwrap();
        let events = ours.0.ready(Interest::READABLE | Interest::WRITABLE);
        tokio::select! {
            biased;
            event = events => panic!("{:?}", event.unwrap().ready()),
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
        }
        theirs.write_all(&[2; 4]).unwrap();
        assert_eq!(reader.read(&mut room).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn what_is_full_is_written_to_when_there_is_room() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Watched::new(ours).unwrap();
        let (_, mut writer) = ours.split();
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut context = Context::from_waker(Waker::noop());
        let mut sent = 0;
        while let Poll::Ready(more) = writer.poll_send(&mut context, &bytes[sent..], None) {
            sent += more.unwrap();
        }
        assert!(writer.full.is_some() && sent < bytes.len());
        let reads = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        writer.write_all(&bytes[sent..]).await.unwrap();
        assert!(writer.full.is_none());
        writer.shutdown().await.unwrap();
        assert!(reads.join().unwrap().unwrap() == bytes);
    }

    #[tokio::test]
    async fn what_has_come_is_read_once_and_the_end_is_heard() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Watched::new(ours).unwrap();
        let mut reads = 0;
        let mut read = async |room: usize| {
            let mut bytes = vec![0; room];
            let read = ours.read_by(|mut socket| {
                reads += 1;
                let read = socket.read(&mut bytes)?;
                Ok((read, read == room))
            });
            read.await.unwrap()
        };
        theirs.write_all(&[1; 8]).unwrap();
        assert_eq!((read(6).await, read(6).await), (6, 2));
        theirs.write_all(&[1; 8]).unwrap();
        assert_eq!(read(16).await, 8);
        drop(theirs);
        assert_eq!(read(16).await, 0);
        // None of them for nothing.
        assert_eq!(reads, 4);
    }
}
