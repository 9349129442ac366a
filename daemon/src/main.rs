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
    systemd::ready();
    tracing::info!(?options, "ready");
    daemon.run(listener, async {
        interrupted().await;
        tracing::info!("stopping: what was submitted is completed first");
        systemd::stopping();
    })?;
    Ok(())
}

/// Waits for SIGTERM or SIGINT. A second one ends the process at once.
async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
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
