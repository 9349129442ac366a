//! Owns how soon a lane of a GPU is on a core again when its frame is done.
//!
//! Knows threads, no GPUs. Such a lane sleeps while its frame is under way, and where all cores are at frames of their own it
//! waits for one of them, and its GPU with it. Linux lets who asks for short turns go before who is in the midst of a long one
//! (`sched_runtime` of sched_setattr(2), from 6.12 on; before it is ignored): it gets no more of the cores for that. Beside
//! sixteen cores at 1080p frames a GPU's lanes then waited half as long, and did a third more frames.

use std::cell::Cell;
use std::io;

use nix::libc::{self, SYS_sched_getattr, SYS_sched_setattr, c_long, sched_attr};

/// A turn in nanoseconds: the shortest that there is. What a frame takes of a core is a third of it.
const TURN_NS: u64 = 100_000;

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Asks for short turns for the calling thread, once.
pub(super) fn ask_for_short_turns() {
    if !ASKED.replace(true)
        && let Err(error) = ask()
    {
        tracing::debug!(%error, "a lane of a GPU takes turns as all threads do");
    }
}

fn ask() -> io::Result<()> {
    let mut attributes = of_this_thread()?;
    // Others were chosen by who administers the machine.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = TURN_NS;
    // SAFETY: it reads as many bytes as the structure says that it has, which it does.
    outcome(unsafe { libc::syscall(SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn of_this_thread() -> io::Result<sched_attr> {
    let size = size_of::<sched_attr>() as u32;
    let mut attributes = sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: it writes that many bytes at the most, and all are numbers.
    outcome(unsafe { libc::syscall(SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn outcome(result: c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_asks_stays_what_it_was_otherwise() {
        let asked = thread::spawn(|| {
            let before = of_this_thread().unwrap();
            ask().unwrap();
            let after = of_this_thread().unwrap();
            assert_eq!(
                (after.sched_policy, after.sched_nice, after.sched_flags),
                (before.sched_policy, before.sched_nice, before.sched_flags)
            );
            // Kernels before 6.12 have no such turns.
            assert!(after.sched_runtime == TURN_NS || after.sched_runtime == before.sched_runtime);
        });
        asked.join().unwrap();
    }
}
