//! Owns how a service logs: to stderr, a line an event; for a journal with the event's priority in
//! front, as sd-daemon(3) has it, and without the time, which it has already.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use thiserror::Error;
use tracing::{Event, Level, Subscriber};
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
    let lines = match journal.is_some_and(|journal| is_journal(io::stderr(), &journal)) {
        true => Lines::Journal(tracing_subscriber::fmt::format().without_time()),
        false => Lines::Plain(tracing_subscriber::fmt::format()),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
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

enum Lines {
    Plain(Format<Full, SystemTime>),
    Journal(Format<Full, ()>),
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
        match self {
            Self::Plain(format) => format.format_event(context, writer, event),
            Self::Journal(format) => {
                let priority = match *event.metadata().level() {
                    Level::ERROR => 3,
                    Level::WARN => 4,
                    Level::INFO => 6,
                    Level::DEBUG | Level::TRACE => 7,
                };
                write!(writer, "<{priority}>")?;
                format.format_event(context, writer, event)
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
