//! Owns the trial of GPUs in a process of its own: a driver that crashes or hangs there costs the GPU, not the
//! daemon.
//!
//! Knows command lines and exit codes. The process is the daemon's own program, asked a question by an
//! argument that it hides; it answers with a line for each GPU, its name and why it is not used. Invariants:
//! nothing of Vulkan runs in this process before a GPU has passed; no answer is waited for without end.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter, StreamSpec};
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

/// How long its last words may take once it has ended: what a driver has started may hold the pipe for longer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of an answer; what is beyond is not read.
const LONGEST: u64 = 1 << 16;

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
    // On a thread: whatever may hold the pipe, and however long, nobody here waits for it.
    let (pipe, (said, heard)) = (process.stdout.take(), mpsc::channel());
    let reader = thread::Builder::new().name("probe".into()).spawn(move || {
        let (mut pipe, mut part) = (pipe.map(|pipe| pipe.take(LONGEST)), [0; 4096]);
        while let Some(Ok(len @ 1..)) = pipe.as_mut().map(|pipe| pipe.read(&mut part))
            && said.send(part[..len].to_vec()).is_ok()
        {}
    });
    if let Err(error) = reader {
        give_up(process);
        return Err(ProbeError::Start(error));
    }
    let begun = Instant::now();
    let status = loop {
        match process.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(LOOK),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(None) | Err(_) => {
                give_up(process);
                return Err(ProbeError::Hung);
            }
        }
    };
    if !status.success() {
        return Err(ProbeError::Crashed(status));
    }
    let parts = std::iter::from_fn(|| heard.recv_timeout(LAST_WORDS).ok());
    Ok(String::from_utf8_lossy(&parts.flatten().collect::<Vec<_>>()).into_owned())
}

/// Kills a process. One that hangs in its driver may not even die: it is waited for, but not by us.
fn give_up(mut process: Child) {
    let _ = process.kill();
    let reap = move || {
        let _ = process.wait();
    };
    if let Err(error) = thread::Builder::new().name("probe".into()).spawn(reap) {
        tracing::warn!(%error, "a process that hung is not waited for");
    }
}

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

/// Ends this process when nobody waits for its answer any more: whoever asked may be gone.
fn end_in_time() {
    let end = || {
        thread::sleep(2 * PATIENCE);
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
    let is_alike = |spec: &StreamSpec| {
        let (found, wanted) = (resized(&gpu, spec)?, resized(&cores, spec)?);
        // Mixed in single precision, where a device may not fuse what it adds.
        let most = u8::from(spec.destination.format != spec.source.format);
        let alike = found.len() == wanted.len()
            && found.iter().zip(&wanted).all(|(one, other)| one.abs_diff(*other) <= most);
        if alike { Ok(()) } else { Err(TrialError::Wrong) }
    };
    trials().iter().try_for_each(is_alike)
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
