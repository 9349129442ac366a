//! Owns the recording of commands: what becomes of a slot's frame in a flight.
//!
//! Knows buffers and a program's dispatches; submits nothing. Invariants: where a frame's commands go
//! to several queues, those of each are a command buffer of their own, in this order: there, shaders,
//! back; within one, barriers part what depends on what was before. The first commands for an output of
//! the device's own zero it.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use resized_protocol::shm::SlotMemory;
use vulkano::buffer::Subbuffer;
use vulkano::command_buffer::{
    BufferCopy, CommandBuffer, CommandBufferBeginInfo, CommandBufferLevel, CommandBufferUsage,
    CopyBufferInfo, RecordingCommandBuffer,
};
use vulkano::descriptor_set::WriteDescriptorSet;
use vulkano::descriptor_set::sys::RawDescriptorSet;
use vulkano::pipeline::{ComputePipeline, PipelineBindPoint};
use vulkano::sync::{AccessFlags, DependencyInfo, MemoryBarrier, PipelineStages};
use vulkano::{Validated, ValidationError, VulkanError};

use super::super::gpu::{Gpu, Lane};
use super::super::of_stream;
use super::super::program::Dispatch;
use super::super::shader::PushConstants;
use super::super::submit::Submitter;
use super::Prepared;
use super::buffers::{Buffers, Frames};
use crate::device::Fault;

/// A dispatch as it is recorded.
pub(super) struct Step {
    pipeline: Arc<ComputePipeline>,
    constants: PushConstants,
    groups: [u32; 3],
}

impl Step {
    pub(super) fn new(gpu: &Gpu, dispatch: &Dispatch) -> Result<Self, Fault> {
        let pipeline = gpu.pipelines.get(dispatch.variant);
        let pipeline = pipeline.map_err(|error| of_stream(&error))?;
        Ok(Self { pipeline, constants: dispatch.constants, groups: dispatch.groups })
    }
}

/// The commands of a frame.
pub(super) struct Recorded {
    /// The copies of the input frame and of the output frame, where they go to other queues.
    pub(super) there: Option<CommandBuffer>,
    pub(super) commands: CommandBuffer,
    pub(super) back: Option<CommandBuffer>,
    /// What the commands refer to.
    _set: RawDescriptorSet,
}

impl Prepared {
    /// Records what becomes of a slot's frame in a flight; `is_first`: nothing was recorded for its
    /// buffers so far.
    pub(super) fn record(
        &self,
        lane: &Lane,
        buffers: &Buffers,
        is_first: bool,
        slot: SlotMemory<'_>,
    ) -> Result<Recorded, Validated<VulkanError>> {
        let missing = || Validated::Error(VulkanError::InitializationFailed);
        let outside = match &buffers.host {
            Some(host) => host.clone(),
            None => self.in_ring(slot.slot()).ok_or_else(missing)?,
        };
        let own = buffers.output.clone().map(Subbuffer::into_bytes);
        let input = buffers.input.as_ref().unwrap_or(&outside.input);
        let output = own.as_ref().unwrap_or(&outside.output);
        let set = self.set(input, &buffers.lines, output)?;
        let [to_there, to_back] = buffers.queues(lane);
        let mut commands = self.begin(&lane.computing)?;
        let there = self.bring(buffers, &outside.input, &mut commands, to_there)?;
        if let Some(output) = buffers.output.as_ref().filter(|_| is_first) {
            clear(output, &mut commands)?;
        }
        self.dispatch(&mut commands, &set)?;
        let back = match &own {
            Some(own) => self.take_back(own, &outside.output, &mut commands, to_back)?,
            None => {
                barrier(&mut commands, WRITTEN, READ)?;
                None
            }
        };
        Ok(Recorded { there, commands: end(commands)?, back, _set: set })
    }

    /// Where the frames of a slot lie in the ring.
    fn in_ring(&self, slot: u32) -> Option<Frames> {
        let buffer = Subbuffer::new(Arc::clone(self.import.as_ref()?.buffer()));
        let slice = |start: usize, len: usize| {
            let (start, len) = (start as u64, len as u64);
            (start + len <= buffer.size()).then(|| buffer.clone().slice(start..start + len))
        };
        // Whole elements: up to the page's end at most.
        let bytes = |len: usize| len.next_multiple_of(4);
        Some(Frames {
            input: slice(self.ring.input_offset(slot), bytes(self.ring.input().len()))?,
            output: slice(self.ring.output_offset(slot), bytes(self.ring.output().len()))?,
        })
    }

    /// Copies what shaders read of the input frame to the device, if it is to be there: by a command
    /// buffer of its own where copies have a queue.
    fn bring(
        &self,
        buffers: &Buffers,
        from: &Subbuffer<[u8]>,
        commands: &mut RecordingCommandBuffer,
        queue: Option<&Submitter>,
    ) -> Result<Option<CommandBuffer>, Validated<VulkanError>> {
        let Some(to) = buffers.input.as_ref().filter(|_| !self.read.is_empty()) else {
            return Ok(None);
        };
        let Some(queue) = queue else {
            copy(commands, from, to, &self.read)?;
            barrier(commands, COPIED, SHADERS)?;
            return Ok(None);
        };
        // The semaphore between the two is barrier enough.
        let mut apart = self.begin(queue)?;
        copy(&mut apart, from, to, &self.read)?;
        end(apart).map(Some)
    }

    /// Copies the output frame back from the device, likewise.
    fn take_back(
        &self,
        from: &Subbuffer<[u8]>,
        to: &Subbuffer<[u8]>,
        commands: &mut RecordingCommandBuffer,
        queue: Option<&Submitter>,
    ) -> Result<Option<CommandBuffer>, Validated<VulkanError>> {
        let all = 0..self.ring.output().rows_len();
        let Some(queue) = queue else {
            barrier(commands, WRITTEN, COPIES)?;
            copy(commands, from, to, slice::from_ref(&all))?;
            barrier(commands, COPIED, READ)?;
            return Ok(None);
        };
        let mut apart = self.begin(queue)?;
        copy(&mut apart, from, to, slice::from_ref(&all))?;
        barrier(&mut apart, COPIED, READ)?;
        end(apart).map(Some)
    }

    /// What shaders read and write.
    fn set(
        &self,
        input: &Subbuffer<[u8]>,
        lines: &Subbuffer<[u32]>,
        output: &Subbuffer<[u8]>,
    ) -> Result<RawDescriptorSet, Validated<VulkanError>> {
        let gpu = &*self.gpu;
        let layout = gpu.pipelines.layout().set_layouts().first();
        let layout = layout.ok_or(VulkanError::InitializationFailed)?;
        let set = RawDescriptorSet::new(Arc::clone(&gpu.sets) as _, layout, 0)?;
        let writes = [
            WriteDescriptorSet::buffer(0, input.clone()),
            WriteDescriptorSet::buffer(1, self.tables.clone()),
            WriteDescriptorSet::buffer(2, lines.clone()),
            WriteDescriptorSet::buffer(3, output.clone()),
        ];
        // SAFETY: the set is new; the buffers live as long as the stream, which keeps the set.
        unsafe { set.update(&writes, &[])? };
        Ok(set)
    }

    /// The shaders of all stages.
    fn dispatch(
        &self,
        commands: &mut RecordingCommandBuffer,
        set: &RawDescriptorSet,
    ) -> Result<(), Validated<VulkanError>> {
        let layout = self.gpu.pipelines.layout();
        // SAFETY: what is bound and pushed lives and was made for one another; shaders stay within
        // their buffers, as `Program` promises; stages are parted by barriers.
        unsafe {
            commands.bind_descriptor_sets(PipelineBindPoint::Compute, layout, 0, &[set], &[])?;
            for (i, stage) in self.stages.iter().enumerate() {
                if i > 0 {
                    barrier(commands, WRITTEN, SHADERS)?;
                }
                for step in stage {
                    commands.bind_pipeline_compute(&step.pipeline)?;
                    commands.push_constants(layout, 0, &step.constants)?;
                    commands.dispatch(step.groups)?;
                }
            }
        }
        Ok(())
    }

    fn begin(
        &self,
        submitter: &Submitter,
    ) -> Result<RecordingCommandBuffer, Validated<VulkanError>> {
        let info = CommandBufferBeginInfo {
            usage: CommandBufferUsage::MultipleSubmit,
            ..Default::default()
        };
        RecordingCommandBuffer::new(
            Arc::clone(&self.gpu.commands) as _,
            submitter.family(),
            CommandBufferLevel::Primary,
            info,
        )
    }
}

fn end(commands: RecordingCommandBuffer) -> Result<CommandBuffer, Validated<VulkanError>> {
    // SAFETY: all that was recorded is within the limits of the device, or was refused before.
    Ok(unsafe { commands.end()? })
}

/// Stages and accesses.
type Scope = (PipelineStages, AccessFlags);

/// What shaders wrote, and all that shaders do.
const WRITTEN: Scope = (PipelineStages::COMPUTE_SHADER, AccessFlags::SHADER_WRITE);
const SHADERS: Scope =
    (PipelineStages::COMPUTE_SHADER, AccessFlags::SHADER_READ.union(AccessFlags::SHADER_WRITE));

/// What copies read and wrote, and what the client reads.
const COPIES: Scope = (PipelineStages::ALL_TRANSFER, AccessFlags::TRANSFER_READ);
const COPIED: Scope = (PipelineStages::ALL_TRANSFER, AccessFlags::TRANSFER_WRITE);
const READ: Scope = (PipelineStages::HOST, AccessFlags::HOST_READ);

fn barrier(
    commands: &mut RecordingCommandBuffer,
    (src_stages, src_access): Scope,
    (dst_stages, dst_access): Scope,
) -> Result<(), Box<ValidationError>> {
    let all =
        MemoryBarrier { src_stages, src_access, dst_stages, dst_access, ..Default::default() };
    let info =
        DependencyInfo { memory_barriers: [all].into_iter().collect(), ..Default::default() };
    // SAFETY: shaders' stages are recorded for queues that compute, and the others there are on
    // every queue.
    unsafe { commands.pipeline_barrier(&info)? };
    Ok(())
}

/// Zeroes an output frame in the device's memory: what lies between its rows goes to the client as it
/// is, and others may have used the memory before. Only by the first commands for it, which are the
/// first to be submitted.
fn clear(
    output: &Subbuffer<[u32]>,
    commands: &mut RecordingCommandBuffer,
) -> Result<(), Box<ValidationError>> {
    // SAFETY: whoever submits the commands answers for the buffer's use.
    unsafe { commands.fill_buffer(output, 0)? };
    barrier(commands, COPIED, SHADERS)
}

/// Copies those bytes, which are some, to the same place in the other buffer.
fn copy(
    commands: &mut RecordingCommandBuffer,
    from: &Subbuffer<[u8]>,
    to: &Subbuffer<[u8]>,
    bytes: &[Range<usize>],
) -> Result<(), Box<ValidationError>> {
    let region = |bytes: &Range<usize>| BufferCopy {
        src_offset: bytes.start as u64,
        dst_offset: bytes.start as u64,
        size: bytes.len() as u64,
        ..Default::default()
    };
    let info = CopyBufferInfo {
        regions: bytes.iter().map(region).collect(),
        ..CopyBufferInfo::buffers(from.clone(), to.clone())
    };
    // SAFETY: both buffers are as long; whoever submits the commands answers for their use.
    unsafe { commands.copy_buffer(&info)? };
    Ok(())
}
