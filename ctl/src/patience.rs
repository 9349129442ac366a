//! Owns the waiting for an answer that may never come, from what can't be told to ask no longer.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// From one look to the next whether the wait has still a sense.
const STEP: Duration = Duration::from_millis(50);

/// What `ask` gives. None if the wait is `over` before: then its thread is left behind.
pub fn ask<T: Send + 'static>(
    over: impl Fn() -> bool,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (answer, answered) = channel();
    // Whoever left does not hear it.
    let asking = move || drop(answer.send(ask()));
    let thread = thread::Builder::new().name("ask".to_owned());
    thread.spawn(asking).context("can't start a thread")?;
    loop {
        match answered.recv_timeout(STEP) {
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) if over() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("a thread panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_never_answers_is_left_behind() {
        let (never, waits) = mpsc::channel::<()>();
        assert_eq!(ask(|| true, move || waits.recv()).unwrap(), None);
        drop(never);
        // However long it takes, while the wait has a sense; and a panic is no answer.
        let late = || {
            thread::sleep(3 * STEP);
            7
        };
        assert_eq!(ask(|| false, late).unwrap(), Some(7));
        assert!(ask(|| false, || -> u8 { panic!("as it should") }).is_err());
    }
}
