//! Owns the state of each slot of a stream on the client's side:
//! Free -> Loaned -> Submitted -> Ready -> Loaned (as a frame) -> Free.
//!
//! Knows no sockets. Invariants: a slot that is held is not loaned; the lease of a slot is either
//! here or with whoever holds the slot as [`Slot`](crate::Slot) or [`Frame`](crate::Frame), never
//! both. When another daemon makes another ring, the holders of a slot of the old one keep it, and
//! its memory, until they give it back; then its successor takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use resized_protocol::message::{Completion, Cropped, Request, Status, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::Lease;

use crate::{Breach, Error};

/// Slots of one stream.
#[derive(Debug)]
pub(crate) struct Slots {
    stream: u32,
    spec: StreamSpec,
    states: Vec<State>,
    /// How many hold each slot: it is not loaned while anybody does.
    holds: Vec<u32>,
    /// Frames submitted so far.
    submitted: u64,
    /// A frame failed in the ring that there is now. Shared with the stream's handle, which asks without
    /// the connection's lock.
    failed: Arc<AtomicBool>,
}

/// What is submitted of a slot.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) lease: Lease,
    /// In place of the stream's.
    pub(crate) crop: Option<Crop>,
}

#[derive(Debug)]
enum State {
    Free(Lease),
    /// The caller holds the lease. It has a successor if it is of an earlier ring.
    Loaned(Option<Lease>),
    /// The daemon owns the slot's memory.
    Submitted(Submitted),
    /// As `Submitted`, but nobody waits for the frame any more.
    Abandoned(Lease),
    /// With the lease's successor, if it is of an earlier ring.
    Ready(Lease, Completion, Option<Lease>),
}

/// What it takes to submit a frame once more.
#[derive(Debug)]
struct Submitted {
    lease: Lease,
    crop: Option<Crop>,
    /// How many were submitted before it.
    turn: u64,
    /// When that was, where the stream has a deadline.
    since: Option<Instant>,
}

impl Submitted {
    fn is_late(&self, spec: &StreamSpec) -> bool {
        let waited = self.since.map(|since| since.elapsed());
        waited.zip(spec.deadline).is_some_and(|(waited, deadline)| waited >= deadline)
    }
}

impl Slots {
    pub(crate) fn new(stream: u32, spec: &StreamSpec, leases: Vec<Lease>) -> Self {
        let holds = vec![0; leases.len()];
        let states = leases.into_iter().map(State::Free).collect();
        Self { stream, spec: *spec, states, holds, submitted: 0, failed: Arc::default() }
    }

    pub(crate) const fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    /// Takes a free slot, if there is one.
    pub(crate) fn loan(&mut self) -> Option<Lease> {
        let mut states = self.states.iter_mut().zip(&self.holds);
        let (free, _) =
            states.find(|(state, holds)| matches!(state, State::Free(_)) && **holds == 0)?;
        match std::mem::replace(free, State::Loaned(None)) {
            State::Free(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether a message from the daemon will free a slot.
    pub(crate) fn any_abandoned(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Abandoned(_)))
    }

    /// Notes frames as submitted, and makes the request that submits them.
    pub(crate) fn submit(
        &mut self,
        loans: impl AsRef<[Loan]> + IntoIterator<Item = Loan>,
    ) -> Request {
        let slots = loans.as_ref().iter().map(|loan| (loan.lease.slot(), loan.crop));
        let request = self.request(slots);
        let since = self.spec.deadline.map(|_| Instant::now());
        for Loan { lease, crop } in loans {
            let state = &mut self.states[lease.slot() as usize];
            let lease = match std::mem::replace(state, State::Loaned(None)) {
                State::Loaned(Some(successor)) => moved(&lease, successor),
                _ => lease,
            };
            *state = State::Submitted(Submitted { lease, crop, turn: self.submitted, since });
            self.submitted += 1;
        }
        request
    }

    fn request(
        &self,
        slots: impl ExactSizeIterator<Item = (u32, Option<Crop>)> + Clone,
    ) -> Request {
        let stream = self.stream;
        if slots.clone().all(|(_, crop)| crop.is_none()) {
            return Request::Submit { stream, slots: slots.map(|(slot, _)| slot).collect() };
        }
        let common = self.spec.crop.unwrap_or(Crop::whole(self.spec.source.extent));
        let cropped =
            |(slot, crop): (u32, Option<Crop>)| Cropped { slot, crop: crop.unwrap_or(common) };
        Request::SubmitCropped { stream, slots: slots.map(cropped).collect() }
    }

    pub(crate) fn free(&mut self, lease: Lease) {
        let state = &mut self.states[lease.slot() as usize];
        *state = State::Free(match std::mem::replace(state, State::Loaned(None)) {
            State::Loaned(Some(successor)) => successor,
            _ => lease,
        });
    }

    pub(crate) fn hold(&mut self, slot: u32) {
        self.holds[slot as usize] += 1;
    }

    pub(crate) fn release(&mut self, slot: u32) {
        self.holds[slot as usize] -= 1;
    }

    /// Notes that the daemon has given the slot back.
    pub(crate) fn complete(&mut self, completion: Completion) -> Result<(), Error> {
        let unexpected = Error::Unexpected(Breach::NotSubmitted);
        let Some(state) = self.states.get_mut(completion.slot as usize) else {
            return Err(unexpected);
        };
        *state = match std::mem::replace(state, State::Loaned(None)) {
            State::Submitted(Submitted { lease, .. }) => State::Ready(lease, completion, None),
            State::Abandoned(lease) => State::Free(lease),
            other => {
                *state = other;
                return Err(unexpected);
            }
        };
        if completion.status == Status::Failed {
            self.failed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a frame failed in the ring that there is now, also later.
    pub(crate) const fn failed(&self) -> &Arc<AtomicBool> {
        &self.failed
    }

    pub(crate) fn is_ready(&self, slot: u32) -> bool {
        matches!(self.states[slot as usize], State::Ready(..))
    }

    /// Whether the lease of a slot that is loaned is of the ring that there is now.
    pub(crate) fn is_current(&self, slot: u32) -> bool {
        matches!(self.states[slot as usize], State::Loaned(None))
    }

    /// Takes the slot's finished frame, if it is finished. A frame that failed frees its slot.
    pub(crate) fn take_ready(&mut self, slot: u32) -> Option<Result<(Lease, Completion), Error>> {
        let state = &mut self.states[slot as usize];
        if !matches!(state, State::Ready(..)) {
            return None;
        }
        match std::mem::replace(state, State::Loaned(None)) {
            State::Ready(lease, completion, successor) if completion.status == Status::Done => {
                *state = State::Loaned(successor);
                Some(Ok((lease, completion)))
            }
            State::Ready(lease, completion, successor) => {
                *state = State::Free(successor.unwrap_or(lease));
                Some(Err(match completion.status {
                    Status::Late => Error::Late,
                    Status::Unreadable => Error::Unreadable,
                    _ => Error::Failed,
                }))
            }
            _ => None,
        }
    }

    /// Nobody waits for the slot's frame any more.
    pub(crate) fn abandon(&mut self, slot: u32) {
        let state = &mut self.states[slot as usize];
        *state = match std::mem::replace(state, State::Loaned(None)) {
            State::Submitted(Submitted { lease, .. }) => State::Abandoned(lease),
            State::Ready(lease, _, successor) => State::Free(successor.unwrap_or(lease)),
            other => other,
        };
    }

    /// Goes over to the slots of another ring. Frames in flight are copied there; the request submits
    /// them, in the order in which they were. Those that are ready stay where they are, and those
    /// that have waited longer than the stream's deadline are late: the next daemon, which counts
    /// from the request on, would not know.
    pub(crate) fn renew(&mut self, leases: Vec<Lease>) -> Option<Request> {
        let mut in_flight = Vec::new();
        self.failed.store(false, Ordering::Relaxed);
        for (state, new) in self.states.iter_mut().zip(leases) {
            *state = match std::mem::replace(state, State::Loaned(None)) {
                State::Free(_) | State::Abandoned(_) => State::Free(new),
                State::Loaned(_) => State::Loaned(Some(new)),
                State::Submitted(frame) if frame.is_late(&self.spec) => {
                    let late = late(self.stream, new.slot());
                    State::Ready(new, late, None)
                }
                State::Submitted(Submitted { lease, crop, turn, since }) => {
                    in_flight.push((turn, (new.slot(), crop)));
                    State::Submitted(Submitted { lease: moved(&lease, new), crop, turn, since })
                }
                State::Ready(lease, completion, _) => State::Ready(lease, completion, Some(new)),
            };
        }
        in_flight.sort_by_key(|(turn, _)| *turn);
        let slots = in_flight.iter().map(|(_, slot)| *slot);
        (!in_flight.is_empty()).then(|| self.request(slots))
    }
}

/// What a daemon would have said of a frame that nobody began in time.
const fn late(stream: u32, slot: u32) -> Completion {
    let status = Status::Late;
    Completion { stream, slot, status, device: 0, queued_ns: 0, worked_ns: 0 }
}

/// The successor of a lease, with its input frame.
fn moved(lease: &Lease, mut successor: Lease) -> Lease {
    successor.input_mut().copy_from_slice(lease.input());
    successor
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::StreamSpec;
    use resized_protocol::shm::{self, Region, RingLayout};

    use super::*;

    fn spec(slots: u32) -> StreamSpec {
        let extent = Extent::new(2, 2);
        StreamSpec { slots, ..StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent) }
    }

    /// The leases of a new ring.
    fn ring(slots: u32) -> Vec<Lease> {
        let layout = Arc::new(RingLayout::new(&spec(slots)).unwrap());
        let (_daemon, descriptor) = Region::create(layout.len()).unwrap();
        let region = Region::open(descriptor, layout.len()).unwrap();
        shm::leases(region, &layout).unwrap()
    }

    fn done(slot: u32) -> Completion {
        let status = Status::Done;
        Completion { stream: 0, slot, status, device: 0, queued_ns: 0, worked_ns: 0 }
    }

    fn loaned(slots: &mut Slots, value: u8) -> Loan {
        let mut lease = slots.loan().unwrap();
        lease.input_mut().fill(value);
        Loan { lease, crop: None }
    }

    #[test]
    fn what_is_in_flight_moves_to_a_new_ring_in_its_order() {
        let mut slots = Slots::new(0, &spec(6), ring(6));
        let loans: Vec<_> = (0..5).map(|n| loaned(&mut slots, n)).collect();
        let mut loans: Vec<_> = loans.into_iter().map(Some).collect();
        let mut submit = |slots: &mut Slots, n: usize| {
            slots.submit([loans[n].take().unwrap()]);
        };
        // 0 is ready, 1 abandoned, 2 loaned, 3 and 4 in flight, 5 free.
        [0, 1, 4, 3].into_iter().for_each(|n| submit(&mut slots, n));
        slots.complete(done(0)).unwrap();
        slots.abandon(1);
        let old = loans[2].take().unwrap();
        assert_eq!(slots.renew(ring(6)), Some(Request::Submit { stream: 0, slots: vec![4, 3] }));
        // Twice in a row, before anything came back.
        assert_eq!(slots.renew(ring(6)), Some(Request::Submit { stream: 0, slots: vec![4, 3] }));
        for slot in [3, 4] {
            slots.complete(done(slot)).unwrap();
            let (lease, _) = slots.take_ready(slot).unwrap().unwrap();
            assert_eq!(lease.input()[0], slot as u8);
            slots.free(lease);
        }
        // What was ready stays where it is; what the caller was writing goes along as it is submitted.
        let (ready, _) = slots.take_ready(0).unwrap().unwrap();
        assert_eq!(ready.input()[0], 0);
        slots.submit([old]);
        slots.complete(done(2)).unwrap();
        let (lease, _) = slots.take_ready(2).unwrap().unwrap();
        assert_eq!(lease.input()[0], 2);
        let memory = |lease: &Lease| Arc::as_ptr(&lease.mapping());
        assert_ne!(memory(&ready), memory(&lease));
        let new = memory(&lease);
        slots.free(ready);
        slots.free(lease);
        // Nothing of the old rings is left.
        let all: Vec<_> = std::iter::from_fn(|| slots.loan()).collect();
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|lease| memory(lease) == new));
        assert_eq!(slots.renew(ring(6)), None);
    }

    #[test]
    fn what_waited_longer_than_the_deadline_is_late_at_a_new_ring() {
        let deadlines = [(Some(Duration::ZERO), true), (Some(Duration::from_secs(3600)), false)];
        for (deadline, is_late) in deadlines.into_iter().chain([(None, false)]) {
            let mut slots = Slots::new(0, &StreamSpec { deadline, ..spec(1) }, ring(1));
            let loan = loaned(&mut slots, 7);
            slots.submit([loan]);
            assert_eq!(slots.renew(ring(1)).is_none(), is_late);
            assert_eq!(slots.is_ready(0), is_late);
            if is_late {
                assert!(matches!(slots.take_ready(0), Some(Err(Error::Late))));
                assert!(slots.loan().is_some());
            }
        }
    }

    #[test]
    fn what_failed_in_a_ring_is_nothing_to_the_next() {
        let mut slots = Slots::new(0, &spec(1), ring(1));
        let complete = |slots: &mut Slots, status| {
            let loan = loaned(slots, 7);
            slots.submit([loan]);
            slots.complete(Completion { status, ..done(0) }).unwrap();
            slots.abandon(0);
            slots.failed().load(Ordering::Relaxed)
        };
        for status in [Status::Done, Status::Cancelled, Status::Late, Status::Unreadable] {
            assert!(!complete(&mut slots, status));
        }
        assert!(complete(&mut slots, Status::Failed));
        assert!(complete(&mut slots, Status::Done));
        slots.renew(ring(1));
        assert!(!complete(&mut slots, Status::Done));
    }

    #[test]
    fn a_held_slot_is_not_loaned_before_the_last_hold_is_released() {
        let mut slots = Slots::new(0, &spec(1), ring(1));
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
