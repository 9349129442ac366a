//! Owns which lanes of a device sleep, and which of them are called.
//!
//! Knows numbers of lanes and of cores, neither frames nor devices. Invariant: a lane that was
//! called is called again only once it has woken.
//!
//! The lanes of few cores are bound to one each. Left to itself, Linux does not look for an idle
//! core where two share a cache and are busy for more than three fifths of the time, as when one
//! client has one frame resized after another: it wakes the second lane of each frame on the core
//! of the first, and the other core idles.

use crate::cores;

/// The idle lanes of a device.
#[derive(Debug)]
pub(super) struct Idle {
    /// Lanes that sleep and were not called, in the order in which they fell asleep.
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
    pub(super) fn take_call(&mut self, lane: usize) -> bool {
        std::mem::take(&mut self.called[lane])
    }

    /// Calls one: that of the caller's own core, which is awake, and free when the caller sleeps;
    /// or else the one that fell asleep last.
    pub(super) fn call(&mut self) -> Option<usize> {
        let last = self.asleep.len().checked_sub(1)?;
        let here = if self.cores.is_empty() { None } else { cores::here() };
        let is_here = |lane: &usize| here.is_some() && self.cores.get(*lane).copied() == here;
        let lane = self.asleep.remove(self.asleep.iter().position(is_here).unwrap_or(last));
        self.called[lane] = true;
        Some(lane)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::cores::Cores;

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
        let woken = [0, 1, 2, 3].map(|lane| (idle.take_call(lane), idle.take_call(lane)));
        assert_eq!(woken, [(true, false); 4]);
    }

    #[test]
    fn the_callers_own_core_is_called_first() {
        let bound = thread::spawn(|| {
            let core = cores::here().unwrap();
            Cores::only(core).unwrap().bind().unwrap();
            let mut idle = Idle::new(3, &[core + 1, core, core + 2]);
            [1, 0, 2].into_iter().for_each(|lane| idle.sleep(lane));
            [idle.call(), idle.call(), idle.call()]
        });
        assert_eq!(bound.join().unwrap(), [Some(1), Some(2), Some(0)]);
    }
}
