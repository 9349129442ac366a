//! Owns the devices made of GPUs: which of them there are and why each is used or not, and what is
//! prepared for a stream on one.
//!
//! Knows specs and slots. From the outside in: `discovery` finds the GPUs, `probe` has each tested in
//! a process of its own, whose part is `self_test`, `gpu` opens it; `program` says which shaders do the
//! work of a stream's plan, `resizer` which way its frames take to the GPU, `stream` keeps the
//! buffers and commands for that way, `import` makes the ring one of them, `submit` hands commands
//! to the GPU, `turn` has a lane back on a core in time. vulkano and ash are known here alone.
//!
//! The shaders do what the oracle of the cores does, pass by pass, with the same tables (see
//! [`cpu`](super::cpu)): the same bits, but for what is mixed in single precision, which is within one.
//!
//! Invariants: nothing that a client writes is an address; a GPU that fails costs its frame nothing
//! but time.
#![allow(unsafe_code)]

mod discovery;
mod gpu;
mod import;
pub mod probe;
mod program;
mod rates;
mod resizer;
pub mod self_test;
mod settings;
mod shader;
mod stream;
mod submit;
mod turn;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};

use resized_protocol::frame::Extent;
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{Region, RingLayout};
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::{Validated, VulkanError};

use self::gpu::Gpu;
use self::import::Import;
use self::program::Program;
use self::resizer::{Geometry, VulkanResizer, Ways};
use self::stream::UnderWay;
use super::{Device, DeviceError, Fault, Resizer, plan};
use crate::lock;

pub use discovery::{Found, Unused, discover, is_validating, validation_messages};
pub use rates::CopyRates;
pub use settings::{Settings, Transfer, UnknownTransfer, Wanted};

/// Frames under way at once on a GPU: one is brought, one computed, one taken back, and one is with
/// the lane that says that it is done.
const LANES: usize = 4;

/// Bytes of the ring that is imported to see whether one can be.
const SAMPLE: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

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
    /// Of each stream.
    ways: Mutex<Vec<Weak<Mutex<Ways>>>>,
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
    /// Frames that they owe, and nobody waits for.
    overdue: Vec<UnderWay>,
}

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
            state: Mutex::new(State { gpu: Some(gpu), ..State::default() }),
            ways: Mutex::default(),
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

/// Why rings are not imported: some drivers have the extension and yet refuse files' pages, which
/// is told only by trying.
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
        lock::wait(&self.state).gpu.clone().ok_or(Fault::Lost)
    }

    /// Takes a GPU that failed out of service.
    fn retire(&self, gpu: &Arc<Gpu>) {
        let mut state = lock::wait(&self.state);
        if let Some(failed) = state.gpu.take_if(|now| Arc::ptr_eq(now, gpu)) {
            state.failed.push(failed);
        }
    }

    /// Keeps what a frame uses until it is over, though nobody waits for that.
    fn owe(&self, frame: UnderWay) {
        lock::wait(&self.state).overdue.push(frame);
    }

    /// Lets go of what such frames used that are over.
    fn let_go_of_overdue(&self) {
        let overdue = std::mem::take(&mut lock::wait(&self.state).overdue);
        let (over, overdue): (Vec<_>, Vec<_>) = overdue.into_iter().partition(UnderWay::is_over);
        lock::wait(&self.state).overdue.extend(overdue);
        drop(over);
    }

    /// Keeps in mind what a new stream will have prepared.
    fn note(&self, ways: &Arc<Mutex<Ways>>) {
        let mut noted = lock::wait(&self.ways);
        noted.retain(|ways| ways.strong_count() > 0);
        noted.push(Arc::downgrade(ways));
    }

    /// Has streams let go of what they prepared for GPUs that failed: one whose client submits nothing
    /// would keep them open. Who is at it is not waited for: a frame's lane sees for itself.
    fn let_go(&self) {
        let now = lock::wait(&self.state).gpu.clone();
        let noted = lock::wait(&self.ways).clone();
        // No longer than it takes: a stream may end meanwhile.
        for ways in noted {
            let Some(ways) = ways.upgrade() else { continue };
            let old = match ways.try_lock() {
                Ok(mut ways) => ways.take_old(now.as_ref()),
                Err(TryLockError::Poisoned(poisoned)) => {
                    poisoned.into_inner().take_old(now.as_ref())
                }
                Err(TryLockError::WouldBlock) => continue,
            };
            // The driver may take its time.
            drop(old);
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

    /// The ways by which frames may reach it where their ring is imported: of several the fastest is kept.
    fn transfers(&self) -> Vec<Transfer> {
        match self.settings.transfer {
            Some(transfer) => vec![transfer],
            None if self.is_discrete() => {
                vec![Transfer::Direct, Transfer::Copied, Transfer::BothWays]
            }
            None => vec![Transfer::Direct],
        }
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

    fn enter(&self) {
        turn::take_short_ones();
    }

    fn leave(&self) {
        turn::take_usual_ones();
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
        let geometry = (spec.source, spec.destination, spec.filter, seen);
        Ok(Box::new(VulkanResizer::new(Arc::clone(shared), geometry, program, ring.clone())))
    }

    fn memory(&self) -> Option<u64> {
        Some(gpu::budget(&self.shared.physical))
    }

    /// Tables and commands of a stream take milliseconds: a crop for a single frame is the cores' work.
    fn crops(&self) -> bool {
        false
    }

    /// Not while it owes an answer: one that does not get on would hang again. Drivers may hang
    /// here as well, so nobody is kept waiting by a lock.
    fn revive(&self) -> Result<(), DeviceError> {
        let shared = &self.shared;
        shared.let_go();
        shared.let_go_of_overdue();
        let failed = std::mem::take(&mut lock::wait(&shared.state).failed);
        let (owing, over): (Vec<_>, Vec<_>) = failed.into_iter().partition(|gpu| gpu.owes());
        drop(over);
        if !owing.is_empty() {
            lock::wait(&shared.state).failed.extend(owing);
            return Err(shared.failed(Fault::TimedOut));
        }
        if lock::wait(&shared.state).gpu.is_none() {
            let gpu = Gpu::open(&shared.physical, &shared.settings);
            lock::wait(&shared.state).gpu = Some(gpu.map_err(|fault| shared.failed(fault))?);
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

#[cfg(test)]
mod tests;
