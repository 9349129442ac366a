//! Owns `resizectl resize`: many pictures at once, and what the user is told about them.
//!
//! The walk of a picture is [`resized_pictures`]'; [`file`] reads and writes them, [`output`] knows the
//! places of the results, [`names`] what they are called. A picture that fails is named; the others go on.

mod error;
mod file;
mod names;
mod output;

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use resized_anywhere::Daemon;
use resized_client::{Client, Endpoint};
use resized_pictures::{Format, Limits, Loss, PictureError, Settings, Wish};

use crate::args::{Resize, mode};
use crate::patience;
use crate::signal::{ENDING, Signal};
use crate::terminal::{LOST, complain, shown};
use error::FileError;
use file::Files;
use output::Outputs;

/// Passes over the picture in a progressive file. Patience is the user's own.
const SCANS: u32 = 500;

/// Resizes them. Fails where going on has no sense; that some pictures failed is for the exit code
/// to say.
pub(crate) fn run(asked: &Resize, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let mode = mode(asked.mode, asked.size, asked.pad)?;
    ensure!(
        !asked.skip_existing || !names::has_number(&asked.output),
        "--skip-existing knows results by their pictures' names, and the number of a picture is another in another list: \
         write {{name}} in place of %05d or {{n}}"
    );
    let mut inputs = asked.inputs.clone();
    let read = inputs.iter().chain(&asked.files_from);
    ensure!(
        read.filter(|path| *path == Path::new("/dev/stdin")).count() < 2,
        "standard input can be read once, and - is there twice"
    );
    if let Some(list) = &asked.files_from {
        inputs.extend(file::listed(list).with_context(|| list.display().to_string())?);
        ensure!(!inputs.is_empty(), "{} names no pictures", list.display());
    }
    let outputs = Outputs::plan(&inputs, &asked.output, asked.format)?;
    let settings = Settings {
        wish: Wish { size: asked.size, mode, crop: asked.crop, only_shrink: asked.only_shrink },
        filter: asked.filter,
        quality: asked.quality.unwrap_or_default(),
        format: outputs.format(),
    };
    if let (Some(_), Some(format @ (Format::Png | Format::Webp))) =
        (asked.quality, outputs.format())
        && !asked.quiet
    {
        let name = format.name();
        complain(format_args!("resizectl: --quality is for JPEG: {name} results have no loss"));
    }
    let pixels = asked.max_megapixels * 1_000_000;
    let limits = Limits { pixels, made: u64::MAX, scans: SCANS };
    // Before anything is made: it may not let this user in.
    let daemon = Daemon::find(endpoint)?;
    let client = daemon.connect()?;
    let signal = Signal::listen()?;
    outputs.make_folders(&inputs)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = asked.jobs.map_or(cores, usize::from).min(inputs.len());
    let batch = Batch {
        asked,
        inputs: &inputs,
        outputs: &outputs,
        next: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
        refused: Mutex::new(None),
        ended: Mutex::new(None),
        there: AtomicUsize::new(0),
        bar: bar(asked.quiet, inputs.len(), &signal, &client),
        signal,
    };
    let (begun, mut first) = (Instant::now(), Some(client));
    thread::scope(|scope| {
        for _ in 0..jobs {
            let thread = thread::Builder::new().name("resize".to_owned());
            let (client, batch, daemon) = (first.take(), &batch, &daemon);
            let work = move || {
                let client =
                    client.map_or_else(|| batch.connect(daemon), |client| Ok(Some(client)));
                if let Some(client) = client.transpose() {
                    batch.work(client, limits, settings);
                }
            };
            if let Err(error) = thread.spawn_scoped(scope, work) {
                batch.end(anyhow!(error).context("can't start a thread"));
            }
        }
    });
    batch.conclude(begun.elapsed())
}

/// What the threads share.
struct Batch<'a> {
    asked: &'a Resize,
    inputs: &'a [PathBuf],
    outputs: &'a Outputs,
    /// The first picture that nobody has begun.
    next: AtomicUsize,
    failed: AtomicUsize,
    /// Pictures whose results were there before.
    there: AtomicUsize,
    /// Why a thread has not begun, which is a reason to fail if pictures are left.
    refused: Mutex<Option<anyhow::Error>>,
    /// Why nothing new is begun, if so.
    ended: Mutex<Option<anyhow::Error>>,
    /// Nothing new is begun after one either, and those at work are finished, so that nothing half
    /// written stays.
    signal: Signal,
    bar: ProgressBar,
}

impl Batch<'_> {
    /// A connection of a thread's own. None if a signal comes before.
    fn connect(&self, daemon: &Daemon) -> Result<Option<Client>> {
        let daemon = daemon.clone();
        let client = patience::ask(|| self.signal.came(), move || daemon.connect())?;
        Ok(client.transpose()?)
    }

    /// Resizes pictures until there are no more.
    fn work(&self, client: Result<Client>, limits: Limits, settings: Settings) {
        let files = client
            .and_then(|client| Ok(Files::new(client, limits, settings, self.signal.clone())?));
        let mut files = match files {
            Ok(files) => files,
            // The others may have all the room that there is, and do it all.
            Err(error) if is_shortage(&error) => return self.stand_back(error),
            Err(error) => return self.end(error),
        };
        while let Some((number, from)) = self.next() {
            if self.asked.skip_existing && self.outputs.is_there(number) {
                self.there.fetch_add(1, Ordering::Relaxed);
                // The bar's rate is of those that are resized.
                self.bar.dec_length(1);
                continue;
            }
            match files.resize(from, self.outputs, number) {
                Ok(losses) => losses.iter().for_each(|loss| self.mention(from, loss)),
                Err(FileError::Read(_) | FileError::Picture(PictureError::Over))
                    if self.signal.came() =>
                {
                    return;
                }
                Err(error) if error.is_final() => return self.end(error.into()),
                Err(error) => self.report(from, &error),
            }
            self.bar.inc(1);
        }
    }

    fn next(&self) -> Option<(usize, &Path)> {
        if self.signal.came() || self.ended.lock().is_ok_and(|ended| ended.is_some()) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.inputs.get(number).map(|path| (number, path.as_path()))
    }

    fn report(&self, from: &Path, error: &FileError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.say_of(from, error);
    }

    /// What is no error.
    fn mention(&self, from: &Path, loss: &Loss) {
        if !self.asked.quiet {
            self.say_of(from, loss);
        }
    }

    fn say_of(&self, from: &Path, what: &dyn Display) {
        let line = shown(&format!("{}: {what}", from.display()));
        self.bar.suspend(|| complain(format_args!("resizectl: {line}")));
    }

    /// Leaves the pictures to the other threads.
    fn stand_back(&self, error: anyhow::Error) {
        if let Ok(mut refused) = self.refused.lock() {
            refused.get_or_insert(error);
        }
    }

    /// Begins nothing new. Only the first reason is kept: the others follow from it.
    fn end(&self, error: anyhow::Error) {
        if let Ok(mut ended) = self.ended.lock() {
            ended.get_or_insert(error);
        }
    }

    fn conclude(self, took: Duration) -> Result<ExitCode> {
        let (done, there) = (self.bar.position(), self.there.into_inner() as u64);
        self.bar.finish_and_clear();
        let (all, failed) = (self.inputs.len() as u64, self.failed.into_inner() as u64);
        let resized = done - failed;
        let refused = self.refused.into_inner().unwrap_or_default();
        let refused = refused.filter(|_| done + there < all && !self.signal.came());
        if let Some(error) = self.ended.into_inner().unwrap_or_default().or(refused) {
            return Err(error).with_context(|| format!("ended after {resized} of {all} pictures"));
        }
        if !self.asked.quiet {
            let seconds = took.as_secs_f64();
            let rate = resized as f64 / seconds;
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            let there = match there {
                0 => String::new(),
                1 => ", 1 was there".to_owned(),
                there => format!(", {there} were there"),
            };
            let stopped = if self.signal.came() { "; stopped by a signal" } else { "" };
            complain(format_args!(
                "{resized} of {all} pictures resized{there}{failed}, {seconds:.2} s, {rate:.1} a second{stopped}"
            ));
        }
        let done = if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        Ok(self.signal.code().unwrap_or(done))
    }
}

/// Whether others have what this one was refused.
fn is_shortage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<resized_client::Error>().is_some_and(resized_client::Error::is_shortage)
}

/// Shown on a terminal only.
fn bar(quiet: bool, pictures: usize, signal: &Signal, client: &Client) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(pictures as u64), target);
    bar.set_style(style(signal.clone(), client.clone()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(signal: Signal, client: Client) -> ProgressStyle {
    // Before the first picture there is no rate, and nothing to tell from it.
    let how = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = match state.pos() {
            _ if signal.came() => out.write_str(ENDING),
            // All of its threads' daemon.
            _ if client.is_lost() => out.write_str(LOST),
            0 => Ok(()),
            _ => write!(
                out,
                "{:.1} a second, {:.0} s left",
                state.per_sec(),
                state.eta().as_secs_f64()
            ),
        };
    };
    let style = ProgressStyle::with_template(STYLE);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("how", how)
}

const STYLE: &str = "{wide_bar} {pos:>6}/{len} pictures {how:>24}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        ProgressStyle::with_template(STYLE).unwrap();
    }
}
