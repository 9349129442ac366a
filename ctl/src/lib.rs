//! The command line of `resized`, as a library: what its binary runs, and what its manual pages are
//! made of.
//!
//! [`args`](Arguments) says what may be asked, `daemon` finds who answers, `signal` says when to
//! end, and each command is a file of its own that knows nothing of the others.

mod args;
mod bench;
mod daemon;
mod doctor;
mod resize;
mod signal;
mod video;
mod watch;

use std::fmt::Display;
use std::io::{self, Write};
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

/// Whether a line has that in it, not as a part of a word.
fn quotes(line: &str, cause: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    line.match_indices(cause).any(|(at, _)| {
        let (before, after) =
            (line[..at].chars().next_back(), line[at + cause.len()..].chars().next());
        !part(before) && !part(after)
    })
}

/// An error and its causes, but for those that one before has quoted already.
pub fn one_line(error: &anyhow::Error) -> String {
    shown(&error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), quotes(&line, &cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    }))
}

/// Text on one line of a terminal, and without power over it: names of files may hold anything.
fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// Prints it. A reader that has gone away is no reason to fail.
fn say(text: impl Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("can't write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Says it to the user, beside what is printed. A reader that has gone away is no reason to end,
/// and there is nobody else to tell.
pub fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_of_text() {
        let error = anyhow::anyhow!("no\x1b[2Jsuch\nfile").context("a\u{9b}b: é");
        assert_eq!(one_line(&error), "a\\u{9b}b: é: no\\u{1b}[2Jsuch\\nfile");
        let quoted = anyhow::anyhow!("why").context("what: why");
        assert_eq!(one_line(&quoted), "what: why");
        let amid = anyhow::anyhow!("why").context("what (why), once more").context("who");
        assert_eq!(one_line(&amid), "who: what (why), once more");
        let number = anyhow::anyhow!("5").context("frame 50");
        assert_eq!(one_line(&number), "frame 50: 5");
    }
}
