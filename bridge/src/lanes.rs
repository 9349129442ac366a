//! Owns how much encoding and decoding of streams goes on at the same time, and the threads that do it.
//!
//! Knows neither streams nor clients. Lanes pull, as the daemon's do: one that is done begins the next work at once,
//! and nobody has to be woken in between. Invariants: works begin in the order in which they came, and those that are at
//! work take no more memory than their lanes are good for, or else there is only one; what nobody waits for any
//! more is not begun.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};

use tokio::sync::oneshot;

use crate::jpeg::Codec;

/// Of memory, for each lane. What takes more takes the turns of several.
pub(crate) const LANE_BYTES: u64 = 64 << 20;

/// The threads, until the last who may give them work is gone.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<Ending>);

#[derive(Debug)]
struct Ending(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is work that fits, or there will be no more.
    changed: Condvar,
    count: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Lanes whose turns are taken.
    taken: u32,
    over: bool,
}

struct Work {
    /// How many lanes' turns it takes.
    share: u32,
    /// Does it, unless nobody waits for it any more.
    run: Box<dyn FnOnce(&mut Codec) + Send>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("share", &self.share).finish_non_exhaustive()
    }
}

/// One for each core.
pub(crate) fn cores() -> u32 {
    available_parallelism().map_or(1, usize::from) as u32
}

/// How many of so many lanes' turns so many bytes take.
pub(crate) fn share(bytes: u64, count: u32) -> u32 {
    bytes.div_ceil(LANE_BYTES).clamp(1, count.into()) as u32
}

impl Lanes {
    /// Starts so many threads.
    pub(crate) fn start(count: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), count });
        // Before the threads: those there are end where one can't be started.
        let lanes = Self(Arc::new(Ending(Arc::clone(&shared))));
        for lane in 0..count {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("jpeg-{lane}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(lanes)
    }

    /// Has work done when it is its turn, with so many bytes beside what it was given. Who gives up waiting for it takes it
    /// back, unless it has begun; who gets nothing hears that it panicked.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce(&mut Codec) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, done) = oneshot::channel();
        let Ending(shared) = &*self.0;
        let run = Box::new(move |codec: &mut Codec| {
            if !sender.is_closed() {
                let _ = sender.send(work(codec));
            }
        });
        shared.lock().waiting.push_back(Work { share: share(bytes, shared.count), run });
        shared.changed.notify_one();
        done
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// A lane's life.
    fn work(&self) {
        let mut codec = Codec::default();
        while let Some(Work { share, run }) = self.pull() {
            if catch_unwind(AssertUnwindSafe(|| run(&mut codec))).is_err() {
                // What state it is in, nobody knows.
                codec = Codec::default();
            }
            codec.trim();
            self.lock().taken -= share;
            // This lane goes on by itself.
            if share > 1 {
                self.changed.notify_all();
            }
        }
    }

    /// The next work, if there is room for it; none if there will be none.
    fn pull(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            let left = self.count - queue.taken;
            let fits = queue.waiting.front().is_some_and(|first| first.share <= left);
            if let Some(work) = fits.then(|| queue.waiting.pop_front()).flatten() {
                queue.taken += work.share;
                return Some(work);
            }
            if queue.over && queue.waiting.is_empty() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn much_memory_takes_many_turns() {
        for (bytes, expected) in
            [(0, 1), (LANE_BYTES, 1), (LANE_BYTES + 1, 2), (4 * LANE_BYTES, 4), (u64::MAX, 4)]
        {
            assert_eq!(share(bytes, 4), expected, "{bytes}");
        }
    }

    #[tokio::test]
    async fn large_works_have_the_lanes_to_themselves_and_small_ones_share() {
        static AT_WORK: AtomicU32 = AtomicU32::new(0);
        let lanes = Lanes::start(3).unwrap();
        let works: Vec<_> = (0..60_u32)
            .map(|n| {
                let share = n % 3 + 1;
                let work = move |_: &mut Codec| {
                    let taken = share + AT_WORK.fetch_add(share, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(100));
                    AT_WORK.fetch_sub(share, Ordering::SeqCst);
                    (n, taken)
                };
                lanes.run(u64::from(share) * LANE_BYTES, work)
            })
            .collect();
        for (work, n) in works.into_iter().zip(0..) {
            let (done, taken) = work.await.unwrap();
            assert_eq!(done, n);
            assert!((1..=3).contains(&taken), "{taken}");
        }
    }

    #[tokio::test]
    async fn what_panics_is_an_error_and_what_nobody_waits_for_is_not_begun() {
        let lanes = Lanes::start(1).unwrap();
        assert!(lanes.run(0, |_| panic!("meant to")).await.is_err());
        let (release, released) = mpsc::channel::<()>();
        let first = lanes.run(0, move |_| released.recv().is_ok());
        drop(lanes.run(0, |_| unreachable!("nobody waits")));
        release.send(()).unwrap();
        assert!(first.await.unwrap());
        assert_eq!(lanes.run(0, |_| 7).await.unwrap(), 7);
    }
}
