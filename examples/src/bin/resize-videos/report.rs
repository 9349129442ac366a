//! Owns the figures of a run: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use resizectl::aside::{is_out_of_reach, is_special};
use resizectl::folders::place;
use resizectl::terminal::shown;
use serde::Serialize;

use crate::ASIDE;
use crate::daemon::Look;
use crate::notes::Times;
use crate::outcome::{End, Outcome};
use crate::page::Share;
use crate::progress::rate;
use crate::source;
use crate::stop::Reason;

/// All figures of a run. Its serialization is the `--json` file, which the help of that option
/// describes.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// Why the run ended before its time, if it did.
    stopped: Option<&'a Reason>,
    instances: Vec<Row>,
    total: Total,
}

#[derive(Serialize)]
struct Row {
    instance: usize,
    video: String,
    /// Whether all was done that was asked for.
    complete: bool,
    /// What is wrong with the video.
    error: Option<String>,
    /// For people, who have been told what was wrong.
    #[serde(skip)]
    label: String,
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

impl<'a> Report<'a> {
    pub(crate) fn new(outcomes: &[Outcome<'_>], stopped: Option<&'a Reason>) -> Self {
        // From the first start, which is the run's, to the last end.
        let took = outcomes.iter().map(|outcome| outcome.started + outcome.took).max();
        let took = took.unwrap_or(Duration::ZERO);
        let frames = outcomes.iter().map(|outcome| outcome.frames).sum();
        let total = Total { frames, seconds: took.as_secs_f64(), fps: rate(frames, took) };
        Self { stopped, instances: outcomes.iter().map(Row::new).collect(), total }
    }

    /// The table at the end of a run.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "\n{:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}  video",
            "instance", "start s", "frames", "skipped", "seconds", "fps", "p50 ms", "p99 ms",
        );
        for row in &self.instances {
            let Row { instance, frames, skipped, started_s, seconds, fps, label, .. } = row;
            let (label, Milliseconds { p50, p99, .. }) = (shown(label), &row.latency_ms);
            // Writing to a string can't fail.
            let _ = write!(
                table,
                "\n{instance:>8} {started_s:>8.2} {frames:>8} {skipped:>8} {seconds:>8.2} {fps:>7.1} \
                 {p50:>7.2} {p99:>7.2}  {label}",
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
        if devices.is_empty() {
            return table;
        }
        let devices: Vec<_> =
            devices.iter().map(|(name, n)| format!("{} {n} frames", shown(name))).collect();
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
            complete: matches!(outcome.end, End::Complete),
            error: match &outcome.end {
                End::Failed(why) => Some(why.clone()),
                End::Complete | End::Stopped => None,
            },
            label: outcome.label(),
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
}

impl Milliseconds {
    fn of(times: &Times) -> Self {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| times.ms(share));
        Self { p50, p90, p99, max: times.max_ms() }
    }
}

/// Writes a file: aside first, unless it is no ordinary one.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let written = ASIDE.write_named(path, text.as_bytes());
    written.with_context(|| format!("can't write {}", path.display()))
}

/// Fails early if a file could not be written at the end, or would take the place of a video.
pub(crate) fn check_writable(path: &Path, videos: &[PathBuf]) -> Result<()> {
    ensure!(!path.is_dir(), "can't write {}: it is a folder", path.display());
    if is_special(path) {
        ensure!(path.exists(), "can't write {}: nothing is open there", path.display());
        ensure!(!is_out_of_reach(path), "can't write {}: it is a socket", path.display());
        // Opening a pipe would be seen at its other end.
        let opened = path.is_file().then(|| File::options().append(true).open(path));
        return opened
            .map_or(Ok(()), |opened| opened.map(drop))
            .with_context(|| format!("can't write {}", path.display()));
    }
    if let Some(video) = videos.iter().find(|video| is_same(path, source::file(video))) {
        bail!("{} would take the place of the video {}", path.display(), video.display());
    }
    ASIDE.try_out(path).map(drop).with_context(|| format!("can't write {}", path.display()))
}

/// Whether both are one file, which need not be there.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().or_else(|_| place(path));
    one == other || place(one).is_ok_and(|one| place(other).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_a_device_is_called_does_nothing_to_a_terminal() {
        let mut outcome =
            Outcome::new(1, Path::new("clip.mkv"), End::Complete, Duration::ZERO).unwrap();
        outcome.devices = vec![("cpu\u{1b}[2J\n".to_owned(), 3)];
        let table = Report::new(&[outcome], None).table();
        assert!(table.ends_with("\nresized by: cpu\\u{1b}[2J\\n 3 frames"), "{table}");
    }

    #[test]
    fn files_are_the_same_by_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["there", "missing"] {
            assert!(is_same(&path(name), &path(&format!("./{name}"))));
            assert!(!is_same(&path(name), &path("other")));
            assert!(!is_same(&path(name), &path(&format!("nowhere/{name}"))));
            fs::write(path("there"), "").unwrap();
        }
        symlink(path("there"), path("link")).unwrap();
        assert!(is_same(&path("link"), &path("there")));
        assert!(is_same(Path::new("a"), Path::new("./a")) && !is_same(Path::new("a"), &path("a")));
    }

    #[test]
    fn nothing_is_lost_to_a_file_in_the_making() {
        let dir = tempfile::tempdir().unwrap();
        let (page, precious) = (dir.path().join("page"), dir.path().join("page.part"));
        fs::write(&precious, "precious").unwrap();
        check_writable(&page, &[]).unwrap();
        write(&page, "one").unwrap();
        write(&page, "two").unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), "two");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        // A folder: what was written aside for it goes again.
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(check_writable(&taken, &[]).is_err() && write(&taken, "").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        // What is open already.
        let (open, link) = (File::create(&page).unwrap(), dir.path().join("link"));
        symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        check_writable(&link, &[]).unwrap();
        write(&link, "one").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&page).unwrap(), "one");
        // A socket has no other name.
        let (socket, _other) = UnixStream::pair().unwrap();
        let place = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let error = check_writable(place.as_ref(), &[]).unwrap_err();
        assert!(error.to_string().ends_with("it is a socket"), "{error}");
        let full = write(Path::new("/dev/full"), "text").unwrap_err();
        assert!(format!("{full:#}").contains("/dev/full: No space left"), "{full:#}");
    }
}
