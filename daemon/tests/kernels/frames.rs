//! What the tests resize: rings, what is in them and what came out.

use std::sync::Arc;

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, Scratch};
use resized_protocol::frame::{FrameLayout, Matrix, PixelFormat, TAIL};
use resized_protocol::message::StreamSpec;
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::shm::{Lease, Region, RingLayout, SlotMemory, leases};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};

pub(crate) use crate::specs::spec;

/// Every format that a source may have.
pub(crate) fn sources() -> impl Iterator<Item = PixelFormat> + Clone {
    PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT)
}

/// Every kind of tensor.
pub(crate) fn tensors() -> Vec<PixelFormat> {
    let mut all = Vec::new();
    for element in [Element::F32, Element::F16, Element::I8] {
        for arrangement in [Arrangement::Planar, Arrangement::Interleaved] {
            for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                all.push(PixelFormat::Tensor(Tensor { element, arrangement, order }));
            }
        }
    }
    all
}

/// What becomes of a tensor's colours: numbers as networks want them, with signs, more than eight
/// bits hold, and channels alone.
pub(crate) const NORMALISATIONS: [Normalisation; 6] = [
    Normalisation { mean: [0.0; 3], scale: [1.0 / 255.0; 3] },
    Normalisation { mean: [123.675, 116.28, 103.53], scale: [0.017, 0.0175, -0.0174] },
    Normalisation { mean: [128.0; 3], scale: [1.0; 3] },
    Normalisation { mean: [127.5; 3], scale: [4.0; 3] },
    Normalisation { mean: [0.0; 3], scale: [0.4, 0.0, 0.0] },
    Normalisation { mean: [0.0; 3], scale: [0.0, 0.0, 0.4] },
];

pub(crate) const MATRICES: [Matrix; 3] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];

/// Extents from which and to which, of every kind.
pub(crate) const SIZES: [((u32, u32), (u32, u32)); 9] = [
    ((96, 54), (32, 18)),
    ((96, 45), (20, 9)),
    ((48, 37), (17, 13)),
    ((31, 20), (64, 45)),
    ((33, 17), (33, 17)),
    ((1, 1), (5, 3)),
    ((3, 7), (1, 1)),
    ((210, 3), (7, 5)),
    ((2, 150), (3, 4)),
];

/// Parts of a frame of 40 x 30, and shapes to put them in.
pub(crate) fn pictures() -> Vec<(Option<Crop>, Framing)> {
    let crops = [
        None,
        Some(Crop { left: 0.0, top: 0.0, width: 20.0, height: 10.0 }),
        Some(Crop { left: 7.3, top: 4.75, width: 21.5, height: 25.25 }),
        Some(Crop { left: 39.25, top: 29.5, width: 0.5, height: 0.25 }),
    ];
    let fit = |align| Framing::Fit { align, pad: [10, 114, 200] };
    let framings = [Framing::Stretch, fit(Align::Centre), fit(Align::End), Framing::Fill];
    crops.into_iter().flat_map(|crop| framings.map(|framing| (crop, framing))).collect()
}

/// Both ends of a ring of three slots; the middle one is resized, the others must stay as they are.
pub(crate) struct Ring {
    pub(crate) spec: StreamSpec,
    pub(crate) layout: Arc<RingLayout>,
    pub(crate) daemon: Arc<Region>,
    pub(crate) leases: Vec<Lease>,
}

impl Ring {
    pub(crate) fn new(spec: StreamSpec) -> Self {
        let spec = StreamSpec { slots: 3, ..spec };
        let layout = Arc::new(RingLayout::new(&spec).unwrap());
        let (daemon, descriptor) = Region::create(layout.len()).unwrap();
        let client = Region::open(&descriptor, layout.len()).unwrap();
        let leases = leases(client, &layout).unwrap();
        Self { spec, layout, daemon: Arc::new(daemon), leases }
    }

    /// Gives every byte of the input, padding too, the value of `sample`, then resizes it in `bands`.
    /// Gives the output's pixels, packed.
    pub(crate) fn resized(
        &mut self,
        level: Level,
        bands: u32,
        sample: impl FnMut() -> u8,
    ) -> Vec<u8> {
        self.resized_on(&Cpu::with_level(1, level).unwrap(), bands, sample)
    }

    /// The same on any device.
    pub(crate) fn resized_on(
        &mut self,
        device: &dyn Device,
        bands: u32,
        sample: impl FnMut() -> u8,
    ) -> Vec<u8> {
        self.leases[1].input_mut().fill_with(sample);
        self.fill_neighbours();
        let before = self.leases[1].input().to_vec();
        let mut resizer = device.open(&self.spec, &self.layout).unwrap();
        resizer.attach(&self.daemon).unwrap();
        let slot = SlotMemory::new(&self.daemon, &self.layout, 1).unwrap();
        // As other streams leave it.
        let mut scratch = Scratch::default();
        for band in Band::cut(bands) {
            scratch.words(1 << 16).fill(0x5a5a);
            resizer.resize(slot, band, &mut scratch).unwrap();
        }
        assert_eq!(self.leases[1].input(), before, "the input was written");
        self.assert_kept_to();
        packed(self.leases[1].output(), self.layout.output())
    }

    pub(crate) fn fill_neighbours(&mut self) {
        for neighbour in [0, 2] {
            self.leases[neighbour].input_mut().fill(0xa5);
        }
    }

    /// Whatever was resized wrote rows of the middle output frame, and nothing beside.
    #[track_caller]
    pub(crate) fn assert_kept_to(&self) {
        for neighbour in [0, 2] {
            assert!(self.leases[neighbour].input().iter().all(|&byte| byte == 0xa5));
            assert!(self.leases[neighbour].output().iter().all(|&byte| byte == 0));
        }
        let output = self.leases[1].output();
        assert_eq!(output[output.len() - TAIL..], [0; TAIL], "bytes behind the frame were written");
        for row in padding(self.layout.output()) {
            assert!(output[row].iter().all(|&byte| byte == 0), "padding holds what is nobody's");
        }
    }
}

/// What lies behind each row.
fn padding(layout: &FrameLayout) -> impl Iterator<Item = std::ops::Range<usize>> {
    layout.planes().iter().flat_map(|plane| {
        let rows = (0..plane.rows()).map(|row| plane.offset + row * plane.stride);
        rows.map(|start| start + plane.row_bytes()..start + plane.stride)
    })
}

pub(crate) fn packed(frame: &[u8], layout: &FrameLayout) -> Vec<u8> {
    let rows = |plane: &resized_protocol::frame::Plane| {
        let (start, stride, bytes) = (plane.offset, plane.stride, plane.row_bytes());
        (0..plane.rows()).map(move |row| start + row * stride..start + row * stride + bytes)
    };
    layout.planes().iter().flat_map(rows).flat_map(|row| &frame[row]).copied().collect()
}

/// Noise of any value (xorshift, Marsaglia 2003).
pub(crate) fn noise(seed: u32) -> impl FnMut() -> u8 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    }
}

/// Noise of black and white only, in runs: hard edges.
pub(crate) fn edges(seed: u32) -> impl FnMut() -> u8 {
    let (mut noise, mut value) = (noise(seed), 0);
    move || {
        if noise() < 80 {
            value = !value;
        }
        value
    }
}

/// The one or the other, by the seed.
pub(crate) fn either(seed: u32) -> impl FnMut() -> u8 {
    let (mut noise, mut edges) = (noise(seed), edges(seed));
    move || if seed.is_multiple_of(2) { noise() } else { edges() }
}

/// The numbers of a packed frame.
pub(crate) fn numbers(format: PixelFormat, bytes: &[u8]) -> Vec<f64> {
    let shift = if format == PixelFormat::P010 { 6 } else { 0 };
    if PixelFormat::TEN_BIT.contains(&format) {
        let (samples, _) = bytes.as_chunks::<2>();
        return samples.iter().map(|&two| f64::from(u16::from_le_bytes(two) >> shift)).collect();
    }
    let PixelFormat::Tensor(tensor) = format else {
        return bytes.iter().copied().map(f64::from).collect();
    };
    match tensor.element {
        Element::I8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        Element::F32 => {
            let (numbers, _) = bytes.as_chunks::<4>();
            numbers.iter().map(|&four| f64::from(f32::from_le_bytes(four))).collect()
        }
        Element::F16 => {
            let (numbers, _) = bytes.as_chunks::<2>();
            numbers.iter().map(|&two| half(u16::from_le_bytes(two))).collect()
        }
    }
}

/// The value of a finite number in half precision.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * (-24_f64).exp2(),
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}
