//! `resized-bridge`: a bridge as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use resized_bridge::{Args, BadSettings, serve};
use resized_service::{BAD_SETTINGS, Interrupts, log, notify, raise_descriptor_limit};
use sd_notify::NotifyState;

fn main() -> ExitCode {
    match run(&resized_service::arguments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            resized_service::complain("resized-bridge", &error);
            match error.is::<BadSettings>() {
                true => ExitCode::from(BAD_SETTINGS),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let filter = log::filter(&args.log).map_err(|error| BadSettings(error.into()))?;
    let _ = log::start(filter);
    // Two for each client, and those at the door.
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut interrupts = Interrupts::new()?;
        let interrupted = async move {
            interrupts.next().await;
            tracing::info!("stopping");
            notify(&[NotifyState::Stopping]);
            interrupts.end_with_the_next();
        };
        let tls = args.certificate.is_some();
        let ready = |addresses: &[_]| {
            for address in addresses {
                tracing::info!(%address, tls, "listening");
            }
            notify(&[NotifyState::Ready]);
        };
        serve(args, ready, interrupted).await
    });
    // Not waited for: names that are looked up, and a daemon that does not answer, may take minutes.
    runtime.shutdown_background();
    served
}
