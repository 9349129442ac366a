//! Owns how the daemon logs: to stderr, a line an event; for a journal with the event's priority in
//! front, as sd-daemon(3) has it, and without the time, which it has already.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use anyhow::{Context, Result};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::ConfigError;

/// Changes the filter.
pub(crate) type SetFilter = Box<dyn Fn(EnvFilter) -> Result<()> + Send>;

/// What a setting says is logged.
pub(crate) fn filter(setting: &str) -> Result<EnvFilter, ConfigError> {
    let failed = |error| ConfigError::Log { setting: setting.to_owned(), error };
    // One word that is no level would be the name of a program's part: of ours there is one.
    let is_word = !setting.is_empty() && setting.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word && setting != "resized" {
        LevelFilter::from_str(setting).map_err(|error| failed(error.into()))?;
    }
    EnvFilter::try_new(setting).map_err(failed)
}

/// Begins to log.
pub(crate) fn start(filter: EnvFilter) -> SetFilter {
    // Set by systemd where stderr is a journal's; see systemd.exec(5).
    let lines = match std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal() {
        true => Lines::Journal(tracing_subscriber::fmt::format().without_time()),
        false => Lines::Plain(tracing_subscriber::fmt::format()),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal()).event_format(lines);
    let log = log.with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Box::new(move |filter| handle.reload(filter).context("the log's filter can't be changed"))
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
