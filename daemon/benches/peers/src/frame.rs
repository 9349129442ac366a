//! Owns the frames of peers that take memory as it is given, and what every source holds.
//!
//! Invariants: a frame lies in memory of the same kind as a slot, so that nobody is ahead by larger
//! pages; rows have no padding, yet start on multiples of 64 bytes, so that resizers which know strides
//! and such as do not are given the same. Widths that can't be both are refused.

use std::f32::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use resized_protocol::frame::{Component, Extent, FrameLayout, FrameSpec, PixelFormat, Plane};
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{Lease, Region, RingLayout, leases};
use resized_protocol::tensor::{Arrangement, Element, Tensor};

/// Both ends of shared memory with one slot: the daemon's mapping, and the client's ownership.
pub(crate) fn slot(ring: &Arc<RingLayout>) -> (Region, Lease) {
    let (region, descriptor) = Region::create(ring.len()).expect("a region");
    let client = Region::open(descriptor, ring.len()).expect("the same region");
    let lease = leases(client, ring).expect("leases").remove(0);
    (region, lease)
}

pub(crate) struct Frame {
    lease: Lease,
}

impl Frame {
    pub(crate) fn empty(spec: FrameSpec) -> Self {
        // It lies where the input of a stream would.
        let stream = StreamSpec { slots: 1, ..StreamSpec::new(spec, Extent::new(1, 1)) };
        let ring = Arc::new(RingLayout::new(&stream).expect("a frame of usual size"));
        let packed = |plane: &Plane| plane.stride == plane.row_bytes();
        assert!(ring.input().planes().iter().all(packed), "{}: rows would be padded", spec.extent);
        let (_, lease) = slot(&ring);
        Self { lease }
    }

    /// What everybody is given to do a work.
    pub(crate) fn source(work: &StreamSpec) -> Self {
        if work.source.format == work.destination.format {
            Self::noise(work.source)
        } else {
            Self::waves(work.source)
        }
    }

    /// Noise on a slope, other in each channel: weights that are wrong show in the noise, planes and
    /// channels that are shifted, mirrored or mixed up show in the slope, even where the peer's filter
    /// is another one.
    fn noise(spec: FrameSpec) -> Self {
        let mut frame = Self::empty(spec);
        let mut noise = noise();
        for (index, plane) in frame.planes().to_owned().iter().enumerate() {
            let (width, height) = (plane.row_bytes(), plane.rows());
            let rows = frame.plane_mut(index).chunks_exact_mut(width);
            for (y, row) in rows.enumerate() {
                for (x, byte) in row.iter_mut().enumerate() {
                    let channel = (index + x % plane.channels) * 16;
                    *byte = (x * 80 / width + y * 48 / height + channel) as u8 + noise() % 80;
                }
            }
        }
        frame
    }

    /// Waves of 64 samples in both directions, other in each channel, of colours that any matrix leaves
    /// within 0..=255. Where peers convert they leave out samples, or take chroma at half the width: on
    /// noise that would be all one sees. A shift of a third of a pixel still shows.
    fn waves(spec: FrameSpec) -> Self {
        let mut frame = Self::empty(spec);
        let wave = |at: usize| (at as f32 * TAU / 64.0).sin();
        for (index, plane) in frame.planes().to_owned().iter().enumerate() {
            let height =
                if spec.format.components()[index][0] == Component::Chroma { 12.0 } else { 30.0 };
            let rows = frame.plane_mut(index).chunks_exact_mut(plane.row_bytes());
            for (y, row) in rows.enumerate() {
                for (x, byte) in row.iter_mut().enumerate() {
                    let phase = (index + x % plane.channels) * 16;
                    let waves = wave(x / plane.channels + phase) + wave(y + 2 * phase);
                    *byte = (128.0 + height * waves).round() as u8;
                }
            }
        }
        frame
    }

    /// The whole of it, as long as a slot's frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lease.input()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.lease.input_mut()
    }

    pub(crate) fn planes(&self) -> &[Plane] {
        self.layout().planes()
    }

    pub(crate) fn plane(&self, index: usize) -> &[u8] {
        &self.bytes()[within(&self.planes()[index])]
    }

    pub(crate) fn plane_mut(&mut self, index: usize) -> &mut [u8] {
        let within = within(&self.planes()[index]);
        &mut self.bytes_mut()[within]
    }

    /// Its bytes without what lies behind the last plane.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.bytes()[..self.layout().packed_len()]
    }

    pub(crate) fn samples(&self) -> Vec<f32> {
        self.packed().iter().copied().map(f32::from).collect()
    }

    fn layout(&self) -> &FrameLayout {
        self.lease.layout().input()
    }
}

/// The samples of a packed result; those of a tensor in steps of colour samples again, or `None` where
/// no peer makes such a tensor.
pub(crate) fn samples(work: &StreamSpec, packed: &[u8]) -> Option<Vec<f32>> {
    let PixelFormat::Tensor(tensor) = work.destination.format else {
        return Some(packed.iter().copied().map(f32::from).collect());
    };
    let Tensor { element: Element::F32, arrangement: Arrangement::Planar, .. } = tensor else {
        return None;
    };
    let normalisation = work.normalisation;
    let channels = packed.chunks_exact(packed.len() / 3).enumerate();
    let sample = |(channel, bytes): (usize, &[u8])| {
        let (mean, scale) = (normalisation.mean[channel], normalisation.scale[channel]);
        let (numbers, _) = bytes.as_chunks::<4>();
        numbers.iter().map(|&four| f32::from_le_bytes(four) / scale + mean).collect::<Vec<_>>()
    };
    Some(channels.flat_map(sample).collect())
}

/// Where a plane's rows lie in its frame.
fn within(plane: &Plane) -> Range<usize> {
    plane.offset..plane.offset + plane.stride * plane.rows()
}

/// Xorshift (Marsaglia 2003).
fn noise() -> impl FnMut() -> u8 {
    let mut state = 0x2545_f491_u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    }
}
