//! Owns how a service logs: to stderr, a line an event; for a journal with the event's priority in
//! front, as sd-daemon(3) has it, and without the time, which it has already.
//!
//! Invariants: of what is worth a line each time it happens there are only so many lines a second:
//! clients can make much of it happen, and who writes the lines serves other clients meanwhile. A line
//! that can't be written, for want of room or of a reader, is lost, and nothing else: nobody waits for who
//! reads a pipe or a socket.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::PIPE_BUF;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

/// What should be logged can't be told.
#[derive(Debug, Error)]
#[error("'{setting}' is no filter for the log: {error}")]
pub struct NoFilter {
    setting: String,
    error: ParseError,
}

/// Changes the filter.
pub type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>;

/// What a setting says is logged.
pub fn filter(setting: &str) -> Result<EnvFilter, NoFilter> {
    let failed = |error| NoFilter { setting: setting.to_owned(), error };
    // One word that is no level would be the name of a program's part, and all else silent: of ours
    // there is one of one word.
    let is_word = !setting.is_empty() && setting.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word && setting != "resized" {
        LevelFilter::from_str(setting).map_err(|error| failed(error.into()))?;
    }
    EnvFilter::try_new(setting).map_err(failed)
}

/// Begins to log.
pub fn start(filter: EnvFilter) -> SetFilter {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let format = match journal.is_some_and(|journal| is_journal(io::stderr(), &journal)) {
        true => LineFormat::Journal(tracing_subscriber::fmt::format().without_time()),
        false => LineFormat::Plain(tracing_subscriber::fmt::format()),
    };
    let lines = Lines { format, places: Mutex::default() };
    // Of a line that can't be written nothing is said: that would be written there, too, by what panics
    // where it can't.
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let log = log.with_writer(|| IfThereIsRoom(io::stderr().lock())).log_internal_errors(false);
    let log = log.with_ansi(io::stderr().is_terminal()).event_format(lines);
    let log = log.with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Box::new(move |filter| handle.reload(filter))
}

/// Whether a journal reads it: systemd has set `JOURNAL_STREAM` to the journal's device and inode. Who
/// is started by a service sees that as well, and may write elsewhere; see systemd.exec(5).
fn is_journal(stream: impl AsFd, journal: &str) -> bool {
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    let found = file.and_then(|file| file.metadata());
    found.is_ok_and(|found| journal == format!("{}:{}", found.dev(), found.ino()))
}

/// Writes to a stream that has room, and fails where it has none.
struct IfThereIsRoom<W>(W);

impl<W: Write + AsFd> Write for IfThereIsRoom<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A pipe with any room has it for so many bytes; see pipe(7).
        let piece = &bytes[..bytes.len().min(PIPE_BUF)];
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => self.0.write(piece),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Most lines a second from one place in the program.
const MOST: u32 = 20;

/// How lines look, and how many there were of late.
struct Lines {
    format: LineFormat,
    places: Mutex<HashMap<Identifier, Place>>,
}

enum LineFormat {
    Plain(Format<Full, SystemTime>),
    Journal(Format<Full, ()>),
}

/// A place in the program that logs.
struct Place {
    /// The second that is counted.
    begun: Instant,
    lines: u32,
    left_out: u64,
}

impl Place {
    /// Whether there may be another line now, and then how many were left out before it.
    fn another(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.begun) >= Duration::from_secs(1) {
            (self.begun, self.lines) = (now, 0);
        }
        if self.lines == MOST {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Lines {
    /// See [`Place::another`]. Who asks for details has all of them.
    fn another(&self, event: &Metadata<'_>) -> Option<u64> {
        if *event.level() > Level::INFO {
            return Some(0);
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let place = places.entry(event.callsite());
        place.or_insert(Place { begun: now, lines: 0, left_out: 0 }).another(now)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(left_out) = self.another(event.metadata()) else { return Ok(()) };
        let priority = match (&self.format, *event.metadata().level()) {
            (LineFormat::Plain(_), _) => "",
            (_, Level::ERROR) => "<3>",
            (_, Level::WARN) => "<4>",
            (_, Level::INFO) => "<6>",
            (_, Level::DEBUG | Level::TRACE) => "<7>",
        };
        if left_out > 0 {
            writeln!(writer, "{priority}{left_out} lines as the next were left out")?;
        }
        write!(writer, "{priority}")?;
        match &self.format {
            LineFormat::Plain(format) => format.format_event(context, writer, event),
            LineFormat::Journal(format) => format.format_event(context, writer, event),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for good in ["info", "DEBUG", "off", "resized", "resized_bridge=debug", "warn,resized=info"]
        {
            filter(good).unwrap();
        }
        for bad in ["inof", "verbose", "resized=loud"] {
            assert!(filter(bad).unwrap_err().to_string().contains(bad));
        }
    }

    #[test]
    fn only_a_journal_is_one() {
        let file = tempfile::tempfile().unwrap();
        let found = file.metadata().unwrap();
        assert!(is_journal(&file, &format!("{}:{}", found.dev(), found.ino())));
        for other in ["", "1:2", &format!("{}:{}", found.dev(), found.ino() + 1)] {
            assert!(!is_journal(&file, other), "{other}");
        }
    }

    #[test]
    fn whoever_does_not_read_is_not_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = IfThereIsRoom(writer);
        let line = [7; 3 * PIPE_BUF / 2];
        let full = loop {
            if let Err(error) = log.write_all(&line) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        // There is room once somebody reads.
        reader.read_exact(&mut [0; 2 * PIPE_BUF]).unwrap();
        log.write_all(&line[..PIPE_BUF]).unwrap();
    }

    #[test]
    fn one_place_does_not_fill_the_log() {
        let begun = Instant::now();
        let mut place = Place { begun, lines: 0, left_out: 0 };
        let said = |place: &mut Place, at: u64| {
            (0..100)
                .map(|n| place.another(begun + Duration::from_millis(at + n)))
                .collect::<Vec<_>>()
        };
        let first = said(&mut place, 0);
        assert!(first[..20].iter().all(|&left_out| left_out == Some(0)));
        assert!(first[20..].iter().all(Option::is_none));
        let next = said(&mut place, 1000);
        assert_eq!((next[0], next[1], next[20]), (Some(80), Some(0), None));
    }

    #[test]
    fn others_have_lines_of_their_own_and_details_are_not_counted() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Arc::clone(&written);
        let format = LineFormat::Plain(tracing_subscriber::fmt::format());
        let lines = Lines { format, places: Mutex::default() };
        let log = tracing_subscriber::fmt().with_max_level(Level::DEBUG).event_format(lines);
        let log = log.with_writer(move || Sink(Arc::clone(&sink))).finish();
        tracing::subscriber::with_default(log, || {
            for n in 0..500 {
                tracing::warn!("a client did something");
                tracing::debug!(n, "in detail");
            }
            tracing::info!("another");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let of = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert!((20..200).contains(&of("did something")), "{}", of("did something"));
        assert_eq!((of("in detail"), of("another")), (500, 1));
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
