//! Owns a ring's mapping as a buffer of a GPU, by VK_EXT_external_memory_host: the GPU reads and
//! writes the pages that the client has mapped.
//!
//! Knows regions, not what lies in them. Invariants: everything is checked before the driver is
//! asked; the buffer goes before the memory, and the memory before the mapping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ash::vk;
use resized_protocol::shm::Region;
use thiserror::Error;
use vulkano::buffer::sys::RawBuffer;
use vulkano::buffer::{Buffer, BufferCreateInfo, BufferUsage, ExternalBufferInfo};
use vulkano::device::Device;
use vulkano::memory::{ExternalMemoryHandleType, ExternalMemoryHandleTypes, MemoryPropertyFlags};
use vulkano::{Validated, VulkanError, VulkanObject};

use super::gpu::{BOTH_WAYS, Gpu};
use super::plain;

/// Why a mapping can't be imported. Never an error to a client: frames are copied then.
#[derive(Debug, Error)]
pub(super) enum ImportError {
    #[error("the driver has no VK_EXT_external_memory_host")]
    Extension,
    #[error("the mapping is not aligned to {0} bytes, as the driver asks for")]
    Alignment(u64),
    #[error("the driver imports no memory as such a buffer")]
    Buffer,
    #[error("{len} bytes are more than the driver takes at once, {most}")]
    TooLong { len: u64, most: u64 },
    #[error("the driver's allocations are spent")]
    TooMany,
    #[error("no type of memory suits both the mapping and a buffer")]
    MemoryType,
    #[error("the driver wants {wanted} bytes for a buffer of {len}")]
    Size { wanted: u64, len: u64 },
    #[error("the driver: {0}")]
    Driver(#[from] VulkanError),
}

impl From<Validated<VulkanError>> for ImportError {
    fn from(error: Validated<VulkanError>) -> Self {
        Self::Driver(plain(error))
    }
}

/// A ring as a GPU sees it.
pub(super) struct Import {
    buffer: Arc<Buffer>,
    _memory: Memory,
    _region: Arc<Region>,
}

/// Device memory that is ours alone to free: vulkano counts what it allocates itself.
struct Memory {
    device: Arc<Device>,
    handle: vk::DeviceMemory,
    _counted: Counted,
}

/// One of the imports of a GPU, which vulkano, who counts allocations against the driver's limit,
/// can't see.
struct Counted(Arc<AtomicU32>);

impl Counted {
    /// vulkano stops to make small allocations at three quarters of the limit.
    fn new(gpu: &Gpu) -> Result<Self, ImportError> {
        let most = gpu.device.physical_device().properties().max_memory_allocation_count / 4;
        let one_more = |count: u32| (count < most).then_some(count + 1);
        let counted = gpu.imports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map(|_| Self(Arc::clone(&gpu.imports))).map_err(|_| ImportError::TooMany)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Import {
    pub(super) fn new(gpu: &Gpu, region: &Arc<Region>) -> Result<Self, ImportError> {
        let device = &gpu.device;
        // The stub of a function that was not enabled ends the process.
        if !device.enabled_extensions().ext_external_memory_host {
            return Err(ImportError::Extension);
        }
        let properties = device.physical_device().properties();
        let alignment = properties.min_imported_host_pointer_alignment.unwrap_or(1);
        let (start, len) = (region.start().as_ptr(), region.len() as u64);
        if !(start as u64).is_multiple_of(alignment) || !len.is_multiple_of(alignment) {
            return Err(ImportError::Alignment(alignment));
        }
        let limits = [properties.max_buffer_size, properties.max_memory_allocation_size];
        let most = limits.into_iter().flatten().min().unwrap_or(u64::MAX);
        if len > most {
            return Err(ImportError::TooLong { len, most });
        }
        let usage = BOTH_WAYS;
        if !takes_pointers(device, usage) {
            return Err(ImportError::Buffer);
        }
        let info = BufferCreateInfo {
            usage,
            external_memory_handle_types: ExternalMemoryHandleTypes::HOST_ALLOCATION,
            size: len,
            ..Default::default()
        };
        let buffer = RawBuffer::new(Arc::clone(device), gpu.shared(info))?;
        let requirements = *buffer.memory_requirements();
        if requirements.layout.size() > len {
            return Err(ImportError::Size { wanted: requirements.layout.size(), len });
        }
        let suits = requirements.memory_type_bits & memory_types(device, start)?;
        let kind = memory_type(device, suits)?;
        let memory = Memory::import(gpu, kind, region)?;
        let bind = device.fns().v1_0.bind_buffer_memory;
        // SAFETY: the buffer is unbound, the memory as long as it, of a type that it allows, and
        // made for the same kind of handle.
        let bound = unsafe { bind(device.handle(), buffer.handle(), memory.handle, 0) };
        bound.result().map_err(VulkanError::from)?;
        // SAFETY: it was bound just now, to memory that outlives it: fields are dropped in their order.
        let buffer = Arc::new(unsafe { buffer.assume_bound() });
        Ok(Self { buffer, _memory: memory, _region: Arc::clone(region) })
    }

    /// The whole ring. Whoever keeps it must let go of it before the import goes.
    pub(super) const fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }
}

/// Whether such a buffer can be of imported memory that is not made for it alone.
fn takes_pointers(device: &Device, usage: BufferUsage) -> bool {
    let kind = ExternalMemoryHandleType::HostAllocation;
    let info = ExternalBufferInfo { usage, ..ExternalBufferInfo::handle_type(kind) };
    let properties = device.physical_device().external_buffer_properties(info);
    let properties = properties.map(|properties| properties.external_memory_properties);
    properties.is_ok_and(|properties| properties.importable && !properties.dedicated_only)
}

/// The types of memory that a mapping can be imported as.
fn memory_types(device: &Arc<Device>, start: *mut u8) -> Result<u32, ImportError> {
    let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
    let ask = device.fns().ext_external_memory_host.get_memory_host_pointer_properties_ext;
    // SAFETY: the extension is enabled, the address that of a mapping that lives.
    let asked = unsafe {
        ask(
            device.handle(),
            vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT,
            start.cast(),
            &mut properties,
        )
    };
    asked.result().map_err(VulkanError::from)?;
    Ok(properties.memory_type_bits)
}

/// The best of those: coherent, or what the client writes would have to be flushed, and cached if
/// may be.
pub(super) fn memory_type(device: &Arc<Device>, allowed: u32) -> Result<u32, ImportError> {
    let types = &device.physical_device().memory_properties().memory_types;
    let coherent = MemoryPropertyFlags::HOST_VISIBLE | MemoryPropertyFlags::HOST_COHERENT;
    let cached = coherent | MemoryPropertyFlags::HOST_CACHED;
    let found = [cached, coherent].into_iter().find_map(|wanted| {
        let suits = |&index: &u32| {
            let flags = types.get(index as usize).map(|kind| kind.property_flags);
            allowed & (1 << index) != 0 && flags.is_some_and(|flags| flags.contains(wanted))
        };
        (0..u32::BITS).find(suits)
    });
    found.ok_or(ImportError::MemoryType)
}

impl Memory {
    fn import(gpu: &Gpu, kind: u32, region: &Region) -> Result<Self, ImportError> {
        let (device, counted) = (&gpu.device, Counted::new(gpu)?);
        let mut import = vk::ImportMemoryHostPointerInfoEXT::default()
            .handle_type(vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT)
            .host_pointer(region.start().as_ptr().cast());
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(region.len() as u64)
            .memory_type_index(kind)
            .push_next(&mut import);
        let mut handle = vk::DeviceMemory::null();
        let allocate = device.fns().v1_0.allocate_memory;
        // SAFETY: the extension is enabled; pointer and length are aligned as it asks for, and those of a mapping that
        // may be written, which outlives the memory. A page that the client gave back is made again, or the driver
        // refuses.
        let allocated = unsafe { allocate(device.handle(), &info, std::ptr::null(), &mut handle) };
        allocated.result().map_err(VulkanError::from)?;
        Ok(Self { device: Arc::clone(device), handle, _counted: counted })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let free = self.device.fns().v1_0.free_memory;
        // SAFETY: ours, freed once; the buffer that was bound to it is gone, and no frame is under way.
        unsafe { free(self.device.handle(), self.handle, std::ptr::null()) };
    }
}
