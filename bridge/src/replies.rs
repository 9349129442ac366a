//! Owns the order of replies: the n-th reply answers the n-th request that has one, whether the daemon
//! gives it or the bridge.

use std::collections::VecDeque;

use resized_protocol::message::Reply;

use crate::coded::Coded;

/// Requests that a client has not been answered, in order.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    awaited: VecDeque<Awaited>,
    /// Bytes of streams that the daemon was asked for.
    opening: u64,
}

/// A stream that the daemon is asked for.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// What it takes of the client's limit.
    pub(crate) bytes: u64,
    /// If its frames are JPEGs.
    pub(crate) coded: Option<Box<Coded>>,
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

    /// Bytes of streams that the daemon was asked for and has not granted yet.
    pub(crate) const fn opening(&self) -> u64 {
        self.opening
    }

    /// The daemon was asked something.
    pub(crate) fn await_theirs(&mut self) {
        self.await_stream(Opening::default());
    }

    /// The daemon was asked for a stream.
    pub(crate) fn await_stream(&mut self, opening: Opening) {
        self.opening += opening.bytes;
        self.awaited.push_back(Awaited::Theirs(opening));
    }

    /// The bridge answers by itself, in its turn.
    pub(crate) fn give(&mut self, reply: Reply) {
        self.awaited.push_back(Awaited::Ours(Box::new(reply)));
    }

    /// The daemon has answered this. None: it was not asked, or the bridge's own turn is before.
    pub(crate) fn answered(&mut self) -> Option<Opening> {
        match self.awaited.pop_front()? {
            Awaited::Theirs(opening) => {
                self.opening -= opening.bytes;
                Some(opening)
            }
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
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let reply = |stream| Reply::Closed { stream };
        let mut replies = Replies::default();
        replies.give(reply(0));
        replies.await_stream(Opening { bytes: 10, coded: None });
        replies.give(reply(2));
        replies.give(reply(3));
        replies.await_theirs();
        assert_eq!(replies.opening(), 10);
        // The daemon does not take the bridge's turn.
        assert!(replies.answered().is_none());
        assert_eq!(replies.ours(), Some(reply(0)));
        assert_eq!(replies.ours(), None);
        assert!(replies.answered().is_some_and(|opening| opening.bytes == 10));
        assert_eq!(replies.opening(), 0);
        assert_eq!(replies.ours(), Some(reply(2)));
        assert_eq!(replies.ours(), Some(reply(3)));
        assert!(replies.answered().is_some());
        assert!(replies.answered().is_none());
    }
}
