//! Owns what a GPU keeps for a stream: buffers, and the command buffers of its slots, recorded once and
//! submitted again for every frame.
//!
//! Knows the slots' memory and a program; no formats. A frame takes a lane of the GPU, and the flight of
//! that lane, which has [`buffers`] of its own; its commands are those that [`record`] makes of it.
//! Invariants: a flight's commands are submitted again only after they ended; nothing is
//! allocated for a frame once each slot has been through each flight; what a frame uses lives until
//! it is over, however late ([`UnderWay`]).

mod buffers;
mod record;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use resized_protocol::shm::{RingLayout, SlotMemory};
use vulkano::buffer::Subbuffer;

use self::buffers::{Buffers, copy_in, copy_out};
use self::record::{Recorded, Step};
use super::gpu::{Gpu, Taken};
use super::import::Import;
use super::program::Program;
use super::submit::Submitter;
use super::{LANES, Transfer, of_stream};
use crate::device::{Charge, Fault, Memory};
use crate::lock;

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
    /// The bytes of an input frame that shaders read: no others are copied.
    read: Vec<Range<usize>>,
    import: Option<Arc<Import>>,
    gpu: Arc<Gpu>,
    /// What its memory is charged to.
    _charge: Option<Charge>,
}

/// What one frame under way uses. Fields go in their order: commands before buffers.
struct Flight {
    /// Of each slot, or of all of them where frames are copied to memory of the flight's own.
    recorded: Vec<Option<Recorded>>,
    buffers: Buffers,
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
/// before, nothing of it may be used or freed, nor a slot that it [reaches](Self::reaches_slot) be
/// anybody else's.
pub(super) struct UnderWay {
    prepared: Arc<Prepared>,
    lane: Taken,
    /// That of the lane's timeline when it is over.
    value: u64,
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
        let flight = |_| {
            let buffers = Buffers::new(gpu, program, ring, transfer)?;
            Ok(Mutex::new(Flight { recorded: Vec::new(), buffers }))
        };
        let stages = program.stages.iter().filter(|stage| !stage.is_empty());
        let stages = stages.map(|stage| stage.iter().map(|step| Step::new(gpu, step)).collect());
        Ok(Self {
            flights: gpu.lanes.iter().map(flight).collect::<Result<_, _>>()?,
            stages: stages.collect::<Result<_, _>>()?,
            tables: gpu.table(&program.tables)?,
            transfer,
            ring: ring.clone(),
            read: program.reads.bytes(),
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
        let flown = self.fly(&lane, &mut lock::wait(&self.flights[lane.number()]), slot);
        flown.map_err(|flown| match flown {
            Flown::Failed(fault) => fault.into(),
            Flown::Late(value) => {
                Failure::UnderWay(UnderWay { prepared: Arc::clone(self), lane, value })
            }
        })
    }

    /// The same by that lane and its flight.
    fn fly(&self, lane: &Taken, flight: &mut Flight, slot: SlotMemory<'_>) -> Result<bool, Flown> {
        let Flight { recorded, buffers } = flight;
        if let Some(host) = &buffers.host {
            // SAFETY: the slot's input is readable as its layout says, which is ours; no frame is
            // under way in this flight.
            unsafe { copy_in(slot.input(), &host.input, &self.read)? };
        }
        let number = if buffers.host.is_some() { 0 } else { slot.slot() as usize };
        let is_new = recorded.get(number).is_none_or(Option::is_none);
        if is_new {
            let is_first = recorded.iter().all(Option::is_none);
            let commands = self.record(lane, buffers, is_first, slot);
            recorded.resize_with(recorded.len().max(number + 1), || None);
            recorded[number] = Some(commands.map_err(|error| of_stream(&error))?);
        }
        let Some(Some(commands)) = recorded.get(number) else {
            return Err(Fault::Driver.into());
        };
        run(lane, buffers.queues(lane), commands)?;
        if let Some(host) = &buffers.host {
            // SAFETY: the slot's output is writable as its layout says; the frame is over.
            unsafe { copy_out(&host.output, slot.output(), self.ring.output().rows_len())? };
        }
        Ok(is_new)
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

impl UnderWay {
    /// Whether the GPU itself reads and writes the slot; if not, a copy of its own.
    pub(super) fn reaches_slot(&self) -> bool {
        self.prepared.transfer != Transfer::Staged
    }

    /// Whether it is over by now.
    pub(super) fn is_over(&self) -> bool {
        self.lane.timeline().is_over(self.value)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.lane.timeline().settle(self.value);
    }
}
