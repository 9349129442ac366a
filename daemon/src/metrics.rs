//! Owns the daemon's figures: counters that whoever does the work raises, and that only `Stats` reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use resized_protocol::message::{DeviceStats, Status};

use crate::device::Device;

/// Figures of the whole daemon.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) sessions: Gauge,
    pub(crate) streams: Gauge,
}

/// How many of something there are now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU32>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Gauge {
    pub(crate) fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(crate) fn read(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Figures of one device.
#[derive(Debug, Default)]
pub(crate) struct DeviceMetrics {
    frames: AtomicU64,
    failed: AtomicU64,
    pixels: AtomicU64,
    busy_ns: AtomicU64,
}

impl DeviceMetrics {
    /// A lane has worked for this long.
    pub(crate) fn add_busy(&self, busy: Duration) {
        self.busy_ns.fetch_add(nanoseconds(busy), Ordering::Relaxed);
    }

    /// A frame of this many source and destination pixels ended.
    pub(crate) fn add_frame(&self, pixels: u64, status: Status) {
        match status {
            Status::Done => {
                self.frames.fetch_add(1, Ordering::Relaxed);
                self.pixels.fetch_add(pixels, Ordering::Relaxed);
            }
            Status::Failed => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Status::Cancelled => {}
        }
    }

    pub(crate) fn read(&self, device: &dyn Device) -> DeviceStats {
        DeviceStats {
            name: device.name().to_owned(),
            frames: self.frames.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            pixels: self.pixels.load(Ordering::Relaxed),
            busy_ns: self.busy_ns.load(Ordering::Relaxed),
            copied: device.copied(),
        }
    }
}

/// A duration as the wire has it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
