//! Owns the runtime that all sessions run in, and says which thread drives it.
//!
//! Knows neither messages nor frames. One thread at a time drives the runtime: the daemon's own
//! while a lane is idle or soon may be; otherwise the lanes themselves, each for a moment between
//! two frames, so that nobody has to be woken to read what clients submit. Invariant: what clients
//! send is read within a few milliseconds whoever is busy; see [`Scheduler::rest`].

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::cores::Cores;
use crate::lock;
use crate::quota::THREADS;
use crate::scheduler::{Intake, Scheduler};

pub(super) struct Reactor {
    /// Driven by whoever holds it.
    runtime: Mutex<Runtime>,
    scheduler: Arc<Scheduler>,
    /// The lanes have more than enough to do: driving is theirs.
    sated: Arc<Notify>,
}

impl Reactor {
    pub(super) fn new(scheduler: &Arc<Scheduler>) -> io::Result<Self> {
        let sated = Arc::new(Notify::new());
        let before_sleep = {
            let (scheduler, sated) = (Arc::clone(scheduler), Arc::clone(&sated));
            move || {
                scheduler.note_look();
                if scheduler.is_sated() {
                    sated.notify_one();
                }
            }
        };
        // Where lanes are bound to cores, one that drives the runtime starts threads on its own.
        let are_bound = scheduler.devices().iter().any(|device| !device.cores().is_empty());
        let given = Cores::given().filter(|_| are_bound);
        let lanes_own = Arc::clone(scheduler);
        let started = move || {
            lanes_own.devices().iter().for_each(|device| device.leave());
            if let Some(Err(error)) = given.map(|given| given.bind()) {
                tracing::warn!(%error, "a thread may stay on the core of a lane");
            }
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(THREADS)
            .on_thread_start(started)
            .on_thread_park(before_sleep)
            .build()?;
        Ok(Self { runtime: Mutex::new(runtime), scheduler: Arc::clone(scheduler), sated })
    }

    /// Runs a future, and what it spawns, until it is over. On the calling thread, but for what lanes
    /// do of it.
    pub(super) fn run<F>(&self, future: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let mut task = self.lock().spawn(future);
        loop {
            let over = async {
                tokio::select! {
                    over = &mut task => Some(over),
                    () = self.left() => None,
                }
            };
            // The lock goes before the rest begins.
            let over = self.lock().block_on(over);
            match over {
                Some(Ok(output)) => return output,
                Some(Err(panic)) => resume_unwind(panic.into_panic()),
                None => self.scheduler.rest(),
            }
        }
    }

    /// Waits until driving is the lanes', and those have run for whom something had just arrived.
    async fn left(&self) {
        self.sated.notified().await;
        yield_now().await;
    }

    fn lock(&self) -> MutexGuard<'_, Runtime> {
        lock::wait(&self.runtime)
    }
}

impl Intake for Reactor {
    fn turn(&self) {
        let runtime = match self.runtime.try_lock() {
            Ok(runtime) => runtime,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        runtime.block_on(async {
            // Sees what has arrived,
            yield_now().await;
            // and lets those run for whom it has.
            yield_now().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use tokio::net::UnixStream;
    use tokio::task::spawn_blocking;
    use tokio::time::sleep;

    use super::*;
    use crate::device::Device;
    use crate::device::cpu::Cpu;

    #[test]
    fn the_thread_looks_for_messages_whenever_it_has_nothing_to_do_and_a_turn_does_not() {
        let scheduler = Scheduler::new(Vec::new(), None);
        let reactor = Reactor::new(&scheduler).unwrap();
        assert!(scheduler.find());
        reactor.turn();
        assert!(!scheduler.find());
        for _ in 0..2 {
            reactor.run(async { sleep(Duration::from_millis(1)).await });
        }
        assert!(scheduler.find());
    }

    #[test]
    fn a_turn_reads_what_has_arrived() {
        let reactor = Reactor::new(&Scheduler::new(Vec::new(), None)).unwrap();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reading = reactor.lock().spawn(async {
            let socket = UnixStream::from_std(ours).unwrap();
            socket.readable().await.unwrap();
            socket.try_read(&mut [0]).unwrap()
        });
        (0..10).for_each(|_| reactor.turn());
        assert!(!reading.is_finished());
        theirs.write_all(&[7]).unwrap();
        (0..2).for_each(|_| reactor.turn());
        assert!(reading.is_finished());
        let held = reactor.lock();
        // Whoever else drives is not waited for.
        reactor.turn();
        drop(held);
    }

    #[test]
    fn what_is_run_gives_its_outcome_and_panics_as_it_does() {
        let reactor = Reactor::new(&Scheduler::new(Vec::new(), None)).unwrap();
        assert_eq!(reactor.run(async { 7 }), 7);
        let panics = std::panic::AssertUnwindSafe(|| reactor.run(async { panic!("meant to") }));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(reactor.run(async { 8 }), 8);
    }

    #[test]
    fn threads_that_a_bound_lane_starts_are_not_bound() {
        let given = Cores::given().unwrap();
        let few = given.numbers().count();
        let cpu = Cpu::new(few);
        let is_bound = !cpu.cores().is_empty();
        let reactor = Reactor::new(&Scheduler::new(vec![Box::new(cpu)], None)).unwrap();
        let lane = thread::spawn(move || {
            let core = given.numbers().last().unwrap();
            Cores::only(core).unwrap().bind().unwrap();
            let blocking = || Cores::given().unwrap().numbers().collect::<Vec<_>>();
            let task = reactor.lock().spawn(async move { spawn_blocking(blocking).await });
            while !task.is_finished() {
                reactor.turn();
            }
            reactor.lock().block_on(task).unwrap().unwrap()
        });
        // More than a few are not bound, nor what they start released.
        if is_bound {
            assert!(given.numbers().eq(lane.join().unwrap()));
        }
    }
}
