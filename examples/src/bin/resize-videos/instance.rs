//! Owns the instances: when each starts, and a frame's way through one of them.
//!
//! An instance is two threads. The feeder decodes into loaned slots and submits them; the collector
//! waits for them in the order of submission and hands them to the writers, whom all instances share.
//! The slots of the stream bound everything between the two: there is no other queue to fill.
//!
//! Invariants: what is wrong with one video ends its instance and no other; what others would meet
//! as well ([`is_of_all`]) stops all. Few instances have a decoder before they have a stream: where
//! there is room for few, many take no more memory.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use crossbeam_utils::sync::WaitGroup;
use ffmpeg_next::util::frame;
use resizectl::terminal::one_line;
use resized_client::{Client, Crop, Extent, FrameSpec, Pending, PixelFormat, Stream, StreamSpec};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::decode::{File, Video};
use crate::devices::Devices;
use crate::folder::Folder;
use crate::inplace::{Decoder, Need};
use crate::jpeg::{self, Target, Work};
use crate::notes::Times;
use crate::outcome::{End, Outcome, is_of_all};
use crate::picture::{Converter, Picture};
use crate::progress::{Progress, Track};
use crate::room::{Inside, Room};
use crate::shape::{Shape, Sheet};
use crate::stop::{STEP, Stop};
use crate::turn::Turn;

/// Most slots of a stream: a bound on memory where there are many cores.
const MAX_SLOTS: usize = 32;

/// Most threads of a decoder: FFmpeg advises against more, and each holds a frame.
const MAX_THREADS: usize = 16;

/// Threads of a decoder that keep enough cores busy once the others are done.
const ALONE_THREADS: usize = 4;

/// Most instances that have started and have no stream yet.
const MAX_ENTERING: usize = 16;

/// What all instances share.
struct Run<'a> {
    args: &'a Args,
    shape: Shape,
    daemon: &'a Daemon,
    progress: &'a Progress,
    stop: &'a Arc<Stop>,
    cores: usize,
    begun: Instant,
    /// Instances in all.
    instances: usize,
    room: Room<'a>,
}

/// An instance that has not started.
struct Plan<'a> {
    /// Counted from one.
    instance: usize,
    video: &'a Path,
    /// The video, if it is open and nobody else has read from it.
    file: Option<File>,
    folder: Folder,
}

/// One of those that have started and have no stream yet: until it has, or is over.
struct Entering(Receiver<()>);

impl Drop for Entering {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

/// Runs the instances whose folders these are; `files` are the videos, as far as they are open already.
/// Those that a stop kept from starting have no outcome; why it stopped is for [`Stop`] to say.
pub(crate) fn run_all<'a>(
    args: &'a Args,
    shape: Shape,
    daemon: &'a Daemon,
    mut files: Vec<Option<File>>,
    folders: Vec<Folder>,
    progress: &'a Progress,
    stop: &'a Arc<Stop>,
) -> Vec<Outcome<'a>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (room, begun, instances) = (Room::new(stop), Instant::now(), folders.len());
    let run = Run { args, shape, daemon, progress, stop, cores, begun, instances, room };
    let (enter, entering) = bounded(MAX_ENTERING);
    let plans = folders.into_iter().map(|folder| {
        let (instance, videos) = (folder.instance(), args.videos.len());
        let dealt = (instance - 1) % videos;
        let (video, file) = (args.videos[dealt].as_path(), files[dealt].take());
        Plan { instance, video, file, folder }
    });
    let (finished, work) = unbounded();
    thread::scope(|scope| {
        for _ in 0..cores {
            let work = work.clone();
            if let Err(error) = spawn(scope, "write", || jpeg::write_all(work, args.quality, stop))
            {
                stop.fail(error);
            }
        }
        let mut handles = Vec::new();
        for (before, plan) in plans.enumerate() {
            run.wait_for_turn(before, plan.instance);
            while !stop.is_set() && enter.send_timeout((), STEP).is_err() {}
            if stop.is_set() {
                break;
            }
            let (run, finished) = (&run, finished.clone());
            let (inside, entering) = (run.room.enter(), Entering(entering.clone()));
            let instance = move || run.instance(plan, entering, finished, inside);
            match spawn(scope, "feed", instance) {
                Ok(handle) => handles.push(handle),
                Err(error) => stop.fail(error),
            }
        }
        drop(finished);
        let outcome = |handle: ScopedJoinHandle<'_, _>| {
            let outcome = handle.join().unwrap_or_else(|_| Err(anyhow!("an instance panicked")));
            outcome.map_err(|error| stop.fail(error)).ok()
        };
        handles.into_iter().filter_map(outcome).collect()
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn_scoped(scope, body).context("can't start a thread")
}

impl<'a> Run<'a> {
    /// Sleeps until the time of an instance has come, `before` which so many start.
    fn wait_for_turn(&self, before: usize, instance: usize) {
        let before = u32::try_from(before).ok();
        let start = before.and_then(|before| self.args.interval.checked_mul(before));
        match start.and_then(|start| self.begun.checked_add(start)) {
            Some(time) => self.stop.sleep_until(time),
            None => self.stop.fail(anyhow!("instance {instance} would never start")),
        }
    }

    /// Runs an instance to its end, whatever that is.
    fn instance(
        &self,
        plan: Plan<'a>,
        entering: Entering,
        finished: Sender<Work>,
        inside: Inside<'_>,
    ) -> Result<Outcome<'a>> {
        let (start, video) = (Instant::now(), plan.video);
        let mut outcome = Outcome::new(plan.instance, video, End::Stopped, start - self.begun)?;
        let ended = self.resize(plan, entering, start, finished, &mut outcome);
        drop(inside);
        match ended {
            Ok(true) => outcome.end = End::Complete,
            Ok(false) => {}
            Err(error) => {
                let (of_all, why) = (is_of_all(&error), one_line(&error));
                let error = error.context(video.display().to_string());
                if of_all {
                    self.stop.fail(error);
                } else {
                    self.progress.complain(&one_line(&error));
                    outcome.end = End::Failed(why);
                }
            }
        }
        Ok(outcome)
    }

    /// Resizes a video, and notes what came of it, also if it fails. Whether all was done that was asked
    /// for; else the run has ended before.
    fn resize(
        &self,
        plan: Plan<'a>,
        entering: Entering,
        start: Instant,
        finished: Sender<Work>,
        outcome: &mut Outcome<'a>,
    ) -> Result<bool> {
        let Plan { instance, video, file, folder } = plan;
        let file = file.map_or_else(|| File::open(video, self.stop), Ok);
        if file.is_err() && self.stop.is_set() {
            return Ok(false);
        }
        let mut source = file?.decode(self.decoder_threads())?;
        let client = self.room.wait_for(|| 0, || self.daemon.connect_again(self.stop))?;
        let Some(client) = client.flatten() else { return Ok(false) };
        let track = self.progress.track(
            instance,
            &client,
            source.total().map(|frames| self.args.pictures(frames)),
        );
        let target =
            Arc::new(Target::new(folder, track, start, source.turn(), self.shape.sheet())?);
        let (submitted, pendings) = unbounded();
        let (received, mut devices) = (&mut outcome.received, Devices::default());
        let ended = thread::scope(|scope| {
            let collect =
                || collect(pendings, &client, self.stop, &target, finished, received, &mut devices);
            let collector = spawn(scope, "collect", collect)?;
            let fed = self.feed(&mut source, &client, &target.track, submitted, entering);
            let collected = collector.join().map_err(|_| anyhow!("the collector panicked"))?;
            fed.and_then(|complete| collected.map(|all| complete && all))
        });
        outcome.took = start.elapsed();
        (outcome.frames, outcome.skipped) = (target.track.frames(), source.skipped());
        (outcome.written, outcome.pace) = target.notes();
        outcome.devices = devices.by_name();
        outcome.received = outcome.received.shrunk()?;
        outcome.written = outcome.written.shrunk()?;
        let complete = ended? && !self.stop.has_failed();
        let any = outcome.frames > 0 || self.stop.is_set();
        ensure!(any, "not one frame of it can be decoded");
        target.track.finish(outcome, complete);
        Ok(complete)
    }

    /// Threads of a decoder beside those of the instances that run now or are just about to.
    fn decoder_threads(&self) -> usize {
        let at_once = self.args.interval.is_zero();
        let concurrent = if at_once { self.instances } else { self.room.running() };
        let ends_alone = !at_once || self.args.videos.len() > 1;
        decoder_threads(self.cores, concurrent.max(1), ends_alone)
    }

    /// Submits the frames of a video that are asked for, until the last of these, its end or the run's.
    /// True unless the run ended it.
    fn feed(
        &self,
        source: &mut Video,
        client: &Client,
        track: &Track,
        submitted: Sender<Submitted>,
        entering: Entering,
    ) -> Result<bool> {
        let mut entering = Some(entering);
        let mut converter = Converter::new(source.aspect());
        let mut open: Option<(StreamSpec, Stream)> = None;
        let (mut decoded_frames, mut pictures) = (0_u64, 0);
        while !self.stop.is_set() {
            let frame = match source.next() {
                Ok(Some(frame)) => frame,
                // Nothing is read any more, which is neither the video's end nor its fault.
                Ok(None) | Err(_) if self.stop.is_set() => break,
                Ok(None) => return Ok(true),
                Err(error) => return Err(error),
            };
            let is_left_out = !decoded_frames.is_multiple_of(self.args.every);
            decoded_frames += 1;
            if is_left_out {
                continue;
            }
            let decoded = Instant::now();
            let picture = converter.picture(&frame)?;
            let spec = self.stream_spec(&picture, source.turn());
            // Frames may change in the middle of a video. The old stream closes by itself, when the
            // last of its frames is written; before there may be no room for another.
            let current = open.take().filter(|(current, _)| *current == spec);
            let (stream, direct) = match current {
                Some((_, stream)) => (stream, source.decoder().take(&frame)),
                None => {
                    let decoder = source.decoder();
                    let open = || open_stream(client, &spec, decoder, self.stop);
                    let stream = self.room.wait_for(|| track.frames(), open)?;
                    let Some(stream) = stream.flatten() else { break };
                    drop(entering.take());
                    (stream, None)
                }
            };
            let slot = match direct {
                Some(slot) => slot,
                None => {
                    let Some(mut slot) = self.stop.loan(&stream)? else { break };
                    picture.copy_to(&mut slot);
                    slot
                }
            };
            open = Some((spec, stream));
            let time = Instant::now();
            let pending = slot.submit()?;
            if submitted.send(Submitted { pending, decoded, time, source: frame }).is_err() {
                break; // the collector failed, and says why
            }
            pictures += 1;
            if self.args.frames == Some(pictures) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stream_spec(&self, picture: &Picture<'_>, turn: Turn) -> StreamSpec {
        let source = picture.spec();
        let (upright, aspect) = (turn.extent(source.extent), turn.aspect(picture.aspect()));
        let size = turn.extent(self.shape.resized(upright, aspect));
        let mut spec = StreamSpec::new(source, size);
        spec.destination = FrameSpec { extent: size, ..picture.destination() };
        if self.shape.sheet().is_some_and(Sheet::is_coloured) {
            spec.destination.format = PixelFormat::I420; // what gray has room for is not this
        }
        spec.crop = self.shape.crop(upright, aspect).map(|crop| turn.centred(crop));
        spec.filter = self.args.filter;
        // For each core one being resized and one being written, and two with the feeder.
        spec.slots = (2 * self.cores + 2).min(MAX_SLOTS) as u32;
        spec
    }
}

/// Threads of each of so many decoders at once: the cores shared out, and one more where a decoder
/// has several. They hand frames out in order, so one of them is often done and waits for the feeder
/// to fetch its frame and bring the next packet. A decoder can't have more later: where it may end
/// alone it has several from the first, but not among so many that their ends lie close together.
fn decoder_threads(cores: usize, concurrent: usize, ends_alone: bool) -> usize {
    let more = usize::from(concurrent < cores);
    let least = if ends_alone && concurrent <= cores { cores.min(ALONE_THREADS) } else { 1 };
    (cores.div_ceil(concurrent) + more).clamp(least, MAX_THREADS)
}

/// Opens a stream for pictures of a spec, and lets the decoder write into its slots if it can. None if
/// the run ends before.
fn open_stream(
    client: &Client,
    spec: &StreamSpec,
    decoder: &Decoder,
    stop: &Stop,
) -> Result<Option<Stream>> {
    let Extent { width, height } = spec.source.extent;
    let fits = |need: &Need| {
        need.format == spec.source.format
            && need.extent.width >= width
            && need.extent.height >= height
    };
    decoder.lend_nothing();
    let Some(need) = decoder.need().filter(fits) else { return Ok(stop.open(client, spec)?) };
    let mut padded = *spec;
    padded.source.extent = need.extent;
    padded.crop = Some(spec.crop.unwrap_or(Crop::whole(spec.source.extent)));
    padded.slots += need.frames as u32;
    match stop.open(client, &padded) {
        // Too large, that is, or too much memory.
        Err(resized_client::Error::Refused(_)) => Ok(stop.open(client, spec)?),
        opened => {
            let opened = opened?;
            opened.iter().for_each(|stream| decoder.lend(stream, need, padded.slots));
            Ok(opened)
        }
    }
}

/// What a feeder hands to its collector.
struct Submitted {
    pending: Pending,
    /// When the decoder gave it.
    decoded: Instant,
    /// When it was submitted.
    time: Instant,
    /// Kept until the daemon has read it: see [`Decoder::take`].
    source: frame::Video,
}

/// Passes resized frames on to the writers, and returns when the last is written. Notes how long
/// each was away, and how many each device did. True unless some did not come.
fn collect(
    pendings: Receiver<Submitted>,
    client: &Client,
    stop: &Stop,
    target: &Arc<Target>,
    finished: Sender<Work>,
    received: &mut Times,
    devices: &mut Devices,
) -> Result<bool> {
    let all_written = WaitGroup::new();
    let collect = || {
        for (number, Submitted { pending, decoded, time, source }) in (1..).zip(pendings) {
            let Some(frame) = stop.receive(pending)? else { return Ok(false) };
            drop(source);
            received.note(time.elapsed());
            devices.note(client.devices(), frame.receipt().device);
            let (target, written) = (Arc::clone(target), all_written.clone());
            if finished.send(Work { frame, number, decoded, target, written }).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let collected = collect();
    // Also what was done before one failed.
    all_written.wait();
    collected
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use resized::Server;

    use super::*;

    #[test]
    fn decoders_keep_all_cores_busy_with_a_bound() {
        let threads = |cores: usize, instances: [usize; 4]| {
            instances.map(|concurrent| decoder_threads(cores, concurrent, false))
        };
        assert_eq!(threads(1, [1, 2, 4, 10_000]), [1, 1, 1, 1]);
        assert_eq!(threads(2, [1, 2, 4, 10_000]), [3, 1, 1, 1]);
        assert_eq!(threads(4, [1, 2, 3, 4]), [5, 3, 3, 1]);
        assert_eq!(threads(16, [1, 2, 9, 16]), [16, 9, 3, 1]);
        assert_eq!(threads(64, [1, 5, 63, 64]), [16, 14, 3, 1]);
    }

    #[test]
    fn decoders_that_end_alone_have_threads_for_that() {
        let threads = |cores: usize, instances: [usize; 4]| {
            instances.map(|concurrent| decoder_threads(cores, concurrent, true))
        };
        assert_eq!(threads(1, [1, 2, 4, 10_000]), [1, 1, 1, 1]);
        assert_eq!(threads(2, [1, 2, 3, 10_000]), [3, 2, 1, 1]);
        assert_eq!(threads(4, [1, 2, 4, 5]), [5, 4, 4, 1]);
        assert_eq!(threads(16, [1, 9, 16, 17]), [16, 4, 4, 1]);
    }

    #[test]
    fn frames_are_decoded_into_slots_and_are_what_they_are_elsewhere() {
        crate::decode::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clip = dir.path().join("clip.mkv");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=322x242"]);
        ffmpeg.args(["-frames:v", "100", "-c:v", "libx264", "-bf", "3", "-refs", "8"]).arg(&clip);
        assert!(ffmpeg.status().expect("the ffmpeg tool is needed to make clips").success());
        let stop = Arc::new(Stop::on_signals().unwrap());
        let video = |threads| File::open(&clip, &stop).unwrap().decode(threads).unwrap();
        let (mut lent, mut elsewhere) = (video(4), video(1));

        let server = Server::embedded().unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let mut converter = Converter::new(None);
        let mut stream = None;
        let mut taken = Vec::new();
        while let Some(expected) = elsewhere.next().unwrap() {
            let frame = lent.next().unwrap().unwrap();
            if stream.is_none() {
                let source = converter.picture(&frame).unwrap().spec();
                let mut spec = StreamSpec::new(source, Extent::new(64, 48));
                spec.slots = 2;
                stream = open_stream(&client, &spec, lent.decoder(), &stop).unwrap();
            }
            // The slot is free for others as soon as the decoder has no use for it.
            taken.push(lent.decoder().take(&frame).is_some());
            for plane in 0..3 {
                let (width, rows) = match plane {
                    0 => (322, 242),
                    _ => (161, 121),
                };
                let row = |frame: &frame::Video, row: usize| {
                    frame.data(plane)[row * frame.stride(plane)..][..width].to_vec()
                };
                assert!((0..rows).all(|at| row(&frame, at) == row(&expected, at)), "{taken:?}");
            }
        }
        // Not those that were begun before there was a stream.
        assert_eq!(taken.len(), 100);
        assert!(taken[30..].iter().filter(|taken| **taken).count() > 60, "{taken:?}");
    }
}
