//! Owns what a GPU keeps for a stream: buffers, and the command buffers of its slots, recorded once and
//! submitted again for every frame.
//!
//! Knows the slots' memory and a program; no formats. A frame takes a lane of the GPU, and the
//! flight of that lane, which has lines of its own. Invariants: a flight's commands are submitted
//! again only after they ended; nothing is allocated for a frame once each slot has been through
//! each flight; what a frame uses lives until it is over, however late ([`UnderWay`]); memory that
//! others may have used before is zeroed where a client sees it.

use std::sync::{Arc, Mutex};

use resized_protocol::shm::{RingLayout, SlotMemory};
use vulkano::buffer::Subbuffer;
use vulkano::command_buffer::{
    CommandBuffer, CommandBufferBeginInfo, CommandBufferLevel, CommandBufferUsage, CopyBufferInfo,
    RecordingCommandBuffer,
};
use vulkano::descriptor_set::WriteDescriptorSet;
use vulkano::descriptor_set::sys::RawDescriptorSet;
use vulkano::pipeline::{ComputePipeline, PipelineBindPoint};
use vulkano::sync::{AccessFlags, DependencyInfo, MemoryBarrier, PipelineStages};
use vulkano::{Validated, ValidationError, VulkanError};

use super::gpu::{Gpu, Lane, Taken};
use super::import::Import;
use super::program::Program;
use super::submit::Submitter;
use super::{LANES, Transfer, lock, of_stream};
use crate::device::{Charge, Fault, Memory};

/// Bytes of the system's memory that a driver is taken to keep for the commands of a slot in a flight,
/// and for their descriptors: no driver says it. A stream has some ten dispatches, two copies and as
/// many barriers, and drivers take memory for commands by pages.
const RECORDED: u64 = 16 << 10;

/// What a GPU keeps for a stream. Fields go in their order: commands before buffers, all before the
/// ring.
pub(super) struct Prepared {
    /// One for each lane of the GPU.
    flights: Vec<Mutex<Flight>>,
    stages: Vec<Vec<Step>>,
    tables: Subbuffer<[u32]>,
    transfer: Transfer,
    ring: RingLayout,
    import: Option<Arc<Import>>,
    gpu: Arc<Gpu>,
    /// What its memory is charged to.
    _charge: Option<Charge>,
}

/// A dispatch as it is recorded.
struct Step {
    pipeline: Arc<ComputePipeline>,
    numbers: [u32; 28],
    groups: [u32; 3],
}

/// What one frame under way uses.
struct Flight {
    /// Of each slot, or of all of them where frames are copied to memory of the flight's own.
    recorded: Vec<Option<Recorded>>,
    lines: Subbuffer<[u32]>,
    /// An input frame in the device's memory, where the shaders do not read the ring.
    input: Option<Subbuffer<[u8]>>,
    /// An output frame there, where the shaders do not write into the ring.
    output: Option<Subbuffer<[u32]>>,
    /// Frames in memory that both reach, where the ring can't be imported.
    host: Option<Frames>,
}

struct Recorded {
    /// The copies of the input frame and of the output frame, where they go to other queues.
    there: Option<CommandBuffer>,
    commands: CommandBuffer,
    back: Option<CommandBuffer>,
    /// What the commands refer to.
    _set: RawDescriptorSet,
}

/// Why a frame has no result.
pub(super) enum Failure {
    /// The GPU is not at it.
    Over(Fault),
    /// It did not end in time.
    UnderWay(UnderWay),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Over(fault)
    }
}

/// A frame that a GPU may still be at, and all that it uses. Dropping it waits until it is over:
/// before, nothing of it may be used or freed, nor its slot be anybody else's.
pub(super) struct UnderWay {
    _prepared: Arc<Prepared>,
    lane: Taken,
    /// That of the lane's timeline when it is over.
    value: u64,
}

/// An input and an output frame.
#[derive(Clone)]
struct Frames {
    input: Subbuffer<[u8]>,
    output: Subbuffer<[u8]>,
}

impl Prepared {
    /// Prepares a stream for frames that are brought to the GPU by `transfer`, one for each lane at
    /// once. But for [`Transfer::Staged`] its ring has been imported. `charge` is for as much
    /// [memory](Self::memory).
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        program: &Program,
        ring: &RingLayout,
        import: Option<Arc<Import>>,
        transfer: Transfer,
        charge: Option<Charge>,
    ) -> Result<Self, Fault> {
        let step = |dispatch: &super::program::Dispatch| {
            let pipeline = gpu.pipelines.get(dispatch.variant);
            let pipeline = pipeline.map_err(|error| of_stream(&error))?;
            let numbers = dispatch.numbers.as_array();
            Ok(Step { pipeline, numbers, groups: dispatch.groups })
        };
        let stages = program.stages.iter().filter(|stage| !stage.is_empty());
        let stages = stages.map(|stage| stage.iter().map(step).collect());
        let flight = || Flight::new(gpu, program, ring, transfer);
        Ok(Self {
            flights: gpu
                .lanes
                .iter()
                .map(|_| flight().map(Mutex::new))
                .collect::<Result<_, _>>()?,
            stages: stages.collect::<Result<_, _>>()?,
            tables: gpu.table(&program.tables)?,
            transfer,
            ring: ring.clone(),
            import,
            gpu: Arc::clone(gpu),
            _charge: charge,
        })
    }

    /// The memory that it takes beside the ring, the copy of tables that is kept for when the
    /// device comes back included, and what will be recorded.
    pub(super) fn memory(program: &Program, ring: &RingLayout, transfer: Transfer) -> Memory {
        let (input, output) = (ring.input().len() as u64, ring.output().len() as u64);
        let (frames, staging) = match transfer {
            Transfer::Direct => (0, 0),
            Transfer::Copied => (input, 0),
            Transfer::BothWays => (input + output, 0),
            Transfer::Staged => (input, input + output),
        };
        let (lanes, tables) = (LANES as u64, 2 * 4 * program.tables.len() as u64);
        let recorded = u64::from(if transfer == Transfer::Staged { 1 } else { ring.slots() });
        Memory {
            device: lanes * (4 * program.lines + frames) + tables,
            system: lanes * (staging + recorded * RECORDED),
        }
    }

    pub(super) const fn transfer(&self) -> Transfer {
        self.transfer
    }

    pub(super) const fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Resizes a slot's frame; returns when its output is there, and whether commands had to be
    /// recorded first.
    pub(super) fn resize(self: &Arc<Self>, slot: SlotMemory<'_>) -> Result<bool, Failure> {
        let lane = self.gpu.take_lane()?;
        let flown = self.fly(&lane, &mut lock(&self.flights[lane.number()]), slot);
        flown.map_err(|flown| match flown {
            Flown::Failed(fault) => fault.into(),
            Flown::Late(value) => {
                Failure::UnderWay(UnderWay { _prepared: Arc::clone(self), lane, value })
            }
        })
    }

    fn fly(&self, lane: &Taken, flight: &mut Flight, slot: SlotMemory<'_>) -> Result<bool, Flown> {
        if let Some(host) = &flight.host {
            // SAFETY: the slot's input is readable as its layout says, which is ours; no frame is
            // under way in this flight.
            unsafe { copy_in(slot.input(), &host.input, self.ring.input().rows_len())? };
        }
        let number = if flight.host.is_some() { 0 } else { slot.slot() as usize };
        let is_new = flight.recorded.get(number).is_none_or(Option::is_none);
        if is_new {
            let recorded = self.record(lane, flight, slot).map_err(|error| of_stream(&error))?;
            flight.recorded.resize_with(flight.recorded.len().max(number + 1), || None);
            flight.recorded[number] = Some(recorded);
        }
        let Some(Some(recorded)) = flight.recorded.get(number) else {
            return Err(Fault::Driver.into());
        };
        run(lane, queues(lane, flight), recorded)?;
        if let Some(host) = &flight.host {
            // SAFETY: the slot's output is writable as its layout says; the frame is over.
            unsafe { copy_out(&host.output, slot.output(), self.ring.output().rows_len())? };
        }
        Ok(is_new)
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

    /// Records what becomes of a slot's frame in a flight.
    fn record(
        &self,
        lane: &Lane,
        flight: &Flight,
        slot: SlotMemory<'_>,
    ) -> Result<Recorded, Validated<VulkanError>> {
        let missing = || Validated::Error(VulkanError::InitializationFailed);
        let outside = match &flight.host {
            Some(host) => host.clone(),
            None => self.in_ring(slot.slot()).ok_or_else(missing)?,
        };
        let input = flight.input.as_ref().unwrap_or(&outside.input);
        let cleared =
            flight.output.as_ref().filter(|_| flight.recorded.iter().all(Option::is_none));
        let own = flight.output.clone().map(Subbuffer::into_bytes);
        let output = own.as_ref().unwrap_or(&outside.output);
        let set = self.set(input, &flight.lines, output)?;
        let mut commands = self.begin(&lane.computing)?;
        let copied = (PipelineStages::ALL_TRANSFER, AccessFlags::TRANSFER_WRITE);
        let read = (PipelineStages::HOST, AccessFlags::HOST_READ);
        let [to_there, to_back] = queues(lane, flight);
        let mut there = None;
        if flight.input.is_some() {
            let len = self.ring.input().rows_len();
            if let Some(queue) = to_there {
                let mut apart = self.begin(queue)?;
                copy(&mut apart, &outside.input, input, len)?;
                // SAFETY: as below. The semaphore between the two is barrier enough.
                there = Some(unsafe { apart.end()? });
            } else {
                copy(&mut commands, &outside.input, input, len)?;
                barrier(&mut commands, copied, SHADERS)?;
            }
        }
        if let Some(output) = cleared {
            // What lies between the rows of an output goes to the client as it is, and others may
            // have used the memory before. These commands are the first of the flight's that are
            // submitted. SAFETY: as above.
            unsafe { commands.fill_buffer(output, 0)? };
            barrier(&mut commands, copied, SHADERS)?;
        }
        self.dispatch(&mut commands, &set)?;
        let mut back = None;
        if flight.output.is_some() {
            let len = self.ring.output().rows_len();
            if let Some(queue) = to_back {
                let mut apart = self.begin(queue)?;
                copy(&mut apart, output, &outside.output, len)?;
                barrier(&mut apart, copied, read)?;
                // SAFETY: as below.
                back = Some(unsafe { apart.end()? });
            } else {
                let copies = (PipelineStages::ALL_TRANSFER, AccessFlags::TRANSFER_READ);
                barrier(&mut commands, WRITTEN, copies)?;
                copy(&mut commands, output, &outside.output, len)?;
                barrier(&mut commands, copied, read)?;
            }
        } else {
            barrier(&mut commands, WRITTEN, read)?;
        }
        // SAFETY: all that was recorded is within the limits of the device, or was refused above.
        let commands = unsafe { commands.end()? };
        Ok(Recorded { there, commands, back, _set: set })
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
                    commands.push_constants(layout, 0, &step.numbers)?;
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

/// The queues to which a flight's copies go, there and back, where they do not go to that of the
/// shaders.
fn queues<'a>(lane: &'a Lane, flight: &Flight) -> [Option<&'a Submitter>; 2] {
    match (&flight.output, &lane.there_and_back, &lane.copying) {
        (Some(_), Some([there, back]), _) => [Some(there), Some(back)],
        (_, _, there) => [there.as_deref(), None],
    }
}

/// Submits what was recorded for a frame and waits for its end.
fn run(
    lane: &Taken,
    [there, back]: [Option<&Submitter>; 2],
    recorded: &Recorded,
) -> Result<(), Flown> {
    let timeline = lane.timeline();
    let steps = [
        there.zip(recorded.there.as_ref()),
        Some((&*lane.computing, &recorded.commands)),
        back.zip(recorded.back.as_ref()),
    ];
    let (mut last, mut outcome) = (None, Ok(()));
    for (queue, commands) in steps.into_iter().flatten() {
        // SAFETY: the lane was free, so that what was recorded for its flight has ended, and nobody
        // else uses its timeline; what was submitted is waited for below or, where that takes too
        // long, by `UnderWay`.
        match unsafe { queue.submit(commands, timeline, last) } {
            Ok(value) => last = Some(value),
            Err(fault) => {
                outcome = Err(fault);
                break;
            }
        }
    }
    // What was submitted before one was refused is under way.
    let waited = last.map_or(Ok(()), |value| timeline.wait(value));
    waited.and(outcome).map_err(|fault| match (fault, last) {
        (Fault::TimedOut, Some(value)) => Flown::Late(value),
        (fault, _) => fault.into(),
    })
}

/// Why a flight brought no result.
enum Flown {
    Failed(Fault),
    /// The lane's timeline did not reach this in time.
    Late(u64),
}

impl From<Fault> for Flown {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.lane.timeline().settle(self.value);
    }
}

impl Flight {
    fn new(
        gpu: &Gpu,
        program: &Program,
        ring: &RingLayout,
        transfer: Transfer,
    ) -> Result<Self, Fault> {
        let elements = |len: usize| len.div_ceil(4) as u64;
        let (input, output) = (elements(ring.input().len()), elements(ring.output().len()));
        let host = || -> Result<Frames, Fault> {
            let frames =
                [gpu.host_buffer(input)?, gpu.host_buffer(output)?].map(|b| b.into_bytes());
            let [input, output] = frames;
            clear(&output)?;
            Ok(Frames { input, output })
        };
        let host = (transfer == Transfer::Staged).then(host).transpose()?;
        let copied = || gpu.device_buffer(input).map(|buffer| buffer.into_bytes());
        let input = (transfer != Transfer::Direct).then(copied).transpose()?;
        let own = || gpu.device_buffer(output);
        let output = (transfer == Transfer::BothWays).then(own).transpose()?;
        let lines = gpu.device_buffer(program.lines)?;
        Ok(Self { recorded: Vec::new(), lines, input, output, host })
    }
}

/// Stages and accesses.
type Scope = (PipelineStages, AccessFlags);

/// What shaders wrote, and all that shaders do.
const WRITTEN: Scope = (PipelineStages::COMPUTE_SHADER, AccessFlags::SHADER_WRITE);
const SHADERS: Scope =
    (PipelineStages::COMPUTE_SHADER, AccessFlags::SHADER_READ.union(AccessFlags::SHADER_WRITE));

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

fn copy(
    commands: &mut RecordingCommandBuffer,
    from: &Subbuffer<[u8]>,
    to: &Subbuffer<[u8]>,
    len: usize,
) -> Result<(), Box<ValidationError>> {
    let mut info = CopyBufferInfo::buffers(from.clone(), to.clone());
    for region in &mut info.regions {
        region.size = len as u64;
    }
    // SAFETY: both buffers are as long; whoever submits the commands answers for their use.
    unsafe { commands.copy_buffer(&info)? };
    Ok(())
}

/// Zeroes memory that others may have used before: what lies between the rows of an output goes to
/// the client as it is.
fn clear(buffer: &Subbuffer<[u8]>) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    // SAFETY: the mapping is as long as that, and nobody else uses the buffer yet.
    unsafe { mapped.cast::<u8>().as_ptr().write_bytes(0, mapped.len()) };
    Ok(())
}

/// Copies a frame into memory that a GPU reaches.
///
/// # Safety
///
/// `frame` must be readable for `len` bytes; the GPU must not be at the buffer.
unsafe fn copy_in(frame: *const u8, buffer: &Subbuffer<[u8]>, len: usize) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    assert!(mapped.len() >= len);
    // SAFETY: the caller's contract; the mapping is long enough, as just asserted.
    unsafe { mapped.cast::<u8>().as_ptr().copy_from_nonoverlapping(frame, len) };
    Ok(())
}

/// Copies a frame out of it.
///
/// # Safety
///
/// As for [`copy_in`], with `frame` writable.
unsafe fn copy_out(buffer: &Subbuffer<[u8]>, frame: *mut u8, len: usize) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    assert!(mapped.len() >= len);
    // SAFETY: the caller's contract; the mapping is long enough, as just asserted.
    unsafe { frame.copy_from_nonoverlapping(mapped.cast::<u8>().as_ptr(), len) };
    Ok(())
}
