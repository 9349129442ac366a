//! Owns what has arrived from a daemon and was not yet looked at: messages, and the descriptors that
//! came beside them.
//!
//! Knows of a message's meaning only whether a descriptor belongs to it. Invariants: a stream that is opened by a descriptor has
//! the one that came beside the first byte of its message, or the reason why that was lost; none is kept that came beside
//! another byte, whatever the other end sends.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use nix::sys::socket::MsgFlags;

use crate::codec::{CodecError, Inbox};
use crate::fdpass::{self, Passed};
use crate::message::{Backing, Message, Reply};

/// What has arrived on a socket.
#[derive(Debug, Default)]
pub struct Arrivals {
    inbox: Inbox,
    /// Bytes that have arrived, from the first.
    arrived: u64,
    /// With those that were lost in their places.
    descriptors: VecDeque<Beside>,
}

/// A descriptor that came beside one of the bytes that were read with it: the system does not say which.
#[derive(Debug)]
struct Beside {
    bytes: Range<u64>,
    passed: Passed,
}

impl Arrivals {
    /// Reads what has arrived, without waiting. Zero bytes: the other end has hung up. Also whether there
    /// may be more: that was all the room, or a descriptor, behind which the system stops.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<(usize, bool)> {
        let Self { inbox, arrived, descriptors } = self;
        let mut beside = false;
        let (read, full) = inbox.fill(|room| {
            let (read, passed) = fdpass::receive(socket, room, MsgFlags::MSG_DONTWAIT)?;
            let bytes = *arrived..*arrived + read as u64;
            *arrived = bytes.end;
            beside = passed.is_some();
            descriptors.extend(passed.map(|passed| Beside { bytes, passed }));
            Ok::<_, io::Error>(read)
        })?;
        Ok((read, full || beside))
    }

    /// Whether a message has begun, once those that are whole were popped.
    pub fn is_amid_message(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The next message that is whole, with its descriptor, if it has one. After an error the rest
    /// of the connection has no meaning.
    pub fn pop(&mut self) -> Result<Option<(Message, Option<Passed>)>, CodecError> {
        let first = self.arrived - self.inbox.len() as u64;
        let is_its = |beside: &Beside| beside.bytes.contains(&first);
        let Some(message) = self.inbox.pop()? else {
            // All that has arrived behind that byte is of its message.
            self.descriptors.retain(is_its);
            return Ok(None);
        };
        let passed =
            matches!(message, Message::Reply(Reply::Opened { backing: Backing::Descriptor, .. }));
        let its = self.descriptors.iter().position(is_its).filter(|_| passed);
        let descriptor = its.and_then(|its| self.descriptors.remove(its));
        Ok(Some((message, descriptor.map(|beside| beside.passed))))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
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
    fn of_descriptors_beside_every_byte_those_are_closed_that_are_no_messages() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut arrivals = Arrivals::default();
        let [one, other] = [1, 2].map(|stream| opened(stream, Backing::Descriptor));
        let len = bytes(&one).len();
        let half = [bytes(&one), bytes(&other)[..len / 2].to_vec()].concat();
        let (mut ends, mut passed) = (Vec::new(), Vec::new());
        for byte in &half {
            let (end, writer) = io::pipe().unwrap();
            send(&theirs, &[*byte], Some(&writer.into()));
            arrivals.receive(&ours).unwrap();
            passed.extend(std::iter::from_fn(|| arrivals.pop().unwrap()));
            ends.push(end);
        }
        // Those of the message that is whole, and of the one that is begun.
        let mut open = Vec::new();
        for (place, mut end) in ends.iter().enumerate() {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            // The end, once nobody could write any more.
            if io::Read::read(&mut end, &mut [0]).is_err() {
                open.push(place);
            }
        }
        assert_eq!(open, [0, len]);
        let [(message, Some(Ok(_)))] = &passed[..] else { panic!("{passed:?}") };
        assert_eq!(message, &one);
    }

    #[test]
    fn behind_a_descriptor_there_may_be_more() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut arrivals = Arrivals::default();
        send(&theirs, &[1; 4], Some(&file()));
        send(&theirs, &[1; 4], None);
        // The system stops there, though there is room.
        assert_eq!(arrivals.receive(&ours).unwrap(), (4, true));
        assert_eq!(arrivals.receive(&ours).unwrap(), (4, false));
    }

    #[test]
    fn an_end_and_silence_differ() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut arrivals = Arrivals::default();
        let nothing = arrivals.receive(&ours).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(arrivals.receive(&ours).unwrap().0, 0);
    }
}
