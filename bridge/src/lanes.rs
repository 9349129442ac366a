//! Owns how much encoding and decoding goes on at the same time, and the threads that do it.
//!
//! Knows neither streams nor pictures, and of clients no more than that they take turns, as `queue`
//! has it. Lanes pull, as the daemon's do: one that is done begins the next work at once, and
//! nobody has to be woken in between. Invariants: works that are under way take no more memory than
//! their lanes are good for, unless there is only one; work that nobody waits for any more is not
//! begun, and is gone at once with all that it holds.

mod queue;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use crate::lock::lock;
use queue::{Begun, Queue};

/// Of memory, for each lane. What takes more takes the turns of several.
pub(crate) const LANE_BYTES: u64 = 64 << 20;

/// How often an idle lane looks whether it is another client's turn by now.
const GLANCE: Duration = Duration::from_millis(5);

/// What a lane has for one work after the other.
pub(crate) trait Tools: Default + 'static {
    /// Gives back what is too large to be kept for the next.
    fn put_away(&mut self);
}

/// The threads, as one client has them, until the last who may give them work is gone. What waits
/// of a client goes with it.
pub(crate) struct Lanes<T> {
    threads: Arc<Ending<T>>,
    client: u64,
}

struct Ending<T>(Arc<Shared<T>>);

struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    /// There is work that fits, or there will be no more.
    changed: Condvar,
    count: u32,
}

struct Waiting<T> {
    works: Queue<Work<T>>,
    over: bool,
}

type Work<T> = Box<dyn FnOnce(&mut T) + Send>;

/// What will come of a work; nothing, if it panics. Who drops it takes the work back, unless it has
/// begun.
pub(crate) struct Turn<T, D> {
    done: oneshot::Receiver<D>,
    client: u64,
    number: u64,
    shared: Arc<Shared<T>>,
}

impl<T, D> Future for Turn<T, D> {
    type Output = Result<D, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context)
    }
}

impl<T, D> Turn<T, D> {
    /// Whether the work had not begun, and will not.
    pub(crate) fn take_back(&self) -> bool {
        self.shared.take_back(self.client, self.number)
    }
}

impl<T, D> Drop for Turn<T, D> {
    fn drop(&mut self) {
        // Who has heard what came of it has nothing to take back.
        if !self.done.is_terminated() {
            self.take_back();
        }
    }
}

/// One for each core.
pub(crate) fn cores() -> u32 {
    available_parallelism().map_or(1, usize::from) as u32
}

impl<T: Tools> Lanes<T> {
    /// Starts so many threads.
    pub(crate) fn start(name: &str, count: u32) -> io::Result<Self> {
        let now = Instant::now();
        let mut works = Queue::new(count, now);
        let client = works.enter(now);
        let waiting = Waiting { works, over: false };
        let shared = Arc::new(Shared { waiting: waiting.into(), changed: Condvar::new(), count });
        // Before the threads: those there are end where one can't be started.
        let lanes = Self { threads: Arc::new(Ending(Arc::clone(&shared))), client };
        for lane in 0..count {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("{name}-{lane}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(lanes)
    }

    /// For another client.
    pub(crate) fn for_another(&self) -> Self {
        let client = self.threads.0.lock().works.enter(Instant::now());
        Self { threads: Arc::clone(&self.threads), client }
    }

    /// How many lanes' turns so many bytes take.
    pub(crate) fn share(&self, bytes: u64) -> u32 {
        bytes.div_ceil(LANE_BYTES).clamp(1, self.threads.0.count.into()) as u32
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
        let (Ending(shared), client, share) = (&*self.threads, self.client, self.share(bytes));
        let number = shared.lock().works.push(client, share, run, Instant::now());
        shared.changed.notify_one();
        Turn { done, client, number, shared: Arc::clone(shared) }
    }
}

impl<T> Drop for Lanes<T> {
    fn drop(&mut self) {
        let left = self.threads.0.lock().works.leave(self.client, Instant::now());
        // What was behind it may fit.
        self.threads.0.changed.notify_all();
        drop(left);
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
        while let Some(Begun { work, client, share }) = self.pull() {
            if catch_unwind(AssertUnwindSafe(|| work(&mut tools))).is_err() {
                // What state they are in, nobody knows.
                tools = T::default();
            }
            tools.put_away();
            self.lock().works.done(client, share, Instant::now());
            // This lane goes on by itself.
            if share > 1 {
                self.changed.notify_all();
            }
        }
    }
}

impl<T> Shared<T> {
    /// The next work, if there is room for it; none if there will be none.
    fn pull(&self) -> Option<Begun<Work<T>>> {
        let mut waiting = self.lock();
        loop {
            if waiting.over {
                return None;
            }
            if let Some(begun) = waiting.works.next(Instant::now()) {
                // Whose turn it is changes with time: what did not fit may be behind one that does.
                if waiting.works.has_more() {
                    self.changed.notify_one();
                }
                return Some(begun);
            }
            waiting = if waiting.works.turns_with_time() {
                let looked = self.changed.wait_timeout(waiting, GLANCE);
                looked.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Whether the work of that number had not begun, and will not.
    fn take_back(&self, client: u64, number: u64) -> bool {
        let work = self.lock().works.take_back(client, number, Instant::now());
        if work.is_some() {
            // What was behind it may fit.
            self.changed.notify_all();
        }
        // Dropped without the lock: what it holds may be large, and takes its time.
        work.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        lock(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

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
        // Tools are kept from one work to the next, but not beyond a panic: since then three were
        // put away.
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

    #[tokio::test]
    async fn an_idle_lane_finds_out_whose_turn_has_come() {
        let lanes = Lanes::<u32>::start("lane", 2).unwrap();
        let other = lanes.for_another();
        let held = |lanes: &Lanes<u32>| {
            let (release, released) = mpsc::channel::<()>();
            (release, lanes.run(0, move |_| released.recv().is_ok()))
        };
        let first = [held(&lanes), held(&lanes)];
        while lanes.threads.0.lock().works.has_more() {
            thread::yield_now();
        }
        let (release, long) = held(&other);
        let large = other.run(2 * LANE_BYTES, |_| ());
        let small = lanes.run(0, |_| 7);
        // Until then the other client has had less, and its large work comes first.
        thread::sleep(Duration::from_millis(20));
        for (release, turn) in first {
            release.send(()).unwrap();
            turn.await.unwrap();
        }
        let small = tokio::time::timeout(Duration::from_secs(60), small).await;
        assert_eq!(small.expect("its turn").unwrap(), 7);
        release.send(()).unwrap();
        assert!(long.await.unwrap());
        large.await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_of_a_client_goes_with_it() {
        let lanes = Lanes::<u32>::start("lane", 1).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let first = lanes.run(0, move |_| begin.send(()).is_ok() && released.recv().is_ok());
        begun.recv().unwrap();
        assert!(!first.take_back());
        let another = lanes.for_another();
        let waits = another.run(0, |_| unreachable!("its client is gone"));
        drop(another);
        let _: RecvError = waits.await.unwrap_err();
        let taken_back = lanes.run(0, |_| unreachable!("it is taken back"));
        assert!(taken_back.take_back() && !taken_back.take_back());
        release.send(()).unwrap();
        assert!(first.await.unwrap());
    }
}
