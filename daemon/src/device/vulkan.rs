//! Owns the devices made of GPUs: which of them there are and why each is used or not, and what is prepared
//! for a stream on one.
//!
//! Knows specs and slots. From the outside in: `survey` finds the GPUs, `probe` has each tried in a process of its
//! own, whose part is `trial`, `gpu` opens it; `program` says which shaders do the work of a stream's plan, `stream` keeps the
//! buffers and commands for it, `import` makes the ring one of them, `submit` hands commands to the GPU.
//! vulkano and ash are known here alone.
//!
//! The shaders do what the oracle of the cores does, pass by pass, with the same tables (see
//! [`cpu`](super::cpu)): the same bits, but for what is mixed in single precision, which is within one.
//!
//! Invariants: nothing that a client writes is an address; a GPU that fails costs its frame nothing but time.
#![allow(unsafe_code)]

mod gpu;
mod import;
pub mod probe;
mod program;
mod rates;
mod shader;
mod stream;
mod submit;
mod survey;
pub mod trial;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, FrameSpec};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::{Validated, VulkanError};

use self::gpu::Gpu;
use self::import::Import;
use self::program::Program;
use self::stream::{Failure, Prepared, UnderWay};
use super::{Allowance, Band, Device, DeviceError, Fault, Resizer, Scratch, plan};

pub use rates::CopyRates;
pub use survey::{Found, Unused, Wanted, is_validating, survey, validation_messages};

/// Environment variable that says how frames reach a GPU: `direct`, `copied`, `both-ways` or `staged`. Anything
/// else leaves it to the device.
pub const TRANSFER_VARIABLE: &str = "RESIZED_VULKAN_TRANSFER";

/// Environment variable that turns the validation layer on, if it is there, synchronization included: its
/// messages go to the log.
pub const VALIDATION_VARIABLE: &str = "RESIZED_VULKAN_VALIDATION";

/// Environment variable for tests: every so many frames a GPU reports that it was lost.
pub const FAULT_VARIABLE: &str = "RESIZED_VULKAN_FAULT";

/// Frames under way at once on a GPU: one is brought, one computed, one taken back, and one is with the lane that
/// says that it is done.
const LANES: usize = 4;

/// Frames in a row by which each way to bring them is measured before one is kept, after as many that fill caches.
/// Those for which commands are recorded do not count.
const TRIAL: usize = 24;

/// A frame that is used where it lies must take less than this part of one that is copied: with more frames under way
/// than in the trial copying gains, for the copy engine reads ahead and leaves shaders to what is theirs.
const DIRECT_GAIN: (u64, u64) = (4, 5);

/// Bytes of the ring that is imported to see whether one can be.
const SAMPLE: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

/// Geometries for which the faster way is remembered.
const MOST_MEASURED: usize = 1024;

/// How frames reach a GPU, and results the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// Shaders read and write the ring itself.
    Direct,
    /// The ring is imported. The copy engine brings a frame to the GPU's own memory, each byte once; shaders
    /// write the result into the ring, each byte once too.
    Copied,
    /// As [`Copied`](Self::Copied), but shaders write the result to the GPU's own memory, and the copy engine brings
    /// it back.
    BothWays,
    /// The ring can't be imported: a core copies frames to memory that both reach, and results back.
    Staged,
}

/// How GPUs are used, beside which.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How frames reach them; measured, where that may differ, if not given.
    pub transfer: Option<Transfer>,
    /// Have the validation layer look on.
    pub validation: bool,
    /// For tests: submit copies apart from shaders, as where the copy engine has a queue of its own.
    pub copies_apart: bool,
    /// For tests: how long a frame may take before it is taken for lost.
    pub patience: Option<Duration>,
    /// For tests: measure the ways that frames may reach it, as on a GPU beyond a bus.
    pub measure: bool,
    /// For tests: after so many frames it reports this, and again after as many more.
    pub fault_every: Option<(Fault, u64)>,
}

impl Settings {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let transfer = match std::env::var(TRANSFER_VARIABLE).as_deref() {
            Ok("direct") => Some(Transfer::Direct),
            Ok("copied") => Some(Transfer::Copied),
            Ok("both-ways") => Some(Transfer::BothWays),
            Ok("staged") => Some(Transfer::Staged),
            _ => None,
        };
        let fault = std::env::var(FAULT_VARIABLE).ok().and_then(|every| every.parse().ok());
        Self {
            transfer,
            validation: std::env::var_os(VALIDATION_VARIABLE).is_some_and(|value| value != "0"),
            fault_every: fault.filter(|&every| every > 0).map(|every| (Fault::Lost, every)),
            ..Self::default()
        }
    }
}

/// A GPU.
pub struct Vulkan {
    shared: Arc<Shared>,
}

/// What a GPU's streams share.
struct Shared {
    name: String,
    physical: Arc<PhysicalDevice>,
    settings: Settings,
    /// Why no ring is imported.
    staged: Option<String>,
    state: Mutex<State>,
    /// The fastest way to bring frames of a geometry, where all have been measured.
    measured: Mutex<HashMap<Geometry, Transfer>>,
    frames: AtomicU64,
}

#[derive(Default)]
struct State {
    /// None while it is out of service.
    gpu: Option<Arc<Gpu>>,
    /// Those that failed and may still owe an answer.
    failed: Vec<Arc<Gpu>>,
}

/// What decides how long frames take: the extent is what is seen of the source.
type Geometry = (FrameSpec, FrameSpec, Filter, Extent);

impl Vulkan {
    fn open(
        name: String,
        physical: Arc<PhysicalDevice>,
        settings: &Settings,
    ) -> Result<Self, Fault> {
        let gpu = Gpu::open(&physical, settings)?;
        let shared = Shared {
            name,
            physical,
            settings: settings.clone(),
            staged: why_staged(&gpu, settings),
            state: Mutex::new(State { gpu: Some(gpu), failed: Vec::new() }),
            measured: Mutex::default(),
            frames: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Its driver's name and version.
    pub fn driver(&self) -> String {
        let properties = self.shared.physical.properties();
        let name = properties.driver_name.as_deref().unwrap_or("a driver without a name");
        format!("{name} {}", properties.driver_info.as_deref().unwrap_or(""))
    }

    /// How frames reach it, in words.
    pub fn transfer(&self) -> String {
        let shared = &*self.shared;
        match (&shared.staged, shared.settings.transfer) {
            (Some(reason), _) => format!("frames are staged: {reason}"),
            (None, Some(Transfer::Copied)) => "frames are copied to its own memory".into(),
            (None, Some(Transfer::BothWays)) => {
                "frames are copied to its own memory, and results back".into()
            }
            (None, None) if shared.is_discrete() => {
                "frames are used where they lie, or copied there, or there and back, as is fastest"
                    .into()
            }
            (None, _) => "frames are used where they lie".into(),
        }
    }
}

/// Why rings are not imported: some drivers have the extension and yet refuse files' pages, which is told only by
/// trying.
fn why_staged(gpu: &Gpu, settings: &Settings) -> Option<String> {
    if settings.transfer == Some(Transfer::Staged) {
        return Some("as was asked for".into());
    }
    let (region, _) = Region::create(SAMPLE).ok()?;
    Import::new(gpu, &Arc::new(region)).err().map(|error| error.to_string())
}

impl std::fmt::Debug for Vulkan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Vulkan").field(&self.shared.name).finish()
    }
}

impl Shared {
    /// The open GPU.
    fn gpu(&self) -> Result<Arc<Gpu>, Fault> {
        lock(&self.state).gpu.clone().ok_or(Fault::Lost)
    }

    /// Takes a GPU that failed out of service.
    fn retire(&self, gpu: &Arc<Gpu>) {
        let mut state = lock(&self.state);
        if let Some(failed) = state.gpu.take_if(|now| Arc::ptr_eq(now, gpu)) {
            state.failed.push(failed);
        }
    }

    /// Tests' own faults.
    fn injected(&self) -> Result<(), Fault> {
        let frame = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        match self.settings.fault_every {
            Some((fault, every)) if frame.is_multiple_of(every) => Err(fault),
            _ => Ok(()),
        }
    }

    /// Whether its memory is beyond a bus, so that it may pay to copy frames there.
    fn is_discrete(&self) -> bool {
        self.settings.measure
            || self.physical.properties().device_type == PhysicalDeviceType::DiscreteGpu
    }

    fn failed(&self, fault: Fault) -> DeviceError {
        DeviceError::Failed { device: self.name.clone(), fault }
    }
}

impl Device for Vulkan {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn lanes(&self) -> usize {
        LANES
    }

    fn open(&self, spec: &StreamSpec, ring: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        if RingLayout::new(spec).as_ref() != Ok(ring) {
            return Err(DeviceError::Layout);
        }
        let shared = &self.shared;
        let unsupported = |reason| DeviceError::Unsupported { device: shared.name.clone(), reason };
        if !plan::is_aligned(ring.input()) {
            return Err(unsupported("a tensor is no source"));
        }
        let placement =
            spec.placement().map_err(|_| unsupported("the crop is not within the source"))?;
        let program = Program::new(spec, &placement, ring)
            .ok_or_else(|| unsupported("its frames are too large"))?;
        let most = u64::from(shared.physical.properties().max_storage_buffer_range);
        let lens = [
            ring.input().len() as u64,
            ring.output().len() as u64,
            4 * program.lines,
            4 * program.tables.len() as u64,
        ];
        if lens.iter().any(|len| len.next_multiple_of(4) > most) {
            return Err(unsupported("its frames are too large"));
        }
        let seen = [placement.source.width, placement.source.height].map(|side| side.ceil() as u32);
        let seen = Extent::new(seen[0], seen[1]);
        Ok(Box::new(VulkanResizer {
            shared: Arc::clone(shared),
            geometry: (spec.source, spec.destination, spec.filter, seen),
            allowance: None,
            program,
            ring: ring.clone(),
            region: None,
            ways: Mutex::default(),
            overdue: Mutex::default(),
            copied: AtomicU64::new(0),
        }))
    }

    fn memory(&self) -> Option<u64> {
        Some(gpu::budget(&self.shared.physical))
    }

    /// Tables and commands of a stream take milliseconds: a crop for a single frame is the cores' work.
    fn crops(&self) -> bool {
        false
    }

    /// Not while it owes an answer: one that does not get on would hang again. Drivers may hang here as well,
    /// so nobody is kept waiting by a lock.
    fn revive(&self) -> Result<(), DeviceError> {
        let shared = &self.shared;
        let failed = std::mem::take(&mut lock(&shared.state).failed);
        let (overdue, over): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|gpu| gpu.is_overdue());
        drop(over);
        if !overdue.is_empty() {
            lock(&shared.state).failed.extend(overdue);
            return Err(shared.failed(Fault::TimedOut));
        }
        if lock(&shared.state).gpu.is_none() {
            let gpu = Gpu::open(&shared.physical, &shared.settings);
            lock(&shared.state).gpu = Some(gpu.map_err(|fault| shared.failed(fault))?);
        }
        Ok(())
    }
}

/// A GPU made ready for one stream.
struct VulkanResizer {
    shared: Arc<Shared>,
    geometry: Geometry,
    program: Program,
    ring: RingLayout,
    region: Option<Arc<Region>>,
    allowance: Option<Arc<dyn Allowance>>,
    ways: Mutex<Ways>,
    /// Frames that were not answered in time, and their slots.
    overdue: Mutex<Vec<(u32, UnderWay)>>,
    /// Bytes that were copied for the last frame.
    copied: AtomicU64,
}

/// The ways by which a stream's frames may reach its GPU: several only until the fastest one is known.
#[derive(Default)]
struct Ways {
    prepared: Vec<Way>,
    /// There was room for all of them.
    whole: bool,
    frames: usize,
}

struct Way {
    prepared: Arc<Prepared>,
    /// What each frame of its trial took, in nanoseconds, with as many others under way as there were.
    took: Vec<u64>,
}

impl Way {
    fn is(&self, transfer: Transfer) -> bool {
        self.prepared.transfer() == transfer
    }
}

impl VulkanResizer {
    /// The way for the next frame, and whether it is part of a trial; prepares it, if that GPU has not seen the
    /// stream yet.
    fn way(&self, gpu: &Arc<Gpu>) -> Result<(Arc<Prepared>, bool), Fault> {
        let mut ways = lock(&self.ways);
        if ways.prepared.first().is_none_or(|way| !Arc::ptr_eq(way.prepared.gpu(), gpu)) {
            // First: there may be no room for both.
            ways.prepared.clear();
            *ways = self.prepare(gpu)?;
        }
        let (count, turn) = (ways.prepared.len(), ways.frames / TRIAL);
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
        let known = lock(&self.shared.measured).get(&self.geometry).copied();
        let transfers: &[Transfer] = match self.shared.settings.transfer.or(known) {
            _ if import.is_none() => &[Transfer::Staged],
            Some(Transfer::Direct) => &[Transfer::Direct],
            Some(Transfer::Copied) => &[Transfer::Copied],
            Some(Transfer::BothWays) => &[Transfer::BothWays],
            Some(Transfer::Staged) => &[Transfer::Staged],
            None if self.shared.is_discrete() => {
                &[Transfer::Direct, Transfer::Copied, Transfer::BothWays]
            }
            None => &[Transfer::Direct],
        };
        let way = |transfer: Transfer| {
            let import = import.clone().filter(|_| transfer != Transfer::Staged);
            let (program, ring) = (&self.program, &self.ring);
            let bytes = Prepared::bytes(program, ring, transfer);
            let take = |allowance: &Arc<dyn Allowance>| allowance.take(bytes).ok_or(Fault::Memory);
            let charge = self.allowance.as_ref().map(take).transpose()?;
            let prepared = Prepared::new(gpu, program, ring, import, transfer, charge)?;
            Ok(Way { prepared: Arc::new(prepared), took: Vec::with_capacity(TRIAL) })
        };
        let was_learnt = import.is_some() && self.shared.settings.transfer.is_none();
        let mut prepared = Vec::new();
        for &transfer in transfers {
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

    /// Notes what a frame of a trial took, and keeps the fastest way once each has had its trial. While as many
    /// frames are under way, half the time for each is twice as many: so the median says what there is to gain
    /// whether the client waits for each frame or has many in flight.
    fn note(&self, prepared: &Arc<Prepared>, took: u64) {
        let mut ways = lock(&self.ways);
        for way in &mut ways.prepared {
            if Arc::ptr_eq(&way.prepared, prepared) && way.took.len() < TRIAL {
                way.took.push(took);
            }
        }
        // Another stream may have learnt it.
        let known = lock(&self.shared.measured).get(&self.geometry).copied();
        let known = known.filter(|&known| ways.prepared.iter().any(|way| way.is(known)));
        let unknown = ways.prepared.iter().any(|way| way.took.len() < TRIAL);
        if ways.prepared.len() < 2 || known.is_none() && unknown {
            return;
        }
        for way in &mut ways.prepared {
            way.took.sort_unstable();
        }
        ways.prepared.sort_by_key(|way| match known {
            Some(known) => u64::from(!way.is(known)),
            None if way.is(Transfer::Direct) => way.took[TRIAL / 2] * DIRECT_GAIN.1,
            None => way.took[TRIAL / 2] * DIRECT_GAIN.0,
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
        let mut measured = lock(&self.shared.measured);
        // Clients choose geometries: those of old ones are measured again if they come again.
        if measured.len() >= MOST_MEASURED {
            measured.clear();
        }
        measured.insert(self.geometry, kept);
    }

    /// Bytes of a frame that are copied.
    fn copies(&self, transfer: Transfer) -> u64 {
        let (input, output) = (self.ring.input().packed_len(), self.ring.output().packed_len());
        match transfer {
            Transfer::Direct => 0,
            Transfer::Copied => input as u64,
            Transfer::BothWays => (input + output) as u64,
            // By a core, and by the copy engine.
            Transfer::Staged => (2 * input + output) as u64,
        }
    }

    /// Gives whether commands had to be recorded first.
    fn try_resize(&self, slot: SlotMemory<'_>) -> Result<bool, Fault> {
        let gpu = self.shared.gpu()?;
        let outcome = self.shared.injected().map_err(Failure::Over).and_then(|()| {
            let (prepared, on_trial) = self.way(&gpu)?;
            let begun = Instant::now();
            let recorded = prepared.resize(slot)?;
            self.copied.store(self.copies(prepared.transfer()), Ordering::Relaxed);
            if on_trial && !recorded {
                self.note(&prepared, begun.elapsed().as_nanos() as u64);
            }
            Ok(recorded)
        });
        outcome.map_err(|failure| {
            let fault = match failure {
                Failure::Over(fault) => fault,
                Failure::UnderWay(frame) => {
                    lock(&self.overdue).push((slot.slot(), frame));
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
        // Now, so that the first frame does not wait for it, and a stream that its memory has no room for is
        // none of its. One that is out of service prepares when it is back.
        let Ok(gpu) = self.shared.gpu() else { return Ok(()) };
        match self.prepare(&gpu) {
            Ok(ways) => *lock(&self.ways) = ways,
            Err(fault) if fault.is_of_stream() => return Err(self.shared.failed(fault)),
            Err(_) => self.shared.retire(&gpu),
        }
        Ok(())
    }

    fn settle(&self, slot: u32) {
        let of_slot = {
            let mut overdue = lock(&self.overdue);
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
        scratch: &mut Scratch,
    ) -> Result<(), DeviceError> {
        let start = slot.input().wrapping_sub(self.ring.input_offset(slot.slot()));
        let elsewhere = |region: &Arc<Region>| region.start().as_ptr().cast_const() != start;
        if *slot.layout() != self.ring || self.region.as_ref().is_some_and(elsewhere) {
            return Err(DeviceError::Layout);
        }
        if !band.is_first() {
            return Ok(());
        }
        if self.try_resize(slot).map_err(|fault| self.shared.failed(fault))? {
            scratch.note_preparation();
        }
        Ok(())
    }
}

/// The driver's error. What vulkano refuses by itself would be a fault of ours.
fn plain(error: Validated<VulkanError>) -> VulkanError {
    match error {
        Validated::Error(error) => error,
        Validated::ValidationError(error) => {
            tracing::error!(%error, "Vulkan is used wrongly");
            VulkanError::ValidationFailed
        }
    }
}

fn fault(error: &Validated<VulkanError>) -> Fault {
    match error {
        Validated::Error(VulkanError::DeviceLost) => Fault::Lost,
        Validated::Error(VulkanError::Timeout) => Fault::TimedOut,
        Validated::Error(
            VulkanError::OutOfDeviceMemory
            | VulkanError::OutOfHostMemory
            | VulkanError::TooManyObjects,
        ) => Fault::Memory,
        error => {
            tracing::error!(%error, "Vulkan");
            Fault::Driver
        }
    }
}

/// As [`fault`], where the driver was asked for what a stream needs.
fn of_stream(error: &Validated<VulkanError>) -> Fault {
    match fault(error) {
        Fault::Driver => Fault::Refused,
        fault => fault,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
