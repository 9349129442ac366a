//! Owns what has arrived for whom on a shared connection, and how the connection stands.
//!
//! Knows no sockets. Invariants: the n-th reply is that of the n-th request that has one; what broke for
//! good stays broken, with the first error for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use resized_protocol::fdpass::Passed;
use resized_protocol::message::{Completion, Reply};

use crate::link::Arrived;
use crate::slots::Slots;
use crate::{Breach, Error};

#[derive(Debug)]
pub(crate) struct State {
    pub(super) era: u64,
    /// Names of the daemon's devices.
    pub(super) devices: Arc<[String]>,
    pub(super) streams: BTreeMap<u32, Slots>,
    /// Replies that arrived and were not yet fetched, by the tickets of their requests.
    pub(super) replies: BTreeMap<u64, (Reply, Option<Passed>)>,
    /// Tickets whose replies nobody will fetch.
    pub(super) unwanted: Vec<u64>,
    /// Streams that such replies opened.
    pub(super) disowned: Vec<u32>,
    /// Requests that have a reply: counted by who is about to send one, and has the lock for that.
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// A thread is reading the socket, or looking for another daemon.
    pub(super) reading: bool,
    pub(super) waiting: usize,
    /// How often threads have changed what others may wait for.
    pub(super) changes: u64,
    pub(super) standing: Standing,
}

/// How a connection stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// A daemon is at the other end, as far as anybody knows.
    Up,
    /// The daemon is gone, for that reason, and another is to be found.
    Lost(Error),
    /// No daemon will be found, or none is to be looked for.
    Broken(Error),
}

impl State {
    pub(super) fn new(devices: Vec<String>) -> Self {
        Self {
            era: 0,
            devices: devices.into(),
            streams: BTreeMap::new(),
            replies: BTreeMap::new(),
            unwanted: Vec::new(),
            disowned: Vec::new(),
            asked: 0,
            answered: 0,
            reading: false,
            waiting: 0,
            changes: 0,
            standing: Standing::Up,
        }
    }

    /// The slots of a stream that is open: there is one as long as its handle lives.
    pub(crate) fn slots(&mut self, stream: u32) -> Result<&mut Slots, Error> {
        self.streams.get_mut(&stream).ok_or(Error::Unexpected(Breach::NoSlots))
    }

    pub(crate) const fn era(&self) -> u64 {
        self.era
    }

    pub(crate) const fn devices(&self) -> &Arc<[String]> {
        &self.devices
    }

    /// Whether the daemon is gone, and another is to be found.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self.standing, Standing::Lost(_))
    }

    /// Fails if the connection is broken for good.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.standing {
            Standing::Broken(why) => Err(why.clone()),
            Standing::Up | Standing::Lost(_) => Ok(()),
        }
    }

    /// What `poll` finds, or what will bring it, unless nothing will.
    pub(super) fn look<T>(
        &mut self,
        poll: impl FnOnce(&mut Self) -> Wait<T>,
    ) -> Result<Wait<T>, Error> {
        let found = poll(self);
        match (&found, &self.standing) {
            (Wait::For(_), Standing::Broken(why)) => Err(why.clone()),
            _ => Ok(found),
        }
    }

    /// The daemon went away.
    pub(super) fn lose(&mut self, why: Error) {
        // What broke from our side meanwhile stays broken.
        if !matches!(self.standing, Standing::Broken(_)) {
            self.standing = Standing::Lost(why);
        }
    }

    /// The connection is over for good. The first reason counts.
    pub(super) fn break_off(&mut self, why: Error) {
        if !matches!(self.standing, Standing::Broken(_)) {
            self.standing = Standing::Broken(why);
        }
    }

    pub(super) fn note(&mut self, arrived: Arrived) -> Result<(), Error> {
        match arrived {
            Arrived::Completed(completion) => self.note_completion(completion)?,
            Arrived::Reply(reply, descriptor) => {
                let ticket = self.answered;
                if ticket == self.asked {
                    return Err(Error::Unexpected(Breach::ReplyToNothing));
                }
                self.answered += 1;
                match self.unwanted.iter().position(|&unwanted| unwanted == ticket) {
                    Some(index) => {
                        self.unwanted.swap_remove(index);
                        self.drop_unread(&reply);
                    }
                    None => drop(self.replies.insert(ticket, (reply, descriptor))),
                }
            }
        }
        Ok(())
    }

    /// The ticket of the next request that has a reply: requests have theirs in the order in which they
    /// are sent, and so in that of their replies.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.asked += 1;
        self.asked - 1
    }

    /// Nobody will fetch the reply that has that ticket.
    pub(super) fn disown(&mut self, ticket: u64) {
        match self.replies.remove(&ticket) {
            Some((reply, _)) => self.drop_unread(&reply),
            None => self.unwanted.push(ticket),
        }
    }

    fn drop_unread(&mut self, reply: &Reply) {
        if let Reply::Opened { stream, .. } = reply {
            self.disowned.push(*stream);
        }
    }

    fn note_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match self.streams.get_mut(&completion.stream) {
            Some(slots) => slots.complete(completion),
            // Sent before the daemon had read that the stream was closed.
            None => Ok(()),
        }
    }
}

/// What a thread that waits finds.
pub(crate) enum Wait<T> {
    /// What it waits for.
    Over(T),
    /// Nothing yet, but where it will come from.
    For(Source),
}

/// Where something will come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A message of the daemon: read.
    Message,
    /// Another thread of this process.
    Thread,
    /// Whichever is the first.
    Either,
}

#[cfg(test)]
mod tests {
    use resized_protocol::message::{Goodbye, Violation};

    use super::*;

    #[test]
    fn what_has_arrived_is_there_however_the_connection_ended() {
        let violation = Goodbye::Violation(Violation::NoHello);
        for goodbye in [Goodbye::Silence, violation, Goodbye::Stopping] {
            let mut state = State::new(Vec::new());
            state.break_off(Error::Goodbye(goodbye));
            // The first reason counts.
            state.break_off(Error::Disconnected);
            assert!(state.look(|_| Wait::Over(())).is_ok());
            let nothing = state.look(|_| Wait::<()>::For(Source::Message));
            assert!(matches!(nothing, Err(Error::Goodbye(_))));
        }
    }
}
