//! Owns what a frame should become: the scalar kernel, called in this process on a ring of its own.

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, Scratch};
use resized_client::{
    Align, Arrangement, ChannelOrder, Client, Crop, Element, Filter, Frame, FrameLayout, Framing,
    Pending, PixelFormat, Range, Siting, Stream, StreamSpec, Tensor,
};
use resized_protocol::shm::{Region, RingLayout, SlotMemory, leases};
use std::sync::Arc;

pub(crate) use crate::specs::spec;

/// A frame of one byte.
pub(crate) fn dot() -> StreamSpec {
    spec(PixelFormat::Gray8, Filter::Nearest, (1, 1), (1, 1))
}

/// A frame that takes a lane some milliseconds in a debug build, and is worth cutting into bands.
pub(crate) fn big() -> StreamSpec {
    spec(PixelFormat::I420, Filter::Bicubic, (512, 282), (256, 141))
}

/// The frame that figures are about, a quarter of a millisecond of a core's time with the best kernels.
pub(crate) fn film() -> StreamSpec {
    spec(PixelFormat::I420, Filter::Bicubic, (1920, 1080), (640, 360))
}

/// The `n`-th of endlessly many specs: every format, and with it changing filters, sizes, ranges,
/// sitings, crops, conversions and slot counts.
pub(crate) fn mixed(n: usize) -> StreamSpec {
    const SIZES: [((u32, u32), (u32, u32)); 6] = [
        ((96, 54), (40, 22)),
        ((33, 47), (90, 71)),
        ((210, 118), (105, 59)),
        ((512, 280), (128, 70)),
        ((61, 31), (61, 31)),
        ((7, 5), (3, 2)),
    ];
    let (from, to) = SIZES[n % SIZES.len()];
    let formats = || PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT).cycle();
    let format = formats().nth(n % 9).unwrap();
    let mut spec = spec(format, Filter::ALL[n % Filter::ALL.len()], from, to);
    let range = |n: usize| [Range::Limited, Range::Full][n % 2];
    let siting = |n: usize| [Siting::Left, Siting::Centre][n % 2];
    (spec.source.range, spec.destination.range) = (range(n), range(n / 2));
    (spec.source.siting, spec.destination.siting) = (siting(n / 3), siting(n / 5));
    spec.slots = 1 + n as u32 % 5;
    match n % 4 {
        0 => {}
        1 => spec.framing = Framing::Fill,
        2 => {
            spec.destination.format = formats().nth(n / 2 % 9).unwrap();
            spec.framing = Framing::Fit { align: Align::Centre, pad: [9, 99, 199] };
        }
        _ => {
            spec.destination.format = tensor();
            let (width, height) = (f64::from(from.0) / 2.0, f64::from(from.1) / 3.0);
            spec.crop = Some(Crop { left: width / 2.0, top: height, width, height });
        }
    }
    spec
}

pub(crate) fn tensor() -> PixelFormat {
    PixelFormat::Tensor(Tensor {
        element: Element::F32,
        arrangement: Arrangement::Planar,
        order: ChannelOrder::Rgb,
    })
}

/// A packed source frame of noise (xorshift, Marsaglia 2003).
pub(crate) fn noise(spec: &StreamSpec, seed: u32) -> Vec<u8> {
    let layout = FrameLayout::new(spec.source.format, spec.source.extent).unwrap();
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..layout.packed_len()).map(next).collect()
}

/// What a packed source frame becomes, packed.
pub(crate) fn resized(spec: &StreamSpec, source: &[u8]) -> Vec<u8> {
    let spec = StreamSpec { slots: 1, ..*spec };
    let ring = Arc::new(RingLayout::new(&spec).unwrap());
    let (daemon, descriptor) = Region::create(ring.len()).unwrap();
    let client = Region::open(&descriptor, ring.len()).unwrap();
    let mut lease = leases(client, &ring).unwrap().remove(0);
    let mut rest = source;
    for (start, bytes) in rows(ring.input()) {
        let (row, behind) = rest.split_at(bytes);
        lease.input_mut()[start..][..bytes].copy_from_slice(row);
        rest = behind;
    }
    let cpu = Cpu::with_level(1, Level::Scalar).unwrap();
    let slot = SlotMemory::new(&daemon, &ring, 0).unwrap();
    let resizer = cpu.open(&spec, &ring).unwrap();
    resizer.resize(slot, Band::WHOLE, &mut Scratch::default()).unwrap();
    let row = |(start, bytes): (usize, usize)| &lease.output()[start..][..bytes];
    rows(ring.output()).flat_map(row).copied().collect()
}

/// Start and length of every row of every plane.
fn rows(layout: &FrameLayout) -> impl Iterator<Item = (usize, usize)> {
    let rows = |plane: &resized_client::Plane| {
        let (start, stride, bytes) = (plane.offset, plane.stride, plane.row_bytes());
        (0..plane.rows()).map(move |row| (start + row * stride, bytes))
    };
    layout.planes().iter().flat_map(rows)
}

/// A stream with frames whose results are known.
pub(crate) struct Checked {
    pub(crate) stream: Stream,
    spec: StreamSpec,
    frames: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Checked {
    /// Opens a stream, and prepares as many different frames.
    pub(crate) fn open(client: &Client, spec: StreamSpec, frames: u32) -> Self {
        let frame = |seed| {
            let source = noise(&spec, seed);
            let wanted = resized(&spec, &source);
            (source, wanted)
        };
        let stream = client.open(&spec).unwrap();
        Self { stream, spec, frames: (0..frames).map(frame).collect() }
    }

    /// Submits the `n`-th frame, waiting for a slot.
    pub(crate) fn submit(&self, n: usize) -> Result<Pending, resized_client::Error> {
        let mut slot = self.stream.loan()?;
        slot.write_packed(&self.frames[n % self.frames.len()].0)?;
        slot.submit()
    }

    /// Checks what the `n`-th frame became.
    #[track_caller]
    pub(crate) fn check(&self, n: usize, frame: &Frame) {
        let wanted = &self.frames[n % self.frames.len()].1;
        assert!(&frame.to_packed() == wanted, "frame {n} is wrong: {:?}", self.spec);
    }

    /// One frame there and back.
    pub(crate) fn round_trip(&self, n: usize) {
        self.check(n, &self.submit(n).unwrap().wait().unwrap());
    }
}

/// Opens seven streams at once, `seed` says which, and checks frames of them all, as many in flight as
/// there are slots.
pub(crate) fn workout(client: &Client, seed: usize, rounds: usize) {
    let streams: Vec<_> = (0..7).map(|n| Checked::open(client, mixed(seed * 7 + n), 3)).collect();
    for round in 0..rounds {
        let mut pendings = Vec::new();
        for stream in &streams {
            for n in 0..stream.spec.slots as usize {
                pendings.push((stream, round + n, stream.submit(round + n).unwrap()));
            }
        }
        for (stream, n, pending) in pendings {
            stream.check(n, &pending.wait().unwrap());
        }
    }
}
