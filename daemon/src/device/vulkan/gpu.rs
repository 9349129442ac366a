//! Owns a GPU that is open for work: the logical device, its queues and lanes, its memory, its
//! pipelines.
//!
//! Knows no streams. Invariant: lives as long as anything that was made with it.

use std::ops::Deref;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use vulkano::buffer::{AllocateBufferError, Buffer, BufferCreateInfo, BufferUsage, Subbuffer};
use vulkano::command_buffer::allocator::StandardCommandBufferAllocator;
use vulkano::descriptor_set::allocator::StandardDescriptorSetAllocator;
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::device::{
    Device, DeviceCreateInfo, DeviceExtensions, DeviceFeatures, QueueCreateInfo, QueueFlags,
};
use vulkano::memory::allocator::{
    AllocationCreateInfo, GenericMemoryAllocatorCreateInfo, MemoryAllocatorError, MemoryTypeFilter,
    StandardMemoryAllocator,
};
use vulkano::memory::{MemoryHeapFlags, MemoryPropertyFlags};
use vulkano::sync::Sharing;
use vulkano::{Validated, VulkanError};

use super::shader::Pipelines;
use super::submit::{Submitter, Timeline};
use super::{LANES, Settings, fault, of_stream};
use crate::device::Fault;
use crate::lock;

/// After this a frame is taken for lost: far longer than the largest takes on the slowest driver.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are taken of a device's memory at once.
const BLOCK: u64 = 32 << 20;

/// Shaders use it, and it is copied from and to.
pub(super) const BOTH_WAYS: BufferUsage =
    BufferUsage::STORAGE_BUFFER.union(BufferUsage::TRANSFER_SRC).union(BufferUsage::TRANSFER_DST);

/// A GPU that is open.
pub(super) struct Gpu {
    pub(super) device: Arc<Device>,
    pub(super) lanes: Vec<Lane>,
    /// One for each of them. After the queues, which are waited for as they go: a driver may touch
    /// a timeline for some time after it has said how far it is.
    timelines: Vec<Timeline>,
    /// Those that no frame is in.
    free: Mutex<Vec<usize>>,
    /// Wakes who waits for one.
    freed: Condvar,
    patience: Duration,
    pub(super) pipelines: Pipelines,
    pub(super) commands: Arc<StandardCommandBufferAllocator>,
    pub(super) sets: Arc<StandardDescriptorSetAllocator>,
    memory: Arc<StandardMemoryAllocator>,
    /// Rings that are imported.
    pub(super) imports: Arc<AtomicU32>,
}

/// What brings one frame at a time through a GPU.
pub(super) struct Lane {
    /// Where shaders run.
    pub(super) computing: Arc<Submitter>,
    /// A queue of a copy engine, where those are apart: copies go on beside shaders.
    pub(super) copying: Option<Arc<Submitter>>,
    /// Where there are several: one that brings frames and one that takes results back, so that
    /// neither waits for the other.
    pub(super) there_and_back: Option<[Arc<Submitter>; 2]>,
}

/// A lane that a frame is in.
pub(super) struct Taken {
    gpu: Arc<Gpu>,
    number: usize,
}

impl Taken {
    pub(super) const fn number(&self) -> usize {
        self.number
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.gpu.timelines[self.number]
    }
}

impl Deref for Taken {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        &self.gpu.lanes[self.number]
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock::wait(&self.gpu.free).push(self.number);
        self.gpu.freed.notify_one();
    }
}

impl Gpu {
    pub(super) fn open(
        physical: &Arc<PhysicalDevice>,
        settings: &Settings,
    ) -> Result<Arc<Self>, Fault> {
        Self::try_open(physical, settings).map_err(|error| {
            tracing::warn!(%error, "a GPU can't be opened");
            fault(&error)
        })
    }

    fn try_open(
        physical: &Arc<PhysicalDevice>,
        settings: &Settings,
    ) -> Result<Arc<Self>, Validated<VulkanError>> {
        let family = queue_family(physical).ok_or(VulkanError::InitializationFailed)?;
        let families = [Some(family), copying_family(physical)].into_iter().flatten();
        let queue = |queue_family_index: u32| {
            let there = physical.queue_family_properties()[queue_family_index as usize].queue_count;
            // A second queue for shaders made nothing faster, and costs lanes more than being
            // served by one call.
            let most = if queue_family_index == family { 1 } else { LANES };
            let queues = vec![0.5; most.min(there as usize)];
            QueueCreateInfo { queue_family_index, queues, ..Default::default() }
        };
        let supported = physical.supported_extensions();
        let info = DeviceCreateInfo {
            queue_create_infos: families.map(queue).collect(),
            enabled_extensions: DeviceExtensions {
                ext_external_memory_host: supported.ext_external_memory_host
                    && !settings.imports_nothing,
                ..DeviceExtensions::empty()
            },
            enabled_features: features(),
            ..Default::default()
        };
        let (device, queues) = Device::new(Arc::clone(physical), info)?;
        let patience = settings.patience.unwrap_or(PATIENCE);
        let submitters = queues.map(|queue| Arc::new(Submitter::new(queue)));
        let (computing, copying): (Vec<_>, Vec<_>) =
            submitters.partition(|submitter| submitter.family() == family);
        let of = |submitters: &[Arc<Submitter>], lane: usize| {
            submitters.get(lane % submitters.len().max(1)).cloned()
        };
        let lane = |lane: usize| -> Result<Lane, Validated<VulkanError>> {
            let computing = of(&computing, lane).ok_or(VulkanError::InitializationFailed)?;
            let apart = || settings.copies_apart.then(|| Arc::new(computing.another()));
            let there_and_back = match &copying[..] {
                [there, .., back] => Some([there, back].map(Arc::clone)),
                _ => apart().zip(apart()).map(|(there, back)| [there, back]),
            };
            let copying = of(&copying, lane).or_else(apart);
            Ok(Lane { computing, copying, there_and_back })
        };
        let lanes = (0..LANES).map(lane).collect::<Result<_, _>>()?;
        let timelines = (0..LANES).map(|_| Timeline::new(&device, patience));
        let timelines = timelines.collect::<Result<_, _>>()?;
        let blocks = vec![BLOCK; physical.memory_properties().memory_types.len()];
        let memory =
            GenericMemoryAllocatorCreateInfo { block_sizes: &blocks, ..Default::default() };
        let owned = || Arc::clone(&device);
        Ok(Arc::new(Self {
            lanes,
            timelines,
            free: Mutex::new((0..LANES).collect()),
            freed: Condvar::new(),
            patience,
            pipelines: Pipelines::new(&device)?,
            commands: Arc::new(StandardCommandBufferAllocator::new(owned(), Default::default())),
            sets: Arc::new(StandardDescriptorSetAllocator::new(owned(), Default::default())),
            memory: Arc::new(StandardMemoryAllocator::new(owned(), memory)),
            imports: Arc::default(),
            device,
        }))
    }

    /// A lane for a frame. There is one for each of those who come from the scheduler; others may
    /// have to wait.
    pub(super) fn take_lane(self: &Arc<Self>) -> Result<Taken, Fault> {
        let free = lock::wait(&self.free);
        let waited = self.freed.wait_timeout_while(free, self.patience, |free| free.is_empty());
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let number = free.pop().ok_or(Fault::TimedOut)?;
        Ok(Taken { gpu: Arc::clone(self), number })
    }

    /// Whether it owes an answer: a frame is in a lane, whether somebody still has patience for it
    /// or not.
    pub(super) fn owes(&self) -> bool {
        lock::wait(&self.free).len() < self.lanes.len()
    }

    /// Memory of the device's own, of `elements` of 32 bits, at least one. Where that is spent, the
    /// system's, beyond a bus, would be no help.
    pub(super) fn device_buffer(&self, elements: u64) -> Result<Subbuffer<[u32]>, Fault> {
        let kind = MemoryTypeFilter {
            required_flags: MemoryPropertyFlags::DEVICE_LOCAL,
            ..MemoryTypeFilter::default()
        };
        self.buffer(elements, BOTH_WAYS, kind)
    }

    /// Memory that both reach, of the system's, cached.
    pub(super) fn host_buffer(&self, elements: u64) -> Result<Subbuffer<[u32]>, Fault> {
        // Coherent, which there always is: nothing to flush.
        let kind = MemoryTypeFilter {
            required_flags: MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::HOST_COHERENT,
            preferred_flags: MemoryPropertyFlags::HOST_CACHED,
            not_preferred_flags: MemoryPropertyFlags::DEVICE_LOCAL
                | MemoryPropertyFlags::DEVICE_UNCACHED,
        };
        self.buffer(elements, BOTH_WAYS, kind)
    }

    /// For both queues, if they are of different families: nothing is handed over then.
    pub(super) fn shared(&self, info: BufferCreateInfo) -> BufferCreateInfo {
        if let Some(Lane { computing, copying: Some(copying), .. }) = self.lanes.first()
            && copying.family() != computing.family()
        {
            let families = [computing.family(), copying.family()].into_iter().collect();
            return BufferCreateInfo { sharing: Sharing::Concurrent(families), ..info };
        }
        info
    }

    fn buffer(
        &self,
        elements: u64,
        usage: BufferUsage,
        memory_type_filter: MemoryTypeFilter,
    ) -> Result<Subbuffer<[u32]>, Fault> {
        let info = self.shared(BufferCreateInfo { usage, ..Default::default() });
        let kind = AllocationCreateInfo { memory_type_filter, ..Default::default() };
        let memory = Arc::clone(&self.memory);
        let made = Buffer::new_slice(memory, info, kind, elements.max(1));
        made.map_err(|error| not_allocated(&error))
    }

    /// A buffer with content that no frame changes.
    pub(super) fn table(&self, content: &[u32]) -> Result<Subbuffer<[u32]>, Fault> {
        let usage = BufferUsage::STORAGE_BUFFER;
        let kind = MemoryTypeFilter::PREFER_DEVICE | MemoryTypeFilter::HOST_SEQUENTIAL_WRITE;
        let info = BufferCreateInfo { usage, ..Default::default() };
        let kind = AllocationCreateInfo { memory_type_filter: kind, ..Default::default() };
        let memory = Arc::clone(&self.memory);
        let made = Buffer::from_iter(memory, info, kind, content.iter().copied());
        made.map_err(|error| not_allocated(&error))
    }
}

/// Bytes of a device's memory for all streams together: most of what it has for itself alone, or a
/// quarter of what it shares with the system, where rings have half.
pub(super) fn budget(physical: &PhysicalDevice) -> u64 {
    let heaps = physical.memory_properties().memory_heaps.iter();
    let own = heaps.filter(|heap| heap.flags.contains(MemoryHeapFlags::DEVICE_LOCAL));
    let largest = own.map(|heap| heap.size).max().unwrap_or(0);
    match physical.properties().device_type {
        PhysicalDeviceType::DiscreteGpu => largest / 4 * 3,
        _ => largest / 4,
    }
}

/// What a device must be able to do.
pub(super) fn features() -> DeviceFeatures {
    DeviceFeatures { timeline_semaphore: true, synchronization2: true, ..DeviceFeatures::empty() }
}

/// The queue family to compute on: one that draws nothing, if there is one.
pub(super) fn queue_family(physical: &PhysicalDevice) -> Option<u32> {
    let families = physical.queue_family_properties();
    let flags = |wanted: QueueFlags, not: QueueFlags| {
        families.iter().position(|family| {
            family.queue_flags.contains(wanted) && !family.queue_flags.intersects(not)
        })
    };
    let family = flags(QueueFlags::COMPUTE, QueueFlags::GRAPHICS)
        .or_else(|| flags(QueueFlags::COMPUTE, QueueFlags::empty()))?;
    u32::try_from(family).ok()
}

/// The queue family of a copy engine alone, if there is one.
fn copying_family(physical: &PhysicalDevice) -> Option<u32> {
    let shaders = QueueFlags::COMPUTE | QueueFlags::GRAPHICS;
    // Engines for video may copy as well, as an aside.
    let video = QueueFlags::VIDEO_DECODE | QueueFlags::VIDEO_ENCODE | QueueFlags::OPTICAL_FLOW;
    let families = physical.queue_family_properties().iter();
    let mut flags = families.map(|family| family.queue_flags);
    let family = flags.position(|flags| {
        flags.contains(QueueFlags::TRANSFER) && !flags.intersects(shaders | video)
    })?;
    u32::try_from(family).ok()
}

/// No buffer is made for more than one stream.
fn not_allocated(error: &Validated<AllocateBufferError>) -> Fault {
    match error {
        Validated::Error(AllocateBufferError::AllocateMemory(error)) => match error {
            MemoryAllocatorError::AllocateDeviceMemory(error) => of_stream(error),
            _ => Fault::Memory,
        },
        Validated::Error(AllocateBufferError::CreateBuffer(error)) => {
            of_stream(&Validated::Error(*error))
        }
        error => {
            tracing::error!(%error, "a buffer");
            Fault::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_refused_costs_its_stream_alone() {
        let refused = |error| {
            let created = Validated::Error(AllocateBufferError::CreateBuffer(error));
            let error = MemoryAllocatorError::AllocateDeviceMemory(Validated::Error(error));
            let allocated = Validated::Error(AllocateBufferError::AllocateMemory(error));
            [not_allocated(&created), not_allocated(&allocated)]
        };
        assert_eq!(refused(VulkanError::InitializationFailed), [Fault::Refused; 2]);
        assert_eq!(refused(VulkanError::OutOfDeviceMemory), [Fault::Memory; 2]);
        assert_eq!(refused(VulkanError::DeviceLost), [Fault::Lost; 2]);
    }
}
