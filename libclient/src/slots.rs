//! Owns the state of each slot of a stream on the client's side:
//! Free -> Loaned -> Submitted -> Ready -> Loaned (as a frame) -> Free.
//!
//! Knows no sockets. Invariants: a slot that is held is not loaned; the lease of a slot is either here or with the one who holds the
//! slot as [`Slot`](crate::Slot) or [`Frame`](crate::Frame), never both.

use resized_protocol::message::{Completion, Status};
use resized_protocol::shm::Lease;

use crate::Error;

/// Slots of one stream.
#[derive(Debug)]
pub(crate) struct Slots {
    states: Vec<State>,
    /// How many hold each slot: it is not loaned while anybody does.
    holds: Vec<u32>,
}

#[derive(Debug)]
enum State {
    Free(Lease),
    /// The caller holds the lease.
    Loaned,
    /// The daemon owns the slot's memory.
    Submitted(Lease),
    /// As `Submitted`, but nobody waits for the frame any more.
    Abandoned(Lease),
    Ready(Lease, Completion),
}

impl Slots {
    pub(crate) fn new(leases: Vec<Lease>) -> Self {
        let holds = vec![0; leases.len()];
        Self { states: leases.into_iter().map(State::Free).collect(), holds }
    }

    /// Takes a free slot, if there is one.
    pub(crate) fn loan(&mut self) -> Option<Lease> {
        let mut states = self.states.iter_mut().zip(&self.holds);
        let (free, _) =
            states.find(|(state, holds)| matches!(state, State::Free(_)) && **holds == 0)?;
        match std::mem::replace(free, State::Loaned) {
            State::Free(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether a message from the daemon will free a slot.
    pub(crate) fn any_abandoned(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Abandoned(_)))
    }

    pub(crate) fn submit(&mut self, lease: Lease) {
        let slot = lease.slot() as usize;
        self.states[slot] = State::Submitted(lease);
    }

    pub(crate) fn free(&mut self, lease: Lease) {
        let slot = lease.slot() as usize;
        self.states[slot] = State::Free(lease);
    }

    pub(crate) fn hold(&mut self, slot: u32) {
        self.holds[slot as usize] += 1;
    }

    pub(crate) fn release(&mut self, slot: u32) {
        self.holds[slot as usize] -= 1;
    }

    /// Notes that the daemon has given the slot back.
    pub(crate) fn complete(&mut self, completion: Completion) -> Result<(), Error> {
        let unexpected = Error::Unexpected("a completion for a slot that was not submitted");
        let Some(state) = self.states.get_mut(completion.slot as usize) else {
            return Err(unexpected);
        };
        *state = match std::mem::replace(state, State::Loaned) {
            State::Submitted(lease) => State::Ready(lease, completion),
            State::Abandoned(lease) => State::Free(lease),
            other => {
                *state = other;
                return Err(unexpected);
            }
        };
        Ok(())
    }

    pub(crate) fn is_ready(&self, slot: u32) -> bool {
        matches!(self.states[slot as usize], State::Ready(..))
    }

    /// Takes the slot's finished frame, if it is finished. A frame that failed frees its slot.
    pub(crate) fn take_ready(&mut self, slot: u32) -> Option<Result<(Lease, Completion), Error>> {
        let state = &mut self.states[slot as usize];
        if !matches!(state, State::Ready(..)) {
            return None;
        }
        match std::mem::replace(state, State::Loaned) {
            State::Ready(lease, completion) if completion.status == Status::Done => {
                Some(Ok((lease, completion)))
            }
            State::Ready(lease, completion) => {
                *state = State::Free(lease);
                Some(Err(match completion.status {
                    Status::Late => Error::Late,
                    _ => Error::Failed,
                }))
            }
            _ => None,
        }
    }

    /// Nobody waits for the slot's frame any more.
    pub(crate) fn abandon(&mut self, slot: u32) {
        let state = &mut self.states[slot as usize];
        *state = match std::mem::replace(state, State::Loaned) {
            State::Submitted(lease) => State::Abandoned(lease),
            State::Ready(lease, _) => State::Free(lease),
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::StreamSpec;
    use resized_protocol::shm::{self, Region, RingLayout};

    use super::*;

    #[test]
    fn a_held_slot_is_not_loaned_before_the_last_hold_is_released() {
        let extent = Extent::new(2, 2);
        let source = FrameSpec::new(PixelFormat::Gray8, extent);
        let layout = RingLayout::new(&StreamSpec { slots: 1, ..StreamSpec::new(source, extent) });
        let layout = Arc::new(layout.unwrap());
        let (_daemon, descriptor) = Region::create(layout.len()).unwrap();
        let region = Region::open(descriptor, layout.len()).unwrap();
        let mut slots = Slots::new(shm::leases(region, &layout).unwrap());
        let lease = slots.loan().unwrap();
        slots.hold(0);
        slots.hold(0);
        slots.free(lease);
        assert!(slots.loan().is_none());
        slots.release(0);
        assert!(slots.loan().is_none());
        slots.release(0);
        assert!(slots.loan().is_some());
    }
}
