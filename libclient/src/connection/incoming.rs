//! Owns the reading of a shared connection's socket: waiting for bytes, and the messages in them.
//!
//! Knows nothing of who waits for which message. Invariant: nobody waits longer than [`PATIENCE`]
//! for the rest of a message that has begun.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use nix::poll::PollFlags;
use resized_protocol::arrivals::Arrivals;

use crate::Error;
use crate::endpoint::PATIENCE;
use crate::link::{self, Arrived, Broke, sooner};

/// Held by the thread that reads.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) socket: Arc<UnixStream>,
    arrivals: Arrivals,
    broke: Broke,
    pub(super) messages: Vec<Arrived>,
    /// Since when there is a part of a message, and no whole one has come.
    begun: Option<Instant>,
}

impl Incoming {
    pub(super) fn new(socket: Arc<UnixStream>, arrivals: Arrivals, broke: Broke) -> Self {
        let begun = arrivals.is_amid_message().then(Instant::now);
        Self { socket, arrivals, broke, messages: Vec::new(), begun }
    }

    /// Reads what has arrived, having waited for it, and decodes every message that is then whole.
    /// Those before an error are kept. Frames may take any time, but the rest of a message that has
    /// begun may not, however often it is waited for.
    pub(super) fn receive(&mut self, until: Option<Instant>) -> Result<(), Error> {
        let before = self.messages.len();
        let until = match self.begun {
            Some(begun) => Some(sooner(until, begun + PATIENCE)),
            None => until,
        };
        // Not left to the reading itself: who waits in that is also woken when the daemon has read what we
        // sent. Of a round trip that saves 2 us where each end has a core, whose own is awake by then, and
        // costs 1 where both are on one; where Linux places them frames take as long either way.
        link::wait_for(&self.socket, PollFlags::POLLIN, until)?;
        let received = link::receive(&mut self.arrivals, &self.socket);
        received.map_err(|error| self.broke.or(error))?;
        while let Some(arrived) = link::next(&mut self.arrivals)? {
            self.messages.push(arrived);
        }
        if !self.arrivals.is_amid_message() {
            self.begun = None;
        } else if self.begun.is_none() || self.messages.len() > before {
            self.begun = Some(Instant::now());
        }
        match self.begun {
            Some(begun) if begun.elapsed() >= PATIENCE => Err(Error::Silent),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use resized_protocol::codec;
    use resized_protocol::message::{Completion, Message, Status};

    use super::*;
    use crate::reconnect::is_loss;

    #[test]
    fn half_a_message_is_not_waited_for_without_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut incoming = Incoming::new(Arc::new(ours), Arrivals::default(), Broke::default());
        let (stream, slot, status) = (0, 0, Status::Done);
        let done = Completion { stream, slot, status, device: 0, queued_ns: 0, worked_ns: 0 };
        let mut bytes = Vec::new();
        codec::encode(&Message::Completed(done), &mut bytes).unwrap();
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        theirs.write_all(&[&bytes, half].concat()).unwrap();
        let soon = |incoming: &mut Incoming| {
            incoming.begun = Some(Instant::now() + Duration::from_millis(20) - PATIENCE);
        };
        incoming.receive(None).unwrap();
        assert_eq!(incoming.messages.len(), 1);
        // In one wait, or in many that are too short for it.
        soon(&mut incoming);
        let silent = incoming.receive(None).unwrap_err();
        assert!(matches!(silent, Error::Silent) && !is_loss(&silent), "{silent}");
        soon(&mut incoming);
        let silent = (0..).find_map(|n| {
            let then = Instant::now() + Duration::from_millis(n % 2);
            incoming.receive(Some(then)).err()
        });
        assert!(matches!(silent, Some(Error::Silent)));
        // A whole message, and the half of another, is a beginning.
        soon(&mut incoming);
        theirs.write_all(&[rest, half].concat()).unwrap();
        incoming.receive(None).unwrap();
        assert_eq!(incoming.messages.len(), 2);
        assert!(incoming.begun.is_some_and(|begun| begun.elapsed() < PATIENCE / 2));
        theirs.write_all(rest).unwrap();
        incoming.receive(None).unwrap();
        assert_eq!((incoming.messages.len(), incoming.begun), (3, None));
    }
}
