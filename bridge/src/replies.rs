//! Owns the order of replies: the n-th reply answers the n-th request that has one, whether the daemon
//! gives it or the bridge.

use std::collections::VecDeque;

use resized_protocol::message::Reply;
use resized_protocol::shm::RingLayout;

use crate::account::Charge;
use crate::coded::Coded;

/// Requests that a client has not been answered, in order.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    awaited: VecDeque<Awaited>,
}

/// A stream that the daemon is asked for.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// What it takes of the client's limits; nothing if it is no stream.
    pub(crate) charge: Option<Charge>,
    /// If its frames are JPEGs.
    pub(crate) coded: Option<Box<Coded>>,
    /// The ring that the daemon is to make; none if there is no such ring.
    pub(crate) ring: Option<RingLayout>,
}

#[derive(Debug)]
enum Awaited {
    /// From the daemon; with what it was asked for, if for a stream.
    Theirs(Opening),
    Ours(Box<Reply>),
}

impl Replies {
    /// Most requests that may wait: a client that goes on asking is not read from.
    pub(crate) const MOST: usize = 256;

    pub(crate) fn is_full(&self) -> bool {
        self.awaited.len() >= Self::MOST
    }

    /// Whether the daemon was asked for a ring that has not come.
    pub(crate) fn awaits_a_ring(&self) -> bool {
        let is_one =
            |awaited: &Awaited| matches!(awaited, Awaited::Theirs(asked) if asked.ring.is_some());
        self.awaited.iter().any(is_one)
    }

    /// The daemon was asked something.
    pub(crate) fn await_theirs(&mut self) {
        self.await_stream(Opening::default());
    }

    /// The daemon was asked for a stream.
    pub(crate) fn await_stream(&mut self, opening: Opening) {
        self.awaited.push_back(Awaited::Theirs(opening));
    }

    /// The bridge answers by itself, in its turn.
    pub(crate) fn give(&mut self, reply: Reply) {
        self.awaited.push_back(Awaited::Ours(Box::new(reply)));
    }

    /// The daemon has answered this. None: it was not asked, or the bridge's own turn is before.
    pub(crate) fn answered(&mut self) -> Option<Opening> {
        match self.awaited.pop_front()? {
            Awaited::Theirs(opening) => Some(opening),
            ours => {
                self.awaited.push_front(ours);
                None
            }
        }
    }

    /// The bridge's own reply whose turn has come.
    pub(crate) fn ours(&mut self) -> Option<Reply> {
        match self.awaited.pop_front()? {
            Awaited::Ours(reply) => Some(*reply),
            theirs => {
                self.awaited.push_front(theirs);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::account::{Account, Memory, Takes};

    #[test]
    fn each_has_its_turn() {
        let reply = |stream| Reply::Closed { stream };
        let account = Account::new(0, Arc::new(Memory::new(0)));
        let charge = account.charge(Takes::default()).unwrap();
        let mut replies = Replies::default();
        replies.give(reply(0));
        replies.await_stream(Opening { charge: Some(charge), ..Opening::default() });
        replies.give(reply(2));
        replies.give(reply(3));
        replies.await_theirs();
        // The daemon does not take the bridge's turn.
        assert!(replies.answered().is_none());
        assert_eq!(replies.ours(), Some(reply(0)));
        assert_eq!(replies.ours(), None);
        assert!(replies.answered().is_some_and(|opening| opening.charge.is_some()));
        assert_eq!(replies.ours(), Some(reply(2)));
        assert_eq!(replies.ours(), Some(reply(3)));
        assert!(replies.answered().is_some_and(|opening| opening.charge.is_none()));
        assert!(replies.answered().is_none());
    }
}
