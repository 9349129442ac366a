//! Owns our side: one CPU lane at one level, working in a slot of shared memory as in the daemon.

use std::sync::Arc;

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, Resizer, Scratch};
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{Lease, Region, RingLayout, SlotMemory};

use crate::frame::{self, Frame};
use crate::turn::{Contender, timed};

pub(crate) struct Ours {
    work: StreamSpec,
    ring: Arc<RingLayout>,
    region: Region,
    lease: Lease,
    resizer: Box<dyn Resizer>,
    scratch: Scratch,
}

impl Ours {
    /// `None` where this CPU lacks the level.
    pub(crate) fn open(work: &StreamSpec, level: Level) -> Option<Self> {
        let cpu = Cpu::with_level(1, level)?;
        let ring = Arc::new(RingLayout::new(work).expect("a ring"));
        let resizer = cpu.open(work, &ring).expect("a stream");
        let (region, mut lease) = frame::slot(&ring);
        lease.input_mut().copy_from_slice(Frame::source(work).bytes());
        Some(Self { work: *work, ring, region, lease, resizer, scratch: Scratch::default() })
    }
}

impl Contender for Ours {
    fn turn(&mut self) -> f64 {
        let slot = SlotMemory::new(&self.region, &self.ring, 0).expect("slot 0");
        timed(|| {
            self.resizer.resize(slot, Band::WHOLE, &mut self.scratch).expect("a frame");
        })
    }

    fn made(&mut self) -> Option<Vec<f32>> {
        let packed = &self.lease.output()[..self.ring.output().packed_len()];
        frame::samples(&self.work, packed)
    }
}
