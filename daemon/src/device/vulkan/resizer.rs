//! Owns a stream on a GPU: the ways by which its frames may reach it, the measurement that keeps
//! the fastest, and frames that were not answered in time.
//!
//! Knows no commands: those of each way are [`stream`](super::stream)'s. Invariants: what is kept
//! is prepared for the GPU that is open now; a frame that is under way keeps its way, and the slot
//! if the GPU itself reaches that, until it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use resized_protocol::frame::{Extent, FrameSpec};
use resized_protocol::message::Filter;
use resized_protocol::shm::{Region, RingLayout, SlotMemory};

use super::Shared;
use super::gpu::Gpu;
use super::import::Import;
use super::program::Program;
use super::settings::Transfer;
use super::stream::{Failure, Prepared, UnderWay};
use crate::device::{Allowance, Band, DeviceError, Fault, Preparation, Resizer, Scratch};
use crate::lock;

/// Frames in a row by which each way to bring them is measured before one is kept, after as many
/// that fill caches. Those for which commands are recorded do not count.
const MEASURED: usize = 24;

/// A frame that is used where it lies must take less than this part of one that is copied: with
/// more frames under way than are measured copying gains, for the copy engine reads ahead and
/// leaves shaders to what is theirs.
const DIRECT_GAIN: (u64, u64) = (4, 5);

/// Geometries for which the faster way is remembered.
const MOST_MEASURED: usize = 1024;

/// What decides how long frames take: the extent is what is seen of the source.
pub(super) type Geometry = (FrameSpec, FrameSpec, Filter, Extent);

/// A GPU made ready for one stream.
pub(super) struct VulkanResizer {
    shared: Arc<Shared>,
    geometry: Geometry,
    program: Program,
    ring: RingLayout,
    region: Option<Arc<Region>>,
    allowance: Option<Arc<dyn Allowance>>,
    ways: Arc<Mutex<Ways>>,
    /// Frames that were not answered in time, and the slots that they reach.
    overdue: Mutex<Vec<(u32, UnderWay)>>,
    /// Bytes that were copied for the last frame.
    copied: AtomicU64,
}

/// The ways by which a stream's frames may reach its GPU: several only until the fastest one is known.
#[derive(Default)]
pub(super) struct Ways {
    prepared: Vec<Way>,
    /// There was room for all of them.
    whole: bool,
    frames: usize,
}

pub(super) struct Way {
    prepared: Arc<Prepared>,
    /// What each frame took by which it is measured, in nanoseconds, with as many others under way as
    /// there were.
    took: Vec<u64>,
}

impl Ways {
    /// What is prepared for another GPU than the one that is open now, if any is.
    pub(super) fn take_old(&mut self, now: Option<&Arc<Gpu>>) -> Vec<Way> {
        let is_old = |way: &Way| now.is_none_or(|now| !Arc::ptr_eq(way.prepared.gpu(), now));
        if self.prepared.first().is_some_and(is_old) {
            return std::mem::take(&mut self.prepared);
        }
        Vec::new()
    }
}

impl Way {
    fn is(&self, transfer: Transfer) -> bool {
        self.prepared.transfer() == transfer
    }
}

impl VulkanResizer {
    pub(super) fn new(
        shared: Arc<Shared>,
        geometry: Geometry,
        program: Program,
        ring: RingLayout,
    ) -> Self {
        let ways = Arc::default();
        shared.note(&ways);
        Self {
            shared,
            geometry,
            program,
            ring,
            region: None,
            allowance: None,
            ways,
            overdue: Mutex::default(),
            copied: AtomicU64::new(0),
        }
    }

    /// The way for the next frame, and whether it is measured; prepares it, if that GPU has
    /// not seen the stream yet.
    fn way(&self, gpu: &Arc<Gpu>) -> Result<(Arc<Prepared>, bool), Fault> {
        let mut ways = lock::wait(&self.ways);
        if ways.prepared.first().is_none_or(|way| !Arc::ptr_eq(way.prepared.gpu(), gpu)) {
            // First: there may be no room for both.
            ways.prepared.clear();
            *ways = self.prepare(gpu)?;
        }
        let (count, turn) = (ways.prepared.len(), ways.frames / MEASURED);
        ways.frames += 1;
        let way = &ways.prepared[turn % count];
        Ok((Arc::clone(&way.prepared), count > 1 && turn >= count))
    }

    fn prepare(&self, gpu: &Arc<Gpu>) -> Result<Ways, Fault> {
        let import = match (&self.region, self.shared.settings.transfer) {
            (Some(region), wanted)
                if wanted != Some(Transfer::Staged) && self.shared.staged.is_none() =>
            {
                let import = Import::new(gpu, region).inspect_err(|error| {
                    tracing::debug!(%error, "a ring is not imported: its frames are staged");
                });
                import.ok().map(Arc::new)
            }
            _ => None,
        };
        let known = lock::wait(&self.shared.measured).get(&self.geometry).copied();
        let transfers = match known {
            _ if import.is_none() => vec![Transfer::Staged],
            Some(known) if self.shared.settings.transfer.is_none() => vec![known],
            _ => self.shared.transfers(),
        };
        let way = |transfer: Transfer| {
            let import = import.clone().filter(|_| transfer != Transfer::Staged);
            let (program, ring) = (&self.program, &self.ring);
            let memory = Prepared::memory(program, ring, transfer);
            let take = |allowance: &Arc<dyn Allowance>| allowance.take(memory).ok_or(Fault::Memory);
            let charge = self.allowance.as_ref().map(take).transpose()?;
            let prepared = Prepared::new(gpu, program, ring, import, transfer, charge)?;
            Ok(Way { prepared: Arc::new(prepared), took: Vec::with_capacity(MEASURED) })
        };
        let was_learnt = import.is_some() && self.shared.settings.transfer.is_none();
        let mut prepared = Vec::new();
        for &transfer in &transfers {
            match way(transfer) {
                Ok(way) => prepared.push(way),
                // Where there is no room for all, some will do.
                Err(fault) if fault.is_of_stream() && !prepared.is_empty() => {}
                // What was the fastest has no room; nothing takes less than this.
                Err(Fault::Memory) if was_learnt && transfer != Transfer::Direct => {
                    prepared.push(way(Transfer::Direct)?);
                }
                Err(fault) => return Err(fault),
            }
        }
        let whole = prepared.len() == transfers.len();
        Ok(Ways { prepared, whole, frames: 0 })
    }

    /// Notes what a frame took that is measured, and keeps the fastest way once each has had its frames.
    /// While as many frames are under way, half the time for each is twice as many: so the median
    /// says what there is to gain whether the client waits for each frame or has many in flight.
    fn note(&self, prepared: &Arc<Prepared>, took: u64) {
        let mut ways = lock::wait(&self.ways);
        for way in &mut ways.prepared {
            if Arc::ptr_eq(&way.prepared, prepared) && way.took.len() < MEASURED {
                way.took.push(took);
            }
        }
        // Another stream may have learnt it.
        let known = lock::wait(&self.shared.measured).get(&self.geometry).copied();
        let known = known.filter(|&known| ways.prepared.iter().any(|way| way.is(known)));
        let unknown = ways.prepared.iter().any(|way| way.took.len() < MEASURED);
        if ways.prepared.len() < 2 || known.is_none() && unknown {
            return;
        }
        for way in &mut ways.prepared {
            way.took.sort_unstable();
        }
        ways.prepared.sort_by_key(|way| match known {
            Some(known) => u64::from(!way.is(known)),
            None if way.is(Transfer::Direct) => way.took[MEASURED / 2] * DIRECT_GAIN.1,
            None => way.took[MEASURED / 2] * DIRECT_GAIN.0,
        });
        let slower = ways.prepared.split_off(1);
        let (kept, whole) = (ways.prepared[0].prepared.transfer(), ways.whole);
        drop(ways);
        tracing::info!(device = self.shared.name, ?kept, geometry = ?self.geometry, "measured");
        // A frame that is still on a slower way keeps it until then.
        drop(slower);
        // The best of some is not the best of all.
        if !whole {
            return;
        }
        let mut measured = lock::wait(&self.shared.measured);
        // Clients choose geometries: those of old ones are measured again if they come again.
        if measured.len() >= MOST_MEASURED {
            measured.clear();
        }
        measured.insert(self.geometry, kept);
    }

    /// Bytes of a frame that are copied.
    fn copies(&self, transfer: Transfer) -> u64 {
        let (input, output) =
            (self.program.reads.pixel_bytes(), self.ring.output().packed_len() as u64);
        match transfer {
            Transfer::Direct => 0,
            Transfer::Copied => input,
            Transfer::BothWays => input + output,
            // By a core, and by the copy engine.
            Transfer::Staged => 2 * input + output,
        }
    }

    /// Gives whether commands had to be recorded first.
    fn try_resize(&self, slot: SlotMemory<'_>) -> Result<Preparation, Fault> {
        let gpu = self.shared.gpu()?;
        let outcome = self.shared.injected().map_err(Failure::Over).and_then(|()| {
            let (prepared, is_measured) = self.way(&gpu)?;
            let begun = Instant::now();
            let recorded = prepared.resize(slot)?;
            self.copied.store(self.copies(prepared.transfer()), Ordering::Relaxed);
            if is_measured && !recorded {
                self.note(&prepared, begun.elapsed().as_nanos() as u64);
            }
            Ok(if recorded { Preparation::Now } else { Preparation::Before })
        });
        outcome.map_err(|failure| {
            let fault = match failure {
                Failure::Over(fault) => fault,
                Failure::UnderWay(frame) => {
                    if frame.reaches_slot() {
                        lock::wait(&self.overdue).push((slot.slot(), frame));
                    } else {
                        self.shared.owe(frame);
                    }
                    Fault::TimedOut
                }
            };
            if !fault.is_of_stream() {
                self.shared.retire(&gpu);
            }
            fault
        })
    }
}

impl Resizer for VulkanResizer {
    fn allow(&mut self, allowance: Arc<dyn Allowance>) {
        self.allowance = Some(allowance);
    }

    fn attach(&mut self, region: &Arc<Region>) -> Result<(), DeviceError> {
        self.region = Some(Arc::clone(region));
        // Now, so that the first frame does not wait for it, and a stream that its memory has no
        // room for is none of its. One that is out of service prepares when it is back.
        let Ok(gpu) = self.shared.gpu() else { return Ok(()) };
        match self.prepare(&gpu) {
            Ok(ways) => {
                let mut held = lock::wait(&self.ways);
                *held = ways;
                // It may have been lost meanwhile, and other streams' let go.
                let now = self.shared.gpu().ok();
                let old = held.take_old(now.as_ref());
                drop(held);
                drop(old);
            }
            Err(fault) if fault.is_of_stream() => return Err(self.shared.failed(fault)),
            Err(_) => self.shared.retire(&gpu),
        }
        Ok(())
    }

    fn settle(&self, slot: u32) {
        let of_slot = {
            let mut overdue = lock::wait(&self.overdue);
            let all = std::mem::take(&mut *overdue);
            let (of_slot, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|&(of, _)| of == slot);
            *overdue = others;
            of_slot
        };
        // Waits for them, while other slots' may be settled too.
        drop(of_slot);
    }

    fn copied_bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    fn worth(&self) -> u32 {
        1
    }

    /// The whole frame with its first band.
    fn resize(
        &self,
        slot: SlotMemory<'_>,
        band: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        let start = slot.input().wrapping_sub(self.ring.input_offset(slot.slot()));
        let elsewhere = |region: &Arc<Region>| region.start().as_ptr().cast_const() != start;
        if *slot.layout() != self.ring || self.region.as_ref().is_some_and(elsewhere) {
            return Err(DeviceError::Layout);
        }
        if !band.is_first() {
            return Ok(Preparation::Before);
        }
        self.try_resize(slot).map_err(|fault| self.shared.failed(fault))
    }
}
