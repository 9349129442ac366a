//! Owns how much encoding and decoding goes on at the same time, and the threads that do it.
//!
//! Knows neither streams nor pictures, and of clients no more than that they take turns. Lanes
//! pull, as the daemon's do: one that is done begins the next work at once, and nobody has to be
//! woken in between. Invariants: of a client's works the first to come begins first, and of clients
//! whose works wait each has one begun before any has another; those that are at work take no more
//! memory than their lanes are good for, or else there is only one; what nobody waits for any more
//! is not begun, and gone at once with all that it holds.

use std::collections::{BTreeMap, VecDeque};
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

/// The threads, as one client has them, until the last who may give them work is gone.
pub(crate) struct Lanes<T> {
    threads: Arc<Ending<T>>,
    client: u64,
}

struct Ending<T>(Arc<Shared<T>>);

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// There is work that fits, or there will be no more.
    changed: Condvar,
    count: u32,
}

struct Queue<T> {
    /// By client, in the order of their numbers. No client is there without any.
    waiting: BTreeMap<u64, VecDeque<Work<T>>>,
    /// Those clients, in the order of their turns.
    turns: VecDeque<u64>,
    /// The next work's.
    number: u64,
    clients: u64,
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

impl<T, D> Drop for Turn<T, D> {
    fn drop(&mut self) {
        // Who has heard what came of it has nothing to take back.
        if !self.done.is_terminated() {
            self.shared.take_back(self.client, self.number);
        }
    }
}

/// One for each core.
pub(crate) fn cores() -> u32 {
    available_parallelism().map_or(1, usize::from) as u32
}

impl<T> Queue<T> {
    fn push(&mut self, client: u64, work: Work<T>) {
        let works = self.waiting.entry(client).or_default();
        if works.is_empty() {
            self.turns.push_back(client);
        }
        works.push_back(work);
    }

    /// The first work of the client whose turn it is, if so many lanes are enough for it.
    fn next(&mut self, left: u32) -> Option<Work<T>> {
        let client = *self.turns.front()?;
        let works = self.waiting.get_mut(&client)?;
        works.front().filter(|first| first.share <= left)?;
        let work = works.pop_front();
        self.turns.pop_front();
        if works.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        work
    }

    fn take_back(&mut self, client: u64, number: u64) -> Option<Work<T>> {
        let works = self.waiting.get_mut(&client)?;
        let place = works.binary_search_by_key(&number, |work| work.number).ok()?;
        let work = works.remove(place);
        if works.is_empty() {
            self.waiting.remove(&client);
            self.turns.retain(|&waits| waits != client);
        }
        work
    }
}

impl<T: Tools> Lanes<T> {
    /// Starts so many threads.
    pub(crate) fn start(name: &str, count: u32) -> io::Result<Self> {
        let (waiting, turns) = (BTreeMap::new(), VecDeque::new());
        let queue = Queue { waiting, turns, number: 0, clients: 1, taken: 0, over: false };
        let shared = Arc::new(Shared { queue: queue.into(), changed: Condvar::new(), count });
        // Before the threads: those there are end where one can't be started.
        let lanes = Self { threads: Arc::new(Ending(Arc::clone(&shared))), client: 0 };
        for lane in 0..count {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("{name}-{lane}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(lanes)
    }

    /// The same threads, for another client.
    pub(crate) fn for_another(&self) -> Self {
        let mut queue = self.threads.0.lock();
        queue.clients += 1;
        Self { threads: Arc::clone(&self.threads), client: queue.clients - 1 }
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
        let Ending(shared) = &*self.threads;
        let mut queue = shared.lock();
        let (client, number) = (self.client, queue.number);
        queue.number += 1;
        queue.push(client, Work { number, share: self.share(bytes), run });
        drop(queue);
        shared.changed.notify_one();
        Turn { done, client, number, shared: Arc::clone(shared) }
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
            if let Some(work) = queue.next(left) {
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
    fn take_back(&self, client: u64, number: u64) {
        let mut queue = self.lock();
        let Some(work) = queue.take_back(client, number) else { return };
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
    async fn who_has_much_to_do_does_not_keep_the_others_waiting() {
        let lanes = Lanes::<u32>::start("lane", 1).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let first = lanes.run(0, move |_| begin.send(()).is_ok() && released.recv().is_ok());
        begun.recv().unwrap();
        let began = Arc::new(Mutex::new(Vec::new()));
        let note = |lanes: &Lanes<u32>, name: &'static str| {
            let began = Arc::clone(&began);
            lanes.run(0, move |_| began.lock().unwrap().push(name))
        };
        let (modest, third) = (lanes.for_another(), lanes.for_another());
        let mut works: Vec<_> = (0..4).map(|_| note(&lanes, "greedy")).collect();
        let taken_back = note(&third, "third");
        works.extend([note(&modest, "modest"), note(&modest, "modest")]);
        drop(taken_back);
        release.send(()).unwrap();
        assert!(first.await.unwrap());
        for work in works {
            work.await.unwrap();
        }
        let began = began.lock().unwrap();
        assert_eq!(*began, ["greedy", "modest", "greedy", "modest", "greedy", "greedy"]);
    }
}
