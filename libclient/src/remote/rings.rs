//! Owns the slots of the streams of one remote connection, on either of its sides, while frames are
//! copied into and out of them.
//!
//! Knows no messages. Invariant: a slot is free, in flight, or in the hands of whoever copies; so a
//! peer that submits a slot twice, or completes one that is not in flight, is found out before
//! memory is touched.

use std::collections::BTreeMap;

use resized_protocol::message::Violation;
use resized_protocol::shm::Lease;

/// The slots of all streams.
#[derive(Debug, Default)]
pub struct Rings {
    streams: BTreeMap<u32, Ring>,
}

#[derive(Debug)]
struct Ring {
    slots: Vec<Slot>,
    /// Nothing is submitted any more, but completions may be on their way.
    closing: bool,
}

#[derive(Debug)]
enum Slot {
    Free(Lease),
    InFlight(Lease),
    /// Somebody copies.
    Taken,
}

impl Rings {
    /// Whether the stream is there and not closing.
    pub fn is_open(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|ring| !ring.closing)
    }

    /// Whether the stream's end was not yet heard of.
    pub fn knows(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether the memory of some will soon be free.
    pub fn any_closing(&self) -> bool {
        self.streams.values().any(|ring| ring.closing)
    }

    /// Whether no slot is in flight, nor in anybody's hands.
    pub fn are_all_free(&self) -> bool {
        let mut slots = self.streams.values().flat_map(|ring| &ring.slots);
        slots.all(|slot| matches!(slot, Slot::Free(_)))
    }

    /// Notes a new stream.
    pub fn add(&mut self, stream: u32, leases: Vec<Lease>) {
        let slots = leases.into_iter().map(Slot::Free).collect();
        self.streams.insert(stream, Ring { slots, closing: false });
    }

    /// Nothing may be submitted to the stream from now on.
    pub fn close(&mut self, stream: u32) -> Result<(), Violation> {
        match self.streams.get_mut(&stream) {
            Some(ring) if !ring.closing => ring.closing = true,
            _ => return Err(Violation::UnknownStream(stream)),
        }
        Ok(())
    }

    /// Forgets the stream: no completion comes any more.
    pub fn remove(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    /// Takes a free slot, to copy an input frame.
    pub fn take_free(&mut self, stream: u32, slot: u32) -> Result<Lease, Violation> {
        let ring = self.streams.get_mut(&stream).filter(|ring| !ring.closing);
        let ring = ring.ok_or(Violation::UnknownStream(stream))?;
        let state = ring.slots.get_mut(slot as usize);
        let state = state.ok_or(Violation::UnknownSlot { stream, slot })?;
        match std::mem::replace(state, Slot::Taken) {
            Slot::Free(lease) => Ok(lease),
            other => {
                *state = other;
                Err(Violation::SlotBusy { stream, slot })
            }
        }
    }

    /// Takes a slot in flight, to copy an output frame. None if it is not.
    pub fn take_in_flight(&mut self, stream: u32, slot: u32) -> Option<Lease> {
        let state = self.streams.get_mut(&stream)?.slots.get_mut(slot as usize)?;
        match std::mem::replace(state, Slot::Taken) {
            Slot::InFlight(lease) => Some(lease),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Gives a slot back that was taken: it is in flight now.
    pub fn submit(&mut self, stream: u32, lease: Lease) {
        self.put(stream, lease, Slot::InFlight);
    }

    /// Gives a slot back that was taken: it is free again.
    pub fn free(&mut self, stream: u32, lease: Lease) {
        self.put(stream, lease, Slot::Free);
    }

    fn put(&mut self, stream: u32, lease: Lease, state: impl FnOnce(Lease) -> Slot) {
        let slot = lease.slot() as usize;
        if let Some(ring) = self.streams.get_mut(&stream) {
            ring.slots[slot] = state(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::StreamSpec;
    use resized_protocol::shm::{Region, RingLayout, leases};

    use super::*;

    fn rings() -> Rings {
        let extent = Extent::new(2, 2);
        let spec = StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent);
        let ring = Arc::new(RingLayout::new(&StreamSpec { slots: 2, ..spec }).unwrap());
        let (region, _descriptor) = Region::create(ring.len()).unwrap();
        let mut rings = Rings::default();
        rings.add(7, leases(region, &ring).unwrap());
        rings
    }

    #[test]
    fn slots_go_round() {
        let mut rings = rings();
        for _ in 0..2 {
            assert!(rings.are_all_free());
            let lease = rings.take_free(7, 1).unwrap();
            assert!(!rings.are_all_free());
            assert!(rings.is_open(7) && rings.knows(7) && !rings.is_open(8) && !rings.knows(8));
            let busy = Violation::SlotBusy { stream: 7, slot: 1 };
            assert_eq!(rings.take_free(7, 1).unwrap_err(), busy);
            assert!(rings.take_in_flight(7, 1).is_none());
            rings.submit(7, lease);
            assert!(!rings.are_all_free());
            assert_eq!(rings.take_free(7, 1).unwrap_err(), busy);
            let lease = rings.take_in_flight(7, 1).unwrap();
            assert!(rings.take_in_flight(7, 1).is_none());
            rings.free(7, lease);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let mut rings = rings();
        let unknown = Violation::UnknownSlot { stream: 7, slot: 2 };
        assert_eq!(rings.take_free(7, 2).unwrap_err(), unknown);
        assert_eq!(rings.take_free(8, 0).unwrap_err(), Violation::UnknownStream(8));
        assert_eq!(rings.close(8), Err(Violation::UnknownStream(8)));
        assert!(rings.take_in_flight(8, 0).is_none());
    }

    #[test]
    fn a_stream_that_closes_completes_what_it_has() {
        let mut rings = rings();
        let lease = rings.take_free(7, 0).unwrap();
        rings.submit(7, lease);
        rings.close(7).unwrap();
        assert!(rings.knows(7) && !rings.is_open(7));
        assert_eq!(rings.close(7), Err(Violation::UnknownStream(7)));
        assert_eq!(rings.take_free(7, 1).unwrap_err(), Violation::UnknownStream(7));
        let lease = rings.take_in_flight(7, 0).unwrap();
        rings.free(7, lease);
        rings.remove(7);
        assert!(!rings.knows(7));
    }
}
