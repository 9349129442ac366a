//! Devices against their definition: accuracy, flat areas, ranges, siting, bands, bounds, and every
//! level of the cores and every GPU against the scalar one, bit by bit.

mod exact;
mod gpu;

use std::sync::Arc;

use proptest::prelude::*;
use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, DeviceError, Scratch};
use resized_protocol::frame::{
    Extent, FrameLayout, FrameSpec, Matrix, PixelFormat, Range, Siting, TAIL,
};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::shm::{Lease, Region, RingLayout, SlotMemory, leases};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};

/// Both ends of a ring of three slots; the middle one is resized, the others must stay as they are.
struct Ring {
    spec: StreamSpec,
    layout: Arc<RingLayout>,
    daemon: Arc<Region>,
    leases: Vec<Lease>,
}

impl Ring {
    fn new(spec: StreamSpec) -> Self {
        let spec = StreamSpec { slots: 3, ..spec };
        let layout = Arc::new(RingLayout::new(&spec).unwrap());
        let (daemon, descriptor) = Region::create(layout.len()).unwrap();
        let client = Region::open(&descriptor, layout.len()).unwrap();
        let leases = leases(client, &layout).unwrap();
        Self { spec, layout, daemon: Arc::new(daemon), leases }
    }

    /// Gives every byte of the input, padding too, the value of `sample`, then resizes it in `bands`.
    /// Gives the output's pixels, packed.
    fn resized(&mut self, level: Level, bands: u32, sample: impl FnMut() -> u8) -> Vec<u8> {
        self.resized_on(&Cpu::with_level(1, level).unwrap(), bands, sample)
    }

    /// The same on any device.
    fn resized_on(
        &mut self,
        device: &dyn Device,
        bands: u32,
        sample: impl FnMut() -> u8,
    ) -> Vec<u8> {
        self.leases[1].input_mut().fill_with(sample);
        for neighbour in [0, 2] {
            self.leases[neighbour].input_mut().fill(0xa5);
        }
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
        for neighbour in [0, 2] {
            assert!(self.leases[neighbour].input().iter().all(|&byte| byte == 0xa5));
            assert!(self.leases[neighbour].output().iter().all(|&byte| byte == 0));
        }
        let output = self.leases[1].output();
        assert_eq!(output[output.len() - TAIL..], [0; TAIL], "bytes behind the frame were written");
        for row in padding(self.layout.output()) {
            assert!(output[row].iter().all(|&byte| byte == 0), "padding holds what is nobody's");
        }
        packed(output, self.layout.output())
    }
}

/// What lies behind each row.
fn padding(layout: &FrameLayout) -> impl Iterator<Item = std::ops::Range<usize>> {
    layout.planes().iter().flat_map(|plane| {
        let rows = (0..plane.rows()).map(|row| plane.offset + row * plane.stride);
        rows.map(|start| start + plane.row_bytes()..start + plane.stride)
    })
}

fn packed(frame: &[u8], layout: &FrameLayout) -> Vec<u8> {
    let rows = |plane: &resized_protocol::frame::Plane| {
        let (start, stride, bytes) = (plane.offset, plane.stride, plane.row_bytes());
        (0..plane.rows()).map(move |row| start + row * stride..start + row * stride + bytes)
    };
    layout.planes().iter().flat_map(rows).flat_map(|row| &frame[row]).copied().collect()
}

fn spec(format: PixelFormat, filter: Filter, from: (u32, u32), to: (u32, u32)) -> StreamSpec {
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    StreamSpec { filter, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
}

/// The levels that this machine has.
fn levels() -> Vec<Level> {
    Level::ALL
        .iter()
        .copied()
        .filter(|&level| {
            let there = Cpu::with_level(1, level).is_some();
            if !there {
                eprintln!("SKIPPED: this CPU has no {level:?}");
            }
            there
        })
        .collect()
}

/// All levels, and all GPUs.
fn devices() -> Vec<Box<dyn Device>> {
    let cores = levels().into_iter().filter_map(|level| Cpu::with_level(1, level));
    let cores = cores.map(|cpu| Box::new(cpu) as Box<dyn Device>);
    cores.chain(gpu::all().iter().map(|gpu| Box::new(gpu) as Box<dyn Device>)).collect()
}

/// Noise of any value (xorshift, Marsaglia 2003).
fn noise(seed: u32) -> impl FnMut() -> u8 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    }
}

/// Noise of black and white only, in runs: hard edges.
fn edges(seed: u32) -> impl FnMut() -> u8 {
    let (mut noise, mut value) = (noise(seed), 0);
    move || {
        if noise() < 80 {
            value = !value;
        }
        value
    }
}

const SIZES: [((u32, u32), (u32, u32)); 9] = [
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

/// Largest distance of the device's samples from the exact ones.
fn error(ring: &mut Ring, sample: impl FnMut() -> u8) -> f64 {
    let found = ring.resized(Level::Scalar, 1, sample);
    let (spec, input) = (ring.spec, ring.leases[1].input());
    let mut found = numbers(spec.destination.format, &found).into_iter();
    let planes = 0..ring.layout.output().planes().len();
    let wanted = planes.flat_map(|index| exact::plane(&spec, &ring.layout, input, index));
    let worst = wanted.zip(&mut found).map(|(w, f)| (f - w).abs()).fold(0.0, f64::max);
    assert_eq!(found.next(), None);
    worst
}

/// The numbers of a packed frame.
fn numbers(format: PixelFormat, bytes: &[u8]) -> Vec<f64> {
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

#[test]
fn no_sample_is_further_than_one_from_exact() {
    for filter in Filter::ALL {
        for (seed, (from, to)) in SIZES.into_iter().enumerate() {
            for format in [PixelFormat::Gray8, PixelFormat::I420, PixelFormat::Rgb24] {
                let mut ring = Ring::new(spec(format, filter, from, to));
                let noise = error(&mut ring, noise(seed as u32));
                let edges = error(&mut ring, edges(seed as u32));
                assert!(
                    noise.max(edges) < 0.75,
                    "{:?}: {noise} on noise, {edges} on edges",
                    ring.spec
                );
            }
        }
    }
}

/// Rows so long that the horizontal pass comes first although 7:1 is much, with some forty taps;
/// and such as are worked on in pieces, where it comes second or changes nothing.
#[test]
fn long_rows_are_exact_and_alike_too() {
    for (from, to) in [((2100, 28), (300, 4)), ((1100, 60), (70, 4)), ((1100, 40), (1100, 11))] {
        let spec = spec(PixelFormat::Gray8, Filter::Lanczos3, from, to);
        let mut ring = Ring::new(spec);
        let error = error(&mut ring, noise(1)).max(error(&mut ring, edges(1)));
        assert!(error < 0.75, "{from:?} to {to:?}: {error}");
        assert_levels_agree(spec, 1);
    }
}

/// Where the same format would be made in strips.
#[test]
fn long_rows_are_mixed_as_a_whole() {
    let resized = |from, to, size, target| {
        let mut spec = spec(from, Filter::Bicubic, size, target);
        spec.destination.format = to;
        assert_levels_agree(spec, 1);
        Ring::new(spec).resized(Level::Scalar, 1, noise(1))
    };
    let alike = |one: &[u8], other: &[u8]| one.iter().zip(other).all(|(a, b)| a.abs_diff(*b) <= 1);

    let (size, target) = ((3840, 24), (1920, 12));
    let planes = resized(PixelFormat::I420, PixelFormat::I420, size, target);
    let luma = resized(PixelFormat::I420, PixelFormat::Gray8, size, target);
    assert!(alike(&luma, &planes[..luma.len()]));

    let (size, target) = ((1920, 36), (640, 12));
    let copied = resized(PixelFormat::Rgba, PixelFormat::Rgba, size, target);
    let mut mixed = resized(PixelFormat::Rgba, PixelFormat::Bgra, size, target);
    mixed.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    assert!(alike(&copied, &mixed));
}

/// Where one direction shrinks and the other grows, so much that only one order of the passes will do.
#[test]
fn what_is_turned_from_flat_to_upright_is_exact() {
    for (i, filter) in Filter::ALL.into_iter().enumerate() {
        for (j, format) in sources().enumerate() {
            for (from, to) in [((300, 1), (1, 90)), ((1, 300), (90, 1)), ((90, 2), (3, 40))] {
                let mut spec = spec(format, filter, from, to);
                if (i + j).is_multiple_of(2) {
                    (spec.source.range, spec.destination.range) = (Range::Limited, Range::Full);
                }
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(3)).max(error(&mut ring, edges(5)));
                // Hundreds of weights of 14 bits: what rounding them costs adds up to more than a
                // step of ten bits.
                let most = if PixelFormat::TEN_BIT.contains(&format) { 1.5 } else { 1.0 };
                assert!(error < most, "{error}: {spec:?}");
                assert_levels_agree(spec, 7);
            }
        }
    }
}

/// What lies between the passes would be 268 million pixels, were the wrong one first.
#[test]
fn the_flattest_frame_becomes_the_most_upright_one() {
    for format in [PixelFormat::Gray8, PixelFormat::Rgba, PixelFormat::I420P10] {
        for (from, to) in [((16_384, 1), (1, 16_384)), ((1, 16_384), (16_384, 1))] {
            let output = {
                let mut ring = Ring::new(spec(format, Filter::Bicubic, from, to));
                ring.resized(*levels().last().unwrap(), 1, || 2)
            };
            // Ten bits are 0x202.
            assert!(output.iter().all(|&byte| byte == 2), "{format:?}");
        }
    }
}

#[test]
fn a_single_pixel_has_its_own_chroma() {
    let mut spec = spec(PixelFormat::I420, Filter::Bilinear, (1, 1), (4, 4));
    (spec.source.range, spec.destination.range) = (Range::Limited, Range::Full);
    let output = Ring::new(spec).resized(Level::Scalar, 1, || 128);
    assert_eq!(output[16..], [128; 8]);
}

#[test]
fn range_and_siting_are_exact_too() {
    let colours = [
        (Range::Limited, Siting::Left),
        (Range::Full, Siting::Centre),
        (Range::Full, Siting::Left),
        (Range::Limited, Siting::Centre),
    ];
    for filter in Filter::ALL {
        for (from, to) in [((40, 21), (17, 9)), ((9, 6), (31, 11)), ((15, 15), (15, 15))] {
            for format in [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgba] {
                for (source, destination) in
                    colours.into_iter().flat_map(|a| colours.map(move |b| (a, b)))
                {
                    let mut spec = spec(format, filter, from, to);
                    (spec.source.range, spec.source.siting) = source;
                    (spec.destination.range, spec.destination.siting) = destination;
                    let error = error(&mut Ring::new(spec), noise(1));
                    assert!(error < 0.75, "{error}: {spec:?}");
                }
            }
        }
    }
}

/// Every format that a source may have.
fn sources() -> impl Iterator<Item = PixelFormat> + Clone {
    PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT)
}

/// Every kind of tensor.
fn tensors() -> Vec<PixelFormat> {
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

/// Parts of a frame of 40 x 30, and shapes to put them in.
fn pictures() -> Vec<(Option<Crop>, Framing)> {
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

#[test]
fn crops_and_shapes_are_exact() {
    for (i, (crop, framing)) in pictures().into_iter().enumerate() {
        for (j, format) in sources().enumerate() {
            for to in [(17, 23), (31, 9), (90, 70), (20, 10)] {
                let filter = Filter::ALL[(i + j) % Filter::ALL.len()];
                let mut spec = spec(format, filter, (40, 30), to);
                (spec.crop, spec.framing) = (crop, framing);
                let error = error(&mut Ring::new(spec), noise(1));
                // In steps of ten bits where those are.
                let most = if PixelFormat::TEN_BIT.contains(&format) { 1.0 } else { 0.75 };
                assert!(error < most, "{error}: {spec:?}");
            }
        }
    }
}

#[test]
fn ten_bits_are_exact_at_any_ratio() {
    for format in PixelFormat::TEN_BIT {
        for filter in Filter::ALL {
            for (from, to) in
                [((700, 40), (7, 1)), ((40, 700), (3, 2)), ((9, 500), (9, 3)), ((33, 20), (33, 20))]
            {
                let spec = spec(format, filter, from, to);
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(5)).max(error(&mut ring, edges(7)));
                assert!(error < 1.0, "{error}: {spec:?}");
                assert_levels_agree(spec, 9);
            }
        }
    }
}

/// Opaque on the whole, with parts that are nearly transparent: errors grow as opacity falls.
#[test]
fn colours_weighed_by_opacity_are_exact() {
    for from in [PixelFormat::Rgba, PixelFormat::Bgra] {
        for to in sources() {
            for (i, filter) in Filter::ALL.into_iter().enumerate() {
                for size in [(17, 23), (61, 47), (2, 1)] {
                    let mut spec = spec(from, filter, (40, 30), size);
                    (spec.alpha, spec.destination.format) = (Alpha::Weighs, to);
                    (spec.crop, spec.framing) = pictures()[i];
                    let (mut next, mut at) = (noise(i as u32), 0_u32);
                    let opaque = move || {
                        at += 1;
                        if at.is_multiple_of(4) { next() | 0x80 } else { next() }
                    };
                    let error = error(&mut Ring::new(spec), opaque);
                    let most = if PixelFormat::TEN_BIT.contains(&to) { 2.0 } else { 1.0 };
                    assert!(error < most, "{error}: {spec:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_transparent_does_not_bleed() {
    for device in devices() {
        let mut spec = spec(PixelFormat::Rgba, Filter::Lanczos3, (64, 9), (21, 3));
        spec.alpha = Alpha::Weighs;
        let pixels = [[200, 100, 50, 255], [0, 255, 255, 0], [255, 0, 255, 0], [200, 100, 50, 255]];
        let mut bytes = (0_usize..).map(|i| pixels[i / 4 % 3 + i / 768 % 2][i % 4]);
        let output = Ring::new(spec).resized_on(&*device, 1, || bytes.next().unwrap());
        for pixel in output.as_chunks::<4>().0.iter().filter(|pixel| pixel[3] > 16) {
            assert!(
                [200, 100, 50].iter().zip(pixel).all(|(a, b)| b.abs_diff(*a) <= 4),
                "{pixel:?}"
            );
        }
    }
}

#[test]
fn conversions_are_exact() {
    let colours = [
        (Range::Limited, Siting::Left, Matrix::Bt601),
        (Range::Full, Siting::Centre, Matrix::Bt709),
        (Range::Limited, Siting::Centre, Matrix::Bt2020),
    ];
    let mut n = 0;
    for from in sources() {
        for to in sources() {
            for (source, destination) in
                colours.into_iter().flat_map(|a| colours.map(move |b| (a, b)))
            {
                n += 1;
                let filter = Filter::ALL[n % Filter::ALL.len()];
                let size = [(17, 23), (61, 47), (40, 30)][n % 3];
                let mut spec = spec(from, filter, (40, 30), size);
                spec.destination.format = to;
                (spec.crop, spec.framing) = pictures()[n % pictures().len()];
                (spec.source.range, spec.source.siting, spec.source.matrix) = source;
                let colour = &mut spec.destination;
                (colour.range, colour.siting, colour.matrix) = destination;
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(n as u32)).max(error(&mut ring, edges(7)));
                assert!(error < 1.0, "{error}: {spec:?}");
            }
        }
    }
}

#[test]
fn tensors_are_exact() {
    let normalisations = [
        Normalisation::default(),
        Normalisation { mean: [123.675, 116.28, 103.53], scale: [0.017, 0.0175, -0.0174] },
        Normalisation { mean: [128.0; 3], scale: [1.0; 3] },
        // A channel alone.
        Normalisation { mean: [0.0; 3], scale: [0.4, 0.0, 0.0] },
        Normalisation { mean: [0.0; 3], scale: [0.0, 0.0, 0.4] },
    ];
    let mut n = 0;
    for from in sources() {
        for to in tensors() {
            for normalisation in normalisations {
                n += 1;
                let filter = Filter::ALL[n % Filter::ALL.len()];
                let mut spec = spec(from, filter, (40, 30), [(35, 23), (17, 70)][n % 2]);
                spec.destination.format = to;
                spec.normalisation = normalisation;
                (spec.crop, spec.framing) = pictures()[n % pictures().len()];
                let mut ring = Ring::new(spec);
                let error = error(&mut ring, noise(n as u32)).max(error(&mut ring, edges(7)));
                // In steps of samples; beside that half a unit in the last place of numbers up to 256.
                let step = f64::from(normalisation.scale[0].max(normalisation.scale[2]));
                let last_place = match to {
                    PixelFormat::Tensor(Tensor { element: Element::I8, .. }) => 0.5,
                    PixelFormat::Tensor(Tensor { element: Element::F16, .. }) => step * 0.07,
                    _ => 0.0,
                };
                assert!(error < 0.5 * step + last_place, "{error}: {spec:?}");
            }
        }
    }
}

#[test]
fn what_is_cut_out_unchanged_is_copied() {
    for device in devices() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                let mut spec = spec(format, filter, (43, 19), (22, 8));
                spec.crop = Some(Crop { left: 12.0, top: 4.0, width: 22.0, height: 8.0 });
                let mut ring = Ring::new(spec);
                let output = ring.resized_on(&*device, 2, noise(7));
                let mut wanted = Vec::new();
                for plane in ring.layout.input().planes() {
                    let step = (43_usize.div_ceil(plane.extent.width as usize)).min(2);
                    for row in 4 / step..12 / step {
                        let start = plane.offset + row * plane.stride + 12 / step * plane.channels;
                        let row = &ring.leases[1].input()[start..];
                        wanted.extend_from_slice(&row[..22 / step * plane.channels]);
                    }
                }
                assert_eq!(output, wanted, "{format:?} {filter:?}");
            }
        }
    }
}

#[test]
fn chroma_moves_a_quarter_sample_between_sitings() {
    let mut spec = spec(PixelFormat::Nv12, Filter::Bilinear, (16, 2), (16, 2));
    (spec.source.siting, spec.destination.siting) = (Siting::Left, Siting::Centre);
    let mut ring = Ring::new(spec);
    let mut next = (0..).map(|i: u32| (i % 64 / 2 * 8) as u8);
    let output = ring.resized(Level::Scalar, 1, || next.next().unwrap());
    let row: Vec<_> = output[32..].iter().step_by(2).copied().collect();
    assert_eq!(row, [2, 10, 18, 26, 34, 42, 50, 56]);
}

#[test]
fn flat_stays_flat_in_every_format_filter_and_range() {
    for device in devices() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                for (from, to) in [((37, 11), (13, 5)), ((5, 3), (16, 7))] {
                    let mut ring = Ring::new(spec(format, filter, from, to));
                    for value in [0, 1, 16, 128, 254, 255] {
                        let output = ring.resized_on(&*device, 1, || value);
                        assert!(output.iter().all(|&sample| sample == value), "{:?}", ring.spec);
                    }
                }
            }
        }
    }
}

#[test]
fn ranges_convert_at_their_ends_and_alpha_does_not() {
    let pixel = |format, from, to, value| {
        let mut spec = spec(format, Filter::Lanczos3, (7, 7), (3, 4));
        (spec.source.range, spec.destination.range) = (from, to);
        Ring::new(spec).resized(Level::Scalar, 1, || value)
    };
    use PixelFormat::{Gray8, I420, Nv12, Rgba};
    use Range::{Full, Limited};
    assert_eq!(pixel(Gray8, Limited, Full, 16), [0; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 235), [255; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 3), [0; 12]);
    assert_eq!(pixel(Gray8, Limited, Full, 250), [255; 12]);
    assert_eq!(pixel(Gray8, Full, Limited, 0), [16; 12]);
    assert_eq!(pixel(Gray8, Full, Limited, 255), [235; 12]);
    for format in [I420, Nv12] {
        assert_eq!(pixel(format, Limited, Full, 128)[12..], [128; 8]);
        assert_eq!(pixel(format, Full, Limited, 128)[12..], [128; 8]);
        assert_eq!(pixel(format, Full, Limited, 0)[12..], [16; 8]);
        assert_eq!(pixel(format, Limited, Full, 240)[12..], [255; 8]);
    }
    assert_eq!(pixel(Rgba, Limited, Full, 16)[..8], [0, 0, 0, 16, 0, 0, 0, 16]);
}

#[test]
fn equal_sizes_copy() {
    for device in devices() {
        for format in PixelFormat::EIGHT_BIT {
            for filter in Filter::ALL {
                let mut ring = Ring::new(spec(format, filter, (43, 9), (43, 9)));
                let output = ring.resized_on(&*device, 2, noise(7));
                assert_eq!(output, packed(ring.leases[1].input(), ring.layout.input()));
            }
        }
    }
}

fn assert_levels_agree(spec: StreamSpec, seed: u32) {
    let mut ring = Ring::new(spec);
    let oracle = ring.resized(Level::Scalar, 1, noise(seed));
    for level in levels() {
        assert!(ring.resized(level, 1, noise(seed)) == oracle, "{level:?} differs: {spec:?}");
    }
}

#[test]
fn every_level_gives_the_same_bits_at_every_width() {
    for width in 1..=300_u32 {
        for (i, format) in sources().enumerate() {
            let filter = Filter::ALL[(width as usize + i) % Filter::ALL.len()];
            let other = (width * 37 + i as u32 * 101) % 300 + 1;
            let (from, to) = if (width + i as u32).is_multiple_of(2) { (5, 3) } else { (1, 3) };
            assert_levels_agree(spec(format, filter, (width, from), (other, to)), width);
        }
    }
}

#[test]
fn every_level_gives_the_same_bits_at_the_extremes() {
    for filter in Filter::ALL {
        for (from, to) in [
            ((16_384, 1), (1, 1)),
            ((16_383, 2), (5, 1)),
            ((5, 1), (16_383, 2)),
            ((1, 16_384), (1, 1)),
            ((3, 1), (3, 1000)),
            ((1, 1), (1, 1)),
            ((700, 9), (2100, 13)),
            // Wide enough for strips.
            ((6000, 40), (3000, 20)),
        ] {
            for format in [PixelFormat::Gray8, PixelFormat::Nv12, PixelFormat::P010] {
                assert_levels_agree(spec(format, filter, from, to), 3);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_level_gives_the_same_bits_in_any_spec_however_it_is_cut(
        format in proptest::sample::select(sources().collect::<Vec<_>>()),
        filter in proptest::sample::select(Filter::ALL.to_vec()),
        from in (1_u32..150, 1_u32..40),
        to in (1_u32..150, 1_u32..40),
        full in any::<(bool, bool)>(),
        centre in any::<(bool, bool)>(),
        other in proptest::option::of(0_usize..9 + 12),
        framing in 0_usize..4,
        weighs in any::<bool>(),
        crop in proptest::option::of((0.0..0.5, 0.0..0.5, 0.1..0.5, 0.1..0.5)),
        seed in any::<u32>(),
    ) {
        let range = |full| if full { Range::Full } else { Range::Limited };
        let siting = |centre| if centre { Siting::Centre } else { Siting::Left };
        let mut spec = spec(format, filter, from, to);
        (spec.source.range, spec.destination.range) = (range(full.0), range(full.1));
        (spec.source.siting, spec.destination.siting) = (siting(centre.0), siting(centre.1));
        if let Some(other) = other {
            let mut all = sources().chain(tensors());
            spec.destination.format = all.nth(other).unwrap();
        }
        let (width, height) = (f64::from(from.0), f64::from(from.1));
        spec.crop = crop.map(|(left, top, w, h)| Crop {
            left: left * width,
            top: top * height,
            width: w * width,
            height: h * height,
        });
        spec.framing = pictures()[framing].1;
        spec.alpha = if weighs { Alpha::Weighs } else { Alpha::Apart };
        let mut ring = Ring::new(spec);
        let oracle = ring.resized(Level::Scalar, 1, edges(seed));
        for level in levels() {
            for bands in [1, 2, 3, 7] {
                let found = ring.resized(level, bands, edges(seed));
                prop_assert!(found == oracle, "{:?} in {} bands", level, bands);
            }
        }
        for gpu in gpu::all() {
            let found = Ring::new(spec).resized_on(gpu, 1, edges(seed));
            prop_assert!(gpu::is_alike(&spec, &oracle, &found), "{}", gpu.transfer());
        }
        gpu::assert_valid();
    }
}

#[test]
fn what_is_laid_out_otherwise_is_refused() {
    let ring = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 10)));
    let other = Ring::new(spec(PixelFormat::I420, Filter::Area, (20, 20), (10, 11)));
    let cpu = Cpu::new(1);
    let resizer = cpu.open(&ring.spec, &ring.layout).unwrap();
    let slot = SlotMemory::new(&other.daemon, &other.layout, 0).unwrap();
    let refused = resizer.resize(slot, Band::WHOLE, &mut Scratch::default());
    assert_eq!(refused, Err(DeviceError::Layout));
    assert_eq!(cpu.open(&ring.spec, &other.layout).err(), Some(DeviceError::Layout));
    let mut tensor = ring.spec;
    tensor.source.format = tensors()[0];
    let layout = RingLayout::new(&tensor).unwrap();
    let refused = cpu.open(&tensor, &layout).err();
    assert!(matches!(refused, Some(DeviceError::Unsupported { .. })), "{refused:?}");
    let crop = Some(Crop { left: 1.0, ..Crop::whole(ring.spec.source.extent) });
    let refused = cpu.open(&StreamSpec { crop, ..ring.spec }, &ring.layout).err();
    assert!(matches!(refused, Some(DeviceError::Unsupported { .. })), "{refused:?}");
}

#[test]
fn only_frames_worth_it_are_cut_or_wake_a_lane() {
    let worth = |from, to| {
        let ring = Ring::new(spec(PixelFormat::Gray8, Filter::Area, from, to));
        Cpu::new(4).open(&ring.spec, &ring.layout).unwrap().worth()
    };
    assert_eq!(worth((64, 64), (32, 32)), 0);
    assert_eq!(worth((320, 180), (64, 36)), 1);
    assert_eq!(worth((1920, 1080), (640, 360)), 17);
    assert_eq!(worth((16_384, 64), (1000, 2)), 2);
}
