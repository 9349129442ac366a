//! Owns `resizectl bench`: load for a daemon, and how long frames took under it.
//!
//! In a *closed loop* each client has so many frames in flight and submits the next when one is
//! back: what that gives is throughput. In an *open loop* frames are due at a rate, whatever
//! becomes of those before, and each one's time counts from when it was due: a daemon that stops
//! for a second is charged with every frame of that second, not with the one that happened to wait
//! ("coordinated omission", G. Tene). Times are those of a client that takes frames in their order.
//!
//! Invariant: no figure is reported that may be the load's own, see [`load::Fault`].

mod load;

use std::process::ExitCode;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use resized_anywhere::Daemon;
use resized_client::{Client, Endpoint, FrameSpec, Stream, StreamSpec};
use serde::Serialize;

use crate::args::Bench;
use crate::terminal::say;
use load::{Plan, Tally};

/// Runs the load, and reports unless the load itself was too slow.
pub(crate) fn run(asked: &Bench, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let daemon = Daemon::find(endpoint)?;
    let mut spec = StreamSpec::new(FrameSpec::new(asked.format, asked.from), asked.size);
    spec.filter = asked.filter;
    spec.slots = asked.in_flight;
    let period = |rate: f64| Duration::try_from_secs_f64(asked.clients.get() as f64 / rate);
    let period = asked.rate.map(period).transpose().context("too many clients for this rate")?;
    let plan = Plan { spec, seconds: asked.seconds, period };
    let tallies = measure(&daemon, &plan, asked.clients.get())?;
    let report = Report::new(asked, &daemon, &tallies)?;
    if report.figures.frames == 0 {
        bail!("no figures: no frame was done in the time that is measured; ask for more seconds");
    }
    if let Some(fault) = tallies.iter().find_map(|tally| tally.fault(&report.latency)) {
        bail!("no figures: {fault}");
    }
    say(match asked.json {
        true => serde_json::to_string(&report.figures)?,
        false => report.figures.text(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What so many clients see, which begin when all of them have their streams.
fn measure(daemon: &Daemon, plan: &Plan, clients: usize) -> Result<Vec<Tally>> {
    let client = |_| {
        let client = daemon.connect()?;
        let stream = client.open(&plan.spec)?;
        load::fill(&stream, plan.spec.slots)?;
        Ok((client, stream))
    };
    let streams = (0..clients).map(client).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let begin = |number| {
            let (client, stream): &(Client, Stream) = &streams[number];
            let phase = number as f64 / clients as f64;
            let run = move || plan.run(stream, &client.devices(), phase);
            thread::Builder::new().spawn_scoped(scope, run).context("can't start a thread")
        };
        // Where one can't be started the others end by themselves.
        let loads = (0..clients).map(begin).collect::<Result<Vec<_>>>()?;
        let tally = |load: ScopedJoinHandle<'_, Result<Tally>>| {
            load.join().map_err(|_| anyhow!("a client panicked"))?
        };
        loads.into_iter().map(tally).collect()
    })
}

/// What was measured, and what of it is told.
struct Report {
    latency: Histogram<u64>,
    figures: Figures,
}

#[derive(Serialize)]
struct Figures {
    daemon: String,
    load: String,
    frames: u64,
    /// Frames that were due, and that the daemon was too far behind to be given.
    unsent: u64,
    seconds: f64,
    frames_per_second: f64,
    /// With an open loop: what the rate would be if the daemon kept up.
    asked_per_second: Option<f64>,
    latency_us: Percentiles,
    /// Shares of the devices, by name.
    devices: std::collections::BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

impl Report {
    fn new(asked: &Bench, daemon: &Daemon, tallies: &[Tally]) -> Result<Self> {
        let mut latency = load::histogram();
        let mut devices = std::collections::BTreeMap::new();
        for tally in tallies {
            latency.add(&tally.latency).context("adding histograms")?;
            for (name, frames) in &tally.devices {
                *devices.entry(name.clone()).or_default() += frames;
            }
        }
        let seconds = tallies.iter().map(|tally| tally.took.as_secs_f64()).fold(0.0, f64::max);
        let us = |part| latency.value_at_quantile(part) as f64 / 1e3;
        let unsent = tallies.iter().map(|tally| tally.unsent).sum();
        let frames = latency.len() - unsent;
        let clients = counted(asked.clients.get(), "client");
        let in_flight = counted(asked.in_flight as usize, "frame");
        let (from, size) = (asked.from, asked.size);
        let way = match asked.rate {
            Some(rate) => format!("open loop, {rate} frames a second"),
            None => "closed loop".to_owned(),
        };
        let figures = Figures {
            daemon: match daemon {
                Daemon::Running(endpoint) => endpoint.to_string(),
                Daemon::Embedded(_) => "inside this process".to_owned(),
            },
            load: format!("{way}; {clients}, {in_flight} in flight each; {from} to {size}"),
            frames,
            unsent,
            seconds,
            frames_per_second: frames as f64 / seconds,
            asked_per_second: asked.rate,
            latency_us: Percentiles {
                p50: us(0.5),
                p99: us(0.99),
                p999: us(0.999),
                max: latency.max() as f64 / 1e3,
            },
            devices,
        };
        Ok(Self { latency, figures })
    }
}

impl Figures {
    fn text(&self) -> String {
        let Self { daemon, load, frames, seconds, frames_per_second, latency_us, devices, .. } =
            self;
        let Percentiles { p50, p99, p999, max } = latency_us;
        let devices: Vec<_> =
            devices.iter().map(|(name, frames)| format!("{name} {frames}")).collect();
        let behind = match self.asked_per_second {
            Some(asked) if *frames_per_second < 0.99 * asked => {
                format!(
                    "\nthe daemon can't keep up with {asked} frames a second: times grow with the run's length"
                )
            }
            _ => String::new(),
        };
        format!(
            "daemon      {daemon}\nload        {load}\nframes      {frames} in {seconds:.2} s\nrate        \
             {frames_per_second:.1} frames a second\nlatency     p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} \
             us, longest {max:.0} us\nresized by  {}{behind}",
            devices.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "frame")), ["0 frames", "1 frame", "2 frames"]);
    }
}
