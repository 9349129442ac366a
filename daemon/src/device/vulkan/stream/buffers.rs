//! Owns the buffers that one frame under way uses of a GPU.
//!
//! Knows how frames are brought, and no commands. Invariant: memory that others may have used before
//! is zeroed before a client sees it: here where the host can reach it, else by the first commands
//! for these buffers.

use std::ops::Range;

use resized_protocol::shm::RingLayout;
use vulkano::buffer::Subbuffer;

use super::super::Transfer;
use super::super::gpu::{Gpu, Lane};
use super::super::program::Program;
use super::super::submit::Submitter;
use crate::device::Fault;

/// What one frame under way uses, beside the ring.
pub(super) struct Buffers {
    pub(super) lines: Subbuffer<[u32]>,
    /// An input frame in the device's memory, where the shaders do not read the ring.
    pub(super) input: Option<Subbuffer<[u8]>>,
    /// An output frame there, where the shaders do not write into the ring.
    pub(super) output: Option<Subbuffer<[u32]>>,
    /// Frames in memory that both reach, where the ring can't be imported.
    pub(super) host: Option<Frames>,
}

/// An input and an output frame.
#[derive(Clone)]
pub(super) struct Frames {
    pub(super) input: Subbuffer<[u8]>,
    pub(super) output: Subbuffer<[u8]>,
}

impl Buffers {
    pub(super) fn new(
        gpu: &Gpu,
        program: &Program,
        ring: &RingLayout,
        transfer: Transfer,
    ) -> Result<Self, Fault> {
        let elements = |len: usize| len.div_ceil(4) as u64;
        let (input, output) = (elements(ring.input().len()), elements(ring.output().len()));
        let host = match transfer {
            Transfer::Staged => {
                let host = Frames {
                    input: gpu.host_buffer(input)?.into_bytes(),
                    output: gpu.host_buffer(output)?.into_bytes(),
                };
                clear(&host.output)?;
                Some(host)
            }
            Transfer::Direct | Transfer::Copied | Transfer::BothWays => None,
        };
        let input = match transfer {
            Transfer::Direct => None,
            Transfer::Copied | Transfer::BothWays | Transfer::Staged => {
                Some(gpu.device_buffer(input)?.into_bytes())
            }
        };
        let output = match transfer {
            Transfer::BothWays => Some(gpu.device_buffer(output)?),
            Transfer::Direct | Transfer::Copied | Transfer::Staged => None,
        };
        let lines = gpu.device_buffer(program.lines)?;
        Ok(Self { lines, input, output, host })
    }

    /// The queues to which its copies go, there and back, where they do not go to that of the shaders.
    pub(super) fn queues<'a>(&self, lane: &'a Lane) -> [Option<&'a Submitter>; 2] {
        match (&self.output, &lane.there_and_back, &lane.copying) {
            (Some(_), Some([there, back]), _) => [Some(there), Some(back)],
            (_, _, there) => [there.as_deref(), None],
        }
    }
}

/// Zeroes memory that others may have used before: what lies between the rows of an output goes to
/// the client as it is.
fn clear(buffer: &Subbuffer<[u8]>) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    // SAFETY: the mapping is as long as that, and nobody else uses the buffer yet.
    unsafe { mapped.cast::<u8>().as_ptr().write_bytes(0, mapped.len()) };
    Ok(())
}

/// Copies those bytes of a frame into memory that a GPU reaches, to the same place.
///
/// # Safety
///
/// `frame` must be readable as far as they go; the GPU must not be at the buffer.
pub(super) unsafe fn copy_in(
    frame: *const u8,
    buffer: &Subbuffer<[u8]>,
    bytes: &[Range<usize>],
) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    let to = mapped.cast::<u8>().as_ptr();
    for Range { start, end } in bytes.iter().cloned() {
        assert!(start <= end && end <= mapped.len());
        // SAFETY: the caller's contract; the mapping is long enough, as just asserted.
        unsafe { to.add(start).copy_from_nonoverlapping(frame.add(start), end - start) };
    }
    Ok(())
}

/// Copies a frame out of it.
///
/// # Safety
///
/// `frame` must be writable for `len` bytes; the GPU must not be at the buffer.
pub(super) unsafe fn copy_out(
    buffer: &Subbuffer<[u8]>,
    frame: *mut u8,
    len: usize,
) -> Result<(), Fault> {
    let mapped = buffer.mapped_slice().map_err(|_| Fault::Driver)?;
    assert!(mapped.len() >= len);
    // SAFETY: the caller's contract; the mapping is long enough, as just asserted.
    unsafe { frame.copy_from_nonoverlapping(mapped.cast::<u8>().as_ptr(), len) };
    Ok(())
}
