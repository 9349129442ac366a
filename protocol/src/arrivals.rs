//! Owns what has arrived from a daemon and was not yet looked at: messages, and the descriptors that
//! came beside them.
//!
//! Knows of a message's meaning only whether a descriptor belongs to it. Invariants: the n-th stream
//! that is opened by a descriptor has the n-th that came, or the reason why that was lost; none is
//! kept that belongs to no message, whatever the other end sends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::MsgFlags;

use crate::codec::{CodecError, Inbox};
use crate::fdpass::{self, Passed};
use crate::message::{Backing, Message, Reply};

/// What has arrived on a socket.
#[derive(Debug, Default)]
pub struct Arrivals {
    inbox: Inbox,
    /// With those that were lost in their places.
    descriptors: VecDeque<Passed>,
}

impl Arrivals {
    /// Reads what has arrived, without waiting. Zero bytes: the other end has hung up.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Self { inbox, descriptors } = self;
        let (read, _) = inbox.fill(|room| {
            let (read, descriptor) = fdpass::receive(socket, room, MsgFlags::MSG_DONTWAIT)?;
            descriptors.extend(descriptor);
            Ok::<_, io::Error>(read)
        })?;
        Ok(read)
    }

    /// Whether a message has begun, once those that are whole were popped.
    pub fn is_amid_message(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The next message that is whole, with its descriptor, if it has one. After an error the rest
    /// of the connection has no meaning.
    pub fn pop(&mut self) -> Result<Option<(Message, Option<Passed>)>, CodecError> {
        let Some(message) = self.inbox.pop()? else {
            // It comes beside the first byte of its message.
            if self.inbox.is_empty() {
                self.descriptors.clear();
            }
            return Ok(None);
        };
        let passed =
            matches!(message, Message::Reply(Reply::Opened { backing: Backing::Descriptor, .. }));
        let descriptor = if passed { self.descriptors.pop_front() } else { None };
        Ok(Some((message, descriptor)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::stat::fstat;

    use super::*;
    use crate::codec;
    use crate::frame::{Extent, FrameSpec, PixelFormat};
    use crate::message::StreamSpec;
    use crate::shm::RingLayout;

    fn opened(stream: u32, backing: Backing) -> Message {
        let extent = Extent::new(1, 1);
        let spec = StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent);
        let ring = RingLayout::new(&spec).unwrap();
        Message::Reply(Reply::Opened { stream, ring, backing })
    }

    fn bytes(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode(message, &mut bytes).unwrap();
        bytes
    }

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    fn send(socket: &UnixStream, bytes: &[u8], descriptor: Option<&OwnedFd>) {
        let descriptor = descriptor.map(AsFd::as_fd);
        let sent = fdpass::send(socket, bytes, descriptor, MsgFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// The messages that are whole, and of each descriptor which file it is of.
    fn popped(arrivals: &mut Arrivals) -> Vec<(Message, Option<u64>)> {
        let inode = |passed: Passed| fstat(passed.unwrap()).unwrap().st_ino;
        let next = || arrivals.pop().unwrap();
        let all = std::iter::from_fn(next);
        all.map(|(message, passed)| (message, passed.map(inode))).collect()
    }

    fn inode(file: &OwnedFd) -> Option<u64> {
        Some(fstat(file).unwrap().st_ino)
    }

    #[test]
    fn each_descriptor_goes_with_its_own_message_however_the_bytes_are_cut() {
        let closed = Message::Reply(Reply::Closed { stream: 9 });
        let named = opened(2, Backing::Named("a name".into()));
        let [one, other] = [1, 3].map(|stream| opened(stream, Backing::Descriptor));
        let files = [file(), file()];
        let len = bytes(&one).len();
        for cut in 1..len {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (mut arrivals, mut heard) = (Arrivals::default(), Vec::new());
            let mut hear = |arrivals: &mut Arrivals| {
                arrivals.receive(&ours).unwrap();
                heard.extend(popped(arrivals));
            };
            send(&theirs, &bytes(&closed), None);
            let first = bytes(&one);
            send(&theirs, &first[..cut], Some(&files[0]));
            hear(&mut arrivals);
            assert!(arrivals.is_amid_message());
            send(&theirs, &[&first[cut..], &bytes(&named)].concat(), None);
            send(&theirs, &bytes(&other), Some(&files[1]));
            hear(&mut arrivals);
            assert!(!arrivals.is_amid_message());
            let wanted = [
                (closed.clone(), None),
                (one.clone(), inode(&files[0])),
                (named.clone(), None),
                (other.clone(), inode(&files[1])),
            ];
            assert_eq!(heard, wanted, "cut at {cut}");
        }
    }

    #[test]
    fn a_descriptor_that_is_nobodys_goes_with_no_later_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut arrivals = Arrivals::default();
        let closed = Message::Reply(Reply::Closed { stream: 9 });
        let (stray, file) = (file(), file());
        send(&theirs, &bytes(&closed), Some(&stray));
        arrivals.receive(&ours).unwrap();
        assert_eq!(popped(&mut arrivals), [(closed, None)]);
        let opened = opened(1, Backing::Descriptor);
        send(&theirs, &bytes(&opened), Some(&file));
        arrivals.receive(&ours).unwrap();
        assert_eq!(popped(&mut arrivals), [(opened, inode(&file))]);
    }

    #[test]
    fn an_end_and_silence_differ() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut arrivals = Arrivals::default();
        let nothing = arrivals.receive(&ours).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(arrivals.receive(&ours).unwrap(), 0);
    }
}
