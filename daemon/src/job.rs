//! Owns a stream's memory on the daemon's side, and a submitted frame on its way through the queue.
//!
//! Knows devices only to have them prepare the stream, and clients only as a [`Sink`]. Invariants: the
//! region lives as long as any job of its stream; a slot is in flight from its submission until its
//! completion, and is never in flight twice.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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
    in_flight: Box<[AtomicBool]>,
    /// In the order of the scheduler's devices.
    resizers: Vec<Box<dyn Resizer>>,
    _charge: Charge,
    _counted: Counted,
}

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
        let (from, to) = (spec.source.format, spec.destination.format);
        if from != to {
            return Err(Refusal::Conversion { from, to });
        }
        let ring = RingLayout::new(spec)?;
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
            in_flight: (0..ring.slots()).map(|_| AtomicBool::new(false)).collect(),
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
        let in_flight = self.in_flight.get(slot as usize)?;
        Some(!in_flight.swap(true, Ordering::Acquire))
    }

    fn give_back(&self, slot: u32) {
        if let Some(in_flight) = self.in_flight.get(slot as usize) {
            in_flight.store(false, Ordering::Release);
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
    fn completed(&self, completion: Completion);
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
    pub(crate) fn complete(&self, completion: Completion) {
        // First: the client may submit the slot again before `completed` returns.
        self.stream.give_back(self.slot);
        self.sink.completed(completion);
    }
}
