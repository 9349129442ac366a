//! Owns the process that GPUs are tested in: a driver that crashes or hangs there costs the GPU, not
//! the daemon.
//!
//! Knows command lines and exit codes, and nothing of Vulkan. The process is the daemon's own
//! program, asked a [`Question`] by an argument that it hides. What it does for that is
//! [`self_test`](super::self_test)'s. Invariant: no answer is waited for without end.

mod question;

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use self::question::{Question, UnknownQuestion};
pub(super) use self::question::{Report, Verdict, one_line};
use super::Wanted;

/// The argument by which the daemon's program is asked: hidden, and not to be relied on.
const ARGUMENT: &str = "--probe-vulkan";

/// What takes longer hangs: both questions together, as clients that come meanwhile look for a daemon
/// for no more than half a minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// How long all its last words may take once it has ended: what a driver has started may hold the
/// pipe for longer, and go on talking.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of an answer; what is beyond is not read.
const LONGEST: u64 = 1 << 16;

/// Why a GPU, or all of Vulkan, did not pass.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No process could be started.
    #[error("the process to test it in could not be started: {0}")]
    Start(#[source] std::io::Error),
    /// It was killed by a signal or gave up: most likely the driver's doing.
    #[error("its driver ended the process that tested it ({0})")]
    Crashed(ExitStatus),
    /// It did not answer.
    #[error("its driver hung the process that tested it")]
    Hung,
    /// It said something else.
    #[error("it failed its self-test: {0}")]
    Failed(String),
}

/// Which GPUs there are and could be used, of those that are wanted.
pub(super) fn list(
    program: &Path,
    wanted: &Wanted,
    until: Instant,
) -> Result<Vec<Report>, ProbeError> {
    let answer = ask(program, &Question::List(wanted.clone()), until)?;
    Ok(answer.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Has the GPU of that name resize frames.
pub(super) fn self_test(program: &Path, name: &str, until: Instant) -> Result<(), ProbeError> {
    let Ok(verdict) = ask(program, &Question::SelfTest(name.to_owned()), until)?.parse();
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Failed(reason) => Err(ProbeError::Failed(reason)),
    }
}

fn ask(program: &Path, question: &Question, until: Instant) -> Result<String, ProbeError> {
    let mut process = Command::new(program)
        .arg(ARGUMENT)
        .arg(question.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(ProbeError::Start)?;
    // On a thread: whatever may hold the pipe, and however long, nobody here waits for it.
    let (pipe, (said, heard)) = (process.stdout.take(), mpsc::channel());
    let reader = thread::Builder::new().name("probe".into()).spawn(move || {
        let (mut pipe, mut part) = (pipe.map(|pipe| pipe.take(LONGEST)), [0; 4096]);
        while let Some(Ok(len @ 1..)) = pipe.as_mut().map(|pipe| pipe.read(&mut part))
            && said.send(part[..len].to_vec()).is_ok()
        {}
    });
    if let Err(error) = reader {
        give_up(process);
        return Err(ProbeError::Start(error));
    }
    let status = loop {
        match process.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => thread::sleep(LOOK),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(None) | Err(_) => {
                give_up(process);
                return Err(ProbeError::Hung);
            }
        }
    };
    if !status.success() {
        return Err(ProbeError::Crashed(status));
    }
    Ok(String::from_utf8_lossy(&last_words(&heard)).into_owned())
}

/// What is said until the pipe is closed, or nobody waits any more.
fn last_words(heard: &Receiver<Vec<u8>>) -> Vec<u8> {
    let until = Instant::now() + LAST_WORDS;
    let left = || until.saturating_duration_since(Instant::now());
    std::iter::from_fn(|| heard.recv_timeout(left()).ok()).flatten().collect()
}

/// Kills a process. One that hangs in its driver may not even die: it is waited for, but not by us.
fn give_up(mut process: Child) {
    let _ = process.kill();
    let reap = move || {
        let _ = process.wait();
    };
    if let Err(error) = thread::Builder::new().name("probe".into()).spawn(reap) {
        tracing::warn!(%error, "a process that hung is not waited for");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Its process does not stay either.
    #[test]
    fn a_driver_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (program, number) = (dir.path().join("program"), dir.path().join("process"));
        let text = format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", number.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = None;
        // It is killed at once, or after it has said which it is.
        while process.is_none() {
            let until = Instant::now() + Duration::from_millis(50);
            let answer = ask(&program, &Question::List(Wanted::All), until);
            assert!(matches!(answer, Err(ProbeError::Hung)), "{answer:?}");
            process = std::fs::read_to_string(&number).ok().filter(|text| text.ends_with('\n'));
        }
        let process = Path::new("/proc").join(process.unwrap().trim());
        let given_up = Instant::now();
        while process.exists() {
            assert!(given_up.elapsed() < Duration::from_secs(60), "it is there still");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn who_goes_on_talking_is_not_listened_to_without_end() {
        let (said, heard) = mpsc::channel();
        const MOST: usize = 1000;
        let talker = thread::spawn(move || {
            let pause = || thread::sleep(LAST_WORDS / 50);
            (0..MOST).take_while(|_| said.send(vec![b'x']).is_ok()).inspect(|_| pause()).count()
        });
        assert!(!last_words(&heard).is_empty());
        drop(heard);
        assert!(talker.join().unwrap() < MOST);
    }
}
