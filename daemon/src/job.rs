//! Owns a stream's memory on the daemon's side, and a submitted frame on its way through the queue.
//!
//! Knows devices only to have them prepare the stream, and clients only as a [`Sink`]. Invariants: the
//! region lives as long as any job of its stream; a slot is in flight from its submission until its
//! completion, and is never in flight twice; the memory of a stream that is over goes back to the
//! system with its charge, even if the client keeps its mapping.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use resized_protocol::frame::PixelFormat;
use resized_protocol::message::{Backing, Completion, Refusal, StreamSpec};
use resized_protocol::shm::{NamedRegion, Region, RegionError, RingLayout, SlotMemory};

use crate::device::{Device, Resizer};
use crate::metrics::Counted;
use crate::quota::{Budget, Charge};

/// An open stream.
pub(crate) struct Stream {
    number: u32,
    /// Source and destination pixels of a frame: what it costs in the fair queue.
    cost: u64,
    ring: RingLayout,
    region: Region,
    slots: Box<[AtomicU8]>,
    /// The client may read results when this is gone: do not take the pages from under it.
    kept: AtomicBool,
    /// In the order of the scheduler's devices.
    resizers: Vec<Box<dyn Resizer>>,
    _charge: Charge,
    _counted: Counted,
}

/// What a slot's state may be: the client's, in flight, or in flight and no longer wanted.
const FREE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const CANCELLED: u8 = 2;

/// How the client of a new stream maps its region.
pub(crate) struct Invitation {
    pub(crate) backing: Backing,
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Stream {
    /// Charges, allocates and prepares a stream. Takes as long as zeroing its pages does.
    pub(crate) fn open(
        number: u32,
        spec: &StreamSpec,
        named: bool,
        devices: &[Box<dyn Device>],
        budget: &Arc<Budget>,
        counted: Counted,
    ) -> Result<(Self, Invitation), Refusal> {
        if let format @ PixelFormat::Tensor(_) = spec.source.format {
            return Err(Refusal::Format(format));
        }
        if !spec.normalisation.is_finite() {
            return Err(Refusal::Normalisation);
        }
        let ring = RingLayout::new(spec)?;
        spec.placement()?;
        let charge = budget.charge(ring.len().get() as u64)?;
        let (region, invitation) = allocate(&ring, named).map_err(|error| {
            tracing::warn!(%error, bytes = ring.len(), "no memory for a ring");
            Refusal::System { errno: error.errno().unwrap_or(0) }
        })?;
        let open = |device: &dyn Device| {
            device.open(spec, &ring).map_err(|error| {
                tracing::warn!(%error, ?spec, "a device refused a stream");
                Refusal::Device
            })
        };
        let resizers = devices.iter().map(|device| open(&**device)).collect::<Result<_, _>>()?;
        let stream = Self {
            number,
            cost: spec.source.extent.pixels() + spec.destination.extent.pixels(),
            slots: (0..ring.slots()).map(|_| AtomicU8::new(FREE)).collect(),
            kept: AtomicBool::new(false),
            ring,
            region,
            resizers,
            _charge: charge,
            _counted: counted,
        };
        Ok((stream, invitation))
    }

    pub(crate) const fn ring(&self) -> &RingLayout {
        &self.ring
    }

    /// Notes that a slot is in flight. `None`: there is no such slot; `Some(false)`: it already was.
    pub(crate) fn take(&self, slot: u32) -> Option<bool> {
        let slot = self.slots.get(slot as usize)?;
        Some(slot.compare_exchange(FREE, IN_FLIGHT, Ordering::Acquire, Ordering::Relaxed).is_ok())
    }

    /// Notes that a slot, if it is in flight, is no longer wanted.
    pub(crate) fn cancel(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            // Otherwise it was done before the client's word came.
            let _ =
                slot.compare_exchange(IN_FLIGHT, CANCELLED, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn give_back(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            slot.store(FREE, Ordering::Release);
        }
    }

    /// Leaves the frames as they are when the stream is over.
    pub(crate) fn keep_frames(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            self.region.discard();
        }
    }
}

fn allocate(ring: &RingLayout, named: bool) -> Result<(Region, Invitation), RegionError> {
    if named {
        let NamedRegion { region, name } = Region::create_named(ring.len())?;
        Ok((region, Invitation { backing: Backing::Named(name), descriptor: None }))
    } else {
        let (region, descriptor) = Region::create(ring.len())?;
        let descriptor = Some(descriptor);
        Ok((region, Invitation { backing: Backing::Descriptor, descriptor }))
    }
}

/// Where completions go.
pub(crate) trait Sink: Send + Sync {
    /// The slot is the client's again. Called once for each job that is not withdrawn, on the thread
    /// that finished it; must not block.
    /// `pressed`: every lane has work and more waits, so nobody loses by waiting for the next one.
    fn completed(&self, completion: Completion, pressed: bool);
}

/// A submitted frame.
pub(crate) struct Job {
    stream: Arc<Stream>,
    slot: u32,
    submitted: Instant,
    sink: Arc<dyn Sink>,
}

impl Job {
    /// A job for a slot that [`Stream::take`] has just taken.
    pub(crate) fn new(
        stream: Arc<Stream>,
        slot: u32,
        submitted: Instant,
        sink: Arc<dyn Sink>,
    ) -> Self {
        Self { stream, slot, submitted, sink }
    }

    pub(crate) fn stream(&self) -> u32 {
        self.stream.number
    }

    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }

    pub(crate) fn cost(&self) -> u64 {
        self.stream.cost
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let slot = self.stream.slots.get(self.slot as usize);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == CANCELLED)
    }

    pub(crate) const fn submitted(&self) -> Instant {
        self.submitted
    }

    pub(crate) fn resizer(&self, device: usize) -> &dyn Resizer {
        &*self.stream.resizers[device]
    }

    pub(crate) fn memory(&self) -> Option<SlotMemory<'_>> {
        SlotMemory::new(&self.stream.region, &self.stream.ring, self.slot)
    }

    /// Gives the slot back to the client.
    pub(crate) fn complete(&self, completion: Completion, pressed: bool) {
        // First: the client may submit the slot again before `completed` returns.
        self.stream.give_back(self.slot);
        self.sink.completed(completion, pressed);
    }
}
