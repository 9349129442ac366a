//! Owns what a client was told and has not read: that waits here once its socket is full, for as long as
//! the client takes.
//!
//! Knows nothing of what is told. Invariants: messages go out whole and in order, each with its
//! descriptor; of what waits there is no more than [`MOST`] and a message, whatever a bridge says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use resized_protocol::codec;
use resized_protocol::message::Message;

use super::watched::Writer;

/// Bytes: more than the completions of all slots that a bridge allows a connection.
const MOST: usize = 256 * 1024;

/// The messages.
pub(super) struct Outbox<'a> {
    client: Writer<'a>,
    waiting: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    bytes: usize,
}

impl<'a> Outbox<'a> {
    /// For that client.
    pub(super) const fn new(client: Writer<'a>) -> Self {
        Self { client, waiting: VecDeque::new(), bytes: 0 }
    }

    /// Tells the client that, with a descriptor beside it, as soon as it reads; is held up only where
    /// too much waits for that.
    pub(super) async fn send(
        outbox: &RefCell<Self>,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        codec::encode(message, &mut bytes).map_err(io::Error::other)?;
        {
            let mut outbox = outbox.borrow_mut();
            outbox.bytes += bytes.len();
            outbox.waiting.push_back((bytes, descriptor));
        }
        poll_fn(|context| {
            let mut outbox = outbox.borrow_mut();
            match outbox.poll_flush(context) {
                Poll::Pending if outbox.bytes <= MOST => Poll::Ready(Ok(())),
                flushed => flushed,
            }
        })
        .await
    }

    /// Tells what waits whenever the client reads, until that can't be told any more.
    pub(super) async fn pass_on(outbox: &RefCell<Self>) -> io::Error {
        poll_fn(|context| match outbox.borrow_mut().poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        })
        .await
    }

    /// Waits until all is told.
    pub(super) async fn flush(outbox: &RefCell<Self>) -> io::Result<()> {
        poll_fn(|context| outbox.borrow_mut().poll_flush(context)).await
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, descriptor)) = self.waiting.front_mut() {
            let beside = descriptor.as_ref().map(AsFd::as_fd);
            let sent = ready!(self.client.poll_send(context, bytes, beside))?;
            self.bytes -= sent;
            bytes.drain(..sent);
            *descriptor = None;
            if bytes.is_empty() {
                self.waiting.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::task::Waker;

    use resized_protocol::codec::MAX_MESSAGE;
    use resized_protocol::message::Reply;

    use super::super::watched::Watched;
    use super::*;

    #[tokio::test]
    async fn no_more_waits_than_a_bridge_could_honestly_say() {
        let (ours, _unread) = UnixStream::pair().unwrap();
        let ours = Watched::new(ours).unwrap();
        let outbox = RefCell::new(Outbox::new(ours.split().1));
        let message = Message::Reply(Reply::Closed { stream: 0 });
        let mut context = Context::from_waker(Waker::noop());
        while pin!(Outbox::send(&outbox, &message, None)).poll(&mut context).is_ready() {}
        let outbox = outbox.borrow();
        let waiting: usize = outbox.waiting.iter().map(|(bytes, _)| bytes.len()).sum();
        assert_eq!(waiting, outbox.bytes);
        assert!((MOST..=MOST + MAX_MESSAGE).contains(&waiting), "{waiting}");
    }
}
