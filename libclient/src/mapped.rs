//! Owns the resizing of one frame after another that an iterator brings, several at once.
//!
//! Knows only what every caller of a stream does. Invariants: results come in the order of their frames,
//! one for each; while there are frames, as many are in flight as slots are to be had.

use std::collections::VecDeque;
use std::iter::{Fuse, Peekable};

use crate::{Error, Frame, Pending, Stream};

/// See [`Stream::map`].
pub(crate) struct Mapped<I: Iterator> {
    stream: Stream,
    frames: Peekable<Fuse<I>>,
    /// In flight, or failed before that, the oldest first.
    begun: VecDeque<Result<Pending, Error>>,
}

impl<I: Iterator> Mapped<I> {
    pub(crate) fn new(stream: Stream, frames: I) -> Self {
        Self { stream, frames: frames.fuse().peekable(), begun: VecDeque::new() }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Mapped<I> {
    fn begin(&mut self) {
        while self.begun.len() < self.stream.spec().slots as usize {
            let Some(frame) = self.frames.peek() else { return };
            // Slots that the caller has as results, or others have, are waited for only where there is
            // nothing else to wait for.
            let slot = match self.begun.is_empty() {
                true => self.stream.loan().map(Some),
                false => self.stream.try_loan(),
            };
            let Some(slot) = slot.transpose() else { return };
            let pending = slot.and_then(|mut slot| {
                slot.write(frame.as_ref())?;
                slot.submit()
            });
            self.begun.push_back(pending);
            self.frames.next();
        }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Iterator for Mapped<I> {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.begin();
        let oldest = self.begun.pop_front()?;
        Some(oldest.and_then(Pending::wait))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.frames.size_hint();
        let begun = self.begun.len();
        (least.saturating_add(begun), most.and_then(|most| most.checked_add(begun)))
    }
}
