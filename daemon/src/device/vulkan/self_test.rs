//! Owns the self-test of GPUs, in a process that is there for nothing else: frames of every kind are
//! resized, and compared with what the cores make of them.
//!
//! Knows no command lines: [`probe`] asks. Invariant: it is over when nobody waits for the answer
//! any more.

use std::sync::Arc;
use std::thread;

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};
use thiserror::Error;

use super::discovery::{self, Enumerated, Unused};
use super::probe::{self, Question, Report, Verdict};
use super::{Settings, Vulkan, Wanted};
use crate::device::cpu::{Cpu, Level};
use crate::device::plan::{Number, Samples};
use crate::device::{Band, Device, DeviceError, Resizer, Scratch};

/// What the process answers to a question: for its standard output.
pub fn answer(question: &Question) -> String {
    end_in_time();
    // Faults that tests ask for are not the driver's.
    let settings = Settings { fault_every: None, ..Settings::from_environment() };
    match question {
        Question::List(wanted) => {
            let found = discovery::enumerate(wanted, settings.validation).into_iter();
            let report = |(name, outcome): Enumerated| {
                let unused = outcome.err().map(|unused| unused.to_string());
                format!("{}\n", Report { name, unused })
            };
            found.map(report).collect()
        }
        Question::SelfTest(name) => {
            let failed = |error: SelfTestError| Verdict::Failed(error.to_string());
            let verdict = self_test(name, &settings).map_or_else(failed, |()| Verdict::Passed);
            format!("{verdict}\n")
        }
    }
}

/// Ends this process when nobody waits for its answer any more: whoever asked may be gone.
fn end_in_time() {
    let end = || {
        thread::sleep(2 * probe::PATIENCE);
        std::process::abort();
    };
    drop(thread::Builder::new().spawn(end));
}

/// Why a GPU did not pass in that process.
#[derive(Debug, Error)]
pub(super) enum SelfTestError {
    #[error("there is no such GPU")]
    Gone,
    #[error("{0}")]
    Unused(#[from] Unused),
    #[error("{0}")]
    Device(#[from] DeviceError),
    #[error("no memory to test it with")]
    Memory,
    #[error("it made another frame than the cores")]
    Wrong,
}

pub(super) fn self_test(name: &str, settings: &Settings) -> Result<(), SelfTestError> {
    let found = discovery::enumerate(&Wanted::All, settings.validation).into_iter();
    let (name, outcome) =
        found.into_iter().find(|found| found.0 == name).ok_or(SelfTestError::Gone)?;
    let gpu = Vulkan::open(name, outcome?, settings).map_err(Unused::Open)?;
    let cores = Cpu::with_level(1, Level::Scalar).ok_or(SelfTestError::Memory)?;
    streams().iter().try_for_each(|spec| compare(&gpu, &cores, spec))?;
    for other in other_ways(&gpu) {
        let other = other?;
        brought().iter().try_for_each(|spec| compare(&other, &cores, spec))?;
    }
    Ok(())
}

/// The GPU, opened anew for each way by which frames may reach it beside that of the first frames: its
/// copy engines are the driver's too.
pub(super) fn other_ways(gpu: &Vulkan) -> impl Iterator<Item = Result<Vulkan, SelfTestError>> {
    let shared = &gpu.shared;
    let transfers = if shared.staged.is_none() { shared.transfers() } else { Vec::new() };
    transfers.into_iter().skip(1).map(|transfer| {
        let settings = Settings { transfer: Some(transfer), ..shared.settings.clone() };
        let opened = Vulkan::open(shared.name.clone(), Arc::clone(&shared.physical), &settings);
        Ok(opened.map_err(Unused::Open)?)
    })
}

fn compare(gpu: &dyn Device, cores: &dyn Device, spec: &StreamSpec) -> Result<(), SelfTestError> {
    let alike = is_alike(spec, &resized(gpu, spec)?, &resized(cores, spec)?);
    alike.then_some(()).ok_or(SelfTestError::Wrong)
}

/// Whether what a GPU made is what the cores made: the same but, where a device may not fuse what it
/// adds in single precision, for a step or a last place.
fn is_alike(spec: &StreamSpec, found: &[u8], wanted: &[u8]) -> bool {
    let number = Number::of(spec.destination.format);
    let is_mixed = spec.destination.format != spec.source.format;
    let most = |wanted: f64| match number {
        _ if !is_mixed => 0.0,
        Number::U8 | Number::I8 | Number::LowTen | Number::HighTen => 1.0,
        Number::F16 => (1.0 + wanted.abs()) / 1e3,
        Number::F32 => (1.0 + wanted.abs()) / 1e5,
    };
    let (found, wanted) = (numbers(number, found), numbers(number, wanted));
    let is_close = |(found, wanted): (&f64, &f64)| (found - wanted).abs() <= most(*wanted);
    found.len() == wanted.len() && found.iter().zip(&wanted).all(is_close)
}

/// The numbers of a packed frame.
fn numbers(number: Number, bytes: &[u8]) -> Vec<f64> {
    let (twos, fours) = (bytes.as_chunks::<2>().0, bytes.as_chunks::<4>().0);
    let twos = || twos.iter().map(|&two| u16::from_le_bytes(two));
    match number {
        Number::U8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        Number::I8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        Number::LowTen => twos().map(f64::from).collect(),
        Number::HighTen => twos().map(|sample| f64::from(sample) / 64.0).collect(),
        Number::F16 => twos().map(half).collect(),
        Number::F32 => fours.iter().map(|&four| f64::from(f32::from_le_bytes(four))).collect(),
    }
}

/// A number in half precision.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * (-24_f64).exp2(),
        31 => f64::INFINITY,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// Streams that have every [variant](super::shader::Variant) of a shader run, and pictures that do
/// not fill their frames.
fn streams() -> Vec<StreamSpec> {
    use PixelFormat::{Bgra, Gray8, I420, I420P10, Nv12, P010, Rgb24, Rgba};
    let (source, small, flat) = ((192, 108), (64, 36), (64, 1));
    let stream = |from, filter, size: (u32, u32), format| {
        let source = FrameSpec::new(from, Extent::new(source.0, source.1));
        let stream = StreamSpec::new(source, Extent::new(size.0, size.1));
        let destination = FrameSpec { format, ..stream.destination };
        StreamSpec { slots: 1, filter, destination, ..stream }
    };
    let weighed = |stream| StreamSpec { alpha: Alpha::Weighs, ..stream };
    // A part as it is, at the right of a frame that is wider.
    let part = |from, format| StreamSpec {
        crop: Some(Crop { left: 66.0, top: 34.0, width: 47.0, height: 27.0 }),
        framing: Framing::Fit { align: Align::End, pad: [10, 114, 200] },
        ..stream(from, Filter::Bilinear, (61, 27), format)
    };
    let tensor = |element, arrangement| {
        PixelFormat::Tensor(Tensor { element, arrangement, order: ChannelOrder::Rgb })
    };
    // All that eight bits hold: as shares of what is white they would be zeros and ones, a step apart.
    let spread = |stream| StreamSpec {
        normalisation: Normalisation { mean: [128.0; 3], scale: [1.0; 3] },
        ..stream
    };
    let swells = StreamSpec {
        source: FrameSpec::new(Gray8, Extent::new(192, 2)),
        ..stream(Gray8, Filter::Lanczos3, (1, 108), Rgb24)
    };
    vec![
        stream(Nv12, Filter::Bicubic, small, Nv12),
        stream(Gray8, Filter::Area, (12, 5), Gray8),
        stream(Nv12, Filter::Bilinear, small, Rgb24),
        weighed(stream(Rgba, Filter::Lanczos3, small, Bgra)),
        stream(P010, Filter::Bicubic, small, Gray8),
        // So flat that vertical sums have no room in 16 bits.
        stream(P010, Filter::Lanczos3, flat, Rgb24),
        stream(I420P10, Filter::Lanczos3, flat, I420),
        spread(weighed(stream(
            Rgba,
            Filter::Lanczos3,
            flat,
            tensor(Element::I8, Arrangement::Planar),
        ))),
        swells,
        part(I420, I420),
        part(Nv12, P010),
        part(P010, I420P10),
        part(I420P10, tensor(Element::F32, Arrangement::Planar)),
        weighed(part(Rgba, tensor(Element::F16, Arrangement::Interleaved))),
        spread(part(Rgb24, tensor(Element::I8, Arrangement::Interleaved))),
    ]
}

/// Those of which all or a part is brought to a GPU, from more than one plane.
fn brought() -> Vec<StreamSpec> {
    let mut all = streams();
    all.retain(|spec| spec.source.format == PixelFormat::Nv12);
    all
}

/// A frame of stripes and gradients, resized.
fn resized(device: &dyn Device, spec: &StreamSpec) -> Result<Vec<u8>, SelfTestError> {
    let ring = RingLayout::new(spec).map_err(|_| SelfTestError::Memory)?;
    let (region, _) = Region::create(ring.len()).map_err(|_| SelfTestError::Memory)?;
    let region = Arc::new(region);
    let slot = SlotMemory::new(&region, &ring, 0).ok_or(SelfTestError::Memory)?;
    // Of samples of ten bits in the lower ones half are more than the most, not nearly all.
    let is_low = Samples::of(spec) == Samples::LowTen;
    for i in 0..ring.input().len() {
        let most = if is_low && i % 2 == 1 { 7 } else { u8::MAX };
        // SAFETY: within the input frame of a slot that nobody else knows of.
        unsafe { slot.input().cast_mut().add(i).write((i * 7 % 251) as u8 & most) };
    }
    let mut resizer: Box<dyn Resizer> = device.open(spec, &ring)?;
    resizer.attach(&region)?;
    resizer.resize(slot, Band::WHOLE, &mut Scratch::default())?;
    let row = |start: usize, bytes: usize| {
        // SAFETY: within the output frame; the device is done with it.
        (0..bytes).map(move |i| unsafe { slot.output().add(start + i).read() })
    };
    let planes = ring.output().planes().iter();
    let rows = planes.flat_map(|plane| {
        (0..plane.rows()).map(|y| (plane.offset + y * plane.stride, plane.row_bytes()))
    });
    Ok(rows.flat_map(|(start, bytes)| row(start, bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::null::Null;
    use crate::device::vulkan::program::Program;
    use crate::device::vulkan::shader::Variant;

    #[test]
    fn every_variant_of_a_shader_is_tested() {
        let variants = |spec: &StreamSpec| {
            let (placement, ring) = (spec.placement().unwrap(), RingLayout::new(spec).unwrap());
            let stages = Program::new(spec, &placement, &ring).unwrap().stages;
            stages.into_iter().flatten().map(|dispatch| dispatch.variant)
        };
        let tested: Vec<Variant> = streams().iter().flat_map(variants).collect();
        let untested = Variant::all().into_iter().filter(|variant| !tested.contains(variant));
        assert_eq!(untested.collect::<Vec<_>>(), []);
    }

    #[test]
    fn who_makes_other_frames_than_the_cores_does_not_pass() {
        let cores = Cpu::with_level(1, Level::Scalar).unwrap();
        for spec in streams() {
            compare(&cores, &cores, &spec).unwrap();
            // Zeros are what it makes, and are no stream's.
            let found = compare(&Null, &cores, &spec);
            assert!(matches!(found, Err(SelfTestError::Wrong)), "{found:?}: {spec:?}");
        }
    }

    #[test]
    fn one_number_that_is_wrong_fails_a_self_test() {
        let cores = Cpu::with_level(1, Level::Scalar).unwrap();
        for spec in streams() {
            let wanted = resized(&cores, &spec).unwrap();
            let number = Number::of(spec.destination.format);
            let last = *numbers(number, &wanted).last().unwrap();
            let off = |by: f64| {
                let other = number.bytes(if last > 100.0 { last - by } else { last + by });
                let same = &wanted[..wanted.len() - other.len()];
                is_alike(&spec, &[same, &other].concat(), &wanted)
            };
            // What devices may differ by, and what they may not.
            let (near, far) = match number {
                Number::U8 | Number::I8 | Number::LowTen | Number::HighTen => (1.0, 2.0),
                Number::F16 | Number::F32 => (1e-6, 1.0 / 255.0),
            };
            let is_mixed = spec.source.format != spec.destination.format;
            assert!(off(0.0) && !off(far), "{spec:?}");
            assert_eq!(off(near), is_mixed, "{spec:?}");
            assert!(!is_alike(&spec, &wanted[1..], &wanted));
        }
    }
}
