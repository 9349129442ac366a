//! Owns the figures of a run: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::daemon::Look;
use crate::folder::create_anew;
use crate::instance::Outcome;
use crate::notes::Times;
use crate::page::Share;
use crate::progress::rate;

/// All figures of a run. Its serialization is the `--json` file.
#[derive(Serialize)]
pub(crate) struct Report {
    instances: Vec<Row>,
    total: Total,
}

#[derive(Serialize)]
struct Row {
    instance: usize,
    video: String,
    frames: u64,
    skipped: u64,
    started_s: f64,
    seconds: f64,
    fps: f64,
    /// From submitted to received.
    latency_ms: Milliseconds,
    /// From decoded to its picture written.
    written_ms: Milliseconds,
    devices: BTreeMap<String, u64>,
}

/// What so many of a hundred frames took at the most.
#[derive(Serialize)]
struct Milliseconds {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Total {
    frames: u64,
    seconds: f64,
    fps: f64,
}

impl Report {
    pub(crate) fn new(outcomes: &[Outcome<'_>]) -> Self {
        // From the first start, which is the run's, to the last end.
        let took = outcomes.iter().map(|outcome| outcome.started + outcome.took).max();
        let took = took.unwrap_or(Duration::ZERO);
        let frames = outcomes.iter().map(|outcome| outcome.frames).sum();
        let total = Total { frames, seconds: took.as_secs_f64(), fps: rate(frames, took) };
        Self { instances: outcomes.iter().map(Row::new).collect(), total }
    }

    /// The table at the end of a run.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "\n{:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}  video",
            "instance", "start s", "frames", "skipped", "seconds", "fps", "p50 ms", "p99 ms",
        );
        for row in &self.instances {
            let Row { instance, frames, skipped, started_s, seconds, fps, .. } = row;
            let (name, Milliseconds { p50, p99, .. }) = (row.name(), &row.latency_ms);
            // Writing to a string can't fail.
            let _ = write!(
                table,
                "\n{instance:>8} {started_s:>8.2} {frames:>8} {skipped:>8} {seconds:>8.2} {fps:>7.1} \
                 {p50:>7.2} {p99:>7.2}  {name}",
            );
        }
        let Total { frames, seconds, fps } = self.total;
        let skipped: u64 = self.instances.iter().map(|row| row.skipped).sum();
        let _ = write!(
            table,
            "\n{:>8} {:>8} {frames:>8} {skipped:>8} {seconds:>8.2} {fps:>7.1}",
            "all", "",
        );
        let mut devices = BTreeMap::new();
        for (name, frames) in self.instances.iter().flat_map(|row| &row.devices) {
            *devices.entry(name).or_insert(0) += frames;
        }
        let devices: Vec<_> =
            devices.iter().map(|(name, n)| format!("{name} {n} frames")).collect();
        table + "\nresized by: " + &devices.join(", ")
    }

    /// The figures as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Pictures of all instances.
    pub(crate) fn frames(&self) -> u64 {
        self.total.frames
    }

    /// From the start of the first instance to the end of the last.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_secs_f64(self.total.seconds)
    }

    /// What each device did, by name, if the daemon was looked at before and after.
    pub(crate) fn shares(&self, before: Option<&Look>, after: Option<&Look>) -> Vec<Share> {
        let mut shares = BTreeMap::<&str, (u64, Option<f64>)>::new();
        for (name, frames) in self.instances.iter().flat_map(|row| &row.devices) {
            shares.entry(name).or_default().0 += frames;
        }
        if let (Some(before), Some(after)) = (before, after) {
            let seconds = (after.at - before.at).as_secs_f64();
            for (before, after) in before.devices.iter().zip(&after.devices) {
                // Of another daemon, if it is less, or another device.
                let busy = after.busy_ns.checked_sub(before.busy_ns);
                if let Some(busy) = busy.filter(|_| before.name == after.name) {
                    let lanes = &mut shares.entry(&after.name).or_default().1;
                    *lanes = Some(lanes.unwrap_or(0.0) + busy as f64 / 1e9 / seconds);
                }
            }
        }
        let share =
            |(name, (frames, busy)): (&str, _)| Share { name: name.to_owned(), frames, busy };
        shares.into_iter().map(share).collect()
    }
}

impl Row {
    fn new(outcome: &Outcome<'_>) -> Self {
        Self {
            instance: outcome.instance,
            video: outcome.video.display().to_string(),
            frames: outcome.frames,
            skipped: outcome.skipped,
            started_s: outcome.started.as_secs_f64(),
            seconds: outcome.took.as_secs_f64(),
            fps: rate(outcome.frames, outcome.took),
            latency_ms: Milliseconds::of(&outcome.received),
            written_ms: Milliseconds::of(&outcome.written),
            devices: outcome.devices.iter().cloned().collect(),
        }
    }

    /// The video's name without its folders.
    fn name(&self) -> &str {
        self.video.rsplit('/').next().unwrap_or_default()
    }
}

impl Milliseconds {
    fn of(times: &Times) -> Self {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| times.ms(share));
        Self { p50, p90, p99, max: times.max_ms() }
    }
}

/// Writes a file: aside first, unless it is no ordinary one.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if is_special(path) {
        fs::write(path, text)
    } else {
        let aside = aside(path);
        create_anew(&aside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&aside, path))
            .inspect_err(|_| drop(fs::remove_file(&aside)))
    }
    .with_context(|| format!("can't write {}", path.display()))
}

/// Fails early if a file could not be written at the end.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    ensure!(!path.is_dir(), "can't write {}: it is a folder", path.display());
    if !is_special(path) {
        let aside = aside(path);
        create_anew(&aside)
            .and_then(|_| fs::remove_file(&aside))
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// Whether there is something that can't be replaced by a file, such as a pipe.
fn is_special(path: &Path) -> bool {
    path.exists() && !path.is_file()
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
