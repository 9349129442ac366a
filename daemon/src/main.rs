//! The `resized` daemon: reads its command line, takes or makes its socket, and serves until a signal.

mod config;
mod systemd;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use resized::{Daemon, Listener};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use config::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    let filter = EnvFilter::try_from_env("RESIZED_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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
    let daemon = Daemon::new(options)?;
    daemon.run(listener, async {
        let interrupted = interrupted();
        // Only now: whoever is told so may stop us at once.
        systemd::ready();
        tracing::info!(?options, "ready");
        interrupted.await;
        tracing::info!("stopping: what was submitted is completed first");
        systemd::stopping();
    })?;
    Ok(())
}

/// Catches SIGTERM and SIGINT from now on; the future waits for one. A second one ends the process at
/// once.
fn interrupted() -> impl Future<Output = ()> {
    let caught = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = caught else {
            tracing::error!("signals can't be caught");
            return;
        };
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
    }
}
