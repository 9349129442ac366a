//! Owns the figures of a run: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::folder::create_anew;
use crate::instance::Outcome;
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
    latency_ms: Latency,
    devices: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
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
            let (name, Latency { p50, p99 }) = (row.name(), &row.latency_ms);
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

    /// Writes the figures as JSON: aside first, unless the file is no ordinary one.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string(self)? + "\n";
        if is_special(path) {
            fs::write(path, json)
        } else {
            let aside = aside(path);
            create_anew(&aside)
                .and_then(|mut file| file.write_all(json.as_bytes()))
                .and_then(|()| fs::rename(&aside, path))
                .inspect_err(|_| drop(fs::remove_file(&aside)))
        }
        .with_context(|| format!("can't write {}", path.display()))
    }
}

impl Row {
    fn new(outcome: &Outcome<'_>) -> Self {
        let ms = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            instance: outcome.instance,
            video: outcome.video.display().to_string(),
            frames: outcome.frames,
            skipped: outcome.skipped,
            started_s: outcome.started.as_secs_f64(),
            seconds: outcome.took.as_secs_f64(),
            fps: rate(outcome.frames, outcome.took),
            latency_ms: Latency { p50: ms(0.5), p99: ms(0.99) },
            devices: outcome.devices.iter().cloned().collect(),
        }
    }

    /// The video's name without its folders.
    fn name(&self) -> &str {
        self.video.rsplit('/').next().unwrap_or_default()
    }
}

/// Fails early if the figures could not be written at the end.
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
