//! Owns the terminal that bars are drawn on, which may go away, or be busy, while a run goes on.
//!
//! Invariant: drawing never fails. What can't be drawn is lost, and no reason to end the run.

use std::io;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// Most times in a second that it is drawn anew.
const RATE: u8 = 20;

/// Standard output, as a terminal.
#[derive(Debug)]
pub(crate) struct Screen(Mutex<Term>);

impl Screen {
    /// Where bars can be drawn. None if standard output is no terminal, or a dumb one.
    pub(crate) fn target() -> Option<ProgressDrawTarget> {
        if ProgressDrawTarget::stdout().is_hidden() {
            return None;
        }
        let screen = Self(Mutex::new(Term::buffered_stdout()));
        Some(ProgressDrawTarget::term_like_with_hz(Box::new(screen), RATE))
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of these only fill a buffer, until it is flushed.
impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term().size().1
    }

    fn height(&self) -> u16 {
        self.term().size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.term().move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.term().move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.term().move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.term().move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term().write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.term().write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term().clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        let mut term = self.term();
        if term.flush().is_err() {
            // With another buffer: this one would only grow.
            let _ = mem::replace(&mut *term, Term::buffered_stdout());
        }
        Ok(())
    }
}
