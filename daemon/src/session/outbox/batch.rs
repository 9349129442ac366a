//! Owns the completions of one client that are held back to go together, and says when they go.
//!
//! Knows neither sockets nor threads. Invariant: none is held back once nothing is to come for which it
//! could wait.

use std::mem;
use std::time::{Duration, Instant};

use resized_protocol::codec;
use resized_protocol::message::{Completion, Message};

use crate::job::Pressure;

/// Most completions that go together. Waking a client costs a lane as much as a small frame does.
pub(super) const MOST: usize = 8;

/// Nanoseconds of work beyond which a frame's completion is not held back.
pub(super) const SHORT_NS: u64 = 1_000_000;

/// How long a completion may be held back: other frames of the client's may take far longer.
pub(super) const HELD: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    count: usize,
    /// Since when the first of them is held back.
    since: Option<Instant>,
    /// When somebody looks whether it has been for too long. It may have gone by then, and others be
    /// held back.
    look_at: Option<Instant>,
}

impl Batch {
    /// Adds one; `spare` is taken for the bytes of the first.
    pub(super) fn push(&mut self, completion: &Completion, spare: &mut Vec<u8>) {
        if self.count == 0 {
            self.bytes = mem::take(spare);
            self.bytes.clear();
        }
        // A completion always fits.
        let _ = codec::encode(&Message::Completed(*completion), &mut self.bytes);
        self.count += 1;
    }

    /// Whether they go now that one was added whose frame took so long, while so many of the client's
    /// are still to come. A client that has as many left as it is told of has something to do
    /// meanwhile, and so have lanes.
    pub(super) const fn is_due(
        &self,
        pressure: Pressure,
        in_flight: usize,
        worked_ns: u64,
    ) -> bool {
        let more_to_come = match pressure {
            Pressure::None => false,
            Pressure::Sated => !self.is_last(in_flight),
            Pressure::InCompany => in_flight > 0,
        };
        !more_to_come || self.count >= MOST || worked_ns >= SHORT_NS
    }

    /// Whether no more are to come than there are.
    pub(super) const fn is_last(&self, in_flight: usize) -> bool {
        self.count >= in_flight
    }

    /// Holds them back; whether somebody is to be told to look at [that time](Self::look_at).
    pub(super) fn hold(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.since.is_some() {
            return false;
        }
        let since = *self.since.insert(now());
        let is_looked_at = self.look_at.is_some();
        self.look_at.get_or_insert(since + HELD);
        !is_looked_at
    }

    /// When somebody is to [look](Self::look).
    pub(super) const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether they have been held back for long enough.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        self.look_at = self.since.map(|since| since + HELD).filter(|&due| due > now);
        self.since.is_some() && self.look_at.is_none()
    }

    /// All of them, in one piece; `None` where there are none.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.since = None;
        let are_any = mem::take(&mut self.count) > 0;
        are_any.then(|| mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::codec::Inbox;
    use resized_protocol::message::Status;

    use super::*;

    fn batch(count: u32) -> Batch {
        let mut batch = Batch::default();
        (0..count).for_each(|slot| batch.push(&done(slot), &mut Vec::new()));
        batch
    }

    const fn done(slot: u32) -> Completion {
        let status = Status::Done;
        Completion { stream: 0, slot, status, device: 0, queued_ns: 0, worked_ns: 0 }
    }

    #[test]
    fn it_waits_only_for_what_is_still_to_come() {
        for (pressure, held, in_flight, due) in [
            (Pressure::None, 1, 100, true),
            (Pressure::Sated, 1, 2, false),
            (Pressure::Sated, 2, 2, true),
            (Pressure::InCompany, 2, 1, false),
            (Pressure::InCompany, 2, 0, true),
        ] {
            let is_due = batch(held).is_due(pressure, in_flight, 1);
            assert_eq!(is_due, due, "{pressure:?} {held} {in_flight}");
        }
    }

    #[test]
    fn neither_many_nor_one_of_long_work_are_held_back() {
        let is_due = |held, worked_ns| batch(held).is_due(Pressure::InCompany, 100, worked_ns);
        let most = MOST as u32;
        assert_eq!([is_due(most - 1, 1), is_due(most, 1)], [false, true]);
        assert_eq!([is_due(1, SHORT_NS - 1), is_due(1, SHORT_NS)], [false, true]);
    }

    #[test]
    fn somebody_is_told_once_to_look_and_looks_until_it_has_gone() {
        let (begun, mut batch) = (Instant::now(), batch(1));
        assert_eq!(batch.look_at(), None);
        assert!(batch.hold(|| begun) && !batch.hold(|| unreachable!()));
        assert_eq!(batch.look_at(), Some(begun + HELD));
        // Another is held back before that.
        batch.take().unwrap();
        batch.push(&done(1), &mut Vec::new());
        let later = begun + HELD / 2;
        assert!(!batch.hold(|| later));
        assert!(!batch.look(begun + HELD));
        assert_eq!(batch.look_at(), Some(later + HELD));
        assert!(batch.look(later + HELD));
        assert_eq!(batch.look_at(), None);
        batch.take().unwrap();
        assert!(!batch.look(later + 2 * HELD));
    }

    #[test]
    fn what_is_taken_is_all_that_was_pushed_in_its_order() {
        let mut batch = batch(3);
        let mut bytes = batch.take().unwrap();
        assert!(batch.take().is_none());
        let (mut inbox, len) = (Inbox::new(), bytes.len());
        inbox
            .fill(|room| {
                room[..len].copy_from_slice(&bytes);
                Ok::<_, std::io::Error>(len)
            })
            .unwrap();
        let slots = std::iter::from_fn(|| match inbox.pop().unwrap()? {
            Message::Completed(completion) => Some(completion.slot),
            other => panic!("{other:?}"),
        });
        assert_eq!(slots.collect::<Vec<_>>(), [0, 1, 2]);
        // The memory that is given is used, without what was in it.
        let place = bytes.as_ptr();
        batch.push(&done(7), &mut bytes);
        let again = batch.take().unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, len / 3));
    }
}
