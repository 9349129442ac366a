//! Owns the order of replies: the n-th reply answers the n-th request that has one, whether the daemon
//! gives it or the bridge.

use std::collections::VecDeque;

use resized_protocol::message::Reply;

/// Requests that a client has not been answered, in order.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    awaited: VecDeque<Awaited>,
    /// Bytes of rings that the daemon was asked for.
    opening: u64,
}

#[derive(Debug)]
enum Awaited {
    /// From the daemon; with the bytes of the ring that it was asked for, or zero.
    Theirs(u64),
    Ours(Box<Reply>),
}

impl Replies {
    /// Most requests that may wait: a client that goes on asking is not read from.
    pub(crate) const MOST: usize = 256;

    pub(crate) fn is_full(&self) -> bool {
        self.awaited.len() >= Self::MOST
    }

    /// Bytes of rings that the daemon was asked for and has not granted yet.
    pub(crate) const fn opening(&self) -> u64 {
        self.opening
    }

    /// The daemon was asked something, for a ring of so many bytes if for one.
    pub(crate) fn await_theirs(&mut self, ring: u64) {
        self.opening += ring;
        self.awaited.push_back(Awaited::Theirs(ring));
    }

    /// The bridge answers by itself, in its turn.
    pub(crate) fn give(&mut self, reply: Reply) {
        self.awaited.push_back(Awaited::Ours(Box::new(reply)));
    }

    /// The daemon has answered. False: it was not asked.
    pub(crate) fn answered(&mut self) -> bool {
        match self.awaited.pop_front() {
            Some(Awaited::Theirs(ring)) => {
                self.opening -= ring;
                true
            }
            _ => false,
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
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let reply = |stream| Reply::Closed { stream };
        let mut replies = Replies::default();
        replies.give(reply(0));
        replies.await_theirs(10);
        replies.give(reply(2));
        replies.give(reply(3));
        replies.await_theirs(0);
        assert_eq!(replies.opening(), 10);
        assert_eq!(replies.ours(), Some(reply(0)));
        assert_eq!(replies.ours(), None);
        assert!(replies.answered());
        assert_eq!(replies.opening(), 0);
        assert_eq!(replies.ours(), Some(reply(2)));
        assert!(!replies.answered());
        assert!(replies.answered());
        assert!(!replies.answered());
    }
}
