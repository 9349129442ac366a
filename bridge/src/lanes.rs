//! Owns how much encoding and decoding goes on at the same time, and what does it.
//!
//! Knows neither streams nor clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use crate::jpeg::Codec;

/// Turns at a number of lanes, in the order in which they were asked for. What takes much memory takes the turns of
/// several, so that memory is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    turns: Arc<Semaphore>,
    count: u32,
    /// Those that nobody uses: no more than there are lanes.
    codecs: Arc<Mutex<Vec<Codec>>>,
}

impl Lanes {
    /// Of memory, for each lane.
    pub(crate) const BYTES: u64 = 64 << 20;

    /// One for each core.
    pub(crate) fn of_cores() -> Self {
        Self::new(available_parallelism().map_or(1, usize::from) as u32)
    }

    pub(crate) fn new(count: u32) -> Self {
        let turns = Arc::new(Semaphore::new(count as usize));
        Self { turns, count, codecs: Arc::default() }
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// How many lanes' turns so many bytes take.
    pub(crate) fn share(&self, bytes: u64) -> u32 {
        bytes.div_ceil(Self::BYTES).clamp(1, self.count.into()) as u32
    }

    /// Waits for a turn of so many lanes, which ends when it is dropped.
    pub(crate) async fn turn(&self, lanes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_many_owned(lanes).await.ok()
    }

    /// Works on a thread of its own, when it is its turn, with so many bytes beside what it was given.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        bytes: u64,
        work: impl FnOnce(&mut Codec) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.turn(self.share(bytes)).await;
        let work = move || {
            let spare = || self.codecs.lock().unwrap_or_else(PoisonError::into_inner);
            let mut codec = spare().pop().unwrap_or_default();
            let done = work(&mut codec);
            codec.trim();
            spare().push(codec);
            drop(turn);
            done
        };
        spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_memory_takes_many_turns() {
        let lanes = Lanes::new(4);
        for (bytes, share) in
            [(0, 1), (Lanes::BYTES, 1), (Lanes::BYTES + 1, 2), (4 * Lanes::BYTES, 4), (u64::MAX, 4)]
        {
            assert_eq!(lanes.share(bytes), share, "{bytes}");
        }
    }

    #[tokio::test]
    async fn codecs_are_kept_but_not_more_than_lanes() {
        let lanes = Lanes::new(2);
        let works: Vec<_> =
            (0..9).map(|n| tokio::spawn(lanes.clone().run(0, move |_| n))).collect();
        let mut done = Vec::new();
        for work in works {
            done.push(work.await.unwrap().unwrap());
        }
        assert_eq!(done, (0..9).collect::<Vec<_>>());
        assert!((1..=2).contains(&lanes.codecs.lock().unwrap().len()));
    }
}
