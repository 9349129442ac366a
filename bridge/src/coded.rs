//! Owns what a stream of JPEGs is to the daemon: a stream of planes, of frames that are reduced as
//! they are decoded where it shrinks them a lot.
//!
//! Knows neither sockets nor how a JPEG is read. Invariants: what is refused of crops is what the
//! daemon would refuse of the frames as they were; what a stream takes is counted until
//! the last of its frames is gone, also of those that wait for their turn when it is closed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use resized_jpeg::{is_decoded_whole, most_saved_bytes};
use resized_protocol::coding::{Coding, CodingError};
use resized_protocol::frame::Extent;
use resized_protocol::message::{Filter, Refusal, Status, StreamSpec};
use resized_protocol::placement::{Crop, Placement};
use resized_protocol::shm::{Lease, RingLayout};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::watch;

use crate::account::Charge;
use crate::jpeg::{Codec, Unreadable};
use crate::lanes::Turn;

/// How many times as large as its destination a reduced frame is at the least: reducing leaves out
/// frequencies as a box would, so the rest is left to the stream's filter.
const REST: f64 = 1.5;

/// Of a JPEG, what is followed before its turn: who has more before the first scan than profiles and
/// notes take may be padding it, to keep whoever looks busy.
const HEAD: usize = 1 << 20;

/// A stream of JPEGs, in at least one direction.
#[derive(Debug)]
pub(crate) struct Coded {
    /// What the client asked for.
    spec: StreamSpec,
    /// The client's ring.
    outer: RingLayout,
    /// What the daemon is asked for.
    local: StreamSpec,
    /// The daemon's ring.
    inner: RingLayout,
    reduction: u32,
    /// Nobody wants its frames any more.
    over: watch::Sender<bool>,
    /// Nor this slot's.
    cancelled: Vec<AtomicBool>,
    /// What it takes, when it is granted.
    charge: Option<Charge>,
}

/// The streams of JPEGs of one connection.
#[derive(Debug, Default)]
pub(crate) struct CodedStreams {
    open: BTreeMap<u32, Arc<Coded>>,
    /// Those that are closed, while frames of theirs are on the way.
    over: Vec<Weak<Coded>>,
}

impl CodedStreams {
    pub(crate) fn add(&mut self, stream: u32, mut coded: Coded, charge: Charge) {
        coded.charge = Some(charge);
        self.open.insert(stream, Arc::new(coded));
    }

    pub(crate) fn get(&self, stream: u32) -> Option<Arc<Coded>> {
        self.open.get(&stream).map(Arc::clone)
    }

    /// The stream is closed: of its frames none is decoded or encoded any more.
    pub(crate) fn end(&mut self, stream: u32) {
        if let Some(coded) = self.open.remove(&stream) {
            coded.over.send_replace(true);
            self.over.push(Arc::downgrade(&coded));
        }
    }

    /// How many closed streams have frames on the way still.
    pub(crate) fn over(&mut self) -> usize {
        self.over.retain(|coded| coded.strong_count() > 0);
        self.over.len()
    }
}

impl Coded {
    /// None if the stream is one of planes. No JPEG of more than `limit` pixels is read or written.
    pub(crate) fn new(spec: &StreamSpec, limit: u64) -> Result<Option<Self>, Refusal> {
        if spec.coding.is_raw() {
            return Ok(None);
        }
        spec.coding.check(&spec.source, &spec.destination)?;
        let (read, written) = (spec.coding.jpeg_in, spec.coding.jpeg_out.is_some());
        for (coded, frame) in [(read, &spec.source), (written, &spec.destination)] {
            let pixels = frame.extent.pixels();
            if coded && pixels > limit {
                return Err(CodingError::Large { pixels, limit }.into());
            }
        }
        let outer = RingLayout::new(spec)?;
        let placement = spec.placement()?;
        let reduction = if read { reduction(&placement, spec.filter) } else { 1 };
        let mut local = StreamSpec { coding: Coding::RAW, ..*spec };
        let whole = spec.source.extent;
        local.source.extent =
            Extent::new(whole.width.div_ceil(reduction), whole.height.div_ceil(reduction));
        let even = whole.width.is_multiple_of(reduction) && whole.height.is_multiple_of(reduction);
        if !(even && spec.crop.is_none()) {
            local.crop = Some(reduced(spec.crop.unwrap_or(Crop::whole(whole)), reduction));
        }
        let inner = RingLayout::new(&local)?;
        let over = watch::Sender::new(false);
        let cancelled = (0..spec.slots).map(|_| AtomicBool::new(false)).collect();
        Ok(Some(Self {
            spec: *spec,
            outer,
            local,
            inner,
            reduction,
            over,
            cancelled,
            charge: None,
        }))
    }

    /// What the daemon is asked for.
    pub(crate) const fn local(&self) -> &StreamSpec {
        &self.local
    }

    /// The ring that the client makes.
    pub(crate) const fn ring(&self) -> &RingLayout {
        &self.outer
    }

    /// The daemon's.
    pub(crate) const fn inner_ring(&self) -> &RingLayout {
        &self.inner
    }

    pub(crate) const fn jpeg_in(&self) -> bool {
        self.spec.coding.jpeg_in
    }

    pub(crate) const fn jpeg_out(&self) -> bool {
        self.spec.coding.jpeg_out.is_some()
    }

    /// Bytes of the daemon's ring, and of the coded frames of all its slots.
    pub(crate) fn bytes(&self) -> u64 {
        let coded = |coded: bool, len: usize| if coded { len as u64 } else { 0 };
        let slot = coded(self.jpeg_in(), self.outer.input().rows_len())
            + coded(self.jpeg_out(), self.outer.output().rows_len());
        self.inner.len().get() as u64 + slot * u64::from(self.spec.slots)
    }

    /// Most that a decoder takes: planes of another subsampling, all coefficients of a JPEG that is
    /// not decoded line by line, as progressive ones are not, and what it saves of the JPEG.
    pub(crate) fn decoder_bytes(&self, jpeg: &[u8]) -> u64 {
        let head = &jpeg[..jpeg.len().min(HEAD)];
        let coefficients = if is_decoded_whole(head) { 3 * 2 } else { 0 };
        self.spec.source.extent.pixels() * (coefficients + 3) + most_saved_bytes(jpeg.len())
    }

    /// Most that an encoder takes: the longest JPEG, and luma whose sides are made even.
    pub(crate) const fn encoder_bytes(&self) -> u64 {
        self.outer.output().longest_coded() as u64 + self.spec.destination.extent.pixels()
    }

    /// Longest JPEG that may come.
    pub(crate) const fn longest_in(&self) -> usize {
        self.outer.input().longest_coded()
    }

    /// Whether frames of the stream have such a crop.
    pub(crate) fn can_crop(&self, crop: Crop) -> bool {
        StreamSpec { crop: Some(crop), ..self.spec }.placement().is_ok()
    }

    /// A crop of a frame as it is in the daemon's ring.
    pub(crate) fn crop(&self, crop: Crop) -> Crop {
        reduced(crop, self.reduction)
    }

    /// The result of a work on one of its frames; `None` if the stream was closed before the work
    /// began, which frees what it held.
    pub(crate) async fn wanted<T, D>(&self, mut turn: Turn<T, D>) -> Result<Option<D>, RecvError> {
        let mut over = self.over.subscribe();
        tokio::select! {
            done = &mut turn => return done.map(Some),
            _ = over.wait_for(|&over| over) => {}
        }
        // One that has begun is counted until it is done.
        if turn.take_back() { Ok(None) } else { turn.await.map(Some) }
    }

    /// A frame comes into that slot.
    pub(crate) fn begin(&self, slot: u32) {
        self.cancelled[slot as usize].store(false, Ordering::Relaxed);
    }

    /// Its frame is not wanted any more. There may be no such slot.
    pub(crate) fn cancel(&self, slot: u32) {
        if let Some(cancelled) = self.cancelled.get(slot as usize) {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// How the frame of a slot ends, after it has waited so long, if it is not worth beginning.
    pub(crate) fn given_up(&self, slot: u32, waited: Duration) -> Option<Status> {
        let cancelled = &self.cancelled[slot as usize];
        if *self.over.borrow() || cancelled.load(Ordering::Relaxed) {
            return Some(Status::Cancelled);
        }
        self.spec.deadline.is_some_and(|deadline| waited > deadline).then_some(Status::Late)
    }

    pub(crate) fn decode(
        &self,
        codec: &mut Codec,
        jpeg: &[u8],
        lease: &mut Lease,
    ) -> Result<(), Unreadable> {
        let (source, layout) = (&self.spec.source, self.inner.input());
        codec.decode(
            jpeg,
            source.extent,
            self.reduction,
            source.format,
            layout,
            &mut lease.input_mut()[..layout.rows_len()],
        )
    }

    /// The coded frame; none if there is none so short, or nobody wants it.
    pub(crate) fn encode(&self, codec: &mut Codec, lease: &Lease) -> Option<Vec<u8>> {
        if *self.over.borrow() {
            return None;
        }
        let (layout, longest) = (self.inner.output(), self.outer.output().longest_coded());
        let coded = codec.encode(
            lease.output(),
            self.spec.destination.format,
            layout,
            self.spec.coding.jpeg_out?,
            longest,
        );
        coded.inspect_err(|error| tracing::debug!(%error, "no JPEG was made")).ok()
    }
}

/// One in how many pixels of a frame are decoded in each direction. What is seen of them is to be
/// shrunk still; where nothing is averaged, pixels that are none of the frame's own would be seen.
fn reduction(placement: &Placement, filter: Filter) -> u32 {
    if filter == Filter::Nearest {
        return 1;
    }
    let (crop, extent) = (placement.source, placement.destination.extent);
    let ratio = (crop.width / f64::from(extent.width)).min(crop.height / f64::from(extent.height));
    [8, 4, 2].into_iter().find(|&by| ratio / f64::from(by) >= REST).unwrap_or(1)
}

/// A part of a frame in pixels of the reduced one. Not smaller than a crop may be.
fn reduced(crop: Crop, reduction: u32) -> Crop {
    let by = f64::from(reduction);
    let side = |start: f64, len: f64| match len / by {
        len if len >= Crop::LEAST => (start / by, len),
        _ => (((start + len) / by - Crop::LEAST).max(0.0), Crop::LEAST),
    };
    let ((left, width), (top, height)) = (side(crop.left, crop.width), side(crop.top, crop.height));
    Crop { left, top, width, height }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use resized_protocol::frame::{FrameSpec, PixelFormat};

    use tokio::time::timeout;
    use turbojpeg::{Compressor, Image};

    use super::*;
    use crate::account::{Account, Memory, Takes};
    use crate::lanes::Lanes;

    fn coded(from: (u32, u32), to: (u32, u32), change: impl FnOnce(&mut StreamSpec)) -> Coded {
        let source = FrameSpec::jpeg(PixelFormat::I420, Extent::new(from.0, from.1));
        let mut spec = StreamSpec::new(source, Extent::new(to.0, to.1));
        spec.coding.jpeg_in = true;
        change(&mut spec);
        Coded::new(&spec, u64::MAX).unwrap().unwrap()
    }

    #[test]
    fn frames_are_reduced_by_what_is_seen_of_them() {
        for (to, reduction) in
            [((640, 360), 2), ((641, 361), 1), ((320, 180), 4), ((160, 90), 8), ((1, 1), 8)]
        {
            assert_eq!(coded((1920, 1080), to, |_| {}).reduction, reduction, "{to:?}");
        }
        let crop = Crop { left: 10.0, top: 20.0, width: 960.0, height: 540.0 };
        let part = coded((1920, 1080), (320, 180), |spec| spec.crop = Some(crop));
        assert_eq!(part.reduction, 2);
        let half = Crop { left: 5.0, top: 10.0, width: 480.0, height: 270.0 };
        assert_eq!(part.local().crop, Some(half));
        let nearest = coded((1920, 1080), (64, 36), |spec| spec.filter = Filter::Nearest);
        assert_eq!((nearest.reduction, nearest.local().crop), (1, None));
    }

    #[test]
    fn what_makes_reduced_sides_whole_is_not_seen() {
        let even = coded((1920, 1080), (64, 36), |_| {});
        assert_eq!(even.local().source.extent, Extent::new(240, 135));
        assert_eq!(even.local().crop, None);
        let odd = coded((1921, 1080), (64, 36), |_| {});
        assert_eq!(odd.local().source.extent, Extent::new(241, 135));
        let seen = Crop { left: 0.0, top: 0.0, width: 240.125, height: 135.0 };
        assert_eq!(odd.local().crop, Some(seen));
    }

    #[tokio::test]
    async fn what_waits_is_gone_as_soon_as_its_stream_is_closed() {
        let mut streams = CodedStreams::default();
        let account = Account::new(0, Arc::new(Memory::new(0)));
        let charge = account.charge(Takes::default()).unwrap();
        streams.add(3, coded((64, 64), (8, 8), |_| {}), charge);
        let stream = streams.get(3).unwrap();
        let lanes = Lanes::<Codec>::start("lane", 1).unwrap();
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let first = lanes.run(0, move |_| begin.send(()).is_ok() && released.recv().is_ok());
        begun.recv().unwrap();
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let waits = lanes.run(0, move |_| unreachable!("{holds:?}"));
        streams.end(3);
        // While the only lane is at work.
        assert_eq!(stream.wanted(waits).await, Ok(None));
        assert_eq!(Arc::strong_count(&held), 1);
        release.send(()).unwrap();
        assert_eq!(stream.wanted(first).await, Ok(Some(true)));
    }

    /// It is the stream whose frames are large.
    fn jpeg(progressive: bool) -> Vec<u8> {
        let format = turbojpeg::PixelFormat::RGB;
        let image = Image { pixels: &[7; 3 * 64][..], width: 8, pitch: 24, height: 8, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    #[tokio::test]
    async fn as_many_4k_jpegs_as_there_are_lanes_are_decoded_at_once() {
        let stream = coded((3840, 2160), (640, 360), |_| {});
        let lanes = Lanes::<Codec>::start("lane", 2).unwrap();
        let both = Arc::new(Barrier::new(2));
        let turns = [(); 2].map(|()| {
            let both = Arc::clone(&both);
            lanes.run(stream.decoder_bytes(&jpeg(false)), move |_| both.wait().is_leader())
        });
        for turn in turns {
            timeout(Duration::from_secs(60), turn).await.expect("the other's turn").unwrap();
        }
        // One that is not decoded line by line has all of its coefficients in memory.
        assert_eq!(lanes.share(stream.decoder_bytes(&jpeg(true))), 2);
        let jpeg = jpeg(false);
        let padded = |len| [&jpeg[..2], &vec![0xff; len], &jpeg[2..]].concat();
        assert_eq!(lanes.share(stream.decoder_bytes(&padded(HEAD / 2))), 1);
        assert_eq!(lanes.share(stream.decoder_bytes(&padded(HEAD))), 2);
    }

    #[test]
    fn what_the_decoder_saves_of_a_jpeg_is_counted_wherever_it_lies() {
        let stream = coded((3840, 2160), (640, 360), |_| {});
        let plain = jpeg(false);
        let segment = [&[0xff, 0xe2, 0xff, 0xff][..], &[0; 0xfffd]].concat();
        let (picture, end) = plain.split_at(plain.len() - 2);
        let parts = [&plain[..2], &segment.repeat(2), &picture[2..], &segment.repeat(20), end];
        let more = stream.decoder_bytes(&parts.concat()) - stream.decoder_bytes(&plain);
        let saved = 22 * segment.len() as u64;
        assert!((4 * saved..=4 * saved + saved / 100).contains(&more), "{more}");
    }

    #[test]
    fn frames_are_given_up_as_the_daemon_gives_them_up() {
        let slots = 2;
        let patient = coded((64, 64), (8, 8), |spec| spec.slots = slots);
        let deadline = Duration::from_millis(40);
        let live = coded((64, 64), (8, 8), |spec| {
            (spec.slots, spec.deadline) = (slots, Some(deadline));
        });
        let late = deadline + Duration::from_nanos(1);
        assert_eq!(patient.given_up(1, Duration::MAX), None);
        assert_eq!(
            [deadline, late].map(|waited| live.given_up(1, waited)),
            [None, Some(Status::Late)]
        );
        live.cancel(1);
        live.cancel(slots);
        assert_eq!(live.given_up(1, late), Some(Status::Cancelled));
        assert_eq!(live.given_up(0, deadline), None);
        live.begin(1);
        assert_eq!(live.given_up(1, deadline), None);
    }

    #[test]
    fn crops_that_are_none_of_the_frame_are_refused() {
        let part = coded((1920, 1080), (64, 36), |_| {});
        let whole = Crop::whole(Extent::new(1920, 1080));
        assert_eq!(part.reduction, 8);
        for out in [
            Crop { left: f64::NAN, ..whole },
            Crop { width: f64::NAN, ..whole },
            Crop { height: -1.0, ..whole },
            Crop { width: 0.0, ..whole },
            Crop { left: 1900.0, width: 20.5, ..whole },
            Crop { top: -0.5, height: 20.0, ..whole },
        ] {
            assert!(!part.can_crop(out), "{out:?}");
            let refused = Coded::new(&StreamSpec { crop: Some(out), ..part.spec }, u64::MAX);
            assert!(matches!(refused, Err(Refusal::Crop { .. })), "{out:?}");
        }
        assert!(part.can_crop(whole));
    }

    #[test]
    fn reduced_crops_are_large_enough_and_within_the_frame() {
        for left in [0.0, 0.001, 1919.9] {
            let crop = Crop { left, top: left, width: Crop::LEAST, height: 0.02 };
            let Crop { left, top, width, height } = reduced(crop, 8);
            assert!(width >= Crop::LEAST && height >= Crop::LEAST);
            assert!(left >= 0.0 && top >= 0.0 && left + width <= 240.0 && top + height <= 240.0);
        }
    }
}
