//! Owns what a frame of a stream takes a lane of a device, as measured.
//!
//! Knows durations alone. A device that others outpace gets no frames and so is not measured: hence
//! what was measured counts for less as time goes by, until the device is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::metrics::nanoseconds;

/// After this what was measured counts for half.
const HALF_LIFE: Duration = Duration::from_secs(5);

/// The part of an estimate that the next frame makes is one in so many.
const MEMORY: u64 = 4;

pub(super) struct Pace {
    /// Zero: nothing was measured yet.
    estimate_ns: AtomicU64,
    begun: Instant,
    measured_ns: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        let begun = Instant::now();
        Self { estimate_ns: AtomicU64::new(0), begun, measured_ns: AtomicU64::new(0) }
    }

    /// A frame that has ended now took this long, all its bands together.
    pub(super) fn note(&self, worked: Duration, now: Instant) {
        let worked = nanoseconds(worked).max(1);
        let mix = |before: u64| match before {
            0 => worked,
            before => before - before / MEMORY + worked / MEMORY,
        };
        // Lanes that note at the same time may lose one of two: the next frame makes up for it.
        let estimate = mix(self.estimate_ns.load(Ordering::Relaxed));
        self.estimate_ns.store(estimate, Ordering::Relaxed);
        let measured = now.saturating_duration_since(self.begun);
        self.measured_ns.store(nanoseconds(measured), Ordering::Relaxed);
    }

    /// What a frame took when one was last measured, however long ago.
    pub(super) fn last(&self) -> Option<Duration> {
        let estimate = self.estimate_ns.load(Ordering::Relaxed);
        (estimate > 0).then(|| Duration::from_nanos(estimate))
    }

    /// What a frame takes, as far as one knows now; `None`: nobody knows.
    pub(super) fn read(&self, now: Instant) -> Option<Duration> {
        let estimate = self.estimate_ns.load(Ordering::Relaxed);
        let measured = Duration::from_nanos(self.measured_ns.load(Ordering::Relaxed));
        let age = now.saturating_duration_since(self.begun).saturating_sub(measured);
        let halvings = (age.as_nanos() / HALF_LIFE.as_nanos()).min(63) as u32;
        (estimate > 0).then(|| Duration::from_nanos((estimate >> halvings).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_follows_what_is_measured_and_fades() {
        let pace = Pace::new();
        let now = Instant::now;
        assert_eq!(pace.read(now()), None);
        pace.note(Duration::from_micros(400), now());
        assert_eq!(pace.read(now()), Some(Duration::from_micros(400)));
        (0..40).for_each(|_| pace.note(Duration::from_micros(800), now()));
        assert!(pace.read(now()).is_some_and(|read| read > Duration::from_micros(780)));
        let aged = Pace { begun: pace.begun - 2 * HALF_LIFE, ..pace };
        aged.measured_ns.store(0, Ordering::Relaxed);
        assert!(aged.read(now()).is_some_and(|read| read < Duration::from_micros(201)));
        assert!(aged.last().is_some_and(|last| last > Duration::from_micros(780)));
    }
}
