//! Owns the page that shows a run: what was measured, as curves and tables, in one file of HTML.
//!
//! Invariants: the page asks for nothing outside itself, runs no script, and its policy forbids it
//! both; whatever a video is called, its name is text. It knows figures, and not how they came
//! about.

mod date;
mod machine;
mod plot;

use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use resized_client::Extent;

use crate::args::Args;
use crate::notes::Times;
use crate::outcome::Outcome;
use crate::progress::rate;
use crate::shape::Shape;
use crate::stop::Reason;
use machine::Machine;
use plot::{Axis, Curve, Plot, swatch};

const STYLE: &str = include_str!("page/style.css");

/// Steps that the curves over time have at the most.
const MOST_STEPS: f64 = 120.0;

/// Frames that a step should have: else what is seen is noise.
const STEP_FRAMES: f64 = 15.0;

/// Steps that a curve has even so.
const LEAST_STEPS: f64 = 8.0;

/// A run.
pub(crate) struct Page<'a> {
    pub(crate) args: &'a Args,
    pub(crate) shape: Shape,
    pub(crate) videos: &'a [Seen],
    pub(crate) outcomes: &'a [Outcome<'a>],
    pub(crate) instances: usize,
    /// From the start of the first to the end of the last.
    pub(crate) took: Duration,
    pub(crate) frames: u64,
    /// Which daemon it was, in words.
    pub(crate) daemon: &'a str,
    pub(crate) devices: &'a [Share],
    /// Why it ended before its time, if it did.
    pub(crate) stopped: Option<&'a Reason>,
}

/// A video.
pub(crate) struct Seen {
    /// Without the folders.
    pub(crate) name: String,
    /// None if it can't be opened.
    pub(crate) head: Option<Head>,
}

/// How its head describes a video.
pub(crate) struct Head {
    pub(crate) codec: &'static str,
    pub(crate) extent: Extent,
    /// What its frames become.
    pub(crate) pictures: Extent,
}

/// What a device did of the run.
pub(crate) struct Share {
    pub(crate) name: String,
    /// Frames of this run.
    pub(crate) frames: u64,
    /// Lanes that had work, on average, for other clients too; unknown if the daemon does not say.
    pub(crate) busy: Option<f64>,
}

/// Text as HTML has it, in elements and attributes.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.to_string().chars() {
            match letter {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                other => f.write_char(other),
            }?;
        }
        Ok(())
    }
}

/// Which times of an outcome.
type Of = for<'a> fn(&'a Outcome<'_>) -> &'a Times;

impl Page<'_> {
    pub(crate) fn html(&self) -> Result<String> {
        let (what, fps) = (self.what(), rate(self.frames, self.took));
        let title = format!("{what}: {fps:.0} frames a second");
        let why = match self.stopped {
            None => None,
            Some(Reason::Signal(_)) => Some("Stopped by a signal before its end.".to_owned()),
            Some(Reason::Error(why)) => Some(format!("Stopped before its end: {why}")),
        };
        let stopped =
            why.map_or(String::new(), |why| format!("<p class=\"stopped\">{}</p>\n", Text(why)));
        let (version, date) = (env!("CARGO_PKG_VERSION"), date::of(SystemTime::now()));
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{}</h1>\n<p>Frames decoded, resized through the daemon, and written as JPEGs. \
             resize-videos {version}, {date} UTC</p>\n{stopped}</header>\n",
            Text(&title),
            Text(&what),
        );
        html += &self.cards()?;
        html += &self.pace().html();
        html += &self.instances();
        html += &self.times(
            "Submitted to received",
            "Milliseconds that a frame was with the daemon, over the share of frames that took no longer",
            |outcome| &outcome.received,
        )?;
        html += &self.times(
            "Decoded to written",
            "Milliseconds from the decoder to the JPEG file, over the share of frames that took no longer",
            |outcome| &outcome.written,
        )?;
        html += &self.devices();
        html += &format!("<div class=\"pair\">\n{}{}</div>\n", self.machine(), self.settings());
        Ok(html + "</body>\n</html>\n")
    }

    /// What was measured, in words.
    fn what(&self) -> String {
        let size = self.shape.in_words();
        match (self.videos, self.instances) {
            ([video], 1) => format!("{} to {size}", video.name),
            ([video], copies) => format!("{copies} copies of {} to {size}", video.name),
            (videos, copies) if videos.len() == copies => format!("{copies} videos to {size}"),
            (videos, copies) => format!("{copies} copies of {} videos to {size}", videos.len()),
        }
    }

    fn cards(&self) -> Result<String> {
        let all = |times: Of| {
            sum(self.outcomes.iter().map(times)).map(|all| (ms(&all, 0.5), ms(&all, 0.99)))
        };
        let (received, written) =
            (all(|outcome| &outcome.received)?, all(|outcome| &outcome.written)?);
        let seconds = self.took.as_secs_f64();
        let cards = [
            (
                format!("{:.0}", rate(self.frames, self.took)),
                "frames a second, all together".to_owned(),
            ),
            (self.frames.to_string(), format!("frames in {seconds:.2} s")),
            (
                format!("{} ms", received.0),
                format!("from submitted to received (p50; p99 {})", received.1),
            ),
            (
                format!("{} ms", written.0),
                format!("from decoded to written (p50; p99 {})", written.1),
            ),
        ];
        let card = |(figure, words): &(String, String)| {
            format!("<div><b>{figure}</b><span>{words}</span></div>\n")
        };
        Ok(format!("<div class=\"cards\">\n{}</div>\n", cards.iter().map(card).collect::<String>()))
    }

    /// Frames a second of each instance, over the run.
    fn pace(&self) -> Plot {
        let drawn = self.outcomes.iter().filter(|outcome| outcome.frames > 0);
        let rates: Vec<_> = drawn.map(|outcome| (outcome, self.rates(outcome))).collect();
        let most =
            rates.iter().flat_map(|(_, rates)| rates).map(|(_, rate)| *rate).fold(0.0, f64::max);
        let curve = |(outcome, rates): &(&Outcome<'_>, Vec<(f64, f64)>)| {
            let start = outcome.started.as_secs_f64();
            let mut begin = 0.0;
            // In the middle of each step, from the very start to the very end.
            let mut points: Vec<_> = rates
                .iter()
                .map(|&(end, rate)| {
                    (start + (std::mem::replace(&mut begin, end) + end) / 2.0, rate)
                })
                .collect();
            if let (Some(&(_, first)), Some(&(_, last))) = (points.first(), points.last()) {
                points.insert(0, (start, first));
                points.push((start + begin, last));
            }
            Curve { index: outcome.instance - 1, name: outcome.instance.to_string(), points }
        };
        Plot {
            title: "Frames a second",
            note: "Pictures written by each instance, over the seconds of the run",
            x: Axis::linear(self.took.as_secs_f64(), 6, " s"),
            y: Axis::linear_up(most, 5, ""),
            curves: rates.iter().map(curve).collect(),
        }
    }

    /// The rates of an instance, in steps of which all have the same length.
    fn rates(&self, outcome: &Outcome<'_>) -> Vec<(f64, f64)> {
        let slowest = self.outcomes.iter().map(|outcome| rate(outcome.frames, outcome.took));
        let slowest = slowest.filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
        let whole = self.took.as_secs_f64();
        let step = (STEP_FRAMES / slowest).min(whole / LEAST_STEPS).max(whole / MOST_STEPS);
        outcome.pace.rates(outcome.took, step)
    }

    fn instances(&self) -> String {
        let row = |outcome: &Outcome<'_>| {
            let Outcome { instance, frames, skipped, started, took, .. } = *outcome;
            let (started, seconds) = (started.as_secs_f64(), took.as_secs_f64());
            format!(
                "<tr><td>{}{instance}</td><td>{started:.2}</td><td>{frames}</td><td>{skipped}</td>\
                 <td>{seconds:.2}</td><td>{:.1}</td><td class=\"word\">{}</td></tr>\n",
                swatch(instance - 1),
                rate(frames, took),
                Text(outcome.reason()),
            )
        };
        let rows: String = self.outcomes.iter().map(row).collect();
        let skipped: u64 = self.outcomes.iter().map(|outcome| outcome.skipped).sum();
        format!(
            "<section>\n<h2>Instances</h2>\n<div class=\"wide\"><table>\n<tr><th>instance</th><th>start s</th>\
             <th>frames</th><th>skipped</th><th>seconds</th><th>fps</th><th class=\"word\">video</th></tr>\n{rows}\
             <tr class=\"all\"><td>all</td><td></td><td>{}</td><td>{skipped}</td><td>{:.2}</td><td>{:.1}</td>\
             <td></td></tr>\n</table></div>\n</section>\n",
            self.frames,
            self.took.as_secs_f64(),
            rate(self.frames, self.took),
        )
    }

    /// How long frames took: curves, and the usual figures.
    fn times(&self, title: &'static str, note: &'static str, times: Of) -> Result<String> {
        let all = sum(self.outcomes.iter().map(times))?;
        let row = |name: &str, class: &str, times: &Times| {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| ms(times, share));
            let max = ms(times, 1.0);
            format!(
                "<tr{class}><td>{name}</td><td>{p50}</td><td>{p90}</td><td>{p99}</td><td>{max}</td></tr>\n"
            )
        };
        let (mut rows, mut curves) = (String::new(), Vec::new());
        for outcome in self.outcomes {
            let (index, of) = (outcome.instance - 1, times(outcome));
            rows += &row(&format!("{}{}", swatch(index), outcome.instance), "", of);
            if of.frames() == 0 {
                continue;
            }
            let shares = Axis::even_shares(all.frames(), 100).map(|share| (share, of.ms(share)));
            let points = [(0.0, of.ms(0.0))].into_iter().chain(shares).chain([(1.0, of.max_ms())]);
            curves.push(Curve {
                index,
                name: outcome.instance.to_string(),
                points: points.collect(),
            });
        }
        rows += &row("all", " class=\"all\"", &all);
        let plot = Plot {
            title,
            note,
            x: Axis::shares(all.frames()),
            y: Axis::linear_up(all.max_ms(), 5, ""),
            curves,
        };
        Ok(format!(
            "{}<div class=\"wide\"><table>\n<tr><th>instance</th><th>p50 ms</th><th>p90 ms</th><th>p99 ms</th><th>max ms</th></tr>\n\
             {rows}</table></div>\n",
            plot.html()
        ))
    }

    fn devices(&self) -> String {
        let all: u64 = self.devices.iter().map(|device| device.frames).sum();
        let row = |device: &Share| {
            let share = 100.0 * device.frames as f64 / all.max(1) as f64;
            let busy = device.busy.map_or("\u{2013}".to_owned(), |lanes| format!("{lanes:.2}"));
            format!(
                "<tr><td>{}</td><td class=\"share\"><span style=\"width:{share:.2}%\"></span></td>\
                 <td>{share:.1} %</td><td>{}</td><td>{busy}</td></tr>\n",
                Text(&device.name),
                device.frames
            )
        };
        let rows: String = self.devices.iter().map(row).collect();
        format!(
            "<section>\n<h2>Devices</h2>\n<p class=\"note\">Who resized the frames of this run. Busy lanes are an \
             average over the run, the thread that reads messages among them, and count what was done for other clients \
             meanwhile.</p>\n\
             <div class=\"wide\"><table>\n<tr><th>device</th><th class=\"word\">share</th><th></th><th>frames</th>\
             <th>busy lanes</th></tr>\n{rows}</table></div>\n</section>\n"
        )
    }

    fn machine(&self) -> String {
        let Machine { cpu, cores, memory, kernel, system } = Machine::this();
        let memory =
            memory.map_or("unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / GIB));
        let gpus =
            self.devices.iter().map(|device| device.name.as_str()).filter(|name| *name != CORES);
        let gpus = gpus.collect::<Vec<_>>().join(", ");
        let gpus = if gpus.is_empty() { "none that the daemon uses".to_owned() } else { gpus };
        let list = [
            ("Processor", cpu),
            ("Cores", cores.to_string()),
            ("Memory", memory),
            ("GPUs", gpus),
            ("Kernel", kernel),
            ("System", system),
        ];
        section("Machine", list)
    }

    fn settings(&self) -> String {
        let Args { interval, every, frames, filter, quality, output, .. } = self.args;
        let video = |seen: &Seen| {
            let Seen { name, head } = seen;
            match head {
                None => name.clone(),
                // It does not say how large it is.
                Some(Head { codec, extent, .. }) if extent.width == 0 => {
                    format!("{name} ({codec})")
                }
                Some(Head { codec, extent, pictures }) => {
                    format!("{name} ({codec}, {extent} to {pictures})")
                }
            }
        };
        let videos = self.videos.iter().map(video).collect::<Vec<_>>().join(", ");
        let instances = match self.instances {
            1 => "1".to_owned(),
            copies => format!("{copies}, one every {} s", interval.as_secs_f64()),
        };
        let every = (*every > 1).then(|| ("Pictures of", format!("one frame of {every}")));
        let most = frames.map(|most| ("Pictures of each instance", format!("{most} at most")));
        let list = [("Video", videos), ("Size", self.shape.in_words())];
        let list = list.into_iter().chain(every).chain(most).chain([
            ("Filter", filter.name().to_owned()),
            ("JPEG quality", quality.to_string()),
            ("Instances", instances),
            ("Daemon", self.daemon.to_owned()),
            ("Pictures", output.to_string()),
        ]);
        section("Settings", list)
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

/// What daemons call the device that is the cores.
const CORES: &str = "cpu";

/// A list of names and values.
fn section<'a>(title: &str, list: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let row = |(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", Text::<String>(value));
    let rows: String = list.into_iter().map(row).collect();
    format!("<section>\n<h2>{title}</h2>\n<dl>\n{rows}</dl>\n</section>\n")
}

/// All of them together.
fn sum<'a>(times: impl Iterator<Item = &'a Times>) -> Result<Times> {
    let mut all = Times::new()?;
    for times in times {
        all.add(times)?;
    }
    Ok(all)
}

/// Milliseconds that this share of the frames took at the most, in words.
fn ms(times: &Times, share: f64) -> String {
    match times.frames() {
        0 => "\u{2013}".to_owned(),
        _ if share < 1.0 => format!("{:.2}", times.ms(share)),
        _ => format!("{:.2}", times.max_ms()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(Text("a<b>&\"c\"").to_string(), "a&lt;b&gt;&amp;&quot;c&quot;");
    }
}
