//! Owns the list of what tests have outside this process, their processes and folders: so that one that
//! hangs can be rid of them, whose thread would have let go of them and does not end.
//!
//! Invariants: what is let go of is on the list no more; only children of this process are ended, as
//! the numbers of those that were waited for may be others' by now.

use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

static REMAINS: Mutex<Vec<(ThreadId, Remains)>> = Mutex::new(Vec::new());

#[derive(Clone, PartialEq, Eq)]
enum Remains {
    Process(u32),
    Folder(PathBuf),
}

/// On the list, as the calling thread's, until this is dropped.
pub(crate) struct Noted(Remains);

impl Noted {
    pub(crate) fn process(child: &Child) -> Self {
        Self::new(Remains::Process(child.id()))
    }

    pub(crate) fn folder(dir: &TempDir) -> Self {
        Self::new(Remains::Folder(dir.path().into()))
    }

    fn new(remains: Remains) -> Self {
        list().push((thread::current().id(), remains.clone()));
        Self(remains)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut list = list();
        if let Some(index) = list.iter().position(|(_, remains)| *remains == self.0) {
            list.swap_remove(index);
        }
    }
}

/// Ends and removes what that thread has left.
pub(crate) fn clear(test: ThreadId) {
    let left: Vec<_> = list().extract_if(.., |(owner, _)| *owner == test).collect();
    // Processes first: they may still write into the folders.
    for (_, remains) in &left {
        if let Remains::Process(id) = remains
            && is_ours(*id)
        {
            let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
        }
    }
    for (_, remains) in left {
        if let Remains::Folder(path) = remains {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Whether it is a child of this process; see proc(5).
fn is_ours(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind its name, which may have anything in it, come its state and its parent.
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
    parent.and_then(|parent| parent.parse().ok()) == Some(std::process::id())
}

fn list() -> MutexGuard<'static, Vec<(ThreadId, Remains)>> {
    REMAINS.lock().unwrap_or_else(PoisonError::into_inner)
}
