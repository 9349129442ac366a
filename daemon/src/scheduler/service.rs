//! Owns whether a device is in service, and for how long it is not.
//!
//! Knows neither devices nor frames, and no reasons. Invariant: each time a device fails sooner than
//! it was on probation it is out of service for twice as long, up to a limit.

use std::time::{Duration, Instant};

/// How long a device is out of service for the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// So many times its last pause a device must have worked to be as good as new.
const PROBATION: u32 = 10;

/// Whether a device is in service.
#[derive(Debug, Default)]
pub(super) struct Service {
    out: Option<Outage>,
    /// The last pause.
    pause: Duration,
    /// When it came back from it.
    back: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    until: Instant,
    /// A lane is bringing it back.
    reviving: bool,
}

impl Service {
    pub(super) const fn is_in(&self) -> bool {
        self.out.is_none()
    }

    /// How long a lane has to wait before it may take a frame, or try to bring the device back;
    /// `None`: it may take one. Who stops does not wait.
    pub(super) fn wait(&self, stopping: bool) -> Option<Duration> {
        let outage = self.out.as_ref().filter(|_| !stopping)?;
        let left = outage.until.saturating_duration_since(Instant::now());
        Some(if outage.reviving { left.max(FIRST_PAUSE) } else { left })
    }

    /// A lane begins to bring the device back.
    pub(super) const fn begin_to_revive(&mut self) {
        if let Some(outage) = &mut self.out {
            outage.reviving = true;
        }
    }

    /// The device failed at a frame that was taken then: each time sooner than it was on probation it is
    /// out for twice as long. What it failed at before it came back says nothing of how it is now. Returns
    /// whether it is out by this.
    pub(super) fn fail(&mut self, taken: Instant, now: Instant) -> bool {
        let fails = self.is_in() && self.back.is_none_or(|back| taken >= back);
        if fails {
            let proven = |back: Instant| now.duration_since(back) > PROBATION * self.pause;
            self.pause = match self.back {
                Some(back) if !proven(back) => (2 * self.pause).min(LONGEST_PAUSE),
                _ => FIRST_PAUSE,
            };
            self.out = Some(Outage { until: now + self.pause, reviving: false });
        }
        fails
    }

    pub(super) fn revived(&mut self, came_back: bool, now: Instant) {
        if came_back {
            (self.out, self.back) = (None, Some(now));
        } else {
            self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.out = Some(Outage { until: now + self.pause, reviving: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_device_proves_itself() {
        let mut service = Service::default();
        let mut now = Instant::now();
        for pause in [1, 2, 4, 8] {
            assert!(service.fail(now, now) && !service.fail(now, now) && !service.is_in());
            assert_eq!(service.pause, Duration::from_secs(pause));
            now += service.pause;
            service.revived(true, now);
            assert!(service.is_in() && service.wait(false).is_none());
        }
        // By a frame of before.
        assert!(!service.fail(now.checked_sub(Duration::from_millis(1)).unwrap(), now));
        assert!(service.is_in());
        now += Duration::from_secs(100);
        assert!(service.fail(now, now));
        assert_eq!(service.pause, FIRST_PAUSE);
        service.revived(false, now);
        assert_eq!(service.pause, 2 * FIRST_PAUSE);
        assert!(service.wait(false).is_some() && service.wait(true).is_none());
        (0..20).for_each(|_| service.revived(false, now));
        assert_eq!(service.pause, LONGEST_PAUSE);
    }
}
