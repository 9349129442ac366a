//! Owns how the programs speak: what becomes of text from outside before a terminal has it, and
//! where it goes.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Error, Result};
use resized_client::Endpoint;
use resized_client::Error as ClientError;

/// Text on one line of a terminal, and without power over it: names of files may hold anything.
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// An error and its causes, but for those that one before has quoted already. Not yet [`shown`].
pub fn one_line(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), quotes(&line, &cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    })
}

/// What resize-videos is run as by `resizectl video`, and calls itself then: its user typed that.
pub const VIDEO: &str = "resizectl video";

/// What a program shows while the daemon that it had is away.
pub const LOST: &str = "lost the daemon, looking for it";

/// What to do about an error, where something is known to help: whoever can't connect, to the
/// endpoint that was `given` or else to the usual one, is told by `resizectl doctor`.
pub fn advice(error: &Error, given: Option<&Endpoint>) -> String {
    let Some(ClientError::Connect { .. }) = error.downcast_ref() else { return String::new() };
    let connect = given.map_or(String::new(), |given| format!(" --connect {}", word(given)));
    format!("; resizectl doctor{connect} says what to do about it")
}

/// As a shell has to be given it.
fn word(endpoint: &Endpoint) -> String {
    let text = endpoint.to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/:._-".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
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

/// Prints it. A reader that has gone away is no reason to fail.
pub(crate) fn say(text: impl Display) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(error).context("can't write to standard output"))
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
    use std::sync::Arc;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn errors_are_one_line_of_text() {
        let error = anyhow!("no\x1b[2Jsuch\nfile").context("a\u{9b}b: é");
        assert_eq!(shown(&one_line(&error)), "a\\u{9b}b: é: no\\u{1b}[2Jsuch\\nfile");
    }

    #[test]
    fn advice_is_a_command_that_works() {
        let advised = |given: &str| {
            let endpoint: Endpoint = given.parse().unwrap();
            let error = Arc::new(io::ErrorKind::NotFound.into());
            let error = ClientError::Connect { endpoint: endpoint.clone(), error };
            advice(&error.into(), Some(&endpoint))
        };
        for (given, word) in [
            ("unix:/run/a-b_1.sock", "unix:/run/a-b_1.sock"),
            ("unix:/my run/é.sock", "'unix:/my run/é.sock'"),
            ("unix:/it's;x", r"'unix:/it'\''s;x'"),
            ("tcp://a:1", "tcp://a:1"),
            ("tls://[::1]:1", "'tls://[::1]:1'"),
        ] {
            let expected = format!("; resizectl doctor --connect {word} says what to do about it");
            assert_eq!(advised(given), expected);
        }
    }

    #[test]
    fn what_is_quoted_is_said_once() {
        let quoted = anyhow!("why").context("what: why");
        assert_eq!(one_line(&quoted), "what: why");
        let amid = anyhow!("why").context("what (why), once more").context("who");
        assert_eq!(one_line(&amid), "who: what (why), once more");
        let number = anyhow!("5").context("frame 50");
        assert_eq!(one_line(&number), "frame 50: 5");
    }
}
