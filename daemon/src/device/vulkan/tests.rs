//! What only the inside of the device shows: what it holds of a GPU, and of what it is allowed.
//!
//! Every test opens a GPU of its own, and has all others wait meanwhile: the validation layer keeps
//! what it knows of all devices in one table that it locks nowhere (as of 1.3.239; issue 4391 of
//! KhronosGroup/Vulkan-ValidationLayers), and crashes where one thread opens or closes a device
//! while another uses one.

mod flights;
mod memory;
mod ways;

use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::Filter;
use resized_protocol::shm::SlotMemory;

use super::stream::Prepared;
use super::*;
use crate::device::cpu::{Cpu, Level};
use crate::device::{Allowance, Band, Charge, Memory, Scratch};
use crate::skip::skip;

/// Counts what is taken, up to a limit.
struct Purse {
    limit: u64,
    taken: Arc<AtomicU64>,
}

impl Purse {
    fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: Arc::default() })
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Allowance for Purse {
    fn take(&self, memory: Memory) -> Option<Charge> {
        struct Taken(u64, Arc<AtomicU64>);
        impl Drop for Taken {
            fn drop(&mut self) {
                self.1.fetch_sub(self.0, Ordering::Relaxed);
            }
        }
        let bytes = memory.device + memory.system;
        if self.taken() + bytes > self.limit {
            return None;
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Some(Box::new(Taken(bytes, Arc::clone(&self.taken))))
    }
}

/// A GPU, while nobody else has one. To be made before what is opened on it, so that it goes last.
struct Own {
    // First: it goes while nobody else has one.
    gpu: Vulkan,
    _alone: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Own {
    type Target = Vulkan;

    fn deref(&self) -> &Vulkan {
        &self.gpu
    }
}

fn open(settings: &Settings) -> Option<Own> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = lock::wait(&ALONE);
    let settings = Settings { validation: true, ..settings.clone() };
    let found = discover(&Wanted::All, &settings, None);
    let mut gpus = found.into_iter().filter_map(|found| found.outcome.ok()).collect::<Vec<_>>();
    match gpus[..] {
        [] => skip("vulkan", "there is no GPU"),
        _ if !is_validating() => skip("validation", "there is no validation layer"),
        _ => {}
    }
    // One that imports rings, if there is one.
    gpus.sort_by_key(|gpu| gpu.shared.staged.is_some());
    gpus.into_iter().next().map(|gpu| Own { gpu, _alone: alone })
}

/// The same of one that imports rings.
fn open_importing(settings: &Settings) -> Option<Own> {
    let gpu = open(settings)?;
    let imports = gpu.shared.staged.is_none();
    if !imports {
        skip("import", "no GPU imports rings");
    }
    imports.then_some(gpu)
}

/// Two slots of a stream; of the second an input frame that is all of that.
fn ring(n: usize) -> (StreamSpec, RingLayout, Arc<Region>) {
    let format = PixelFormat::EIGHT_BIT[n % 7];
    let (from, to) = [((64, 36), (24, 14)), ((33, 17), (21, 40)), ((80, 60), (80, 60))][n % 3];
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    let filter = Filter::ALL[n % Filter::ALL.len()];
    let spec = StreamSpec { filter, slots: 2, ..StreamSpec::new(source, Extent::new(to.0, to.1)) };
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _) = Region::create(ring.len()).unwrap();
    let slot = SlotMemory::new(&region, &ring, 1).unwrap();
    for i in 0..ring.input().len() {
        // SAFETY: within the input frame of a slot that nobody else knows of.
        unsafe { slot.input().cast_mut().add(i).write((i * n % 251) as u8) };
    }
    (spec, ring, Arc::new(region))
}

fn resized(resizer: &dyn Resizer, ring: &RingLayout, region: &Region) -> Vec<u8> {
    let slot = SlotMemory::new(region, ring, 1).unwrap();
    resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
    // SAFETY: within the output frame; the device is done with it.
    (0..ring.output().len()).map(|i| unsafe { slot.output().add(i).read() }).collect()
}
