//! The command line of `resized`, as a library: what its binary runs, and what its manual pages are made of.
//!
//! [`args`](Arguments) says what may be asked, `daemon` finds who answers, and each command is a file of its own
//! that knows nothing of the others.

mod args;
mod bench;
mod daemon;
mod doctor;
mod resize;
mod video;
mod watch;

use std::process::ExitCode;

pub use args::Arguments;
use args::Command;

/// Does what was asked for. The exit code says whether all of it was done.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let endpoint = arguments.connect.as_ref();
    match &arguments.command {
        Command::Resize(asked) => resize::run(asked, endpoint),
        Command::Video(asked) => video::run(asked, endpoint),
        Command::Top(asked) => watch::top(asked, endpoint),
        Command::Status(asked) => watch::status(asked, endpoint),
        Command::Doctor(asked) => doctor::run(asked, endpoint),
        Command::Bench(asked) => bench::run(asked, endpoint),
    }
}

/// An error and its causes, but for those that the error before has quoted already.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), line.ends_with(&cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    })
}
