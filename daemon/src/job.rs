//! Owns a stream's memory on the daemon's side, and a submitted frame on its way through the queue.
//!
//! Knows devices only to have them prepare the stream, and clients only as a [`Sink`]. Invariants: the
//! region lives as long as any job of its stream; a slot is in flight from its submission until its
//! completion, and is never in flight twice; the memory of a stream that is over goes back to the
//! system with its charge, even if the client keeps its mapping, but not before the devices let go of it.

mod cost;
mod pace;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, PixelFormat};
use resized_protocol::message::{
    Backing, Completion, MAX_WEIGHT, Refusal, Resource, Status, StreamSpec,
};
use resized_protocol::placement::Crop;
use resized_protocol::shm::{NamedRegion, Region, RegionError, RingLayout, SlotMemory};

use crate::device::{self, Allowance, Band, Device, DeviceError, Resizer, Scratch};
use crate::metrics::{ClientId, ClientMetrics, Counted, StreamMetrics};
use crate::quota::{Account, Charge};
use cost::{Rate, tables};
use pace::Pace;

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
    /// The client may read results when this is gone: do not take the pages from under it.
    kept: AtomicBool,
    /// The client was told so: nothing is said of its frames any more.
    closed: AtomicBool,
    /// In the order of the scheduler's devices; none for those that can't take the stream.
    ready: Vec<Option<Ready>>,
    /// What a device prepared for the last frame that had a crop of its own: often the next has it too.
    cropped: Mutex<Option<Prepared>>,
    rate: Rate,
    metrics: Arc<StreamMetrics>,
    _charges: [Charge; 3],
    _counted: Counted,
}

/// A device made ready for a stream.
struct Ready {
    resizer: Box<dyn Resizer>,
    pace: Pace,
    /// Takes frames with crops of their own.
    crops: bool,
    /// Its memory has no room for the stream.
    given_up: AtomicBool,
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

impl Stream {
    /// Charges, allocates and prepares a stream. Takes as long as zeroing its pages does.
    pub(crate) fn open(
        id: StreamId,
        spec: &StreamSpec,
        named: bool,
        devices: &[Box<dyn Device>],
        account: &Arc<Account>,
        client: &Arc<ClientMetrics>,
        counted: Counted,
    ) -> Result<(Self, Invitation), Refusal> {
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
        let mut charges = [
            account.charge(Resource::Streams, 1)?,
            account.charge(Resource::Slots, spec.slots.into())?,
            // Tables twice: for the stream, and for the last crop that a frame brought.
            account.charge(
                Resource::RingBytes,
                (ring.len().get() as u64).saturating_add(2 * tables(spec)),
            )?,
        ];
        let (region, invitation) = allocate(&ring, named).map_err(|error| {
            tracing::warn!(%error, bytes = ring.len(), "no memory for a ring");
            Refusal::System { errno: error.errno().unwrap_or(0) }
        })?;
        charges[2].allocated();
        let region = Arc::new(region);
        let open = |index: usize, device: &dyn Device| {
            let mut resizer = device.open(spec, &ring)?;
            resizer.allow(Arc::new(OfDevice { account: Arc::clone(account), index }));
            resizer.attach(&region)?;
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
        let metrics = client.open(id.number, ring.slots(), ring.len().get() as u64);
        let stream = Self {
            id,
            metrics,
            spec: *spec,
            slots: (0..ring.slots()).map(|_| AtomicU8::new(FREE)).collect(),
            kept: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            ring,
            region,
            ready,
            cropped: Mutex::default(),
            rate: Rate::new(spec),
            _charges: charges,
            _counted: counted,
        };
        Ok((stream, invitation))
    }

    pub(crate) const fn id(&self) -> StreamId {
        self.id
    }

    pub(crate) const fn ring(&self) -> &RingLayout {
        &self.ring
    }

    /// Set as the stream is closed, by who tells the client.
    pub(crate) const fn closed(&self) -> &AtomicBool {
        &self.closed
    }

    /// Whether frames may be submitted with this crop.
    pub(crate) fn can_crop(&self, crop: Crop) -> bool {
        StreamSpec { crop: Some(crop), ..self.spec }.placement().is_ok()
    }

    /// What a device resizes frames of that crop by. Takes some 0.2 ms for full HD unless the last one had
    /// it too.
    fn prepare(
        &self,
        crop: Crop,
        device: &dyn Device,
        index: usize,
    ) -> Result<Arc<dyn Resizer>, DeviceError> {
        let known = || self.cropped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((other, of, resizer)) = &*known()
            && (*other, *of) == (crop, index)
        {
            return Ok(Arc::clone(resizer));
        }
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
        self.metrics.client().close(self.id.number);
        // First: a GPU may have pinned the pages.
        self.ready.clear();
        if !self.kept.load(Ordering::Relaxed) {
            self.region.discard();
        }
    }
}

/// What the stream of a user may take of the memory of the device of that number.
struct OfDevice {
    account: Arc<Account>,
    index: usize,
}

impl Allowance for OfDevice {
    fn take(&self, bytes: u64) -> Option<device::Charge> {
        Some(Box::new(self.account.charge_device(self.index, bytes)?))
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
    /// `closed`: whether the stream is, so that nobody wants to know.
    fn completed(&self, completion: Completion, pressure: Pressure, closed: &AtomicBool);
}

/// What else lanes have to do when a frame is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Too little: who waits for the frame should know at once.
    None,
    /// Every lane has work and more waits, so nobody loses by waiting for the next one.
    Sated,
    /// The same, and it is a crowd that waits: even if all frames of one client are done, there is enough to do.
    Crowded,
}

/// Pixels that are resized in about the time that preparing a crop takes.
const PREPARATION: u64 = 1 << 21;

/// Times the pixels of the larger end that there are between the passes, at the most.
const MOST_BETWEEN: u64 = 4;

/// A crop in place of the stream's, and what the device that took the frame prepared for it.
struct OwnCrop {
    crop: Crop,
    prepared: OnceLock<Result<Arc<dyn Resizer>, DeviceError>>,
}

/// A submitted frame.
pub(crate) struct Job {
    stream: Arc<Stream>,
    slot: u32,
    crop: Option<OwnCrop>,
    submitted: Instant,
    sink: Arc<dyn Sink>,
    /// A bit for each device that has failed at it, and how often devices did.
    tried: u64,
    failures: u32,
}

impl Job {
    /// A job for a slot that [`Stream::take`] has just taken, with a crop of its own that
    /// [`Stream::can_crop`].
    pub(crate) fn new(
        stream: Arc<Stream>,
        slot: u32,
        crop: Option<Crop>,
        submitted: Instant,
        sink: Arc<dyn Sink>,
    ) -> Self {
        let crop = crop.filter(|crop| stream.spec.crop != Some(*crop));
        let crop = crop.map(|crop| OwnCrop { crop, prepared: OnceLock::new() });
        Self { stream, slot, crop, submitted, sink, tried: 0, failures: 0 }
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream.id
    }

    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }

    /// Pixels seen of the source.
    fn seen(&self) -> Extent {
        let StreamSpec { source, crop, .. } = &self.stream.spec;
        let crop = self.crop.as_ref().map(|own| own.crop).or(*crop);
        let rounded = |crop: Crop| Extent::new(crop.width.ceil() as u32, crop.height.ceil() as u32);
        crop.map_or(source.extent, rounded)
    }

    /// Pixels seen of the source, and those of the destination.
    pub(crate) fn pixels(&self) -> u64 {
        self.seen().pixels() + self.stream.spec.destination.extent.pixels()
    }

    /// Pixels between the two passes, whichever comes first. More than at both ends only where one
    /// direction shrinks and the other grows; devices put that last which would make far more.
    fn between(&self) -> u64 {
        let (from, to) = (self.seen(), self.stream.spec.destination.extent);
        let pixels = |width, height| Extent::new(width, height).pixels();
        let between = pixels(from.width, to.height).max(pixels(to.width, from.height));
        between.min(MOST_BETWEEN * from.pixels().max(to.pixels()))
    }

    /// All these pixels. A crop of its own has to be prepared for as well, unless the frame before had it;
    /// that is not known yet.
    fn work(&self) -> u64 {
        let preparation = if self.crop.is_some() { PREPARATION } else { 0 };
        self.pixels() + self.between() + preparation
    }

    /// What it costs in the fair queue: its pixels, at what they were measured to cost.
    pub(crate) fn cost(&self) -> u64 {
        self.stream.rate.cost(self.work())
    }

    /// What it is thought to take a lane.
    pub(crate) fn takes(&self) -> Duration {
        cost::takes(self.cost())
    }

    /// What is charged when it is taken from the queue: nothing if it will not be resized.
    pub(crate) fn charge(&self) -> u64 {
        match self.given_up(Instant::now) {
            Some(_) => 0,
            None => self.cost(),
        }
    }

    /// Its stream's, beside the others of the same user.
    pub(crate) fn weight(&self) -> u32 {
        self.stream.spec.weight
    }

    /// How it ends if no device has taken it yet and nobody wants it any more.
    pub(crate) fn given_up(&self, now: impl FnOnce() -> Instant) -> Option<Status> {
        let slot = self.stream.slots.get(self.slot as usize);
        if slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == CANCELLED) {
            return Some(Status::Cancelled);
        }
        let deadline = self.stream.spec.deadline?;
        let late = now().saturating_duration_since(self.submitted) > deadline;
        late.then_some(Status::Late)
    }

    pub(crate) const fn submitted(&self) -> Instant {
        self.submitted
    }

    fn ready(&self, index: usize) -> Option<&Ready> {
        self.stream.ready.get(index)?.as_ref()
    }

    /// Whether the device of that number can do it and has not failed at it.
    pub(crate) fn fits(&self, index: usize) -> bool {
        let untried = self.tried & bit(index) == 0;
        untried
            && self.ready(index).is_some_and(|ready| {
                (self.crop.is_none() || ready.crops) && !ready.given_up.load(Ordering::Relaxed)
            })
    }

    /// The device of that number failed at it. With `for_good` it gets no frame of the stream any more.
    pub(crate) fn failed_on(&mut self, index: usize, for_good: bool) {
        self.tried |= bit(index);
        self.failures += 1;
        if let Some(own) = &mut self.crop {
            // That device's.
            own.prepared = OnceLock::new();
        }
        if let Some(ready) = self.ready(index).filter(|_| for_good) {
            ready.given_up.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until the device of that number, which did not answer in time, no longer touches the slot.
    pub(crate) fn settle(&self, index: usize) {
        if let Some(ready) = self.ready(index) {
            ready.resizer.settle(self.slot);
        }
    }

    /// No other device is left: lets the one that failed at it try once more, and says whether it does.
    pub(crate) fn try_again(&mut self, index: usize) -> bool {
        if self.failures == 1 {
            self.tried &= !bit(index);
        }
        self.fits(index)
    }

    /// How many lanes of the device of that number are worth waking for it: one at least where a crop has
    /// to be prepared, or there is more to do than its pixels say, which is nothing for the thread that
    /// reads messages.
    pub(crate) fn worth(&self, index: usize) -> u32 {
        let lane = || u32::from(self.crop.is_some() || self.between() > self.pixels());
        match self.ready(index).map_or(1, |ready| ready.resizer.worth()) {
            0 => lane(),
            lanes => lanes,
        }
    }

    /// What a frame of the stream takes a lane of the device of that number; `None`: nobody knows.
    pub(crate) fn pace(&self, index: usize) -> Option<Duration> {
        self.ready(index)?.pace.read()
    }

    /// It took the device of that number so long, all its bands together.
    pub(crate) fn note_pace(&self, index: usize, worked: Duration) {
        self.stream.rate.note(self.work(), worked);
        // A crop of its own says nothing about other frames.
        if let Some(ready) = self.ready(index).filter(|_| self.crop.is_none()) {
            ready.pace.note(worked);
        }
    }

    /// Bytes that the device of that number copies for such a frame.
    pub(crate) fn copied_bytes(&self, index: usize) -> u64 {
        self.ready(index).map_or(0, |ready| ready.resizer.copied_bytes())
    }

    /// Has a band of the frame resized by the device of that number, which it must [fit](Self::fits); the
    /// same for all its bands.
    pub(crate) fn resize(
        &self,
        device: &dyn Device,
        index: usize,
        band: Band,
        scratch: &mut Scratch,
    ) -> Result<(), DeviceError> {
        let memory = SlotMemory::new(&self.stream.region, &self.stream.ring, self.slot);
        let memory = memory.ok_or(DeviceError::Layout)?;
        match &self.crop {
            None => {
                let ready = self.ready(index).ok_or(DeviceError::Layout)?;
                ready.resizer.resize(memory, band, scratch)
            }
            Some(OwnCrop { crop, prepared }) => {
                let prepare = || self.stream.prepare(*crop, device, index);
                prepared.get_or_init(prepare).clone()?.resize(memory, band, scratch)
            }
        }
    }

    /// Gives the slot back to the client.
    pub(crate) fn complete(&self, completion: Completion, pressure: Pressure) {
        let copied = self.copied_bytes(usize::from(completion.device));
        self.stream.metrics.add_frame(self.pixels(), copied, &completion);
        // First: the client may submit the slot again before `completed` returns.
        self.stream.give_back(self.slot);
        self.sink.completed(completion, pressure, &self.stream.closed);
    }
}

/// The bit of a device among those that were tried.
const fn bit(index: usize) -> u64 {
    1 << (index % u64::BITS as usize)
}
