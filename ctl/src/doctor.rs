//! Owns `resizectl doctor`: what is wrong, and what to do about it.
//!
//! [`socket`] looks at the way to the daemon, [`limits`] at what so many streams need. Changes nothing.
//! Invariants: what is found is told before the next is looked for; nobody is waited for without end;
//! nothing of this machine is told as if it were a bridge's.

mod limits;
mod socket;

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use resized::Devices;
use resized_anywhere::Daemon;
use resized_client::Error as ClientError;
use resized_client::{Client, Endpoint, FrameSpec, Refusal, StreamSpec};

use crate::args::Doctor;
use crate::terminal::{one_line, say, shown};

/// After so long somebody is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the daemon is that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Inside this process: none answers elsewhere.
    Inside,
    /// On this machine; its process, if that can be told.
    Here(Option<u32>),
    /// Behind a bridge.
    Far,
}

/// Tells what is found, and whether something was bad.
#[derive(Default)]
struct Report {
    bad: bool,
}

impl Report {
    fn tell(&mut self, finding: &Finding) -> Result<()> {
        self.bad |= finding.level == Level::Bad;
        say(finding)
    }
}

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
        // Some of it is what others call themselves.
        write!(f, "{level:<5} {:<12} {}", self.what, shown(&self.found))?;
        match &self.advice {
            Some(advice) => write!(f, "\n{:19}-> {advice}", ""),
            None => Ok(()),
        }
    }
}

/// Looks, tells, and fails if something is bad.
pub(crate) fn run(asked: &Doctor, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let mut spec = StreamSpec::new(FrameSpec::new(asked.format, asked.from), asked.size);
    spec.slots = asked.slots;
    let mut report = Report::default();
    let (place, client) = socket::examine(endpoint, &mut report)?;
    devices(place, client.as_ref(), &mut report)?;
    // A bridge that was not reached has no daemon that another could stand for.
    if client.is_some() || place != Place::Far {
        report.tell(&frame(place, client, spec))?;
    }
    for finding in limits::examine(&spec, asked.streams, place) {
        report.tell(&finding)?;
    }
    Ok(if report.bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What resizes, and what of this machine does not.
fn devices(place: Place, client: Option<&Client>, report: &mut Report) -> Result<()> {
    if let Some(client) = client {
        let names = client.devices().join(", ");
        report.tell(&Finding::good("devices", format!("the daemon resizes on: {names}")))?;
    }
    if place == Place::Far {
        return Ok(());
    }
    let program = program();
    if program.is_none() {
        let found = "can't try GPUs: the program resized is neither beside this one nor in $PATH";
        report.tell(&Finding::note("devices", found, "install it, and look again"))?;
    }
    for device in resized::explain(&Devices::Auto, program.as_deref()) {
        report.tell(&if device.used {
            Finding::good("devices", format!("a daemon of this user's on this machine would use {device}"))
        } else {
            let advice = "GPUs need a driver for Vulkan 1.3; what the service sees of them is in its log: journalctl -u resized";
            Finding::note("devices", device.to_string(), advice)
        })?;
    }
    nodes(Path::new("/dev/dri")).iter().try_for_each(|finding| report.tell(finding))
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
fn frame(place: Place, client: Option<Client>, spec: StreamSpec) -> Finding {
    let found = within(PATIENCE, move || match client {
        Some(client) => resize(&client, &spec, "the daemon"),
        None => {
            let daemon = Daemon::embedded()?;
            resize(&daemon.connect()?, &spec, "a daemon inside this process")
        }
    });
    match found.and_then(|found| found) {
        Ok(found) => {
            let is_far = place == Place::Far;
            let way = if is_far { "copied there and back" } else { "in shared memory" };
            Finding::good("a frame", format!("{found}, {way}"))
        }
        Err(error) => Finding::bad("a frame", one_line(&error), remedy(place, &error)),
    }
}

/// What to do where a frame did not come back.
fn remedy(place: Place, error: &Error) -> &'static str {
    if let Some(ClientError::Refused(Refusal::Quota { .. })) = error.downcast_ref() {
        // Nobody's log says more than that.
        return "use fewer slots or smaller frames, close streams, or raise that limit: man resized, and man resized-bridge";
    }
    match place {
        Place::Inside => "start 'resized' in a terminal, where it says what it can't do",
        Place::Here(daemon) => log_of(daemon),
        Place::Far => "see the log of the bridge, and of its daemon, where it runs",
    }
}

/// Where to read what a daemon of this machine says, whose process that is.
fn log_of(daemon: Option<u32>) -> &'static str {
    let groups = daemon.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    groups
        .map_or("see its log: journalctl -u resized if it is the service", |groups| log_in(&groups))
}

/// The same of one in these control groups, see cgroups(7): units have one each.
fn log_in(groups: &str) -> &'static str {
    match groups.trim_end() {
        groups if !groups.ends_with("/resized.service") => {
            "see what it says where it was started: it is not the service resized"
        }
        groups if groups.contains("/user@") => "see its log: journalctl --user -u resized",
        _ => "see its log: journalctl -u resized",
    }
}

fn resize(client: &Client, spec: &StreamSpec, who: &str) -> Result<String> {
    let stream = client.open(spec)?;
    let frame = stream.loan()?.submit()?;
    let begun = Instant::now();
    drop(frame.wait()?);
    let (took, from, to) = (begun.elapsed(), spec.source.extent, spec.destination.extent);
    Ok(format!("{who} made {to} of {from} in {:.1} ms", took.as_secs_f64() * 1e3))
}

/// What `work` comes to, unless it takes longer: then its thread is left to itself.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, outcome) = mpsc::channel();
    let run = move || {
        let _ = done.send(work());
    };
    thread::Builder::new().spawn(run).context("can't start a thread")?;
    outcome
        .recv_timeout(patience)
        .with_context(|| format!("no answer in {} s", patience.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for_without_end() {
        let (_never, answer) = mpsc::channel::<()>();
        let silent = within(Duration::from_millis(10), move || answer.recv()).unwrap_err();
        assert_eq!(silent.to_string(), "no answer in 0.01 s");
        assert_eq!(within(PATIENCE, || 7).unwrap(), 7);
    }

    #[test]
    fn a_log_is_where_the_daemon_was_started() {
        for (groups, place) in [
            ("0::/system.slice/resized.service\n", "journalctl -u"),
            ("1:name=systemd:/a.slice\n0::/system.slice/resized.service\n", "journalctl -u"),
            ("0::/user.slice/user@7.service/app.slice/resized.service\n", "journalctl --user"),
            ("0::/user.slice/user@7.service/app.slice/shell.scope\n", "where it was started"),
            ("0::/system.slice/not-resized.service\n", "where it was started"),
            ("0::/\n", "where it was started"),
        ] {
            assert!(log_in(groups).contains(place), "{groups}");
        }
    }

    #[test]
    fn what_others_say_has_no_power_over_the_terminal() {
        let finding = Finding::good("devices", "cpu\u{1b}[2J\ncpu");
        assert_eq!(finding.to_string(), "good  devices      cpu\\u{1b}[2J\\ncpu");
    }
}
