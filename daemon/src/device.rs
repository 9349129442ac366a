//! Owns the seam between the scheduler and what resizes: [`Device`], [`Resizer`], [`Band`],
//! [`Scratch`].
//!
//! Devices know a slot's memory and a stream's spec; never a socket, a client or a queue. The
//! scheduler runs a thread for each lane of each device; the thread takes a frame, or a band of one,
//! and calls [`Resizer::resize`]. For short frames so does the thread that reads messages, where the
//! device lets it ([`Device::is_anybodys`]).

pub mod cpu;
pub(crate) mod fleet;
pub(crate) mod null;
mod plan;
pub mod vulkan;

use std::ops::Range;
use std::sync::Arc;

use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{Region, RingLayout, SlotMemory};
use thiserror::Error;

/// Why a device does not resize.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The device can't take streams of this spec.
    #[error("{device} can't resize this stream: {reason}")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// The slot's memory is laid out otherwise than the stream that the resizer was opened for.
    #[error("the slot is not laid out as the stream")]
    Layout,
    /// The device itself failed: another one should do the frame, and this one be left alone for a
    /// while.
    #[error("{device} failed: {fault}")]
    Failed {
        /// Name of the device.
        device: String,
        /// What happened to it.
        fault: Fault,
    },
}

/// What may happen to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Its driver gave it up, or it was unplugged.
    #[error("it was lost")]
    Lost,
    /// Its memory, or what its driver takes of the system's, is spent.
    #[error("it is out of memory")]
    Memory,
    /// A frame took longer than any may.
    #[error("it did not answer in time")]
    TimedOut,
    /// Its driver gave another error.
    #[error("its driver failed")]
    Driver,
    /// Its driver gave another error over what a stream needs.
    #[error("its driver refused the stream")]
    Refused,
}

impl Fault {
    /// Whether it says something about one stream alone: the device is as good as before for all
    /// others.
    pub const fn is_of_stream(self) -> bool {
        matches!(self, Self::Memory | Self::Refused)
    }
}

/// Something that resizes frames: all cores together, or one GPU.
pub trait Device: Send + Sync {
    /// Name in figures and receipts, such as `cpu`.
    fn name(&self) -> &str;

    /// Frames or bands it works on at once.
    fn lanes(&self) -> usize;

    /// The core of this machine that each lane is to be bound to; empty: they run anywhere.
    fn cores(&self) -> &[usize] {
        &[]
    }

    /// Whether threads that are no lanes may resize as well: whoever does is at it until it is done, and
    /// waits for nothing but the frame's memory.
    fn is_anybodys(&self) -> bool {
        false
    }

    /// The calling thread becomes one of its lanes.
    fn enter(&self) {}

    /// The calling thread may have been started by a lane, and is none: it is not to go on as one.
    fn leave(&self) {}

    /// Prepares a stream: computes once whatever its frames share.
    fn open(&self, spec: &StreamSpec, ring: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError>;

    /// Bytes of the system's memory that what it prepares for a stream of that spec takes at the most,
    /// whatever crop a frame brings.
    fn table_bytes(&self, spec: &StreamSpec) -> u64 {
        let _ = spec;
        0
    }

    /// Whether single frames may have crops of their own, for which it is [opened](Self::open) anew.
    fn crops(&self) -> bool {
        true
    }

    /// Bytes of memory that streams may take of it together, each by its [`Allowance`]; `None`: it
    /// takes none worth counting.
    fn memory(&self) -> Option<u64> {
        None
    }

    /// Brings the device back after it [failed](DeviceError::Failed). Streams stay open.
    /// [`Fault::TimedOut`]: not as long as it owes an answer to a frame.
    fn revive(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What a stream may take of a device's memory, and of the system's for it.
pub trait Allowance: Send + Sync {
    /// As much, until what is given for it is dropped; `None`: it is not to be had.
    fn take(&self, memory: Memory) -> Option<Charge>;
}

/// Bytes that a device takes for a stream, beside its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of the device's own.
    pub device: u64,
    /// Of the system's, which rings are of too.
    pub system: u64,
}

/// Memory that is taken, until this is dropped.
pub type Charge = Box<dyn Send + Sync>;

/// A device made ready for one stream.
pub trait Resizer: Send + Sync {
    /// What the device is to take memory for the stream from. Once, before it is attached; without,
    /// nobody counts.
    fn allow(&mut self, allowance: Arc<dyn Allowance>) {
        let _ = allowance;
    }

    /// Lets the device prepare the memory in which all slots of the stream lie. Once, before the first
    /// frame; a resizer whose memory was not attached reaches it by way of each slot.
    fn attach(&mut self, region: &Arc<Region>) -> Result<(), DeviceError> {
        let _ = region;
        Ok(())
    }

    /// Bytes of pixels that are copied for a frame, instead of being used where they lie.
    fn copied_bytes(&self) -> u64 {
        0
    }

    /// Waits until the device no longer touches the slot's memory. To be called for a frame that
    /// [was not answered in time](Fault::TimedOut), before anybody else may have its slot.
    fn settle(&self, slot: u32) {
        let _ = slot;
    }

    /// How many lanes are worth waking for one frame: into so many bands it may be cut. Zero: its work
    /// is less than a lane takes to wake, so the thread that has the frame does it at once.
    fn worth(&self) -> u32;

    /// Resizes one band of the slot's input frame into the same band of its output frame, and says
    /// what that included. Every output row belongs to one band, so bands may run at the same time. The
    /// result does not depend on how the frame was cut.
    fn resize(
        &self,
        slot: SlotMemory<'_>,
        band: Band,
        scratch: &mut Scratch,
    ) -> Result<Preparation, DeviceError>;
}

/// When what the frames of a stream share was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// Before this frame.
    Before,
    /// As part of this frame: what it took says nothing of later ones.
    Now,
}

/// A horizontal part of a frame: the `index`-th of `count` parts of every plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    index: u32,
    count: u32,
}

impl Band {
    /// The whole frame.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Cuts a frame into `count` bands.
    pub fn cut(count: u32) -> impl ExactSizeIterator<Item = Self> {
        (0..count).map(move |index| Self { index, count })
    }

    /// Whether it is the first of its frame.
    pub(crate) const fn is_first(self) -> bool {
        self.index == 0
    }

    /// Rows of this band in a plane of `rows` rows; may be empty.
    pub fn rows(self, rows: usize) -> Range<usize> {
        let edge = |index: u32| (rows as u64 * u64::from(index) / u64::from(self.count)) as usize;
        edge(self.index)..edge(self.index + 1)
    }
}

/// The working memory of a lane, or of who else resizes: grows to what its streams need and is used again for every frame.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<i16>,
}

impl Scratch {
    /// Bytes to which the memory is aligned.
    const ALIGN: usize = 64;

    /// `len` words of unspecified content, aligned to 64 bytes.
    pub fn words(&mut self, len: usize) -> &mut [i16] {
        let slack = Self::ALIGN / size_of::<i16>();
        if self.words.len() < len + slack {
            self.words.resize(len + slack, 0);
        }
        let skip = self.words.as_ptr().align_offset(Self::ALIGN);
        &mut self.words[skip..skip + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_row_once() {
        for rows in [1, 2, 7, 360, 16_384] {
            for count in [1, 2, 3, 8] {
                let covered: Vec<_> = Band::cut(count).flat_map(|band| band.rows(rows)).collect();
                assert_eq!(covered, (0..rows).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn scratch_is_aligned_whatever_its_size() {
        let mut scratch = Scratch::default();
        for len in [1, 1000, 31, 5000] {
            let words = scratch.words(len);
            assert_eq!((words.len(), words.as_ptr() as usize % Scratch::ALIGN), (len, 0));
        }
    }
}
