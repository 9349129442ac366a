//! The `resized` daemon: reads its command line, takes or makes its socket, and serves until a signal.

mod config;
mod systemd;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use resized::device::vulkan::probe;
use resized::{Daemon, Listener};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use config::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    if let Some(question) = &config.probe_vulkan {
        print!("{}", probe::answer(question));
        return ExitCode::SUCCESS;
    }
    if config.explain {
        for device in resized::explain(&config.devices, config::program().as_deref()) {
            println!("{device}");
        }
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_env("RESIZED_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(io::stderr().is_terminal()).init();
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resized: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<()> {
    let options = config.options();
    let listener = match systemd::socket()? {
        Some(socket) => Listener::adopt(socket),
        None => Listener::bind(&config.socket(), options.peers)?,
    };
    raise_descriptor_limit();
    let daemon = Daemon::new(options.clone())?;
    daemon.run(listener, async move {
        let interrupted = interrupted()?;
        // Only now: whoever is told so may stop us at once.
        systemd::ready();
        tracing::info!(?options, "ready");
        interrupted.await;
        tracing::info!("stopping: what was submitted is completed first");
        systemd::stopping();
        Ok(())
    })?;
    Ok(())
}

/// A descriptor for each client, and as many again that are on their way to clients.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

/// Catches SIGTERM and SIGINT from now on; the future waits for one. A second one ends the process at
/// once.
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(1);
        });
    })
}
