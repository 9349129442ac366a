//! Owns nothing: a device that completes frames without touching them, to measure everything else.

use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{RingLayout, SlotMemory};

use super::{Band, Device, DeviceError, Preparation, Resizer, Scratch};

/// Completes every frame at once and leaves its output as it was.
#[derive(Debug)]
pub(crate) struct Null;

impl Device for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        Ok(Box::new(Self))
    }
}

impl Resizer for Null {
    fn worth(&self) -> u32 {
        0
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        _: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        Ok(Preparation::Before)
    }
}
