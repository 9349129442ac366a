//! `resized-bridge`: a bridge as a process of its own.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use resized_bridge::{Args, serve};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resized-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {}", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let signalled = async {
            either(&mut signals).await;
            tracing::info!("stopping");
            notify(NotifyState::Stopping);
            tokio::spawn(async move {
                either(&mut signals).await;
                tracing::warn!("stopped at once by a second signal");
                std::process::exit(1);
            });
        };
        let tls = args.certificate.is_some();
        let ready = |addresses: &[_]| {
            for address in addresses {
                tracing::info!(%address, tls, "listening");
            }
            notify(NotifyState::Ready);
        };
        serve(args, ready, signalled).await
    });
    // Not waited for: names that are looked up, and a daemon that does not answer, may take minutes.
    runtime.shutdown_background();
    served
}

async fn either([one, other]: &mut [Signal; 2]) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Two descriptors for each client, and those at the door.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "can't notify the service manager");
    }
}
