//! Owns how much encoding and decoding goes on at the same time, and the threads that do it.
//!
//! Knows neither streams nor pictures nor clients. Lanes pull, as the daemon's do: one that is done begins the next work at once,
//! and nobody has to be woken in between. Invariants: works begin in the order in which they came, and those that are at
//! work take no more memory than their lanes are good for, or else there is only one; what nobody waits for any
//! more is not begun, and gone at once with all that it holds.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, available_parallelism};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

/// Of memory, for each lane. What takes more takes the turns of several.
pub(crate) const LANE_BYTES: u64 = 64 << 20;

/// What a lane has for one work after the other.
pub(crate) trait Tools: Default + 'static {
    /// Gives back what is too large to be kept for the next.
    fn put_away(&mut self);
}

/// The threads, until the last who may give them work is gone.
pub(crate) struct Lanes<T>(Arc<Ending<T>>);

struct Ending<T>(Arc<Shared<T>>);

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// There is work that fits, or there will be no more.
    changed: Condvar,
    count: u32,
}

struct Queue<T> {
    /// In the order of their numbers.
    waiting: VecDeque<Work<T>>,
    /// The next work's.
    number: u64,
    /// Lanes whose turns are taken.
    taken: u32,
    over: bool,
}

struct Work<T> {
    number: u64,
    /// How many lanes' turns it takes.
    share: u32,
    run: Box<dyn FnOnce(&mut T) + Send>,
}

/// What will come of a work; nothing, if it panics. Who drops it takes the work back, unless it has begun.
pub(crate) struct Turn<T, D> {
    done: oneshot::Receiver<D>,
    number: u64,
    shared: Arc<Shared<T>>,
}

impl<T, D> Future for Turn<T, D> {
    type Output = Result<D, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context)
    }
}

impl<T, D> Drop for Turn<T, D> {
    fn drop(&mut self) {
        // Who has heard what came of it has nothing to take back.
        if !self.done.is_terminated() {
            self.shared.take_back(self.number);
        }
    }
}

/// One for each core.
pub(crate) fn cores() -> u32 {
    available_parallelism().map_or(1, usize::from) as u32
}

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Tools> Lanes<T> {
    /// Starts so many threads.
    pub(crate) fn start(name: &str, count: u32) -> io::Result<Self> {
        let waiting = VecDeque::new();
        let queue = Mutex::new(Queue { waiting, number: 0, taken: 0, over: false });
        let shared = Arc::new(Shared { queue, changed: Condvar::new(), count });
        // Before the threads: those there are end where one can't be started.
        let lanes = Self(Arc::new(Ending(Arc::clone(&shared))));
        for lane in 0..count {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("{name}-{lane}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(lanes)
    }

    /// How many lanes' turns so many bytes take.
    pub(crate) fn share(&self, bytes: u64) -> u32 {
        bytes.div_ceil(LANE_BYTES).clamp(1, self.0.0.count.into()) as u32
    }

    /// Has work done when it is its turn, with so many bytes beside what it was given.
    pub(crate) fn run<D: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce(&mut T) -> D + Send + 'static,
    ) -> Turn<T, D> {
        let (sender, done) = oneshot::channel();
        let run = Box::new(move |tools: &mut T| {
            let _ = sender.send(work(tools));
        });
        let Ending(shared) = &*self.0;
        let mut queue = shared.lock();
        let number = queue.number;
        queue.number += 1;
        queue.waiting.push_back(Work { number, share: self.share(bytes), run });
        drop(queue);
        shared.changed.notify_one();
        Turn { done, number, shared: Arc::clone(shared) }
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

impl<T: Tools> Shared<T> {
    /// A lane's life.
    fn work(&self) {
        let mut tools = T::default();
        while let Some(Work { share, run, .. }) = self.pull() {
            if catch_unwind(AssertUnwindSafe(|| run(&mut tools))).is_err() {
                // What state they are in, nobody knows.
                tools = T::default();
            }
            tools.put_away();
            self.lock().taken -= share;
            // This lane goes on by itself.
            if share > 1 {
                self.changed.notify_all();
            }
        }
    }
}

impl<T> Shared<T> {
    /// The next work, if there is room for it; none if there will be none.
    fn pull(&self) -> Option<Work<T>> {
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

    /// The work of that number is not to be begun any more.
    fn take_back(&self, number: u64) {
        let mut queue = self.lock();
        let Ok(place) = queue.waiting.binary_search_by_key(&number, |work| work.number) else {
            return;
        };
        let work = queue.waiting.remove(place);
        drop(queue);
        // What was behind it may fit.
        self.changed.notify_all();
        // What it holds may be large, and takes its time.
        drop(work);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    impl Tools for u32 {
        fn put_away(&mut self) {
            *self += 1;
        }
    }

    #[test]
    fn much_memory_takes_many_turns() {
        let lanes = Lanes::<u32>::start("lane", 4).unwrap();
        for (bytes, expected) in
            [(0, 1), (LANE_BYTES, 1), (LANE_BYTES + 1, 2), (4 * LANE_BYTES, 4), (u64::MAX, 4)]
        {
            assert_eq!(lanes.share(bytes), expected, "{bytes}");
        }
    }

    #[tokio::test]
    async fn large_works_have_the_lanes_to_themselves_and_small_ones_share() {
        static AT_WORK: AtomicU32 = AtomicU32::new(0);
        let lanes = Lanes::<u32>::start("lane", 3).unwrap();
        let works: Vec<_> = (0..60_u32)
            .map(|n| {
                let share = n % 3 + 1;
                let work = move |_: &mut u32| {
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
        let lanes = Lanes::<u32>::start("lane", 1).unwrap();
        assert!(lanes.run(0, |_| panic!("meant to")).await.is_err());
        let (release, released) = mpsc::channel::<()>();
        let first = lanes.run(0, move |_| released.recv().is_ok());
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let nobody_waits = lanes.run(0, move |_| unreachable!("{holds:?}"));
        let second = lanes.run(0, |_| 2);
        drop(nobody_waits);
        // Before the lane has come to it.
        assert_eq!(Arc::strong_count(&held), 1);
        release.send(()).unwrap();
        assert!(first.await.unwrap() && second.await.unwrap() == 2);
        // Tools are kept from one work to the next, but not beyond a panic: since then three were put away.
        assert_eq!(lanes.run(0, |tools| *tools).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_large_work_that_is_taken_back_lets_those_behind_it_begin() {
        let lanes = Lanes::<u32>::start("lane", 2).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let first = lanes.run(0, move |_| released.recv().is_ok());
        let large = lanes.run(2 * LANE_BYTES, |_| unreachable!("the first is at work"));
        let small = lanes.run(0, |_| 7);
        drop(large);
        assert_eq!(small.await.unwrap(), 7);
        release.send(()).unwrap();
        assert!(first.await.unwrap());
    }
}
