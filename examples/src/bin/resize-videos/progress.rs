//! Owns what the user sees while videos are resized: bars on a terminal, else a line now and then.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use resizectl::terminal::{self, shown};

use crate::outcome::Outcome;
use crate::screen::Screen;

/// Time between an instance's lines where there are no bars.
const PERIOD: Duration = Duration::from_secs(2);

const KNOWN: &str = "{prefix} {wide_bar} {pos:>6}/{len} frames {fps:>11} {left:>8}";
const UNKNOWN: &str = "{prefix} {spinner} {pos:>6} frames {fps:>11}";

/// How progress is shown.
pub(crate) enum Progress {
    Quiet,
    Lines,
    Bars(MultiProgress),
}

impl Progress {
    /// Bars on a terminal that can draw them, else lines; nothing if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        match Screen::target() {
            _ if quiet => Self::Quiet,
            Some(target) => Self::Bars(MultiProgress::with_draw_target(target)),
            None => Self::Lines,
        }
    }

    /// Prints lines.
    pub(crate) fn say(&self, lines: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines => print(lines),
            Self::Bars(bars) => bars.suspend(|| print(lines)),
        }
    }

    /// Prints what is wrong, where errors go.
    pub(crate) fn complain(&self, what: &str) {
        match self {
            Self::Quiet | Self::Lines => complain(what),
            Self::Bars(bars) => bars.suspend(|| complain(what)),
        }
    }

    /// Begins to show an instance; `total` is the number of its frames, as far as it is known.
    pub(crate) fn track(&self, instance: usize, total: Option<u64>) -> Track {
        let begun = Instant::now();
        let view = match self {
            Self::Quiet => View::Nothing,
            Self::Lines => View::Lines { next_ms: AtomicU64::new(PERIOD.as_millis() as u64) },
            Self::Bars(bars) => {
                let bar = bars.add(ProgressBar::no_length());
                bar.set_style(style(if total.is_some() { KNOWN } else { UNKNOWN }));
                bar.set_prefix(format!("instance {instance:>2}"));
                total.into_iter().for_each(|total| bar.set_length(total));
                bar.enable_steady_tick(Duration::from_millis(200));
                View::Bar { bar, bars: bars.clone() }
            }
        };
        Track { instance, total, begun, frames: AtomicU64::new(0), view }
    }
}

/// The progress of one instance.
pub(crate) struct Track {
    instance: usize,
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
        let instance = self.instance;
        match self.total {
            Some(total) => {
                let left = total.saturating_sub(frames) as f64 / fps;
                format!(
                    "instance {instance}: {frames}/{total} frames, {fps:.1} fps, {left:.0} s left"
                )
            }
            None => format!("instance {instance}: {frames} frames, {fps:.1} fps"),
        }
    }

    /// The instance is over; `complete` unless it was stopped before its video's end.
    pub(crate) fn finish(&self, outcome: &Outcome<'_>, complete: bool) {
        let Outcome { frames, skipped, took, .. } = *outcome;
        let mut text = format!(
            "instance {}: {} {frames} frames in {:.2} s, {:.1} fps",
            self.instance,
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
    terminal::complain(format_args!("resize-videos: {}", shown(what)));
}

fn style(template: &str) -> ProgressStyle {
    // Before the first frame there is no rate, and nothing to tell from it.
    let fps = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.pos() > 0 {
            let _ = write!(out, "{:.1} fps", rate(state.pos(), state.elapsed()));
        }
    };
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.pos() > 0 {
            let _ = write!(out, "{:.0} s left", state.eta().as_secs_f64());
        }
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("fps", fps)
        .with_key("left", left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for template in [KNOWN, UNKNOWN] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn lines_tell_what_is_left() {
        let mut track = Progress::Lines.track(3, Some(100));
        let line = |track: &Track| track.line(25, Duration::from_secs(5));
        assert_eq!(line(&track), "instance 3: 25/100 frames, 5.0 fps, 15 s left");
        track.total = None;
        assert_eq!(line(&track), "instance 3: 25 frames, 5.0 fps");
    }
}
