//! Owns what a row is: a daemon, a neighbour that does nothing wrong and whose frames are timed, and
//! what disturbs them.
//!
//! Invariant: a time counts for what happened beside it, and for nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::{Client, StreamSpec};

use super::{ROW, length, whole};
use crate::oracle::{self, Checked};
use crate::support::{DEADLINE, Daemon, Segments, bounded_by, until};

/// A client that does nothing wrong: one frame at a time, each checked, each timed.
pub(super) struct Neighbour {
    over: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<Duration>>>,
    thread: JoinHandle<()>,
}

/// How long some frames took, the shortest first.
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// So many of a hundred took no longer than this.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        self.0[self.0.len() * percent / 100]
    }
}

impl Neighbour {
    fn of(daemon: &Daemon, specs: &[StreamSpec]) -> Self {
        let (over, times) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (client, stop, note) = (daemon.faithful_client(), over.clone(), times.clone());
        let specs = specs.to_vec();
        let thread = thread::spawn(move || {
            let open = |spec| Checked::open(&client, spec, 3);
            let streams: Vec<_> = specs.into_iter().map(open).collect();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for stream in &streams {
                    let begun = Instant::now();
                    let frame = stream.submit(n).unwrap().wait().unwrap();
                    note.lock().unwrap().push(begun.elapsed());
                    stream.check(n, &frame);
                }
            }
        });
        Self { over, times, thread }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.times.lock().unwrap()
    }

    /// Whether there are enough times to say something about them.
    fn is_timed(&self) -> bool {
        self.noted().len() > length(30, 1000)
    }

    /// Forgets what was noted so far.
    fn forget(&self) {
        self.noted().clear();
    }

    /// Times from now on, of so long at the least.
    pub(super) fn measure(&self, at_least: Duration) -> Times {
        let begun = Instant::now();
        self.forget();
        until("the neighbour is served", || self.is_timed() && begun.elapsed() >= at_least);
        self.times()
    }

    /// Those since it forgot.
    fn times(&self) -> Times {
        let mut times = std::mem::take(&mut *self.noted());
        times.sort_unstable();
        Times(times)
    }

    fn part(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// How long the neighbour is timed undisturbed at the most.
const LONGEST: Duration = Duration::from_secs(10);

/// What happens beside the neighbour while it is timed.
pub(super) struct Scene<'a> {
    pub(super) daemon: &'a Daemon,
    neighbour: &'a Neighbour,
    begun: Instant,
    at_least: Duration,
}

impl<'a> Scene<'a> {
    fn begin(daemon: &'a Daemon, neighbour: &'a Neighbour, at_least: Duration) -> Self {
        neighbour.forget();
        Self { daemon, neighbour, begun: Instant::now(), at_least }
    }

    /// Whether it goes on: for a while, and until the neighbour was timed beside it.
    pub(super) fn goes_on(&self) -> bool {
        self.begun.elapsed() < self.at_least || !self.neighbour.is_timed()
    }

    /// 99 of 100 frames took no longer than this.
    fn end(self) -> Duration {
        assert!(self.neighbour.is_timed(), "over before the neighbour was timed beside it");
        self.neighbour.times().percentile(99)
    }
}

/// Nothing happens. Asleep all the while, as who waits in the other half of a row: on a busy machine a
/// thread that wakes has the system look again who may run, and that made p99s a tenth.
pub(super) fn nothing(scene: &Scene<'_>) {
    thread::sleep(scene.at_least);
    while scene.goes_on() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// A daemon and a neighbour with those streams, and whatever happens beside it; nothing is left of that,
/// and the daemon ends as it should.
pub(super) fn beside(
    start: impl FnOnce() -> Daemon + Send + 'static,
    specs: Vec<StreamSpec>,
    happens: impl FnOnce(&Daemon, &Neighbour) + Send + 'static,
) {
    bounded_by(length(DEADLINE, ROW), move || {
        let segments = Segments::now();
        let mut daemon = start();
        let watcher = daemon.faithful_client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let neighbour = Neighbour::of(&daemon, &specs);
        // Once it is warm.
        neighbour.measure(Duration::ZERO);
        happens(&daemon, &neighbour);
        neighbour.part();
        assert!(daemon.process.0.try_wait().unwrap().is_none(), "the daemon died");
        daemon.await_rest(&watcher, descriptors);
        segments.await_rest();
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    });
}

/// One row: the neighbour is timed beside `disturb`, and for as long beside what nobody could mind, in
/// turns: so that what else there is on the machine is in both.
pub(super) fn row(
    flags: &'static [&'static str],
    undisturbed: impl Fn(&Scene<'_>) + Send + 'static,
    disturb: impl Fn(&Scene<'_>) + Send + 'static,
) {
    row_of_daemon(|| Daemon::start(flags), undisturbed, disturb);
}

/// A row for which the daemon is started in a way of its own.
pub(super) fn row_of_daemon(
    start: impl FnOnce() -> Daemon + Send + 'static,
    undisturbed: impl Fn(&Scene<'_>) + Send + 'static,
    disturb: impl Fn(&Scene<'_>) + Send + 'static,
) {
    let disturb = move |scene: &Scene<'_>| {
        disturb(scene);
        Duration::ZERO
    };
    in_turns(start, undisturbed, disturb);
}

/// A row in which others' frames are resized that were not there before: `disturb` returns how long
/// the longest of them takes a lane, for which the neighbour may have to wait, as a frame that was
/// begun is not interrupted. Not for more: who has one frame at a time goes ahead of all others.
pub(super) fn row_of_frames(
    flags: &'static [&'static str],
    undisturbed: impl Fn(&Scene<'_>) + Send + 'static,
    disturb: impl Fn(&Scene<'_>) -> Duration + Send + 'static,
) {
    in_turns(|| Daemon::start(flags), undisturbed, disturb);
}

fn in_turns(
    start: impl FnOnce() -> Daemon + Send + 'static,
    undisturbed: impl Fn(&Scene<'_>) + Send + 'static,
    disturb: impl Fn(&Scene<'_>) -> Duration + Send + 'static,
) {
    let specs = [3, 6, 10].map(oracle::mixed).into();
    beside(start, specs, move |daemon, neighbour| {
        let turn = |_| {
            let scene = Scene::begin(daemon, neighbour, length(LONGEST / 10, LONGEST / 5));
            let longest = disturb(&scene);
            let lasted = scene.begun.elapsed();
            let during = scene.end();
            let as_long = length(Duration::ZERO, lasted.min(LONGEST));
            let scene = Scene::begin(daemon, neighbour, as_long);
            undisturbed(&scene);
            let without = scene.end();
            println!(
                "p99 {during:?} beside, {without:?} undisturbed; a frame of others {longest:?}"
            );
            // What a scheduler does to one frame in a hundred is not ours.
            let most = without.mul_f64(1.5) + longest + Duration::from_micros(300);
            during.as_secs_f64() / most.as_secs_f64()
        };
        let part = median((0..length(1, 5)).map(turn));
        println!("{part:.2} of what it may be");
        assert!(!whole() || part <= 1.0, "{part}");
    });
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long a frame of that stream takes a lane while none is idle, so that it is not cut.
pub(super) fn work_of(client: &Client, spec: &StreamSpec) -> Duration {
    let stream = client.open(&StreamSpec { slots: 16, ..*spec }).unwrap();
    let mut worked = Vec::new();
    for _ in 0..3 {
        let slots = (0..16).map(|_| stream.loan().unwrap()).collect();
        let pendings = stream.submit_all(slots).unwrap().into_iter();
        worked.extend(pendings.map(|pending| pending.wait().unwrap().receipt().worked));
    }
    worked.sort_unstable();
    worked[worked.len() / 2]
}
