//! Owns the trial of GPUs in a process of its own: a driver that crashes or hangs there costs the GPU, not the
//! daemon.
//!
//! Knows command lines and exit codes. The process is the daemon's own program, asked a question by an
//! argument that it hides; it answers with a line for each GPU, its name and why it is not used. Invariants:
//! nothing of Vulkan runs in this process before a GPU has passed; no answer is waited for without end.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{Region, RingLayout, SlotMemory};
use thiserror::Error;

use super::survey::{self, Unused, Wanted};
use super::{Settings, Vulkan};
use crate::device::cpu::{Cpu, Level};
use crate::device::{Band, Device, DeviceError, Resizer, Scratch};

/// The argument by which the daemon's program is asked: hidden, and not to be relied on.
pub const ARGUMENT: &str = "--probe-vulkan";

/// A process that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What one GPU is, as another process reported.
pub(super) type Report = (String, Option<Unused>);

/// Why a GPU, or all of Vulkan, did not pass.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No process could be started.
    #[error("the process to try it in could not be started: {0}")]
    Start(#[source] std::io::Error),
    /// It was killed by a signal or gave up: most likely the driver's doing.
    #[error("its driver ended the process that tried it ({0})")]
    Crashed(ExitStatus),
    /// It did not answer.
    #[error("its driver hung the process that tried it")]
    Hung,
    /// It said something else.
    #[error("it failed its trial: {0}")]
    Failed(String),
}

/// Which GPUs there are and could be used: a line for each.
pub(super) fn list(program: &Path, wanted: &Wanted) -> Result<Vec<Report>, ProbeError> {
    let question = match wanted {
        Wanted::All => "list".to_owned(),
        Wanted::Real => "list-real".to_owned(),
        Wanted::Named(part) => format!("list:{part}"),
    };
    let answer = ask(program, &question)?;
    let report = |line: &str| {
        let (name, reason) = line.split_once('\t')?;
        let unused = (!reason.is_empty()).then(|| Unused::Reported(reason.to_owned()));
        Some((name.to_owned(), unused))
    };
    Ok(answer.lines().filter_map(report).collect())
}

/// Has the GPU of that name resize a frame.
pub(super) fn attempt(program: &Path, name: &str) -> Result<(), ProbeError> {
    let answer = ask(program, &format!("try:{name}"))?;
    match answer.trim_end() {
        "passed" => Ok(()),
        said => Err(ProbeError::Failed(said.to_owned())),
    }
}

fn ask(program: &Path, question: &str) -> Result<String, ProbeError> {
    let mut process = Command::new(program)
        .arg(ARGUMENT)
        .arg(question)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(ProbeError::Start)?;
    // On a thread, so that an answer longer than a pipe holds does not stop the process.
    let mut pipe = process.stdout.take();
    let reader = thread::spawn(move || {
        let mut answer = Vec::new();
        pipe.as_mut().map(|pipe| pipe.read_to_end(&mut answer));
        answer
    });
    let begun = Instant::now();
    let status = loop {
        match process.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                let _ = process.kill();
                let _ = process.wait();
                return Err(ProbeError::Hung);
            }
        }
    };
    let answer = reader.join().unwrap_or_default();
    if status.success() {
        Ok(String::from_utf8_lossy(&answer).into_owned())
    } else {
        Err(ProbeError::Crashed(status))
    }
}

/// What the process answers to a question: for its standard output.
pub fn answer(question: &str) -> String {
    let settings = Settings::from_environment();
    let list = |wanted: &Wanted| {
        let found = survey::look(wanted, settings.validation).into_iter();
        let line = found.map(|(name, outcome)| match outcome {
            Ok(_) => format!("{name}\t\n"),
            Err(unused) => format!("{name}\t{unused}\n"),
        });
        line.collect()
    };
    match question.split_once(':') {
        None if question == "list" => list(&Wanted::All),
        None if question == "list-real" => list(&Wanted::Real),
        Some(("list", part)) => list(&Wanted::Named(part.to_owned())),
        Some(("try", name)) => match trial(name, &settings) {
            Ok(()) => "passed\n".to_owned(),
            Err(reason) => format!("{reason}\n"),
        },
        _ => "what is asked is not known\n".to_owned(),
    }
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
    if resized(&gpu)? == resized(&cores)? { Ok(()) } else { Err(TrialError::Wrong) }
}

/// A frame of stripes and gradients, made smaller.
fn resized(device: &dyn Device) -> Result<Vec<u8>, TrialError> {
    let source = FrameSpec::new(PixelFormat::Nv12, Extent::new(192, 108));
    let spec = StreamSpec { slots: 1, ..StreamSpec::new(source, Extent::new(64, 36)) };
    let ring = RingLayout::new(&spec).map_err(|_| TrialError::Memory)?;
    let (region, _) = Region::create(ring.len()).map_err(|_| TrialError::Memory)?;
    let region = Arc::new(region);
    let slot = SlotMemory::new(&region, &ring, 0).ok_or(TrialError::Memory)?;
    for i in 0..ring.input().len() {
        // SAFETY: within the input frame of a slot that nobody else knows of.
        unsafe { slot.input().cast_mut().add(i).write((i * 7 % 251) as u8) };
    }
    let mut resizer: Box<dyn Resizer> = device.open(&spec, &ring)?;
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
