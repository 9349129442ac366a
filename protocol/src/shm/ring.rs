//! Owns the geometry of a ring: where each slot of a region lies, and who may touch it.
//!
//! Knows no sockets and no devices. A slot is an input frame and an output frame, each page aligned.
//! Invariants: slots do not overlap; a [`RingLayout`] made by [`RingLayout::new`] has been checked for
//! overflow; in a client there is one [`Lease`] for each slot, and it alone gives out its bytes.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bincode::{Decode, Encode};

use super::region::{HUGE, PAGE};
use super::{Region, RegionError};
use crate::fdpass::Passed;
use crate::frame::{FrameLayout, FrameSpec};
use crate::message::{MAX_SLOTS, Refusal, StreamSpec};

/// Where the slots of a stream lie in its region.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RingLayout {
    input: FrameLayout,
    output: FrameLayout,
    output_offset: usize,
    slot_len: usize,
    slots: u32,
}

impl RingLayout {
    /// The ring of a stream. Both ends compute it and compare.
    pub fn new(spec: &StreamSpec) -> Result<Self, Refusal> {
        if spec.slots == 0 || spec.slots > MAX_SLOTS {
            return Err(Refusal::Slots { asked: spec.slots });
        }
        let layout = |frame: &FrameSpec, coded: bool| match coded {
            true => FrameLayout::coded(frame.format, frame.extent),
            false => FrameLayout::new(frame.format, frame.extent),
        };
        let input = layout(&spec.source, spec.coding.jpeg_in).map_err(Refusal::Source)?;
        let output = layout(&spec.destination, spec.coding.jpeg_out.is_some())
            .map_err(Refusal::Destination)?;
        let pages = |bytes: usize| bytes.checked_next_multiple_of(PAGE).ok_or(Refusal::Overflow);
        let output_offset = pages(input.len())?;
        let slot_len = output_offset.checked_add(pages(output.len())?).ok_or(Refusal::Overflow)?;
        slot_len
            .checked_mul(spec.slots as usize)
            .and_then(|len| len.checked_next_multiple_of(HUGE))
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or(Refusal::Overflow)?;
        Ok(Self { input, output, output_offset, slot_len, slots: spec.slots })
    }

    /// Layout of every slot's input frame.
    pub const fn input(&self) -> &FrameLayout {
        &self.input
    }

    /// Layout of every slot's output frame.
    pub const fn output(&self) -> &FrameLayout {
        &self.output
    }

    /// Number of slots.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of the whole region: of its slots, up to where a huge page ends if that is an eighth
    /// more at the most. Else the last slots would lie in ordinary pages, up to 511 of them.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> NonZeroUsize {
        let slots = self.slot_len * self.slots as usize;
        let whole = slots.next_multiple_of(HUGE);
        let len = if whole - slots <= slots / 8 { whole } else { slots };
        NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN)
    }

    /// Bytes from the start of the region to the slot's input frame.
    pub const fn input_offset(&self, slot: u32) -> usize {
        self.slot_len * slot as usize
    }

    /// Bytes from the start of the region to the slot's output frame.
    pub const fn output_offset(&self, slot: u32) -> usize {
        self.input_offset(slot) + self.output_offset
    }
}

/// The memory of one slot as a device sees it: raw addresses, since the client may write while the
/// device reads. Both are page aligned and reach as far as the ring's layouts say.
#[derive(Clone, Copy, Debug)]
pub struct SlotMemory<'region> {
    input: *const u8,
    output: *mut u8,
    slot: u32,
    layout: &'region RingLayout,
    region: PhantomData<&'region Region>,
}

impl<'region> SlotMemory<'region> {
    /// The slot's memory, or `None` if the ring has no such slot or the region is too short for it.
    pub fn new(region: &'region Region, layout: &'region RingLayout, slot: u32) -> Option<Self> {
        if slot >= layout.slots() || region.len() < layout.len().get() {
            return None;
        }
        let start = region.start().as_ptr();
        // SAFETY: both offsets, and the frames behind them, lie within `layout.len()` bytes, and the
        // mapping is at least that long, as just checked.
        let (input, output) = unsafe {
            (
                start.add(layout.input_offset(slot)).cast_const(),
                start.add(layout.output_offset(slot)),
            )
        };
        Some(Self { input, output, slot, layout, region: PhantomData })
    }

    /// Number of the slot.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// First byte of the input frame: readable for `layout().input().len()` bytes.
    pub const fn input(&self) -> *const u8 {
        self.input
    }

    /// First byte of the output frame: writable for `layout().output().len()` bytes.
    pub const fn output(&self) -> *mut u8 {
        self.output
    }

    /// Where the planes lie behind both.
    pub const fn layout(&self) -> &'region RingLayout {
        self.layout
    }
}

/// Ownership of one slot in a client. Whoever holds it may touch the slot's bytes; a client that
/// submits the slot puts its lease away until the completion.
///
/// The bytes are given out as slices. That is sound as long as the daemon, which made the region and
/// is trusted with it as a library would be, writes only slots that were submitted.
#[derive(Debug)]
pub struct Lease {
    region: Arc<Region>,
    layout: Arc<RingLayout>,
    slot: u32,
}

/// Divides a client's mapping into the leases of its slots. Takes the region, so that there can be no
/// second set.
pub fn leases(region: Region, layout: &Arc<RingLayout>) -> Result<Vec<Lease>, RegionError> {
    let (found, needed) = (region.len(), layout.len().get());
    if found < needed {
        return Err(RegionError::Short { found, needed });
    }
    let region = Arc::new(region);
    let lease = |slot| Lease { region: Arc::clone(&region), layout: Arc::clone(layout), slot };
    Ok((0..layout.slots()).map(lease).collect())
}

/// The leases of a ring whose descriptor was passed. The layout is to be the one that both ends
/// compute.
pub fn mapped(passed: Passed, layout: RingLayout) -> Result<Vec<Lease>, RegionError> {
    let lost = |errno| RegionError::System { call: "recvmsg", errno };
    let region = Region::open(passed.map_err(lost)?, layout.len())?;
    leases(region, &Arc::new(layout))
}

impl Lease {
    /// Number of the slot.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Keeps the slot's memory mapped, at its address, when the lease is gone.
    pub fn mapping(&self) -> Arc<Region> {
        Arc::clone(&self.region)
    }

    /// Where the planes of its frames lie.
    pub fn layout(&self) -> &RingLayout {
        &self.layout
    }

    /// The input frame.
    pub fn input(&self) -> &[u8] {
        // SAFETY: `leases` checked that the slot lies within the mapping, which lives as long as
        // `self`; this is the slot's only lease, so nobody in this process writes it meanwhile.
        unsafe {
            let start = self.region.start().add(self.layout.input_offset(self.slot));
            std::slice::from_raw_parts(start.as_ptr(), self.layout.input.len())
        }
    }

    /// The input frame, to be written.
    pub fn input_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `input`, and `self` is borrowed mutably.
        unsafe {
            let start = self.region.start().add(self.layout.input_offset(self.slot));
            std::slice::from_raw_parts_mut(start.as_ptr(), self.layout.input.len())
        }
    }

    /// The output frame.
    pub fn output(&self) -> &[u8] {
        // SAFETY: as in `input`.
        unsafe {
            let start = self.region.start().add(self.layout.output_offset(self.slot));
            std::slice::from_raw_parts(start.as_ptr(), self.layout.output.len())
        }
    }

    /// The output frame, to be written by who stands in for the daemon, or is done with what that
    /// wrote.
    pub fn output_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `input_mut`.
        unsafe {
            let start = self.region.start().add(self.layout.output_offset(self.slot));
            std::slice::from_raw_parts_mut(start.as_ptr(), self.layout.output.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Extent, MAX_SIDE, PixelFormat};

    fn spec(source: Extent, destination: Extent, slots: u32) -> StreamSpec {
        let source = FrameSpec::new(PixelFormat::Rgba, source);
        StreamSpec { slots, ..StreamSpec::new(source, destination) }
    }

    #[test]
    fn slots_are_page_aligned_and_do_not_overlap() {
        let layout = RingLayout::new(&spec(Extent::new(33, 7), Extent::new(5, 90), 3)).unwrap();
        let mut end = 0;
        for slot in 0..3 {
            for (offset, len) in [
                (layout.input_offset(slot), layout.input().len()),
                (layout.output_offset(slot), layout.output().len()),
            ] {
                assert_eq!(offset % PAGE, 0);
                assert!(offset >= end);
                end = offset + len;
            }
        }
        assert!(layout.len().get() >= end);
    }

    #[test]
    fn a_region_has_whole_huge_pages_where_that_is_little_more() {
        // Two pages more than 1.125 MiB each.
        let slots = |slots| {
            let layout = spec(Extent::new(512, 512), Extent::new(256, 128), slots);
            RingLayout::new(&layout).unwrap()
        };
        for (count, whole) in [(1, false), (3, false), (5, true), (8, true), (9, false)] {
            let layout = slots(count);
            let end = layout.input_offset(count);
            let expected = if whole { end.next_multiple_of(HUGE) } else { end };
            assert_eq!(
                layout.len().get(),
                expected,
                "{count} slots of {} bytes",
                end / count as usize
            );
        }
    }

    #[test]
    fn refuses_slot_counts_out_of_bounds() {
        let extent = Extent::new(4, 4);
        for slots in [0, MAX_SLOTS + 1, u32::MAX] {
            assert_eq!(
                RingLayout::new(&spec(extent, extent, slots)),
                Err(Refusal::Slots { asked: slots })
            );
        }
    }

    #[test]
    fn the_largest_ring_is_computed_without_overflow() {
        let extent = Extent::new(MAX_SIDE, MAX_SIDE);
        let layout = RingLayout::new(&spec(extent, extent, MAX_SLOTS)).unwrap();
        assert!(layout.len().get() as u64 > 2 * 256 * 4 * extent.pixels());
    }

    #[test]
    fn leases_reach_their_own_slot_only() {
        let layout =
            Arc::new(RingLayout::new(&spec(Extent::new(2, 2), Extent::new(2, 2), 2)).unwrap());
        let (daemon, descriptor) = Region::create(layout.len()).unwrap();
        let client = Region::open(&descriptor, layout.len()).unwrap();
        let mut leases = leases(client, &layout).unwrap();
        leases[1].input_mut().fill(7);
        assert!(leases[0].input().iter().all(|&byte| byte == 0));
        let memory = SlotMemory::new(&daemon, &layout, 1).unwrap();
        // SAFETY: the first byte of a frame is within the region.
        assert_eq!(unsafe { memory.input().read() }, 7);
        assert!(SlotMemory::new(&daemon, &layout, 2).is_none());
    }
}
