//! Owns the figures that a daemon gives about itself, its devices, its clients and their streams.
//!
//! All but the gauges only grow, from the daemon's start or the stream's opening.

use std::time::Duration;

use bincode::{Decode, Encode};

/// Most clients or streams in one answer: it fits a message whatever their names are.
pub const PAGE: usize = 20;

/// What the daemon has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Stats {
    /// Connected clients.
    pub sessions: u32,
    /// Open streams.
    pub streams: u32,
    /// Bytes charged for all rings: shared memory, and what devices keep for their streams beside it.
    pub ring_bytes: u64,
    /// Frames waiting for a device.
    pub queued: u64,
    /// Connections and streams that were refused.
    pub refused: u64,
    /// Bytes of pixels that were copied on their way: none where devices work where the pixels lie.
    pub copied_bytes: u64,
    /// What each device did, in the order of [`Reply::Welcome`](crate::message::Reply::Welcome).
    pub devices: Vec<DeviceStats>,
}

/// What a device has done since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DeviceStats {
    /// Name of the device.
    pub name: String,
    /// Frames completed.
    pub frames: u64,
    /// Attempts at frames that failed on it.
    pub failed: u64,
    /// Source and destination pixels of the completed frames.
    pub pixels: u64,
    /// Nanoseconds worked, by all of its lanes and, for the cores, by the thread that reads messages.
    pub busy_ns: u64,
    /// Bytes of pixels that were copied for it.
    pub copied_bytes: u64,
    /// From the submission of its frames until it took them.
    pub queued: Histogram,
    /// From then until they were done.
    pub worked: Histogram,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClientStats {
    /// Never used again in the life of a daemon.
    pub client: u64,
    /// Its user.
    pub uid: u32,
    /// As it called itself.
    pub name: String,
    /// Streams it has open.
    pub streams: u32,
    /// Frames completed, of closed streams too.
    pub frames: u64,
    /// Source and destination pixels of those.
    pub pixels: u64,
    /// Bytes of pixels that were copied for devices that can't work where they lie.
    pub copied_bytes: u64,
    /// From the submission of a frame until a device took it.
    pub queued: Histogram,
    /// From then until it was done.
    pub worked: Histogram,
}

/// An open stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StreamStats {
    /// Its client.
    pub client: u64,
    /// The client's number for it.
    pub stream: u32,
    /// Its slots.
    pub slots: u32,
    /// Bytes of its ring.
    pub ring_bytes: u64,
    /// Frames completed.
    pub frames: u64,
    /// Source and destination pixels of those.
    pub pixels: u64,
    /// Bytes of pixels that were copied for devices that can't work where they lie.
    pub copied_bytes: u64,
    /// Frames that failed for good.
    pub failed: u64,
    /// Frames dropped after the stream's deadline.
    pub late: u64,
    /// Frames given up by the client before a device took them.
    pub cancelled: u64,
    /// From the submission of a frame until a device took it.
    pub queued: Histogram,
    /// From then until it was done.
    pub worked: Histogram,
}

/// How many took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Histogram {
    /// How many took less than [`bound`](Self::bound), and not less than the one before.
    pub counts: [u64; Self::BUCKETS],
    /// Nanoseconds of all together.
    pub sum_ns: u64,
}

impl Histogram {
    /// The bounds double.
    pub const BUCKETS: usize = 24;

    /// What the durations in a bucket are less than: 1 us, 2 us, 4 us, and so on; those in the last
    /// have no bound.
    pub const fn bound(bucket: usize) -> Option<Duration> {
        if bucket < Self::BUCKETS - 1 { Some(Duration::from_micros(1 << bucket)) } else { None }
    }

    /// The bucket that a duration belongs to.
    pub const fn bucket(ns: u64) -> usize {
        let bits = (u64::BITS - (ns / 1000).leading_zeros()) as usize;
        if bits < Self::BUCKETS { bits } else { Self::BUCKETS - 1 }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What so large a part of them, 0.0 to 1.0, took less than. `None` where that has no bound, or
    /// there are none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let reached = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let bucket = reached.enumerate().find(|&(_, sum)| sum >= wanted)?.0;
        Self::bound(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_belong_to_the_first_bucket_whose_bound_they_are_below() {
        for ns in [0, 1, 999, 1000, 1999, 2000, 3_999_999, 4_000_000, 4_194_304_000, u64::MAX] {
            let bucket = Histogram::bucket(ns);
            let below = |bucket| {
                Histogram::bound(bucket).is_none_or(|bound| u128::from(ns) < bound.as_nanos())
            };
            assert!(below(bucket), "{ns} in {bucket}");
            assert!(bucket == 0 || !below(bucket - 1), "{ns} in {bucket}");
        }
    }

    #[test]
    fn quantiles_are_bounds() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (histogram.counts[3], histogram.counts[10]) = (99, 1);
        assert_eq!(histogram.quantile(0.0), Histogram::bound(3));
        assert_eq!(histogram.quantile(0.99), Histogram::bound(3));
        assert_eq!(histogram.quantile(1.0), Histogram::bound(10));
        histogram.counts[Histogram::BUCKETS - 1] = 1000;
        assert_eq!(histogram.quantile(0.5), None);
    }
}
