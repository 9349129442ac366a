//! The `resized` daemon: reads its settings, takes or makes its socket, and serves until a signal.

mod config;
mod systemd;

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::dup2_stdout;
use resized::device::vulkan::probe::Question;
use resized::device::vulkan::self_test;
use resized::{Controls, Daemon, Listener, Options, Peers};
use resized_protocol::shm::guard_regions;
use resized_service::log::{self, SetFilter};
use resized_service::{BAD_SETTINGS, Interrupts, raise_descriptor_limit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use config::{Arguments, ConfigError, Settings};

/// How long a daemon that ends may take to say why.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments: Arguments = resized_service::arguments();
    if let Some(question) = &arguments.probe_vulkan {
        return match answer(question) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            resized_service::complain("resized", &error);
            match error.is::<ConfigError>() {
                true => ExitCode::from(BAD_SETTINGS),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Answers a question about GPUs, and nothing else: what drivers and their layers print goes nowhere.
fn answer(question: &Question) -> io::Result<()> {
    let asked = io::stdout().as_fd().try_clone_to_owned()?;
    if let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") {
        dup2_stdout(nowhere)?;
    }
    File::from(asked).write_all(self_test::answer(question).as_bytes())
}

fn run(arguments: &Arguments) -> Result<()> {
    let (settings, file) = arguments.load()?;
    let filter = log::filter(settings.log()).map_err(ConfigError::from)?;
    if arguments.check_config {
        let place = file.map_or("no file".to_owned(), |file| file.display().to_string());
        writeln!(io::stdout(), "the settings are good ({place})")?;
        return Ok(());
    }
    if arguments.explain {
        let Options { devices, program, .. } = settings.options();
        for device in resized::explain(&devices, program.as_deref()) {
            writeln!(io::stdout(), "{device}")?;
        }
        return Ok(());
    }
    serve(arguments.clone(), &settings, log::start(filter))
}

fn serve(arguments: Arguments, settings: &Settings, set_filter: SetFilter) -> Result<()> {
    let (options, drain) = (settings.options(), settings.drain());
    let (listener, at) = match systemd::socket()? {
        Some(socket) => (Listener::adopt(socket), "a socket of the service manager's".to_owned()),
        None => {
            let path = settings.socket();
            let bound = Listener::bind(&path, options.peers);
            (bound.map_err(|error| settings.advise(error))?, path.display().to_string())
        }
    };
    let memory_mib = options.memory.map(|bytes| bytes >> 20);
    // What a client does to its own ring ends no daemon.
    if let Err(error) = guard_regions() {
        tracing::warn!(%error, "a ring whose memory is taken away would end this process");
    }
    // Each client takes some; see CONNECTION_DESCRIPTORS.
    raise_descriptor_limit();
    // Before GPUs are tested, as that takes long: where it can't be done there is no daemon.
    let exporter = settings.exporter(options.peers)?;
    let mut daemon = Daemon::new(options.clone())?;
    if let Some(exporter) = exporter {
        daemon.export_at(exporter);
    }
    let controls = daemon.controls();
    daemon.run(listener, async move {
        let interrupted = interrupted(drain)?;
        let hangups = signal(SignalKind::hangup())?;
        // Only now: whoever is told so may stop us at once.
        systemd::ready();
        tracing::info!(at, devices = ?options.devices, memory_mib, "ready");
        if let Some(interval) = systemd::watchdog() {
            // Twice in that time, so that one report that comes late does no harm; also while it stops.
            tokio::spawn(controls.clone().report_health(interval / 2, systemd::well));
        }
        tokio::select! {
            () = interrupted => {}
            never = reload_on(hangups, arguments, options.peers, &controls, set_filter) => match never {},
        }
        tracing::info!("stopping: what was submitted is completed first");
        systemd::stopping();
        Ok(())
    })?;
    Ok(())
}

/// Reads the settings again with each SIGHUP. Those that are not good change nothing.
async fn reload_on(
    mut hangups: Signal,
    arguments: Arguments,
    peers: Peers,
    controls: &Controls,
    set_filter: SetFilter,
) -> Infallible {
    loop {
        hangups.recv().await;
        systemd::reloading();
        let reload = || {
            let (settings, _) = arguments.load()?;
            set_filter(log::filter(settings.log())?)
                .context("the log's filter can't be changed")?;
            let options = settings.for_peers(peers).options();
            let limits = options.limits;
            controls.reload(options);
            Ok::<_, anyhow::Error>(limits)
        };
        match reload() {
            Ok(limits) => tracing::info!(?limits, "settings read again"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the settings stay as they were");
            }
        }
        systemd::ready();
    }
}

/// Catches SIGTERM and SIGINT from now on; the future waits for one. A second one ends the process at
/// once, and so does a daemon that takes too long to complete what was submitted.
fn interrupted(drain: Duration) -> io::Result<impl Future<Output = ()>> {
    let mut interrupts = Interrupts::new()?;
    Ok(async move {
        interrupts.next().await;
        // A thread: what takes long may be the one that all sessions run on.
        std::thread::spawn(move || {
            std::thread::sleep(drain);
            tracing::error!(
                ?drain,
                "stopped: not all that was submitted was done and read in time"
            );
            std::process::exit(1);
        });
        // Also if those words don't go out: a terminal may have hung in the middle of a line.
        std::thread::spawn(move || {
            std::thread::sleep(drain + LAST_WORDS);
            std::process::exit(1);
        });
        interrupts.end_with_the_next();
    })
}
