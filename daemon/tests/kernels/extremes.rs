//! Pictures on which sums come furthest from the middle, where words and sums of 16 bits have least room; and
//! how far what is made of them may be from exact.

use resized::device::cpu::Level;
use resized_protocol::frame::{Component, Matrix, PixelFormat, Range, Siting};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::tensor::{Element, Tensor};

use crate::frames::{Ring, noise, pictures, sources, spec, tensors};
use crate::{error, exact, gpu, levels};

/// A whole input frame: white wherever that adds to the sample with the largest weights, and black
/// elsewhere. The other way round in those channels whose bit of `flipped` is set.
pub(crate) fn worst(spec: &StreamSpec, ring: &Ring, flipped: u32) -> Vec<u8> {
    let placement = spec.placement().unwrap();
    let mut frame = vec![0; ring.layout.input().len()];
    let mut channel = 0;
    let (planes, destination) = (spec.source.format.components(), spec.destination.format);
    for (plane, components) in ring.layout.input().planes().iter().zip(planes) {
        let planes = destination.components();
        let to = planes.iter().map(|plane| plane[0]).find(|to| *to == components[0]);
        let to = to.unwrap_or(Component::Luma);
        let (across, down) = exact::weights(spec, &placement, (components[0], to), plane);
        let (across, down) = (largest(&across), largest(&down));
        for c in 0..plane.channels {
            let is_flipped = flipped >> channel & 1 == 1;
            channel += 1;
            for (y, x) in (0..plane.rows()).flat_map(|y| (0..across.len()).map(move |x| (y, x))) {
                let is_white = (across[x] > 0.0) == (down[y] > 0.0);
                let at = plane.offset + y * plane.stride;
                let at = at + (x * plane.channels + c) * plane.sample_bytes;
                frame[at..at + plane.sample_bytes].fill(if is_white == is_flipped {
                    0
                } else {
                    255
                });
            }
        }
    }
    frame
}

/// The window with the largest sum of weights, whatever their signs.
fn largest(windows: &[Vec<f64>]) -> &[f64] {
    let sum = |window: &Vec<f64>| window.iter().map(|weight| weight.abs()).sum::<f64>();
    windows.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap()
}

/// How far a number may be from exact: half a step is rounding itself, floats take none. Where colours are
/// weighed by opacity twice as far.
fn most(spec: &StreamSpec) -> f64 {
    let weighed = if gpu::is_weighed(spec) { 2.0 } else { 1.0 };
    let most = match spec.destination.format {
        // In shares of what is white, of which half precision has 11 bits.
        PixelFormat::Tensor(Tensor { element: Element::F32, .. }) => 0.5 / 255.0,
        PixelFormat::Tensor(Tensor { element: Element::F16, .. }) => 0.5 / 255.0 + 1.0 / 4096.0,
        PixelFormat::Tensor(Tensor { element: Element::I8, .. }) => 0.5 + 0.5 / 255.0,
        format if PixelFormat::TEN_BIT.contains(&format) => 1.0,
        _ => 0.65,
    };
    most * weighed
}

/// Within that of exact on the cores, the same bits at every level and in bands, and alike on GPUs.
#[track_caller]
pub(crate) fn assert_exact(spec: StreamSpec, picture: &[u8], on_gpus: bool) {
    let mut ring = Ring::new(spec);
    let samples = || {
        let mut samples = picture.iter().copied();
        move || samples.next().unwrap()
    };
    let error = error(&mut ring, samples());
    assert!(error < most(&spec), "{error}: {spec:?}");
    let oracle = ring.resized(Level::Scalar, 1, samples());
    for level in levels() {
        for bands in [1, 3] {
            assert!(ring.resized(level, bands, samples()) == oracle, "{level:?} differs: {spec:?}");
        }
    }
    for gpu in gpu::all().iter().filter(|_| on_gpus) {
        let found = Ring::new(spec).resized_on(gpu, 1, samples());
        assert!(gpu::is_alike(&spec, &oracle, &found), "{} differs: {spec:?}", gpu.transfer());
    }
    gpu::assert_valid();
}

/// A stream of any kind.
fn any(mut next: impl FnMut() -> u8) -> StreamSpec {
    let mut below = |n: usize| usize::from_le_bytes(std::array::from_fn(|_| next())) % n;
    let formats: Vec<_> = sources().collect();
    let filter = Filter::ALL[below(Filter::ALL.len())];
    let mut side = || {
        let most = [4, 20, 60, 160][below(4)];
        1 + below(most) as u32
    };
    let (from, to) = ((side(), side()), (side(), side()));
    let mut spec = spec(formats[below(formats.len())], filter, from, to);
    for frame in [&mut spec.source, &mut spec.destination] {
        frame.range = [Range::Limited, Range::Full][below(2)];
        frame.siting = [Siting::Left, Siting::Centre][below(2)];
        frame.matrix = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020][below(3)];
    }
    if below(2) == 0 {
        let all: Vec<_> = sources().chain(tensors()).collect();
        spec.destination.format = all[below(all.len())];
    } else {
        spec.destination.matrix = spec.source.matrix;
    }
    spec.framing = pictures()[below(4)].1;
    spec.alpha = [Alpha::Apart, Alpha::Weighs][below(2)];
    spec
}

/// Sums of 16 bits have room for all that they may be, and no less room would do.
#[test]
fn what_is_furthest_from_the_middle_is_exact_in_any_spec() {
    for seed in 0..300 {
        let spec = any(noise(seed));
        let ring = Ring::new(spec);
        for flipped in [0b0000, 0b1111] {
            assert_exact(spec, &worst(&spec, &ring, flipped), false);
        }
    }
}

/// Where two words have no room for their sum.
#[test]
fn rows_that_may_not_be_added_before_they_are_weighed_are_exact() {
    for (width, to_width) in [(30, 25), (22, 19)] {
        for (height, to_height) in [(60, 20), (64, 32), (40, 20)] {
            let (from, to) = ((width, height), (to_width, to_height));
            let mut spec = spec(PixelFormat::I420, Filter::Lanczos3, from, to);
            (spec.source.range, spec.destination.range) = (Range::Limited, Range::Full);
            (spec.source.siting, spec.destination.siting) = (Siting::Left, Siting::Centre);
            let ring = Ring::new(spec);
            for flipped in [0b000, 0b111] {
                assert_exact(spec, &worst(&spec, &ring, flipped), true);
            }
        }
    }
}
