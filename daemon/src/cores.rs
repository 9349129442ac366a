//! Owns which of this machine's cores a thread runs on.
//!
//! Knows nothing of what they do there. A thread begins with the cores of the one that started it.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Cores that a thread may run on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores(CpuSet);

impl Cores {
    /// The calling thread's. `None`: there are more than can be asked for.
    pub(crate) fn given() -> Option<Self> {
        sched_getaffinity(this_thread()).ok().map(Self)
    }

    /// One alone. An error: its number is higher than can be asked for.
    pub(crate) fn only(core: usize) -> nix::Result<Self> {
        let mut only = CpuSet::new();
        only.set(core)?;
        Ok(Self(only))
    }

    /// Their numbers, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..CpuSet::count()).filter(|&core| self.0.is_set(core) == Ok(true))
    }

    /// Has the calling thread run on these.
    pub(crate) fn bind(&self) -> nix::Result<()> {
        sched_setaffinity(this_thread(), &self.0)
    }
}

/// The core that the calling thread runs on just now.
pub(crate) fn here() -> Option<usize> {
    sched_getcpu().ok()
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_is_bound_to_a_core_and_released_again() {
        let given = Cores::given().unwrap();
        let bound = thread::spawn(move || {
            let core = here().unwrap();
            Cores::only(core).unwrap().bind().unwrap();
            assert!(Cores::given().unwrap().numbers().eq([core]));
            assert_eq!(here(), Some(core));
            // What it starts is bound as well, until it says otherwise.
            let started = thread::spawn(move || {
                let begun: Vec<_> = Cores::given().unwrap().numbers().collect();
                given.bind().unwrap();
                (begun, Cores::given().unwrap().numbers().collect::<Vec<_>>())
            });
            (core, started.join().unwrap())
        });
        let (core, (begun, released)) = bound.join().unwrap();
        assert_eq!(begun, [core]);
        assert!(given.numbers().eq(released));
    }

    #[test]
    fn a_core_that_cannot_be_is_refused() {
        assert!(Cores::only(CpuSet::count()).is_err());
        assert!(Cores::only(CpuSet::count() - 1).unwrap().bind().is_err());
    }
}
