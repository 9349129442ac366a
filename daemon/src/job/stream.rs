//! Owns a stream on the daemon's side: its memory, the state of its slots, and the devices made
//! ready for it.
//!
//! Knows devices only to have them prepare the stream. Invariant: the memory of a stream that is
//! over goes back to the system with its charge, once the devices and the client have let go of it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use resized_protocol::frame::PixelFormat;
use resized_protocol::message::{Backing, MAX_WEIGHT, Refusal, Resource, StreamSpec};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{Lent, NamedRegion, Region, RegionError, RingLayout, SlotMemory};

use super::cost::Rate;
use super::pace::Pace;
use super::{Job, OwnCrop};
use crate::device::fleet::Fleet;
use crate::device::{self, Allowance, Device, DeviceError, Resizer};
use crate::lock;
use crate::metrics::{ClientId, ClientMetrics, Counted, StreamMetrics};
use crate::quota::{Account, Charge, Lending};

/// Whose stream it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamId {
    pub(crate) user: u32,
    pub(crate) client: ClientId,
    /// The client's own number for it.
    pub(crate) number: u32,
}

/// An open stream.
pub(crate) struct Stream {
    id: StreamId,
    spec: StreamSpec,
    ring: RingLayout,
    region: Arc<Region>,
    slots: Box<[AtomicU8]>,
    /// The client was told so: nothing is said of its frames any more.
    closed: Arc<AtomicBool>,
    devices: Arc<Fleet>,
    /// In the order of the devices; none for those that can't take the stream.
    ready: Vec<Option<Ready>>,
    /// What a device prepared for the last frame that had a crop of its own: often the next has it too.
    cropped: Mutex<Option<Prepared>>,
    rate: Rate,
    metrics: Arc<StreamMetrics>,
    /// Of its ring, of tables, of what waits, and of the stream. After the region: what is unmapped goes back first.
    lending: Lending,
    _slots: Charge,
    _counted: Counted,
}

/// A device made ready for a stream.
pub(super) struct Ready {
    pub(super) resizer: Box<dyn Resizer>,
    pub(super) pace: Pace,
    /// Takes frames with crops of their own.
    pub(super) crops: bool,
    /// Its memory has no room for the stream.
    pub(super) given_up: AtomicBool,
}

/// A crop, the device, and what it prepared for it.
type Prepared = (Crop, usize, Arc<dyn Resizer>);

/// What a slot's state may be: the client's, in flight, or in flight and no longer wanted.
const FREE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const CANCELLED: u8 = 2;

/// How the client of a new stream maps its region.
pub(crate) struct Invitation {
    pub(crate) backing: Backing,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// Whose figures and whose account a stream is to be in.
pub(crate) struct Owner<'a> {
    pub(crate) account: &'a Arc<Account>,
    pub(crate) client: &'a Arc<ClientMetrics>,
    pub(crate) counted: Counted,
}

/// Bytes that the daemon may hold for a slot: a job that waits, with its crop, and its completion, which the client does not
/// read, where there may be room for as many again.
const PER_SLOT: u64 = 2 * (size_of::<Job>() + size_of::<OwnCrop>() + COMPLETION) as u64;

/// Bytes of a completion as it is sent.
const COMPLETION: usize = 38;

/// What a stream takes of its user's account.
struct Charges {
    /// Of its ring, of tables, and of what waits.
    memory: Charge,
    stream: Charge,
    slots: Charge,
}

impl Charges {
    fn take(
        account: &Arc<Account>,
        spec: &StreamSpec,
        ring: &RingLayout,
        devices: &Fleet,
    ) -> Result<Self, Refusal> {
        let beside = table_bytes(devices, spec) + u64::from(spec.slots) * PER_SLOT;
        let bytes = (ring.len().get() as u64).saturating_add(beside);
        Ok(Self {
            stream: account.charge(Resource::Streams, 1)?,
            slots: account.charge(Resource::Slots, spec.slots.into())?,
            memory: account.charge(Resource::RingBytes, bytes)?,
        })
    }
}

impl Stream {
    /// Charges, allocates and prepares a stream. Takes as long as zeroing its pages does.
    pub(crate) fn open(
        id: StreamId,
        spec: &StreamSpec,
        named: bool,
        devices: &Arc<Fleet>,
        owner: Owner<'_>,
    ) -> Result<(Self, Invitation), Refusal> {
        let ring = layout(spec)?;
        // Its user may have room again.
        owner.account.take_back();
        let Charges { mut memory, stream, slots } =
            Charges::take(owner.account, spec, &ring, devices)?;
        let (region, file, invitation) = allocate(&ring, named)?;
        region.populate();
        memory.allocated_with_ring(region.len() as u64);
        let region = Arc::new(region);
        let ready = prepare(devices, spec, &ring, &region, owner.account)?;
        let stream = Self {
            id,
            metrics: owner.client.open(id.number, ring.slots(), ring.len().get() as u64),
            spec: *spec,
            slots: (0..ring.slots()).map(|_| AtomicU8::new(FREE)).collect(),
            closed: Arc::default(),
            ring,
            region,
            devices: Arc::clone(devices),
            ready,
            cropped: Mutex::default(),
            rate: Rate::new(spec),
            lending: Lending::new(file, memory, stream),
            _slots: slots,
            _counted: owner.counted,
        };
        Ok((stream, invitation))
    }

    pub(crate) const fn id(&self) -> StreamId {
        self.id
    }

    pub(super) const fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    pub(crate) const fn ring(&self) -> &RingLayout {
        &self.ring
    }

    pub(super) const fn rate(&self) -> &Rate {
        &self.rate
    }

    pub(super) fn metrics(&self) -> &StreamMetrics {
        &self.metrics
    }

    /// The device of that number, unless it can't take the stream.
    pub(super) fn ready(&self, index: usize) -> Option<&Ready> {
        self.ready.get(index)?.as_ref()
    }

    /// The frames of a slot.
    pub(super) fn memory(&self, slot: u32) -> Option<SlotMemory<'_>> {
        SlotMemory::new(&self.region, &self.ring, slot)
    }

    /// Whether the ring's memory is gone, by the client's doing or since it broke: no frame can be
    /// resized any more.
    pub(super) fn has_lost_memory(&self) -> bool {
        self.region.is_lost()
    }

    /// Set as the stream is closed, by who tells the client.
    pub(crate) const fn closed(&self) -> &Arc<AtomicBool> {
        &self.closed
    }

    /// Whether frames may be submitted with this crop.
    pub(crate) fn can_crop(&self, crop: Crop) -> bool {
        StreamSpec { crop: Some(crop), ..self.spec }.placement().is_ok()
    }

    /// What a device resizes frames of that crop by, and whether it was prepared `anew`. That takes
    /// some 0.2 ms for full HD unless the last one had it too.
    pub(super) fn prepare(
        &self,
        crop: Crop,
        device: &dyn Device,
        index: usize,
        anew: &AtomicBool,
    ) -> Result<Arc<dyn Resizer>, DeviceError> {
        let known = || lock::wait(&self.cropped);
        if let Some((other, of, resizer)) = &*known()
            && (*other, *of) == (crop, index)
        {
            return Ok(Arc::clone(resizer));
        }
        anew.store(true, Ordering::Relaxed);
        let spec = StreamSpec { crop: Some(crop), ..self.spec };
        let resizer: Arc<dyn Resizer> = device.open(&spec, &self.ring)?.into();
        *known() = Some((crop, index, Arc::clone(&resizer)));
        Ok(resizer)
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

    /// Whether a slot is in flight and no longer wanted.
    pub(super) fn is_cancelled(&self, slot: u32) -> bool {
        let slot = self.slots.get(slot as usize);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == CANCELLED)
    }

    pub(super) fn give_back(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            slot.store(FREE, Ordering::Release);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.metrics.client().close(self.id.number);
        // First: a GPU may have pinned the pages.
        for (index, ready) in self.ready.drain(..).enumerate() {
            // A driver may hang over this too.
            let _call = self.devices.call(index);
            drop(ready);
        }
        self.lending.unmap();
    }
}

/// What the tables take that are kept for a stream at the most: its own and, where frames may bring
/// crops, those for the last one and for each other one that a lane is at at the same time.
fn table_bytes(devices: &[Box<dyn Device>], spec: &StreamSpec) -> u64 {
    let sets = |device: &dyn Device| match device.crops() {
        true => 2 + (device.lanes() as u64).min(spec.slots.into()),
        false => 1,
    };
    devices.iter().map(|device| sets(&**device) * device.table_bytes(spec)).sum()
}

/// What the stream of a user may take of the memory of the device of that number.
struct OfDevice {
    account: Arc<Account>,
    index: usize,
}

impl Allowance for OfDevice {
    fn take(&self, memory: device::Memory) -> Option<device::Charge> {
        let of_device = self.account.charge_device(self.index, memory.device)?;
        let system = || self.account.charge(Resource::RingBytes, memory.system);
        let mut of_system = (memory.system > 0).then(system).transpose().ok()?;
        // At once: the system counts it as soon as it is.
        of_system.iter_mut().for_each(Charge::allocated);
        Some(Box::new((of_device, of_system)))
    }
}

/// The layout of the stream's ring, if it is one that can be.
fn layout(spec: &StreamSpec) -> Result<RingLayout, Refusal> {
    if let format @ PixelFormat::Tensor(_) = spec.source.format {
        return Err(Refusal::Format(format));
    }
    if !spec.normalisation.is_finite() {
        return Err(Refusal::Normalisation);
    }
    if spec.weight == 0 || spec.weight > MAX_WEIGHT {
        return Err(Refusal::Weight { asked: spec.weight });
    }
    let ring = RingLayout::new(spec)?;
    spec.placement()?;
    Ok(ring)
}

fn allocate(ring: &RingLayout, named: bool) -> Result<(Region, Lent, Invitation), Refusal> {
    let allocate = || -> Result<_, RegionError> {
        if named {
            let NamedRegion { region, name, file } = Region::create_named(ring.len())?;
            let invitation = Invitation { backing: Backing::Named(name), descriptor: None };
            return Ok((region, Lent::new(file, ring.len())?, invitation));
        }
        let (region, made) = Region::create(ring.len())?;
        let file = Lent::new(made, ring.len())?;
        let descriptor = Some(file.open()?);
        Ok((region, file, Invitation { backing: Backing::Descriptor, descriptor }))
    };
    allocate().map_err(|error| {
        tracing::warn!(%error, bytes = ring.len(), "a ring can't be made");
        // Of named segments the system's error is not always known.
        Refusal::System { errno: error.errno().unwrap_or(Errno::EIO as i32) }
    })
}

/// Has all devices prepare a stream; it is enough that one can resize it.
fn prepare(
    devices: &Fleet,
    spec: &StreamSpec,
    ring: &RingLayout,
    region: &Arc<Region>,
    account: &Arc<Account>,
) -> Result<Vec<Option<Ready>>, Refusal> {
    let open = |index: usize, device: &dyn Device| {
        // A driver may hang over it.
        let _call = devices.call(index);
        let mut resizer = device.open(spec, ring)?;
        resizer.allow(Arc::new(OfDevice { account: Arc::clone(account), index }));
        resizer.attach(region)?;
        let given_up = AtomicBool::new(false);
        Ok(Ready { resizer, pace: Pace::new(), crops: device.crops(), given_up })
    };
    let ready = devices.iter().enumerate().map(|(index, device)| {
        open(index, &**device)
            .map_err(|error: DeviceError| tracing::info!(%error, ?spec, "a device passes"))
            .ok()
    });
    let ready: Vec<_> = ready.collect();
    if ready.iter().all(Option::is_none) {
        tracing::warn!(?spec, "no device can resize a stream");
        return Err(Refusal::Device);
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, FrameSpec};

    use resized_protocol::codec::encode;
    use resized_protocol::message::{Completion, Message, Status};

    use super::*;
    use crate::device::Memory;
    use crate::device::cpu::Cpu;
    use crate::metrics::{Gauge, Metrics};
    use crate::quota::{Accounts, Limits};

    #[test]
    fn every_lane_may_be_at_a_crop_of_its_own() {
        let frame = FrameSpec::new(PixelFormat::I420, Extent::new(640, 360));
        let charged = |lanes: usize, slots: u32| {
            let spec = StreamSpec { slots, ..StreamSpec::new(frame, Extent::new(320, 180)) };
            let devices = Arc::new(Fleet::new(vec![Box::new(Cpu::new(lanes))]));
            let accounts = Accounts::new(Limits::default(), 1, u64::MAX, []);
            let client = Metrics::default().connect(0, 0);
            let (id, counted) =
                (StreamId { user: 0, client: 0, number: 0 }, Gauge::default().count());
            let owner = Owner { account: &accounts.of(0), client: &client, counted };
            let (stream, _) = Stream::open(id, &spec, false, &devices, owner).unwrap();
            let tables = devices[0].table_bytes(&spec);
            let beside = accounts.ring_bytes() - stream.ring.len().get() as u64;
            let beside = beside - u64::from(slots) * PER_SLOT;
            (beside / tables, beside % tables)
        };
        assert_eq!([charged(1, 8), charged(3, 8), charged(16, 8)], [(3, 0), (5, 0), (10, 0)]);
    }

    #[test]
    fn completions_are_as_long_as_is_charged() {
        let (stream, slot, device) = (u32::MAX, u32::MAX, u16::MAX);
        let (queued_ns, worked_ns, status) = (u64::MAX, u64::MAX, Status::Done);
        let completion = Completion { stream, slot, status, device, queued_ns, worked_ns };
        let mut bytes = Vec::new();
        encode(&Message::Completed(completion), &mut bytes).unwrap();
        assert_eq!(bytes.len(), COMPLETION);
    }

    #[test]
    fn what_a_device_takes_of_the_systems_memory_counts_as_rings_do() {
        let limits = Limits { ring_bytes: 1000, ..Limits::default() };
        let accounts = Accounts::new(limits, 1, u64::MAX, [4000]);
        let of_device = OfDevice { account: accounts.of(7), index: 0 };
        let take = |device, system| of_device.take(Memory { device, system });
        let first = take(2000, 600).unwrap();
        assert!(take(1, 401).is_none() && take(1001, 0).is_none());
        assert_eq!(accounts.ring_bytes(), 600);
        // What was refused has left nothing behind.
        drop((take(1000, 400).unwrap(), first));
        assert_eq!(accounts.ring_bytes(), 0);
        drop(take(3000, 1000).unwrap());
    }
}
