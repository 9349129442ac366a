//! Owns the trial of GPUs, in a process that is there for nothing else: what it is asked, and its
//! answer.
//!
//! Knows no command lines: [`probe`] asks. Invariant: it is over when nobody waits for the answer
//! any more.

use std::sync::Arc;
use std::thread;

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};
use thiserror::Error;

use super::survey::{self, Unused, Wanted};
use super::{Settings, Vulkan, probe};
use crate::device::cpu::{Cpu, Level};
use crate::device::{Band, Device, DeviceError, Resizer, Scratch};

/// What the process answers to a question: for its standard output.
pub fn answer(question: &str) -> String {
    end_in_time();
    // Faults that tests ask for are not the driver's.
    let settings = Settings { fault_every: None, ..Settings::from_environment() };
    let list = |wanted: &Wanted| {
        let found = survey::look(wanted, settings.validation).into_iter();
        let line = found.map(|(name, outcome)| match outcome {
            Ok(_) => format!("{name}\t\n"),
            Err(unused) => format!("{name}\t{unused}\n"),
        });
        line.collect()
    };
    if let Some(name) = question.strip_prefix("try:") {
        return match trial(name, &settings) {
            Ok(()) => "passed\n".to_owned(),
            Err(reason) => format!("{reason}\n"),
        };
    }
    let wanted = Wanted::asked(question);
    wanted.map_or_else(|| "what is asked is not known\n".to_owned(), |wanted| list(&wanted))
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
enum TrialError {
    #[error("there is no such GPU")]
    Gone,
    #[error("{0}")]
    Unused(#[from] Unused),
    #[error("{0}")]
    Device(#[from] DeviceError),
    #[error("no memory to try it with")]
    Memory,
    #[error("it made another frame than the cores")]
    Wrong,
}

fn trial(name: &str, settings: &Settings) -> Result<(), TrialError> {
    let found = survey::look(&Wanted::All, settings.validation).into_iter();
    let (name, outcome) =
        found.into_iter().find(|found| found.0 == name).ok_or(TrialError::Gone)?;
    let gpu = Vulkan::open(name, outcome?, settings).map_err(Unused::Open)?;
    let cores = Cpu::with_level(1, Level::Scalar).ok_or(TrialError::Memory)?;
    trials().iter().try_for_each(|spec| compare(&gpu, &cores, spec))
}

fn compare(gpu: &dyn Device, cores: &dyn Device, spec: &StreamSpec) -> Result<(), TrialError> {
    let (found, wanted) = (resized(gpu, spec)?, resized(cores, spec)?);
    // Mixed in single precision, where a device may not fuse what it adds.
    let most = u8::from(spec.destination.format != spec.source.format);
    let alike = found.len() == wanted.len()
        && found.iter().zip(&wanted).all(|(one, other)| one.abs_diff(*other) <= most);
    if alike { Ok(()) } else { Err(TrialError::Wrong) }
}

/// One stream for each kind of arithmetic that shaders have, whose results are bytes.
fn trials() -> [StreamSpec; 5] {
    let stream = |from, to, filter| {
        let source = FrameSpec::new(from, Extent::new(192, 108));
        let stream = StreamSpec::new(source, Extent::new(64, 36));
        let destination = FrameSpec { format: to, ..stream.destination };
        StreamSpec { slots: 1, filter, destination, ..stream }
    };
    let (nv12, grey, rgb) = (PixelFormat::Nv12, PixelFormat::Gray8, PixelFormat::Rgb24);
    let tall = StreamSpec {
        // So far that sums of columns are in single precision.
        destination: FrameSpec {
            extent: Extent::new(64, 1),
            ..FrameSpec::new(rgb, Extent::new(1, 1))
        },
        ..stream(PixelFormat::P010, rgb, Filter::Lanczos3)
    };
    [
        stream(nv12, nv12, Filter::Bicubic),
        StreamSpec {
            destination: FrameSpec::new(grey, Extent::new(12, 5)),
            ..stream(grey, grey, Filter::Area)
        },
        stream(nv12, rgb, Filter::Bilinear),
        StreamSpec {
            alpha: Alpha::Weighs,
            ..stream(PixelFormat::Rgba, PixelFormat::Bgra, Filter::Lanczos3)
        },
        tall,
    ]
}

/// A frame of stripes and gradients, resized.
fn resized(device: &dyn Device, spec: &StreamSpec) -> Result<Vec<u8>, TrialError> {
    let ring = RingLayout::new(spec).map_err(|_| TrialError::Memory)?;
    let (region, _) = Region::create(ring.len()).map_err(|_| TrialError::Memory)?;
    let region = Arc::new(region);
    let slot = SlotMemory::new(&region, &ring, 0).ok_or(TrialError::Memory)?;
    for i in 0..ring.input().len() {
        // SAFETY: within the input frame of a slot that nobody else knows of.
        unsafe { slot.input().cast_mut().add(i).write((i * 7 % 251) as u8) };
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
    use crate::device::Preparation;

    /// The cores, but for the last pixel's last byte, which is off by so much.
    struct Off(Cpu, u8);

    struct OffResizer(Box<dyn Resizer>, u8);

    impl Device for Off {
        fn name(&self) -> &str {
            "a GPU that is off"
        }

        fn lanes(&self) -> usize {
            1
        }

        fn open(
            &self,
            spec: &StreamSpec,
            ring: &RingLayout,
        ) -> Result<Box<dyn Resizer>, DeviceError> {
            Ok(Box::new(OffResizer(self.0.open(spec, ring)?, self.1)))
        }
    }

    impl Resizer for OffResizer {
        fn worth(&self) -> u32 {
            self.0.worth()
        }

        fn resize(
            &self,
            slot: SlotMemory<'_>,
            band: Band,
            scratch: &mut Scratch,
        ) -> Result<Preparation, DeviceError> {
            let preparation = self.0.resize(slot, band, scratch)?;
            let plane = *slot.layout().output().planes().last().unwrap();
            let last = plane.offset + (plane.rows() - 1) * plane.stride + plane.row_bytes() - 1;
            // SAFETY: within the output frame, which nobody else is at.
            unsafe {
                let byte = slot.output().add(last);
                let off = if *byte < 128 { *byte + self.1 } else { *byte - self.1 };
                byte.write(off);
            }
            Ok(preparation)
        }
    }

    #[test]
    fn one_byte_that_is_wrong_fails_a_trial() {
        let cores = || Cpu::with_level(1, Level::Scalar).unwrap();
        for spec in trials() {
            let off = |by| compare(&Off(cores(), by), &cores(), &spec);
            let is_mixed = spec.source.format != spec.destination.format;
            assert!(off(0).is_ok());
            assert_eq!(off(1).is_ok(), is_mixed, "{spec:?}");
            assert!(matches!(off(2), Err(TrialError::Wrong)), "{spec:?}");
        }
    }
}
