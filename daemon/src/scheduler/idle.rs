//! Owns which lanes of a device sleep, and which of them are called.
//!
//! Knows numbers of lanes and of cores, neither frames nor devices. Invariant: a lane that was called is
//! called again only once it has woken.
//!
//! Lanes that are as many as there are cores are bound to one each. Left to itself, Linux looks for an idle core only
//! while those that share a cache are not too busy: two for three fifths of the time, as when one client has
//! one frame resized after the other. Then it wakes the second lane of a frame behind the first, and the other core idles.

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The idle lanes of a device.
#[derive(Debug)]
pub(super) struct Idle {
    /// Those that were not called, in the order in which they fell asleep.
    asleep: Vec<usize>,
    /// Which were called and have not yet woken.
    called: Vec<bool>,
    /// What each is bound to; empty: nothing.
    cores: Vec<usize>,
}

impl Idle {
    /// So many lanes, all of them awake, and the core that each is bound to, or none.
    pub(super) fn new(lanes: usize, cores: &[usize]) -> Self {
        Self {
            asleep: Vec::with_capacity(lanes),
            called: vec![false; lanes],
            cores: cores.to_vec(),
        }
    }

    /// Lanes that sleep and were not called.
    pub(super) const fn len(&self) -> usize {
        self.asleep.len()
    }

    pub(super) fn sleep(&mut self, lane: usize) {
        self.asleep.push(lane);
    }

    /// Whether the lane was called; if so it is awake.
    pub(super) fn wake(&mut self, lane: usize) -> bool {
        std::mem::take(&mut self.called[lane])
    }

    /// Calls one: the caller's own core's, which will be free when the caller sleeps, and is warm; or else the
    /// one that fell asleep last.
    pub(super) fn call(&mut self) -> Option<usize> {
        let here = if self.cores.is_empty() { None } else { sched_getcpu().ok() };
        let is_here = |lane: &usize| here.is_some() && self.cores.get(*lane).copied() == here;
        let index = self.asleep.iter().position(is_here).or(self.asleep.len().checked_sub(1))?;
        let lane = self.asleep.remove(index);
        self.called[lane] = true;
        Some(lane)
    }
}

/// Binds the calling thread to a core.
pub(super) fn bind(core: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &only)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::sched_getaffinity;

    use super::*;

    #[test]
    fn who_fell_asleep_last_is_called_first_and_once() {
        let mut idle = Idle::new(4, &[]);
        [2, 0, 3].into_iter().for_each(|lane| idle.sleep(lane));
        assert_eq!(idle.len(), 3);
        assert_eq!(idle.call(), Some(3));
        idle.sleep(1);
        assert_eq!(
            [idle.call(), idle.call(), idle.call(), idle.call()],
            [Some(1), Some(0), Some(2), None]
        );
        let woken = [0, 1, 2, 3].map(|lane| (idle.wake(lane), idle.wake(lane)));
        assert_eq!(woken, [(true, false); 4]);
    }

    #[test]
    fn the_callers_own_core_is_called_first() {
        thread::spawn(|| {
            let core = sched_getcpu().unwrap();
            bind(core).unwrap();
            let bound = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let cores = (0..CpuSet::count()).filter(|&core| bound.is_set(core).unwrap());
            assert_eq!(cores.collect::<Vec<_>>(), [core]);
            let mut idle = Idle::new(3, &[core + 1, core, core + 2]);
            [1, 0, 2].into_iter().for_each(|lane| idle.sleep(lane));
            assert_eq!([idle.call(), idle.call(), idle.call()], [Some(1), Some(2), Some(0)]);
        })
        .join()
        .unwrap();
        assert!(bind(CpuSet::count()).is_err());
    }
}
