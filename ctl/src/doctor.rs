//! Owns `resizectl doctor`: what is wrong, and what to do about it.
//!
//! [`socket`] looks at the way to the daemon, [`limits`] at what so many streams need. Changes nothing.

mod limits;
mod socket;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use resized::Devices;
use resized_client::{Client, Endpoint, FrameSpec, StreamSpec};

use crate::args::Doctor;
use crate::daemon::Daemon;
use crate::say;

/// What was looked at, and what was found.
pub(crate) struct Finding {
    level: Level,
    what: &'static str,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    /// Not as good as it could be, or only for the user to judge.
    Note,
    Bad,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Good, what, found: found.into(), advice: None }
    }

    fn note(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, what, found: found.into(), advice: Some(advice.into()) }
    }

    fn bad(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Bad, what, found: found.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Good => "good",
            Level::Note => "note",
            Level::Bad => "BAD",
        };
        write!(f, "{level:<5} {:<12} {}", self.what, self.found)?;
        match &self.advice {
            Some(advice) => write!(f, "\n{:19}-> {advice}", ""),
            None => Ok(()),
        }
    }
}

/// Looks, tells, and fails if something is bad.
pub(crate) fn run(asked: &Doctor, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let mut spec = StreamSpec::new(FrameSpec::new(asked.format.into(), asked.from), asked.size);
    spec.slots = asked.slots;
    let (mut findings, reached) = socket::examine(endpoint);
    findings.extend(devices(reached.as_ref().map(|reached| &reached.client)));
    let pid = reached.as_ref().and_then(|reached| reached.pid);
    let near = reached.as_ref().is_none_or(|reached| reached.near);
    let way = if near { "in shared memory" } else { "copied there and back" };
    findings.push(frame(reached.as_ref().map(|reached| &reached.client), &spec, way));
    findings.extend(limits::examine(&spec, asked.streams, pid));
    for finding in &findings {
        say(finding)?;
    }
    let bad = findings.iter().any(|finding| finding.level == Level::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What resizes, and what of this machine does not.
fn devices(client: Option<&Client>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(client) = client {
        let names = client.devices().join(", ");
        findings.push(Finding::good("devices", format!("the daemon resizes on: {names}")));
    }
    let program = program();
    if program.is_none() {
        let found = "can't try GPUs: the program resized is neither beside this one nor in $PATH";
        findings.push(Finding::note("devices", found, "install it, and look again"));
    }
    for device in resized::explain(&Devices::Auto, program.as_deref()) {
        findings.push(if device.used {
            Finding::good("devices", format!("a daemon of this user's on this machine would use {device}"))
        } else {
            let advice = "GPUs need a driver for Vulkan 1.3; 'resized --explain' as the service's user says what it sees";
            Finding::note("devices", device.to_string(), advice)
        });
    }
    findings.extend(nodes(Path::new("/dev/dri")));
    findings
}

/// GPUs' files that this user may not open.
fn nodes(folder: &Path) -> Vec<Finding> {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let render = entries.filter(|path| path.to_string_lossy().contains("/renderD"));
    let closed = render.filter_map(|path| {
        let error = File::options().read(true).write(true).open(&path).err()?;
        let advice =
            "sudo usermod -aG render $USER, and log in again; the service has that group already";
        Some(Finding::note("devices", format!("{}: {error}", path.display()), advice))
    });
    closed.collect()
}

/// The daemon's program: it is what GPUs are tried in.
fn program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("resized"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).map(|folder| folder.join("resized"));
    beside.into_iter().chain(named).find(|path| path.is_file())
}

/// A frame there and back, which takes all there is: descriptors passed, sealed memory, devices.
fn frame(client: Option<&Client>, spec: &StreamSpec, way: &str) -> Finding {
    let found = || -> Result<String> {
        match client {
            Some(client) => resize(client, spec, "the daemon"),
            None => {
                let daemon = Daemon::embedded()?;
                resize(&daemon.connect()?, spec, "a daemon inside this process")
            }
        }
    };
    match found() {
        Ok(found) => Finding::good("a frame", format!("{found}, {way}")),
        Err(error) => {
            let advice = "see the daemon's log: journalctl -u resized";
            Finding::bad("a frame", crate::one_line(&error), advice)
        }
    }
}

fn resize(client: &Client, spec: &StreamSpec, who: &str) -> Result<String> {
    let stream = client.open(spec)?;
    let frame = stream.loan()?.submit()?;
    let begun = Instant::now();
    frame.wait()?;
    let (took, from, to) = (begun.elapsed(), spec.source.extent, spec.destination.extent);
    Ok(format!("{who} made {to} of {from} in {:.1} ms", took.as_secs_f64() * 1e3))
}
