//! Owns the load of one client, and the judgement whether it was the daemon that was measured.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use resized_client::{Frame, Pending, Stream, StreamSpec};

use crate::terminal::shown;

/// Part of the run for which nothing is counted, while caches and clocks warm up.
const WARM_UP: f64 = 0.1;

/// A thread of the load that was idle for less than this part of the run may be what limited it.
const LEAST_IDLE: f64 = 0.1;

/// How long before a frame is due its thread is awake, if that is no more than a tenth of the time
/// between two.
const EARLY: Duration = Duration::from_micros(500);

/// A load that was late itself by more than this part of what it measured, measured itself.
const MOST_LATE: f64 = 0.2;

/// Longest time that is told apart.
const LONGEST: Duration = Duration::from_secs(3600);

/// What each client does.
pub(super) struct Plan {
    pub(super) spec: StreamSpec,
    pub(super) seconds: Duration,
    /// Between the frames of one client; `None` for a closed loop.
    pub(super) period: Option<Duration>,
}

/// What one client saw.
pub(super) struct Tally {
    /// Nanoseconds, also of those that were never submitted: up to the end of the run.
    pub(super) latency: Histogram<u64>,
    /// Frames that were due and could not be submitted in the run.
    pub(super) unsent: u64,
    /// That were counted.
    pub(super) took: Duration,
    /// Names of devices, and frames that they did.
    pub(super) devices: Vec<(String, u64)>,
    /// Parts of the time for which each of its threads waited: for the daemon, or for its time to come.
    idle: Vec<f64>,
    /// How late frames were submitted that nothing but the load itself kept from being so; nanoseconds.
    late: Histogram<u64>,
}

/// Why figures would be those of the load.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// A thread had no time to spare.
    Busy { idle: f64 },
    /// Frames were submitted late.
    Late { late: Duration, latency: Duration },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { idle } => write!(
                f,
                "the load was the bottleneck, one of its threads waited for only {:.0} % of the time; ask for more \
                 clients, larger frames or a lower rate",
                100.0 * idle
            ),
            Self::Late { late, latency } => write!(
                f,
                "the load was late itself, by {late:?} where it measured {latency:?} (both p99); ask for a lower rate, \
                 or leave the machine alone meanwhile"
            ),
        }
    }
}

impl Tally {
    /// Why its figures are not the daemon's, if so; `latency` is that of all clients.
    pub(super) fn fault(&self, latency: &Histogram<u64>) -> Option<Fault> {
        if let Some(&idle) = self.idle.iter().find(|&&idle| idle < LEAST_IDLE) {
            return Some(Fault::Busy { idle });
        }
        let [late, latency] = [&self.late, latency].map(|times| times.value_at_quantile(0.99));
        let too_late = late as f64 > MOST_LATE * latency as f64;
        too_late.then(|| Fault::Late {
            late: Duration::from_nanos(late),
            latency: Duration::from_nanos(latency),
        })
    }
}

/// Times, in nanoseconds to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("bounds that are in order")
}

/// Writes something into every slot, once: a load that made pictures would measure that.
pub(super) fn fill(stream: &Stream, slots: u32) -> Result<()> {
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    let mut loaned = Vec::new();
    for _ in 0..slots {
        let mut slot = stream.loan()?;
        for byte in slot.input_mut() {
            // Marsaglia's xorshift64.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *byte = noise as u8;
        }
        loaned.push(slot);
    }
    Ok(())
}

impl Plan {
    /// Runs the load over a stream; `phase` is the part of a period by which it begins later.
    pub(super) fn run(&self, stream: &Stream, devices: &[String], phase: f64) -> Result<Tally> {
        let begun = Instant::now();
        let clock = Clock {
            counted: begun + self.seconds.mul_f64(WARM_UP),
            end: begun + self.seconds.mul_f64(1.0 + WARM_UP),
        };
        let (took, late) = match self.period {
            None => (closed(stream, self.spec.slots, clock)?, histogram()),
            Some(period) => open(stream, period, begun + period.mul_f64(phase), clock)?,
        };
        let Taken { latency, unsent, by, idle, over } = took;
        // Whatever they are called.
        let name = |device: usize| devices.get(device).map(|name| shown(name)).unwrap_or_default();
        Ok(Tally {
            latency,
            unsent,
            took: over - clock.counted,
            devices: by.iter().enumerate().map(|(device, n)| (name(device), *n)).collect(),
            idle,
            late,
        })
    }
}

#[derive(Clone, Copy)]
struct Clock {
    /// From when on frames are counted.
    counted: Instant,
    /// From when on none is submitted.
    end: Instant,
}

/// What came back, and what did not.
struct Taken {
    latency: Histogram<u64>,
    unsent: u64,
    by: Vec<u64>,
    idle: Vec<f64>,
    over: Instant,
}

/// Takes frames back, and counts them.
struct Taker {
    clock: Clock,
    begun: Instant,
    latency: Histogram<u64>,
    by: Vec<u64>,
    waited: Duration,
}

impl Taker {
    fn new(clock: Clock) -> Self {
        let (latency, by, waited) = (histogram(), Vec::new(), Duration::ZERO);
        Self { clock, begun: Instant::now(), latency, by, waited }
    }

    /// Waits for a frame that was due at a time, counts it, and gives it back.
    fn take(&mut self, pending: Pending, due: Instant) -> Result<Frame> {
        let before = Instant::now();
        let frame = pending.wait()?;
        let now = Instant::now();
        self.waited += now - before;
        if due >= self.clock.counted {
            self.latency.saturating_record((now - due).as_nanos() as u64);
            let device = usize::from(frame.receipt().device);
            if self.by.len() <= device {
                self.by.resize(device + 1, 0);
            }
            self.by[device] += 1;
        }
        Ok(frame)
    }

    fn done(self) -> Taken {
        let over = Instant::now();
        let idle = self.waited.as_secs_f64() / (over - self.begun).as_secs_f64();
        Taken { latency: self.latency, unsent: 0, by: self.by, idle: vec![idle], over }
    }
}

fn closed(stream: &Stream, slots: u32, clock: Clock) -> Result<Taken> {
    let mut taker = Taker::new(clock);
    let mut flight = VecDeque::new();
    let submit = || -> Result<_> {
        let slot = stream.loan()?;
        Ok((Instant::now(), slot.submit()?))
    };
    for _ in 0..slots {
        flight.push_back(submit()?);
    }
    while let Some((due, pending)) = flight.pop_front() {
        drop(taker.take(pending, due)?);
        if Instant::now() < clock.end {
            flight.push_back(submit()?);
        }
    }
    Ok(taker.done())
}

/// Also gives how late the load itself was.
fn open(
    stream: &Stream,
    period: Duration,
    first: Instant,
    clock: Clock,
) -> Result<(Taken, Histogram<u64>)> {
    let (submitted, flight) = channel();
    thread::scope(|scope| {
        let taker = scope.spawn(move || take_all(flight, clock));
        let begun = Instant::now();
        let (mut late, mut unsent, mut idle) = (histogram(), histogram(), Duration::ZERO);
        let mut due = first;
        // When the daemon last kept us from going on.
        let mut free = begun;
        let sent = (|| {
            while due < clock.end {
                let before = Instant::now();
                if let Some(early) = due.checked_duration_since(before) {
                    // The system wakes who sleeps a fraction of a millisecond late, as much as a small
                    // frame takes.
                    thread::sleep(early.saturating_sub(EARLY.min(period / 10)));
                    while Instant::now() < due {
                        std::hint::spin_loop();
                    }
                    idle += early;
                }
                let ready = Instant::now();
                if ready >= clock.end {
                    unsent = times_of_unsent(due, period, clock);
                    break;
                }
                if due >= clock.counted {
                    late.saturating_record((ready - due.max(free)).as_nanos() as u64);
                }
                let slot = stream.loan()?;
                free = Instant::now();
                idle += free - ready;
                if submitted.send((due, slot.submit()?)).is_err() {
                    break; // the taker failed, and says why
                }
                due += period;
            }
            Ok::<_, anyhow::Error>(())
        })();
        drop(submitted);
        let mut taken = taker.join().map_err(|_| anyhow!("the taker panicked"))??;
        sent?;
        taken.latency.add(&unsent)?;
        taken.unsent = unsent.len();
        // The last frame may have been due, and come back, up to a period before the end.
        taken.over = taken.over.max(clock.end);
        // Of the time for which it submitted.
        let busy = (clock.end.max(free) - begun).as_secs_f64();
        taken.idle.push(idle.as_secs_f64() / busy);
        Ok((taken, late))
    })
}

/// The daemon was behind: what was due from then on and could not be submitted took until the end,
/// at the least. Of many millions not each one is counted, but some beside each other as one.
fn times_of_unsent(due: Instant, period: Duration, clock: Clock) -> Histogram<u64> {
    let mut times = histogram();
    let period = (period.as_nanos() as u64).max(1);
    let until = |end: Instant| end.saturating_duration_since(due).as_nanos() as u64;
    let [uncounted, all] = [clock.counted, clock.end].map(|end| until(end).div_ceil(period));
    let group = (all - uncounted) / 1_000_000 + 1;
    for frame in (uncounted..all).step_by(group as usize) {
        times.saturating_record_n(until(clock.end) - frame * period, group.min(all - frame));
    }
    times
}

fn take_all(flight: Receiver<(Instant, Pending)>, clock: Clock) -> Result<Taken> {
    let mut taker = Taker::new(clock);
    loop {
        let before = Instant::now();
        let Ok((due, pending)) = flight.recv() else { return Ok(taker.done()) };
        taker.waited += before.elapsed();
        drop(taker.take(pending, due)?);
    }
}

#[cfg(test)]
mod tests {
    use resized_client::{Client, Extent, Filter, FrameSpec, PixelFormat};

    use super::*;

    /// What a client sees of a daemon on the cores, and how many frames that has done, for as long
    /// as it takes.
    fn measured(from: u32, to: u32, seconds: f64, period: Option<Duration>) -> (Tally, u64) {
        let options = resized::Options { devices: resized::Devices::Cpu, ..Default::default() };
        let server = resized::Server::embedded_with(options).unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let source = FrameSpec::new(PixelFormat::I420, Extent::new(from, from));
        let mut spec = StreamSpec::new(source, Extent::new(to, to));
        spec.filter = Filter::Lanczos3;
        let plan = Plan { spec, seconds: Duration::from_secs_f64(seconds), period };
        let stream = client.open(&spec).unwrap();
        fill(&stream, spec.slots).unwrap();
        let tally = plan.run(&stream, &client.devices(), 0.5).unwrap();
        (tally, client.stats().unwrap().devices[0].frames)
    }

    fn by_devices(tally: &Tally) -> u64 {
        tally.devices.iter().map(|(_, frames)| frames).sum()
    }

    #[test]
    fn a_closed_loop_counts_frames_that_were_done() {
        let (tally, frames) = measured(64, 32, 0.2, None);
        assert!(tally.unsent == 0 && by_devices(&tally) == tally.latency.len());
        // Not those that were in flight before anything was counted.
        assert!(frames >= 4 && tally.latency.len() <= frames, "{frames}");
    }

    #[test]
    fn an_open_loop_counts_frames_that_were_due() {
        let (tally, frames) = measured(64, 32, 0.5, Some(Duration::from_millis(10)));
        // Of those in the middle of each period, in half a second.
        assert_eq!(tally.latency.len(), 50);
        assert_eq!(by_devices(&tally) + tally.unsent, 50);
        assert!(frames <= 55, "{frames}");
    }

    #[test]
    fn a_daemon_that_is_behind_is_charged_for_all_that_was_due() {
        // Milliseconds of work each.
        let (tally, frames) = measured(1200, 1000, 0.2, Some(Duration::from_micros(20)));
        assert_eq!(tally.latency.len(), 10_000);
        assert!(tally.unsent > 9000 && frames < 1000, "{} {frames}", tally.unsent);
        // Half of them were due in the first half.
        let median = Duration::from_nanos(tally.latency.value_at_quantile(0.5));
        assert!(median > Duration::from_millis(75), "{median:?}");
    }

    fn tally(idle: &[f64], late_us: u64, latency_us: u64) -> (Tally, Histogram<u64>) {
        let times = |us: u64| {
            let mut times = histogram();
            times.record_n(us * 1000, 100).unwrap();
            times
        };
        let latency = times(latency_us);
        let tally = Tally {
            latency: latency.clone(),
            unsent: 0,
            took: Duration::from_secs(1),
            devices: Vec::new(),
            idle: idle.to_vec(),
            late: times(late_us),
        };
        (tally, latency)
    }

    #[test]
    fn frames_that_were_not_submitted_took_until_the_end() {
        let begun = Instant::now();
        let second = |n| begun + Duration::from_secs(n);
        let clock = Clock { counted: second(1), end: second(11) };
        let times = |due, period| times_of_unsent(due, period, clock);
        let few = times(second(0), Duration::from_secs(2));
        // Due after 2, 4, 6, 8 and 10 seconds.
        assert_eq!(few.len(), 5);
        assert!((few.max() as f64 / 9e9 - 1.0).abs() < 0.01 && few.min() < 1_010_000_000);
        let many = times(second(6), Duration::from_nanos(1));
        assert_eq!(many.len(), 5_000_000_000);
        assert!((many.value_at_quantile(0.5) as f64 / 2.5e9 - 1.0).abs() < 0.01);
        assert_eq!(times(second(11), Duration::from_secs(1)).len(), 0);
    }

    #[test]
    fn figures_of_the_load_itself_are_told_from_the_daemons() {
        let fault = |idle: &[f64], late, latency| {
            let (tally, latency) = tally(idle, late, latency);
            tally.fault(&latency)
        };
        assert_eq!(fault(&[0.5, 0.2], 10, 1000), None);
        assert_eq!(fault(&[0.5, 0.05], 10, 1000), Some(Fault::Busy { idle: 0.05 }));
        assert!(matches!(fault(&[0.5], 300, 1000), Some(Fault::Late { .. })));
        // A daemon that is slow is no fault of the load's.
        assert_eq!(fault(&[0.9], 300, 1_000_000), None);
    }
}
