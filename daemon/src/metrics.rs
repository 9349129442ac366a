//! Owns the daemon's figures: counters that whoever does the work raises, and that only those who ask
//! for figures read.
//!
//! Invariants: to count a frame takes no lock; a stream's figures are found as long as it is open,
//! and a client's as long as it is connected.

use std::array::from_fn;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use resized_protocol::message::{Completion, Status};
use resized_protocol::stats::{ClientStats, DeviceStats, Histogram, PAGE, StreamStats};

use crate::lock;

/// Identifies a client; never used again in the life of a daemon.
pub(crate) type ClientId = u64;

/// Figures of the whole daemon.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) sessions: Gauge,
    pub(crate) streams: Gauge,
    /// Connections and streams that were refused.
    pub(crate) refused: Counter,
    clients: Mutex<BTreeMap<ClientId, Arc<ClientMetrics>>>,
}

impl Metrics {
    /// Begins the figures of a client.
    pub(crate) fn connect(&self, client: ClientId, uid: u32) -> Arc<ClientMetrics> {
        let figures = Arc::new(ClientMetrics { client, uid, ..ClientMetrics::default() });
        lock::wait(&self.clients).insert(client, Arc::clone(&figures));
        figures
    }

    /// Forgets a client.
    pub(crate) fn disconnect(&self, client: ClientId) {
        lock::wait(&self.clients).remove(&client);
    }

    /// A page of the clients whose numbers are at least this and that may be seen.
    pub(crate) fn clients(&self, from: ClientId, seen: impl Fn(u32) -> bool) -> Vec<ClientStats> {
        let clients = lock::wait(&self.clients);
        let seen = clients.range(from..).filter(|(_, client)| seen(client.uid)).take(PAGE);
        seen.map(|(_, client)| client.read()).collect()
    }

    /// A page of that client's streams whose numbers are at least this, if the client may be seen.
    pub(crate) fn streams(
        &self,
        client: ClientId,
        from: u32,
        seen: impl Fn(u32) -> bool,
    ) -> Vec<StreamStats> {
        let found = lock::wait(&self.clients).get(&client).filter(|found| seen(found.uid)).cloned();
        found.map_or_else(Vec::new, |found| {
            let streams = lock::wait(&found.streams);
            let page = streams.range(from..).take(PAGE);
            page.map(|(&number, stream)| stream.read(client, number)).collect()
        })
    }
}

/// Something that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many took how long.
#[derive(Debug)]
struct Times {
    counts: [Counter; Histogram::BUCKETS],
    sum_ns: Counter,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: from_fn(|_| Counter::default()), sum_ns: Counter::default() }
    }
}

impl Times {
    fn add(&self, ns: u64) {
        self.counts[Histogram::bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }

    fn read(&self) -> Histogram {
        Histogram { counts: from_fn(|n| self.counts[n].read()), sum_ns: self.sum_ns.read() }
    }
}

/// Figures of the frames that were completed.
#[derive(Debug, Default)]
struct Done {
    /// Their number, too: each is counted once.
    queued: Times,
    worked: Times,
    pixels: Counter,
    copied_bytes: Counter,
}

impl Done {
    fn add(&self, pixels: u64, copied: u64, completion: &Completion) {
        self.queued.add(completion.queued_ns);
        self.worked.add(completion.worked_ns);
        self.pixels.add(pixels);
        // Where frames are resized where they lie, none ever are.
        if copied > 0 {
            self.copied_bytes.add(copied);
        }
    }
}

/// Figures of a connected client.
#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    client: ClientId,
    uid: u32,
    name: OnceLock<String>,
    done: Done,
    streams: Mutex<BTreeMap<u32, Arc<StreamMetrics>>>,
}

impl ClientMetrics {
    /// As it calls itself.
    pub(crate) fn set_name(&self, name: String) {
        let _ = self.name.set(name);
    }

    /// Begins the figures of a stream.
    pub(crate) fn open(self: &Arc<Self>, number: u32, slots: u32, ring: u64) -> Arc<StreamMetrics> {
        let figures = Arc::new(StreamMetrics {
            client: Arc::clone(self),
            slots,
            ring_bytes: ring,
            ..StreamMetrics::default()
        });
        lock::wait(&self.streams).insert(number, Arc::clone(&figures));
        figures
    }

    /// Forgets a stream.
    pub(crate) fn close(&self, number: u32) {
        lock::wait(&self.streams).remove(&number);
    }

    fn read(&self) -> ClientStats {
        let queued = self.done.queued.read();
        ClientStats {
            client: self.client,
            uid: self.uid,
            name: self.name.get().cloned().unwrap_or_default(),
            streams: lock::wait(&self.streams).len() as u32,
            frames: queued.count(),
            pixels: self.done.pixels.read(),
            copied_bytes: self.done.copied_bytes.read(),
            queued,
            worked: self.done.worked.read(),
        }
    }
}

/// Figures of an open stream.
#[derive(Debug, Default)]
pub(crate) struct StreamMetrics {
    client: Arc<ClientMetrics>,
    slots: u32,
    ring_bytes: u64,
    done: Done,
    failed: Counter,
    late: Counter,
    cancelled: Counter,
}

impl StreamMetrics {
    pub(crate) const fn client(&self) -> &Arc<ClientMetrics> {
        &self.client
    }

    /// A frame of this many source and destination pixels has ended, so many bytes copied on the way.
    pub(crate) fn add_frame(&self, pixels: u64, copied: u64, completion: &Completion) {
        match completion.status {
            Status::Done => {
                self.done.add(pixels, copied, completion);
                self.client.done.add(pixels, copied, completion);
            }
            Status::Failed => self.failed.add(1),
            Status::Late => self.late.add(1),
            Status::Cancelled => self.cancelled.add(1),
            Status::Unreadable => {} // a bridge's word
        }
    }

    fn read(&self, client: ClientId, stream: u32) -> StreamStats {
        let queued = self.done.queued.read();
        StreamStats {
            client,
            stream,
            slots: self.slots,
            ring_bytes: self.ring_bytes,
            frames: queued.count(),
            pixels: self.done.pixels.read(),
            copied_bytes: self.done.copied_bytes.read(),
            failed: self.failed.read(),
            late: self.late.read(),
            cancelled: self.cancelled.read(),
            queued,
            worked: self.done.worked.read(),
        }
    }
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
    done: Done,
    failed: Counter,
    busy_ns: Counter,
}

impl DeviceMetrics {
    /// A lane, or the thread that reads messages, has worked for this long.
    pub(crate) fn add_busy(&self, busy: Duration) {
        self.busy_ns.add(nanoseconds(busy));
    }

    pub(crate) fn busy_ns(&self) -> u64 {
        self.busy_ns.read()
    }

    /// An attempt at a frame of this many source and destination pixels has ended, so many bytes
    /// copied on the way.
    pub(crate) fn add_attempt(&self, pixels: u64, copied: u64, completion: &Completion) {
        match completion.status {
            Status::Done => self.done.add(pixels, copied, completion),
            Status::Failed => self.failed.add(1),
            Status::Cancelled | Status::Late | Status::Unreadable => {}
        }
    }

    pub(crate) fn read(&self, name: &str) -> DeviceStats {
        let queued = self.done.queued.read();
        DeviceStats {
            name: name.to_owned(),
            frames: queued.count(),
            failed: self.failed.read(),
            pixels: self.done.pixels.read(),
            busy_ns: self.busy_ns(),
            copied_bytes: self.done.copied_bytes.read(),
            queued,
            worked: self.done.worked.read(),
        }
    }
}

/// A duration as the wire has it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
