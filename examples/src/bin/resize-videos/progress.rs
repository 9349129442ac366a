//! Owns what the user sees while videos are resized: bars on a terminal, else a line now and then.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use resizectl::signal::{ENDING, Signal};
use resizectl::terminal::{self, LOST, VIDEO, shown};
use resized_client::Client;

use crate::outcome::Outcome;
use crate::screen::Screen;

/// Time between an instance's lines where there are no bars.
const PERIOD: Duration = Duration::from_secs(2);

const KNOWN: &str = "{prefix} {wide_bar} {pos:>6}/{len} frames {how:>20}";
const UNKNOWN: &str = "{prefix} {spinner} {pos:>6} frames {how:>11}";

/// Most letters of what instances are called beside a bar.
const MOST_LETTERS: usize = 24;

/// How progress is shown.
pub(crate) struct Progress {
    how: How,
    /// What the instances are called.
    labels: Vec<String>,
    signal: Signal,
}

enum How {
    Quiet,
    Lines,
    Bars(MultiProgress),
}

impl Progress {
    /// Bars on a terminal that can draw them, which say that a signal came, else lines; nothing if `quiet`.
    pub(crate) fn new(quiet: bool, signal: &Signal, labels: Vec<String>) -> Self {
        let how = match Screen::target() {
            _ if quiet => How::Quiet,
            Some(target) => How::Bars(MultiProgress::with_draw_target(target)),
            None => How::Lines,
        };
        Self { how, labels, signal: signal.clone() }
    }

    /// Prints lines.
    pub(crate) fn say(&self, lines: &str) {
        match &self.how {
            How::Quiet => {}
            How::Lines => print(lines),
            How::Bars(bars) => bars.suspend(|| print(lines)),
        }
    }

    /// Prints what is wrong, where errors go.
    pub(crate) fn complain(&self, what: &str) {
        match &self.how {
            How::Quiet | How::Lines => complain(what),
            How::Bars(bars) => bars.suspend(|| complain(what)),
        }
    }

    /// What an instance is called, as long as what the others are.
    fn prefix(&self, label: &str) -> String {
        let longest = self.labels.iter().map(|label| label.chars().count()).max();
        let width = longest.unwrap_or(0).min(MOST_LETTERS);
        match label.char_indices().nth(MOST_LETTERS - 1) {
            Some((end, _)) if label.chars().count() > MOST_LETTERS => {
                format!("{}\u{2026}", &label[..end])
            }
            _ => format!("{label:width$}"),
        }
    }

    /// Begins to show an instance, whose client that is; `total` is the number of its pictures, as far as it is
    /// known.
    pub(crate) fn track(&self, instance: usize, client: &Client, total: Option<u64>) -> Track {
        let begun = Instant::now();
        let label = self.labels.get(instance - 1).cloned().unwrap_or_default();
        let view = match &self.how {
            How::Quiet => View::Nothing,
            How::Lines => View::Lines { next_ms: AtomicU64::new(PERIOD.as_millis() as u64) },
            How::Bars(bars) => {
                let bar = bars.add(ProgressBar::no_length());
                bar.set_style(style(
                    if total.is_some() { KNOWN } else { UNKNOWN },
                    self.signal.clone(),
                    client.clone(),
                ));
                bar.set_prefix(self.prefix(&label));
                total.into_iter().for_each(|total| bar.set_length(total));
                bar.enable_steady_tick(Duration::from_millis(200));
                View::Bar { bar, bars: bars.clone() }
            }
        };
        Track { label, total, begun, frames: AtomicU64::new(0), view }
    }
}

/// The progress of one instance.
pub(crate) struct Track {
    label: String,
    total: Option<u64>,
    begun: Instant,
    frames: AtomicU64,
    view: View,
}

enum View {
    Nothing,
    Lines { next_ms: AtomicU64 },
    Bar { bar: ProgressBar, bars: MultiProgress },
}

impl Track {
    /// Pictures written so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// One more picture is written.
    pub(crate) fn advance(&self) {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.view {
            View::Nothing => {}
            View::Bar { bar, .. } => bar.inc(1),
            View::Lines { next_ms } => {
                let (now, due) = (self.begun.elapsed(), next_ms.load(Ordering::Relaxed));
                let next = (now + PERIOD).as_millis() as u64;
                if now.as_millis() as u64 >= due
                    && next_ms
                        .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
                {
                    print(&self.line(frames, now));
                }
            }
        }
    }

    fn line(&self, frames: u64, elapsed: Duration) -> String {
        let fps = rate(frames, elapsed);
        let label = &self.label;
        match self.total {
            Some(total) => {
                let left = total.saturating_sub(frames) as f64 / fps;
                format!("{label}: {frames}/{total} frames, {fps:.1} fps, {left:.0} s left")
            }
            None => format!("{label}: {frames} frames, {fps:.1} fps"),
        }
    }

    /// The instance is over; `complete` unless it was stopped before all was done that was asked for.
    pub(crate) fn finish(&self, outcome: &Outcome<'_>, complete: bool) {
        let Outcome { frames, skipped, took, .. } = *outcome;
        let mut text = format!(
            "{}: {} {frames} frames in {:.2} s, {:.1} fps",
            self.label,
            if complete { "done:" } else { "stopped:" },
            took.as_secs_f64(),
            rate(frames, took)
        );
        if skipped > 0 {
            let ones = if skipped == 1 { "one" } else { "ones" };
            text += &format!(", {skipped} broken {ones} skipped");
        }
        match &self.view {
            View::Nothing => {}
            View::Lines { .. } => print(&text),
            View::Bar { bar, bars } => {
                bar.finish_and_clear();
                bars.suspend(|| print(&text));
            }
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        // After a failure the bar stays where it was.
        if let View::Bar { bar, .. } = &self.view
            && !bar.is_finished()
        {
            bar.abandon();
        }
    }
}

/// What instances are called, counted from one: after their videos, where each has one to itself and these
/// are told apart by their names.
pub(crate) fn labels(videos: &[PathBuf], instances: usize) -> Vec<String> {
    let name =
        |video: &PathBuf| shown(&video.file_name().unwrap_or(video.as_os_str()).to_string_lossy());
    let names: Vec<_> = videos.iter().map(name).collect();
    match names.iter().collect::<BTreeSet<_>>().len() {
        different if different == instances => names,
        _ => (1..=instances).map(|instance| format!("instance {instance}")).collect(),
    }
}

/// Frames in a second, over all the time.
pub(crate) fn rate(frames: u64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => frames as f64 / seconds,
    }
}

/// As `println!`, but a reader that has gone away is no reason to die.
fn print(lines: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{lines}").and_then(|()| stdout.flush());
}

/// Says what is wrong.
pub(crate) fn complain(what: &str) {
    terminal::complain(format_args!("{}: {}", program(), shown(what)));
}

/// This program, as its user knows it.
fn program() -> &'static str {
    let is_video = std::env::args_os().next().is_some_and(|name| name == VIDEO);
    if is_video { VIDEO } else { "resize-videos" }
}

fn style(template: &str, signal: Signal, client: Client) -> ProgressStyle {
    // Before the first frame there is no rate, and nothing to tell from it.
    let how = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let fps = rate(state.pos(), state.elapsed());
        let _ = match (state.pos(), state.len()) {
            _ if signal.came() => out.write_str(ENDING),
            _ if client.is_lost() => out.write_str(LOST),
            (0, _) => Ok(()),
            (_, None) => write!(out, "{fps:.1} fps"),
            (_, Some(_)) => {
                let left = format!("{:.0} s left", state.eta().as_secs_f64());
                write!(out, "{fps:.1} fps {left:>8}")
            }
        };
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("how", how)
}

#[cfg(test)]
mod tests {
    use resized::Server;

    use super::*;

    fn progress(videos: &[&str], instances: usize) -> Progress {
        let videos: Vec<_> = videos.iter().map(PathBuf::from).collect();
        let signal = Signal::listen().unwrap();
        Progress { how: How::Lines, labels: labels(&videos, instances), signal }
    }

    #[test]
    fn every_template_is_valid() {
        for template in [KNOWN, UNKNOWN] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn lines_tell_what_is_left() {
        let progress = progress(&["a.mkv"], 3);
        let server = Server::embedded().unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let mut track = progress.track(3, &client, Some(100));
        let line = |track: &Track| track.line(25, Duration::from_secs(5));
        assert_eq!(line(&track), "instance 3: 25/100 frames, 5.0 fps, 15 s left");
        track.total = None;
        assert_eq!(line(&track), "instance 3: 25 frames, 5.0 fps");
    }

    #[test]
    fn instances_are_called_after_videos_that_have_names_of_their_own() {
        let called = |videos: &[&str], instances| progress(videos, instances).labels;
        assert_eq!(called(&["in/a.mkv", "b\u{1b}.mkv"], 2), ["a.mkv", "b\\u{1b}.mkv"]);
        assert_eq!(called(&["a.mkv"], 2), ["instance 1", "instance 2"]);
        assert_eq!(called(&["in/a.mkv", "a.mkv"], 2), ["instance 1", "instance 2"]);
        let long = format!("{}.mkv", "\u{e9}".repeat(30));
        let progress = progress(&["a.mkv", &long], 2);
        let prefixes: Vec<_> = progress.labels.iter().map(|label| progress.prefix(label)).collect();
        let cut = format!("{}\u{2026}", "\u{e9}".repeat(MOST_LETTERS - 1));
        assert_eq!(prefixes, [format!("{:MOST_LETTERS$}", "a.mkv"), cut]);
    }
}
