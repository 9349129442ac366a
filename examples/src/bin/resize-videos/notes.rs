//! Owns what is noted of an instance's frames: how long each took, and how many were written when.
//!
//! Invariants: what is kept has a bound, however long a video is, and noting a frame allocates nothing.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// Longer ones count as this.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// Steps of a [`Pace`].
const STEPS: usize = 1024;

/// How long each is at first: eight seconds in all.
const FIRST_STEP: Duration = Duration::from_millis(8);

/// How long frames took.
#[derive(Clone)]
pub(crate) struct Times {
    microseconds: Histogram<u64>,
}

impl Times {
    pub(crate) fn new() -> Result<Self> {
        let microseconds = Histogram::new_with_bounds(1, MAX_TIME.as_micros() as u64, 3)?;
        Ok(Self { microseconds })
    }

    pub(crate) fn note(&mut self, time: Duration) {
        self.microseconds.saturating_record(time.as_micros() as u64);
    }

    /// The same, in as little memory as they need: of many instances they are kept until the run is told of.
    pub(crate) fn shrunk(&self) -> Result<Self> {
        let mut microseconds = Histogram::new(3)?;
        microseconds.add(&self.microseconds)?;
        Ok(Self { microseconds })
    }

    /// Takes in those of others.
    pub(crate) fn add(&mut self, others: &Self) -> Result<()> {
        Ok(self.microseconds.add(&others.microseconds)?)
    }

    /// How many there are.
    pub(crate) fn frames(&self) -> u64 {
        self.microseconds.len()
    }

    /// Milliseconds that this share of the frames took at the most; zero if there are none.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        self.microseconds.value_at_quantile(share) as f64 / 1e3
    }

    /// Milliseconds of the one that took longest.
    pub(crate) fn max_ms(&self) -> f64 {
        self.microseconds.max() as f64 / 1e3
    }
}

/// How many frames were written in each step of time. The steps are as long as it takes for all to have
/// room: they double when there are no more.
#[derive(Clone)]
pub(crate) struct Pace {
    step: Duration,
    frames: Vec<u64>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { step: FIRST_STEP, frames: vec![0; STEPS] }
    }

    /// One more frame, so long after the start.
    pub(crate) fn note(&mut self, at: Duration) {
        let mut index = self.index(at);
        while index >= STEPS {
            self.double();
            index = self.index(at);
        }
        self.frames[index] += 1;
    }

    fn index(&self, at: Duration) -> usize {
        (at.as_micros() as u64 / self.step.as_micros() as u64) as usize
    }

    fn double(&mut self) {
        for index in 0..STEPS / 2 {
            self.frames[index] = self.frames[2 * index] + self.frames[2 * index + 1];
        }
        self.frames[STEPS / 2..].fill(0);
        self.step *= 2;
    }

    /// Frames a second over a run that took so long, in steps of this many seconds or a little
    /// more: when each step ends, in seconds after the start, and the rate within. What is left
    /// over at the end is a step of its own, or belongs to the last if it is shorter than half of
    /// one.
    pub(crate) fn rates(&self, took: Duration, wanted: f64) -> Vec<(f64, f64)> {
        let (step, took) = (self.step.as_secs_f64(), took.as_secs_f64());
        let joined = (wanted / step).ceil().max(1.0) as usize;
        let long = step * joined as f64;
        let steps = ((took / long).round() as usize).max(1);
        let rate = |index: usize| {
            let (begin, last) = (index as f64 * long, index + 1 == steps);
            let end = if last { took } else { begin + long };
            let among = self.frames.iter().skip(index * joined);
            let frames: u64 = among.take(if last { STEPS } else { joined }).sum();
            (end, frames as f64 / (end - begin).max(f64::MIN_POSITIVE))
        };
        (0..steps).map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_is_lost_however_long_it_goes_on() {
        let mut pace = Pace::new();
        let at = |second: u64| Duration::from_millis(1000 * second + 500);
        (0..10_000).for_each(|second| pace.note(at(second)));
        assert_eq!(pace.frames.len(), STEPS);
        assert_eq!(pace.frames.iter().sum::<u64>(), 10_000);
        // A thousand and some steps of eight milliseconds hold ten thousand seconds after 11 doublings.
        assert_eq!(pace.step, FIRST_STEP * 2048);
        for (_, rate) in pace.rates(Duration::from_secs(10_000), 100.0) {
            assert!((rate - 1.0).abs() < 0.02, "{rate}");
        }
    }

    #[test]
    fn rates_are_those_of_their_steps() {
        let mut pace = Pace::new();
        // A hundred a second for one second, then fifty for another, then a tenth of one with nothing.
        (0..100).for_each(|n| pace.note(Duration::from_millis(10 * n)));
        (0..50).for_each(|n| pace.note(Duration::from_millis(1000 + 20 * n)));
        let rates = pace.rates(Duration::from_millis(2100), 0.2);
        assert_eq!(rates.len(), 11); // the last is half as long
        let time: Vec<f64> = rates.iter().map(|(end, _)| *end).collect();
        assert!((time[0] - 0.2).abs() < 1e-9 && (time[10] - 2.1).abs() < 1e-9, "{time:?}");
        for (end, rate) in rates {
            let expected = if end < 1.1 {
                100.0
            } else if end < 2.05 {
                50.0
            } else {
                0.0
            };
            assert!((rate - expected).abs() <= 5.0 + 1e-9, "{rate} until {end}");
        }
        // What is left is too short for a step of its own.
        let rates = pace.rates(Duration::from_millis(2050), 0.2);
        assert_eq!(rates.len(), 10);
        assert!((rates[9].1 * 0.25 - 10.0).abs() < 1.0 + 1e-9, "{rates:?}");
        // A run that is shorter than a step, and one of no length.
        assert_eq!(Pace::new().rates(Duration::from_millis(1), 0.2), [(0.001, 0.0)]);
        assert_eq!(Pace::new().rates(Duration::ZERO, 0.2), [(0.0, 0.0)]);
    }

    #[test]
    fn times_are_told_in_milliseconds() {
        let mut times = Times::new().unwrap();
        assert_eq!((times.frames(), times.ms(0.5), times.max_ms()), (0, 0.0, 0.0));
        (1..=100).for_each(|ms| times.note(Duration::from_millis(ms)));
        let close = |ms: f64, expected: f64| (ms / expected - 1.0).abs() < 1e-3;
        assert!(close(times.ms(0.5), 50.0) && close(times.ms(0.99), 99.0), "{}", times.ms(0.99));
        assert!(close(times.max_ms(), 100.0));
        let few = times.shrunk().unwrap().microseconds.distinct_values();
        assert!(2 * few < times.microseconds.distinct_values(), "{few}");
        times.note(MAX_TIME * 2);
        let shrunk = times.shrunk().unwrap();
        let told = |times: &Times| [times.ms(0.5), times.ms(0.99), times.max_ms()];
        assert_eq!((shrunk.frames(), told(&shrunk)), (101, told(&times)));
        let mut sum = times.clone();
        sum.add(&times).unwrap();
        assert_eq!(sum.frames(), 202);
        assert!(close(sum.max_ms(), 3_600_000.0));
    }
}
