//! Owns a submitted frame on its way through the queue: what it costs, who may do it, and that its
//! slot goes back.
//!
//! Knows devices only by their numbers, and clients only as a [`Sink`]. Invariants: the region
//! lives as long as any job of its stream; a slot is in flight from its submission until its
//! completion, and is never in flight twice.

mod cost;
mod pace;
mod stream;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use resized_protocol::message::{Completion, Status};
use resized_protocol::placement::Crop;

use crate::device::{Band, Device, DeviceError, Preparation, Resizer, Scratch};
use cost::Extents;
use stream::Ready;
pub(crate) use stream::{Invitation, Owner, Stream, StreamId};

/// Where completions go.
pub(crate) trait Sink: Send + Sync {
    /// The slot is the client's again, which wants to know unless the stream is `closed` by then.
    /// Called once for each job that is not withdrawn, on the thread that finished it; must not block.
    fn completed(&self, completion: Completion, pressure: Pressure, closed: &AtomicBool);
}

/// What else lanes have to do when a frame is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Too little: who waits for the frame should know at once.
    None,
    /// Every lane has work and more waits, so nobody loses by waiting for the next one.
    Sated,
    /// Every lane has work, and so many frames wait that there is enough to do even if all frames of one
    /// client are done.
    InCompany,
}

/// Pixels that are resized in about the time that preparing a crop takes.
const PREPARATION: u64 = 1 << 21;

/// Pixels that are resized in about the time that a frame takes beside its own: to be read of, to be
/// taken from the queue, and to be given back.
pub(crate) const PER_FRAME: u64 = 1 << 14;

/// A crop in place of the stream's, and what the device that took the frame prepared for it.
struct OwnCrop {
    crop: Crop,
    prepared: OnceLock<Result<Arc<dyn Resizer>, DeviceError>>,
    /// Tables were computed for this frame, and what it takes includes that.
    anew: AtomicBool,
}

/// A submitted frame.
pub(crate) struct Job {
    stream: Arc<Stream>,
    slot: u32,
    /// Boxed, as few frames have one and all are moved.
    crop: Option<Box<OwnCrop>>,
    submitted: Instant,
    sink: Arc<dyn Sink>,
    /// A bit for each device that has failed at it, and how often devices did.
    tried: u16,
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
        let crop = crop.filter(|crop| stream.spec().crop != Some(*crop));
        let own = |crop| OwnCrop { crop, prepared: OnceLock::new(), anew: false.into() };
        let crop = crop.map(|crop| Box::new(own(crop)));
        Self { stream, slot, crop, submitted, sink, tried: 0, failures: 0 }
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream.id()
    }

    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }

    /// What is resized of it.
    fn extents(&self) -> Extents {
        Extents::new(self.stream.spec(), self.crop.as_ref().map(|own| own.crop))
    }

    /// Pixels seen of the source, and those of the destination.
    pub(crate) fn pixels(&self) -> u64 {
        self.extents().pixels()
    }

    /// All pixels that are worked on. A crop of its own has to be prepared for as well, unless the
    /// frame before had it; that is not known yet.
    fn work(&self) -> u64 {
        self.extents().work() + if self.crop.is_some() { PREPARATION } else { 0 }
    }

    /// What it costs in the fair queue: its pixels, at what they were measured to cost, and what any
    /// frame costs. Otherwise tiny frames would get several times their part of the lanes' time.
    pub(crate) fn cost(&self) -> u64 {
        self.stream.rate().cost(self.work()).saturating_add(PER_FRAME)
    }

    /// What it is thought to take a lane.
    pub(crate) fn estimate(&self) -> Duration {
        cost::estimate(self.cost())
    }

    /// What is charged when it is taken from the queue. Little if it will not be resized, but
    /// something: who submits such frames without end is not to go on without end.
    pub(crate) fn charge(&self) -> u64 {
        match self.given_up(Instant::now) {
            Some(_) => PER_FRAME,
            None => self.cost(),
        }
    }

    /// Its stream's, beside the others of the same user.
    pub(crate) fn weight(&self) -> u32 {
        self.stream.spec().weight
    }

    /// How it ends if no device has taken it yet and nobody wants it any more, or there is nothing left to
    /// resize.
    pub(crate) fn given_up(&self, now: impl FnOnce() -> Instant) -> Option<Status> {
        if self.has_lost_memory() {
            return Some(Status::Failed);
        }
        if self.stream.is_cancelled(self.slot) {
            return Some(Status::Cancelled);
        }
        let deadline = self.stream.spec().deadline?;
        let late = now().saturating_duration_since(self.submitted) > deadline;
        late.then_some(Status::Late)
    }

    pub(crate) const fn submitted(&self) -> Instant {
        self.submitted
    }

    fn ready(&self, index: usize) -> Option<&Ready> {
        self.stream.ready(index)
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
            // What was prepared is for that device.
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

    /// How many lanes of the device of that number are worth waking for it: one at least where there
    /// is more to do than its pixels say, which is nothing for the thread that reads messages. For a
    /// crop of its own that is one until what the device [prepared](Self::prepare) says more.
    pub(crate) fn worth(&self, index: usize) -> u32 {
        if let Some(OwnCrop { prepared, .. }) = self.crop.as_deref() {
            let prepared = prepared.get().and_then(|prepared| prepared.as_ref().ok());
            return prepared.map_or(1, |resizer| resizer.worth().max(1));
        }
        match self.ready(index).map_or(1, |ready| ready.resizer.worth()) {
            0 => {
                let extents = self.extents();
                u32::from(extents.between() > extents.pixels())
            }
            lanes => lanes,
        }
    }

    /// Whether a device has to [prepare](Self::prepare) its crop first.
    pub(crate) fn is_unprepared(&self) -> bool {
        self.crop.as_ref().is_some_and(|own| own.prepared.get().is_none())
    }

    /// Has its crop, if it has one of its own, prepared by the device of that number, which it must
    /// [fit](Self::fits); who asks meanwhile waits.
    pub(crate) fn prepare(&self, device: &dyn Device, index: usize) -> Result<(), DeviceError> {
        self.own(device, index).map(drop)
    }

    /// What the device prepares for its own crop, if it has one.
    fn own(&self, device: &dyn Device, index: usize) -> Result<Option<&dyn Resizer>, DeviceError> {
        let Some(OwnCrop { crop, prepared, anew }) = self.crop.as_deref() else { return Ok(None) };
        match prepared.get_or_init(|| self.stream.prepare(*crop, device, index, anew)) {
            Ok(resizer) => Ok(Some(&**resizer)),
            Err(error) => Err(error.clone()),
        }
    }

    /// What a frame of the stream takes a lane of the device of that number, as far as one knows
    /// now; `None`: nobody knows.
    pub(crate) fn pace(&self, index: usize, now: Instant) -> Option<Duration> {
        self.ready(index)?.pace.read(now)
    }

    /// What one like it took that device when one was last measured; `None`: nobody knows, or it has a
    /// crop of its own. Not the stream's price, which is of all devices, and forgives who is slow at times.
    pub(crate) fn took(&self, index: usize) -> Option<Duration> {
        self.ready(index).filter(|_| self.crop.is_none())?.pace.last()
    }

    /// It has ended now, and took the device of that number so long, all its bands together.
    pub(crate) fn note_pace(&self, index: usize, worked: Duration, now: Instant) {
        let anew = self.crop.as_ref().is_some_and(|own| own.anew.load(Ordering::Relaxed));
        let preparation = if anew { PREPARATION } else { 0 };
        self.stream.rate().note(self.extents().work() + preparation, worked);
        // A crop of its own says nothing about other frames.
        if let Some(ready) = self.ready(index).filter(|_| self.crop.is_none()) {
            ready.pace.note(worked, now);
        }
    }

    /// Bytes that the device of that number copies for such a frame.
    pub(crate) fn copied_bytes(&self, index: usize) -> u64 {
        self.ready(index).map_or(0, |ready| ready.resizer.copied_bytes())
    }

    /// Has a band of the frame resized by the device of that number, which it must
    /// [fit](Self::fits); the same for all its bands.
    pub(crate) fn resize(
        &self,
        device: &dyn Device,
        index: usize,
        band: Band,
        scratch: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        let memory = self.stream.memory(self.slot).ok_or(DeviceError::Layout)?;
        let resizer = match self.own(device, index)? {
            Some(own) => own,
            None => &*self.ready(index).ok_or(DeviceError::Layout)?.resizer,
        };
        resizer.resize(memory, band, scratch)
    }

    /// Whether what was read and written is not the client's memory.
    pub(crate) fn has_lost_memory(&self) -> bool {
        self.stream.has_lost_memory()
    }

    /// Gives the slot back to the client.
    pub(crate) fn complete(self, completion: Completion, pressure: Pressure) {
        let copied = self.copied_bytes(usize::from(completion.device));
        self.stream.metrics().add_frame(self.pixels(), copied, &completion);
        // First: the client may submit the slot again before `completed` returns. Or it may close the
        // stream, and count on what that was charged for another.
        self.stream.give_back(self.slot);
        let Self { stream, sink, .. } = self;
        let closed = Arc::clone(stream.closed());
        drop(stream);
        sink.completed(completion, pressure, &closed);
    }
}

/// The bit of a device among those that were tried.
const fn bit(index: usize) -> u16 {
    1 << index
}
