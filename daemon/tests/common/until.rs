//! Owns how tests wait for what others do, threads or processes: as long as that takes, but not for ever.

use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything takes here, on a loaded machine as well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
