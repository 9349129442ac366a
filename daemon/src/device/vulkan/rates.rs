//! Owns the measurement of what lies between a GPU and the system's memory: the yardstick of its
//! benchmark.

use std::sync::Arc;
use std::time::Instant;

use vulkano::buffer::Subbuffer;
use vulkano::command_buffer::{
    CommandBuffer, CommandBufferBeginInfo, CommandBufferLevel, CommandBufferUsage, CopyBufferInfo,
    RecordingCommandBuffer,
};
use vulkano::{Validated, VulkanError};

use super::gpu::Gpu;
use super::submit::Submitter;
use super::{Vulkan, fault};
use crate::device::DeviceError;

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
        let bytes = BYTES as f64;
        let up = self.copies([BYTES, 0])?;
        Ok(CopyRates { up: bytes / up, down: bytes / self.copies([0, BYTES])? })
    }

    /// Measures how many frames of so many bytes copy engines bring to it in a second, and as many
    /// results back, both at once.
    pub fn frame_rate(&self, input: u64, output: u64) -> Result<f64, DeviceError> {
        let frames = BYTES as f64 / input.max(output) as f64;
        let bytes = [input, output].map(|bytes| (frames * bytes as f64) as u64);
        self.copies(bytes).map(|seconds| frames / seconds)
    }

    /// Seconds that it takes to copy so many bytes there and back, at once where there are two
    /// queues for it.
    fn copies(&self, bytes: [u64; 2]) -> Result<f64, DeviceError> {
        let measure = || {
            let gpu = self.shared.gpu()?;
            let [there, back] = [gpu.take_lane()?, gpu.take_lane()?];
            let queues = match &there.there_and_back {
                Some([there, back]) => [there, back],
                None => [there.copying.as_ref().unwrap_or(&there.computing); 2],
            };
            let mut copies = Vec::new();
            for (direction, lane) in [&there, &back].into_iter().enumerate() {
                if bytes[direction] > 0 {
                    let elements = bytes[direction].div_ceil(4);
                    let (host, device) = (gpu.host_buffer(elements)?, gpu.device_buffer(elements)?);
                    let ends = if direction == 0 { [host, device] } else { [device, host] };
                    let queue = queues[direction];
                    let commands = record(&gpu, queue, &ends).map_err(|error| fault(&error))?;
                    copies.push((queue, commands, lane.timeline(), ends));
                }
            }
            let mut fastest = f64::INFINITY;
            for _ in 0..TURNS {
                let begun = Instant::now();
                let mut under_way = Vec::new();
                for (queue, commands, timeline, _) in &copies {
                    // SAFETY: the copies before have ended; these are waited for below, before
                    // anything of theirs goes.
                    under_way.push((unsafe { queue.submit(commands, timeline, None) }, timeline));
                }
                for (value, timeline) in &under_way {
                    if let Ok(value) = value {
                        timeline.settle(*value);
                    }
                }
                under_way.into_iter().try_for_each(|(value, _)| value.map(drop))?;
                fastest = fastest.min(begun.elapsed().as_secs_f64());
            }
            Ok(fastest)
        };
        measure().map_err(|fault| self.shared.failed(fault))
    }
}

/// A copy of one buffer to the other, which is as long.
fn record(
    gpu: &Gpu,
    queue: &Submitter,
    [from, to]: &[Subbuffer<[u32]>; 2],
) -> Result<CommandBuffer, Validated<VulkanError>> {
    let usage = CommandBufferUsage::MultipleSubmit;
    let info = CommandBufferBeginInfo { usage, ..Default::default() };
    let level = CommandBufferLevel::Primary;
    let pool = Arc::clone(&gpu.commands) as _;
    let mut commands = RecordingCommandBuffer::new(pool, queue.family(), level, info)?;
    // SAFETY: both buffers are as long; whoever submits the commands answers for their use.
    unsafe {
        commands.copy_buffer(&CopyBufferInfo::buffers(from.clone(), to.clone()))?;
        Ok(commands.end()?)
    }
}
