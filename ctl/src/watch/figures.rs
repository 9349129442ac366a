//! Owns the figures of a daemon: as it gives them, and what happened between two looks.
//!
//! Knows no terminal, but names are such that they have no power over one: a bridge may send any. A
//! [`Figures`]' serialization is what `--json` prints.

use std::time::{Duration, Instant};

use resized_client::{Client, ClientStats, DeviceStats, Error, Histogram, Stats, StreamStats};
use resized_protocol::VERSION;
use serde::Serialize;

use crate::terminal::shown;

/// One look at a daemon.
#[derive(Debug)]
pub(crate) struct Look {
    at: Instant,
    stats: Stats,
    clients: Vec<(ClientStats, Vec<StreamStats>)>,
}

impl Look {
    pub(crate) fn at(client: &Client) -> Result<Self, Error> {
        let stats = client.stats()?;
        // Not when it was asked, which may have been long before.
        let at = Instant::now();
        let clients = client.clients()?.into_iter().map(|seen| {
            // One that is gone meanwhile has none.
            let streams = client.streams_of(seen.client)?;
            Ok((seen, streams))
        });
        Ok(Self { at, stats, clients: clients.collect::<Result<_, Error>>()? })
    }

    fn stream(&self, client: u64, stream: u32) -> Option<&StreamStats> {
        let streams = &self.clients.iter().find(|(seen, _)| seen.client == client)?.1;
        streams.iter().find(|seen| seen.stream == stream)
    }

    fn client(&self, client: u64) -> Option<&ClientStats> {
        self.clients.iter().map(|(seen, _)| seen).find(|seen| seen.client == client)
    }
}

/// What a daemon did since it started or, with rates, between two looks.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Version of the protocol: a daemon that has another refuses to answer.
    pub(crate) protocol: u16,
    /// Between the looks; `None` where times and waits are those since the start.
    pub(crate) seconds: Option<f64>,
    pub(crate) sessions: u32,
    pub(crate) streams: u32,
    pub(crate) ring_bytes: u64,
    pub(crate) queued: u64,
    pub(crate) refused: u64,
    pub(crate) copied_bytes: u64,
    pub(crate) devices: Vec<DeviceFigures>,
    /// Those that the daemon shows to this user, the busiest first.
    pub(crate) clients: Vec<ClientFigures>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeviceFigures {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) work: Work,
    /// Lanes that had work, on average; the thread that reads messages counts as one.
    pub(crate) busy_lanes: Option<f64>,
    pub(crate) failed: u64,
    pub(crate) copied_bytes: u64,
    #[serde(flatten)]
    pub(crate) times: Times,
}

#[derive(Debug, Serialize)]
pub(crate) struct ClientFigures {
    pub(crate) client: u64,
    pub(crate) uid: u32,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) work: Work,
    pub(crate) copied_bytes: u64,
    #[serde(flatten)]
    pub(crate) times: Times,
    pub(crate) streams: Vec<StreamFigures>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StreamFigures {
    pub(crate) stream: u32,
    pub(crate) slots: u32,
    pub(crate) ring_bytes: u64,
    #[serde(flatten)]
    pub(crate) work: Work,
    pub(crate) failed: u64,
    pub(crate) late: u64,
    pub(crate) cancelled: u64,
    pub(crate) copied_bytes: u64,
    #[serde(flatten)]
    pub(crate) times: Times,
}

/// Frames and pixels since the start, and their rates between the looks.
#[derive(Debug, Serialize)]
pub(crate) struct Work {
    pub(crate) frames: u64,
    pub(crate) frames_per_second: Option<f64>,
    /// Of sources and destinations together.
    pub(crate) megapixels_per_second: Option<f64>,
}

/// Bounds that so many of the frames stayed below: the daemon counts by powers of two of a microsecond.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    /// From submission until a device took the frame.
    pub(crate) wait_us: Percentiles,
    /// From then until it was done.
    pub(crate) work_us: Percentiles,
}

#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    /// `None` if there were no frames, or it took more than four seconds.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
}

impl Figures {
    /// What happened until `now`: from `before` on, or else since the start.
    pub(crate) fn new(before: Option<&Look>, now: &Look) -> Self {
        let span = Span::new(before, now);
        let device = |(index, device): (usize, &DeviceStats)| {
            let before = before.and_then(|look| look.stats.devices.get(index));
            span.device(before, device)
        };
        let client = |(client, streams): &(ClientStats, Vec<StreamStats>)| {
            let earlier = before.and_then(|look| look.client(client.client));
            let stream = |stream: &StreamStats| {
                let earlier = before.and_then(|look| look.stream(client.client, stream.stream));
                span.stream(earlier, stream)
            };
            ClientFigures {
                client: client.client,
                uid: client.uid,
                name: shown(&client.name),
                work: span.work(
                    (client.frames, client.pixels),
                    earlier.map(|client| (client.frames, client.pixels)),
                ),
                copied_bytes: client.copied_bytes,
                times: Times::new(
                    [&client.queued, &client.worked],
                    earlier.map(|client| [&client.queued, &client.worked]),
                ),
                streams: streams.iter().map(stream).collect(),
            }
        };
        let Stats { sessions, streams, ring_bytes, queued, refused, copied_bytes, .. } = now.stats;
        let mut clients: Vec<_> = now.clients.iter().map(client).collect();
        let rate = |client: &ClientFigures| client.work.frames_per_second.unwrap_or_default();
        clients.sort_by(|one, other| {
            rate(other).total_cmp(&rate(one)).then(one.client.cmp(&other.client))
        });
        Self {
            protocol: VERSION,
            seconds: span.seconds,
            sessions,
            streams,
            ring_bytes,
            queued,
            refused,
            copied_bytes,
            devices: now.stats.devices.iter().enumerate().map(device).collect(),
            clients,
        }
    }
}

/// The time between two looks, if there were two.
#[derive(Clone, Copy)]
struct Span {
    seconds: Option<f64>,
}

impl Span {
    fn new(before: Option<&Look>, now: &Look) -> Self {
        // Never zero.
        let between = |look: &Look| (now.at - look.at).max(Duration::from_micros(1)).as_secs_f64();
        Self { seconds: before.map(between) }
    }

    fn device(self, before: Option<&DeviceStats>, now: &DeviceStats) -> DeviceFigures {
        let work = |device: &DeviceStats| (device.frames, device.pixels);
        let busy = now.busy_ns.saturating_sub(before.map_or(0, |device| device.busy_ns));
        DeviceFigures {
            name: shown(&now.name),
            work: self.work(work(now), before.map(work)),
            busy_lanes: self.seconds.map(|seconds| busy as f64 / 1e9 / seconds),
            failed: now.failed,
            copied_bytes: now.copied_bytes,
            times: Times::new(
                [&now.queued, &now.worked],
                before.map(|device| [&device.queued, &device.worked]),
            ),
        }
    }

    fn stream(self, before: Option<&StreamStats>, now: &StreamStats) -> StreamFigures {
        let work = |stream: &StreamStats| (stream.frames, stream.pixels);
        StreamFigures {
            stream: now.stream,
            slots: now.slots,
            ring_bytes: now.ring_bytes,
            work: self.work(work(now), before.map(work)),
            failed: now.failed,
            late: now.late,
            cancelled: now.cancelled,
            copied_bytes: now.copied_bytes,
            times: Times::new(
                [&now.queued, &now.worked],
                before.map(|stream| [&stream.queued, &stream.worked]),
            ),
        }
    }

    /// Of frames and pixels. What was not there at the look before began after it.
    fn work(self, now: (u64, u64), before: Option<(u64, u64)>) -> Work {
        let before = before.unwrap_or_default();
        let rate = |now: u64, before: u64| {
            self.seconds.map(|seconds| now.saturating_sub(before) as f64 / seconds)
        };
        Work {
            frames: now.0,
            frames_per_second: rate(now.0, before.0),
            megapixels_per_second: rate(now.1, before.1).map(|rate| rate / 1e6),
        }
    }
}

impl Times {
    fn new([wait, work]: [&Histogram; 2], before: Option<[&Histogram; 2]>) -> Self {
        let [earlier_wait, earlier_work] =
            before.map_or([None; 2], |histograms| histograms.map(Some));
        Self {
            wait_us: Percentiles::new(wait, earlier_wait),
            work_us: Percentiles::new(work, earlier_work),
        }
    }
}

impl Percentiles {
    fn new(now: &Histogram, before: Option<&Histogram>) -> Self {
        let mut between = now.clone();
        if let Some(before) = before {
            for (count, earlier) in between.counts.iter_mut().zip(before.counts) {
                *count = count.saturating_sub(earlier);
            }
        }
        let bound = |part| between.quantile(part).map(|bound| bound.as_micros() as u64);
        Self { p50: bound(0.5), p99: bound(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, frames: u64, fast: u64, slow: u64) -> Look {
        let mut queued = Histogram::default();
        (queued.counts[2], queued.counts[9]) = (fast, slow);
        let device = DeviceStats {
            name: "cpu".into(),
            frames,
            pixels: frames * 1_000_000,
            busy_ns: frames * 10_000_000,
            queued: queued.clone(),
            ..DeviceStats::default()
        };
        let stream = StreamStats {
            client: 7,
            stream: 1,
            slots: 4,
            ring_bytes: 64,
            frames,
            pixels: frames * 1_000_000,
            copied_bytes: 0,
            failed: 1,
            late: 2,
            cancelled: 3,
            queued: queued.clone(),
            worked: Histogram::default(),
        };
        let client = ClientStats {
            client: 7,
            uid: 1000,
            name: "camera\u{9b}2J".into(),
            streams: 1,
            frames,
            pixels: frames * 1_000_000,
            copied_bytes: 0,
            queued,
            worked: Histogram::default(),
        };
        let stats = Stats { devices: vec![device], ..Stats::default() };
        Look { at, stats, clients: vec![(client, vec![stream])] }
    }

    #[test]
    fn rates_and_times_are_those_between_the_looks() {
        let begun = Instant::now();
        let (before, now) =
            (look(begun, 100, 100, 0), look(begun + Duration::from_secs(2), 300, 110, 190));
        let figures = Figures::new(Some(&before), &now);
        let device = &figures.devices[0];
        assert_eq!((device.work.frames, device.work.frames_per_second), (300, Some(100.0)));
        assert_eq!(device.work.megapixels_per_second, Some(100.0));
        assert_eq!(device.busy_lanes, Some(1.0));
        // Ten fast and 190 slow ones.
        assert_eq!(device.times.wait_us.p50, Some(512));
        assert_eq!(device.times.work_us.p50, None);
        let stream = &figures.clients[0].streams[0];
        assert_eq!(stream.work.frames_per_second, Some(100.0));
        assert_eq!(figures.clients[0].times.wait_us.p50, Some(512));
        assert_eq!(figures.clients[0].name, "camera\\u{9b}2J");
        let whole = Figures::new(None, &now);
        assert_eq!(whole.devices[0].work.frames_per_second, None);
        assert_eq!(whole.devices[0].times.wait_us.p99, Some(512));
    }
}
