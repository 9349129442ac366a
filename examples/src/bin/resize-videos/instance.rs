//! Owns the instances: when each starts, and a frame's way through one of them.
//!
//! An instance is two threads. The feeder decodes into loaned slots and submits them; the collector
//! waits for them in the order of submission and hands them to the writers, whom all instances share.
//! The slots of the stream bound everything between the two: there is no other queue to fill.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use crossbeam_channel::{Receiver, Sender, unbounded};
use crossbeam_utils::sync::WaitGroup;
use hdrhistogram::Histogram;
use resized_client::{Client, FrameSpec, Pending, Range, Siting, Stream, StreamSpec};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::decode::Video;
use crate::folder::Folder;
use crate::jpeg::{self, Target, Work};
use crate::picture::Converter;
use crate::progress::Progress;
use crate::stop::Stop;

/// Most slots of a stream: a bound on memory where there are many cores.
const MAX_SLOTS: usize = 32;

/// Longer ones count as this.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// What became of an instance.
pub(crate) struct Outcome<'a> {
    /// Counted from one.
    pub(crate) instance: usize,
    pub(crate) video: &'a Path,
    /// Pictures written.
    pub(crate) frames: u64,
    /// Packets and frames that could not be decoded.
    pub(crate) skipped: u64,
    /// From the start of the run to that of the instance.
    pub(crate) started: Duration,
    /// From there until its last picture was written.
    pub(crate) took: Duration,
    /// Microseconds from submissions until the collector had the frames.
    pub(crate) latency: Histogram<u64>,
    /// Names of devices, and how many frames each did.
    pub(crate) devices: Vec<(String, u64)>,
}

/// What all instances share.
struct Run<'a> {
    args: &'a Args,
    daemon: &'a Daemon,
    progress: &'a Progress,
    stop: &'a Stop,
    cores: usize,
    begun: Instant,
    /// Instances that are running.
    active: AtomicUsize,
}

/// Runs all instances, each in its folder. Those that a stop kept from starting have no outcome; why
/// it stopped is for [`Stop`] to say.
pub(crate) fn run_all<'a>(
    args: &'a Args,
    daemon: &'a Daemon,
    folders: Vec<Folder>,
    progress: &'a Progress,
    stop: &'a Stop,
) -> Vec<Outcome<'a>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (active, begun) = (AtomicUsize::new(0), Instant::now());
    let run = Run { args, daemon, progress, stop, cores, begun, active };
    let (finished, work) = unbounded();
    thread::scope(|scope| {
        for _ in 0..cores {
            let work = work.clone();
            scope.spawn(|| jpeg::write_all(work, args.quality, stop));
        }
        let mut handles = Vec::new();
        for (index, (folder, video)) in
            folders.into_iter().zip(args.videos.iter().cycle()).enumerate()
        {
            let start = u32::try_from(index).ok().and_then(|k| args.interval.checked_mul(k));
            match start.and_then(|start| begun.checked_add(start)) {
                Some(time) => stop.sleep_until(time),
                None => stop.fail(anyhow!("instance {} would never start", index + 1)),
            }
            if stop.is_set() {
                break;
            }
            handles.push(run.start(scope, index + 1, video, folder, finished.clone()));
        }
        drop(finished);
        handles.into_iter().filter_map(|handle| handle.join().ok().flatten()).collect()
    })
}

impl<'a> Run<'a> {
    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        instance: usize,
        video: &'a Path,
        folder: Folder,
        finished: Sender<Work>,
    ) -> ScopedJoinHandle<'scope, Option<Outcome<'a>>> {
        self.active.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move || {
            let outcome = self.instance(instance, video, folder, finished);
            self.active.fetch_sub(1, Ordering::Relaxed);
            outcome.map_err(|error| self.stop.fail(error.context(video.display().to_string()))).ok()
        })
    }
    fn instance(
        &self,
        instance: usize,
        video: &'a Path,
        folder: Folder,
        finished: Sender<Work>,
    ) -> Result<Outcome<'a>> {
        let started = self.begun.elapsed();
        let mut source = Video::open(video, self.decoder_threads())?;
        let client = self.daemon.connect()?;
        let track = self.progress.track(instance, source.total());
        let target = Arc::new(Target { folder, track });
        let (submitted, pendings) = unbounded();
        let (fed, collected) = thread::scope(|scope| {
            let collector = scope.spawn(|| collect(pendings, &target, finished));
            let fed = self.feed(&mut source, &client, submitted);
            (fed, collector.join().unwrap_or_else(|_| Err(anyhow!("the collector panicked"))))
        });
        fed?;
        let Tally { latency, devices } = collected?;
        let (frames, skipped) = (target.track.frames(), source.skipped());
        ensure!(frames > 0 || self.stop.is_set(), "not one frame of it can be decoded");
        let took = self.begun.elapsed() - started;
        let name = |device| client.devices().get(device).cloned().unwrap_or_default();
        let devices = devices.into_iter().enumerate().map(|(device, n)| (name(device), n));
        let devices = devices.filter(|&(_, frames)| frames > 0).collect();
        let outcome = Outcome { instance, video, frames, skipped, started, took, latency, devices };
        target.track.finish(&outcome, !self.stop.is_set());
        Ok(outcome)
    }

    /// The cores, shared out over the instances that run now or are just about to.
    fn decoder_threads(&self) -> usize {
        let concurrent = match self.args.interval {
            Duration::ZERO => self.args.instances.get(),
            _ => self.active.load(Ordering::Relaxed),
        };
        (self.cores / concurrent.max(1)).max(1)
    }

    /// Submits the frames of a video, until its end or the run's.
    fn feed(
        &self,
        source: &mut Video,
        client: &Client,
        submitted: Sender<(Pending, Instant)>,
    ) -> Result<()> {
        let mut converter = Converter::default();
        let mut open: Option<(StreamSpec, Stream)> = None;
        while !self.stop.is_set() {
            let Some(frame) = source.next() else { break };
            let picture = converter.picture(frame)?;
            let spec = self.stream_spec(picture.spec());
            // Frames may change in the middle of a video. The old stream closes by itself, when the
            // last of its frames is written.
            let stream = match open.take() {
                Some((current, stream)) if current == spec => stream,
                _ => client.open(&spec)?,
            };
            let mut slot = stream.loan()?;
            open = Some((spec, stream));
            picture.copy_to(&mut slot);
            let now = Instant::now();
            if submitted.send((slot.submit()?, now)).is_err() {
                break; // the collector failed, and says why
            }
        }
        Ok(())
    }

    /// JPEG files hold full range and centred chroma, whatever the video has.
    fn stream_spec(&self, source: FrameSpec) -> StreamSpec {
        let mut spec = StreamSpec::new(source, self.args.size.of(source.extent));
        spec.destination.range = Range::Full;
        spec.destination.siting = Siting::Centre;
        spec.filter = self.args.filter();
        // For each core one being resized and one being written, and two with the feeder.
        spec.slots = (2 * self.cores + 2).min(MAX_SLOTS) as u32;
        spec
    }
}

/// What a collector saw.
struct Tally {
    latency: Histogram<u64>,
    /// Frames by device.
    devices: Vec<u64>,
}

/// Passes resized frames on to the writers, and returns when the last is written.
fn collect(
    pendings: Receiver<(Pending, Instant)>,
    target: &Arc<Target>,
    finished: Sender<Work>,
) -> Result<Tally> {
    let mut latency = Histogram::new_with_bounds(1, MAX_LATENCY.as_micros() as u64, 3)?;
    let mut devices = Vec::new();
    let all_written = WaitGroup::new();
    for (number, (pending, submitted)) in (1..).zip(pendings) {
        let frame = pending.wait()?;
        latency.saturating_record(submitted.elapsed().as_micros() as u64);
        let device = usize::from(frame.receipt().device);
        if devices.len() <= device {
            devices.resize(device + 1, 0);
        }
        devices[device] += 1;
        let (target, written) = (Arc::clone(target), all_written.clone());
        if finished.send(Work { frame, number, target, written }).is_err() {
            break;
        }
    }
    all_written.wait();
    Ok(Tally { latency, devices })
}
