//! Owns the measurement of what lies between a GPU and the system's memory: the yardstick of its benchmark.

use std::sync::Arc;
use std::time::Instant;

use vulkano::buffer::Subbuffer;
use vulkano::command_buffer::{
    CommandBuffer, CommandBufferBeginInfo, CommandBufferLevel, CommandBufferUsage, CopyBufferInfo,
    RecordingCommandBuffer,
};
use vulkano::{Validated, VulkanError};

use super::gpu::Gpu;
use super::{Vulkan, fault};
use crate::device::{DeviceError, Fault};

/// Bytes of a copy, and how often it is measured: the fastest counts.
const BYTES: u64 = 64 << 20;
const TURNS: usize = 9;

/// What can be copied between the system's memory and the GPU's.
#[derive(Clone, Copy, Debug)]
pub struct CopyRates {
    /// Bytes a second to the GPU.
    pub up: f64,
    /// Bytes a second back.
    pub down: f64,
}

impl Vulkan {
    /// Measures what the copy engine copies, one direction at a time.
    pub fn copy_rates(&self) -> Result<CopyRates, DeviceError> {
        let measure = || {
            let gpu = self.shared.gpu()?;
            let (host, device) = (gpu.host_buffer(BYTES / 4)?, gpu.device_buffer(BYTES / 4)?);
            Ok(CopyRates { up: rate(&gpu, &host, &device)?, down: rate(&gpu, &device, &host)? })
        };
        measure().map_err(|fault| self.shared.failed(fault))
    }
}

/// Bytes a second from one buffer to the other.
fn rate(gpu: &Arc<Gpu>, from: &Subbuffer<[u32]>, to: &Subbuffer<[u32]>) -> Result<f64, Fault> {
    let lane = gpu.take_lane()?;
    let queue = lane.copying.as_ref().unwrap_or(&lane.computing);
    let record = || -> Result<CommandBuffer, Validated<VulkanError>> {
        let usage = CommandBufferUsage::MultipleSubmit;
        let info = CommandBufferBeginInfo { usage, ..Default::default() };
        let level = CommandBufferLevel::Primary;
        let pool = Arc::clone(&gpu.commands) as _;
        let mut commands = RecordingCommandBuffer::new(pool, queue.family(), level, info)?;
        // SAFETY: both buffers are as long, and live until the copy is waited for.
        unsafe {
            commands.copy_buffer(&CopyBufferInfo::buffers(from.clone(), to.clone()))?;
            Ok(commands.end()?)
        }
    };
    let commands = record().map_err(|error| fault(&error))?;
    let mut fastest = f64::INFINITY;
    for _ in 0..TURNS {
        let begun = Instant::now();
        // SAFETY: the copy before it has ended.
        let value = unsafe { queue.submit(&commands, &lane.timeline, None)? };
        lane.timeline.wait(value).inspect_err(|_| lane.timeline.settle(value))?;
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(BYTES as f64 / fastest)
}
