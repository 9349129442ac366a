//! Owns a video file and its decoder: gives its frames one after the other.
//!
//! What is broken inside the file is skipped and counted. Not being able to open a [`File`], or to
//! read on in the middle of a [`Video`], is an error; so is a [`Video`] of which too much in a row is
//! broken, or that was cut off, where the file says how many frames it had. Errors do not say which
//! video it is.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::codec::{context::Context as Codec, decoder};
use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::{Disposition, Stream};
use ffmpeg_next::util::frame;
use ffmpeg_next::{Dictionary, Error, Packet, ffi, log, media};
use resized_client::Extent;

use crate::container;
use crate::inplace::{self, Decoder};
use crate::picture::sample_aspect;
use crate::source;
use crate::stop::Stop;
use crate::turn::Turn;

/// Errors in a row after which no more of a file is read.
const MAX_ERRORS: u32 = 10_000;

/// Seconds that a stream may lack of the length that its file says.
const SHORT: f64 = 0.5;

/// Sets FFmpeg up, once for the process. It prints nothing by itself: what it has to say about a file
/// is counted or becomes an error.
pub(crate) fn init() -> Result<()> {
    ffmpeg_next::init().context("can't set FFmpeg up")?;
    log::set_level(log::Level::Quiet);
    Ok(())
}

/// A file with a video in it, and a decoder to be had for that.
pub(crate) struct File {
    input: Input,
    is_pipe: bool,
    stream: usize,
    extent: Extent,
    /// The aspect of its samples, if the file says so.
    contained: Option<f64>,
    /// The same as the coded video says.
    coded: Option<f64>,
    /// None if by another angle than a right one.
    turn: Option<Turn>,
    codec: &'static str,
    stop: Arc<Stop>,
}

impl File {
    /// Opens a file at its best video stream. An error may also mean that the run ends, as may one in
    /// reading the [`Video`].
    pub(crate) fn open(path: &Path, stop: &Arc<Stop>) -> Result<Self> {
        let (input, is_pipe) = source::open(path, stop).map_err(|error| explained(path, error))?;
        let best = input.streams().best(media::Type::Video);
        let mut best = best.context("there is no video in it")?;
        if is_cover(&best) {
            let mut videos = input.streams().filter(|stream| {
                stream.parameters().medium() == media::Type::Video && !is_cover(stream)
            });
            best = videos.next().context("there is no video in it, only a cover")?;
        }
        let (stream, turn) = (best.index(), turn(&best));
        let contained = sample_aspect(container::aspect_ratio(&best));
        let decoder = decoder(&input, stream, 1)?;
        let extent = Extent::new(decoder.width(), decoder.height());
        let coded = sample_aspect(decoder.aspect_ratio());
        let codec = decoder.id().name();
        let stop = Arc::clone(stop);
        Ok(Self { input, is_pipe, stream, extent, contained, coded, turn, codec, stop })
    }

    /// What makes its frames upright. None if it should be shown at a slant.
    pub(crate) fn turn(&self) -> Option<Turn> {
        self.turn
    }

    /// Width and height of the first frames, upright, as the file's head says; zero where it does not.
    pub(crate) fn extent(&self) -> Extent {
        self.turn.unwrap_or_default().extent(self.extent)
    }

    /// How many times wider than high the samples of the first frames are, upright.
    pub(crate) fn aspect(&self) -> f64 {
        self.turn.unwrap_or_default().aspect(self.contained.or(self.coded).unwrap_or(1.0))
    }

    /// FFmpeg's name of how it is coded.
    pub(crate) fn codec(&self) -> &'static str {
        self.codec
    }

    /// Begins to decode, with `threads` threads.
    pub(crate) fn decode(self, threads: usize) -> Result<Video> {
        let decoder = decoder(&self.input, self.stream, threads)?;
        let decoder = Decoder::new(decoder, self.stop);
        let promised = indexed_frames(&self.input, self.stream);
        let total = promised.or_else(|| estimated_frames(&self.input, self.stream));
        let length = tagged_length(&self.input, self.stream);
        Ok(Video {
            input: self.input,
            is_pipe: self.is_pipe,
            stream: self.stream,
            decoder,
            turn: self.turn.unwrap_or_default(),
            aspect: self.contained,
            drained: false,
            failure: None,
            errors: 0,
            skipped: 0,
            total,
            promised,
            whole: 0,
            cut: false,
            length,
            end: 0.0,
            frames: 0,
        })
    }
}

/// An error in opening a file, with what FFmpeg leaves unsaid where it makes nothing of it.
fn explained(path: &Path, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Error::InvalidData | Error::Eof) => {
            let is_empty = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
            match is_empty {
                true => anyhow!("it is empty"),
                false => anyhow!("{error}: it was cut off, or is no video (ffprobe says more)"),
            }
        }
        _ => error,
    }
}

fn decoder(input: &Input, stream: usize, threads: usize) -> Result<decoder::Video> {
    let stream = input.stream(stream).context("there is no video in it")?;
    let id = stream.parameters().id();
    let codec =
        decoder::find(id).with_context(|| format!("FFmpeg has no decoder for {}", id.name()))?;
    let mut context = Codec::from_parameters(stream.parameters())?.decoder();
    context.set_packet_time_base(stream.time_base());
    let mut options = Dictionary::new();
    context.set_threading(inplace::threads(threads));
    options.set("thread_type", "frame+slice"); // what a codec can do; the call above names only one
    Ok(context.open_as_with(codec, options)?.video()?)
}

/// Whether it is the picture that goes with a sound file.
fn is_cover(stream: &Stream<'_>) -> bool {
    stream.disposition().contains(Disposition::ATTACHED_PIC)
}

/// What makes the frames of a stream upright, if it can be had by turning and mirroring.
fn turn(stream: &Stream<'_>) -> Option<Turn> {
    let matrix = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
    matrix.map_or(Some(Turn::default()), |matrix| Turn::of_matrix(matrix.data()))
}

/// A video that is being decoded.
pub(crate) struct Video {
    input: Input,
    is_pipe: bool,
    stream: usize,
    decoder: Decoder,
    turn: Turn,
    aspect: Option<f64>,
    drained: bool,
    /// Why the file could not be read to its end.
    failure: Option<anyhow::Error>,
    /// In a row.
    errors: u32,
    skipped: u64,
    total: Option<u64>,
    /// As the file's index says; an estimate does not count.
    promised: Option<u64>,
    /// Packets that were read as a whole.
    whole: u64,
    /// Whether the file ended in the middle of a packet of any stream.
    cut: bool,
    /// The second at which it ends, as Matroska files say of each stream.
    length: Option<f64>,
    /// The second at which what was read of it ends.
    end: f64,
    /// Frames given.
    frames: u64,
}

impl Video {
    /// How many frames the file says it has, or an estimate from its length.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// What makes its frames upright.
    pub(crate) fn turn(&self) -> Turn {
        self.turn
    }

    /// How many times wider than high the samples of all its frames are, where the file says so; else each
    /// frame does.
    pub(crate) fn aspect(&self) -> Option<f64> {
        self.aspect
    }

    /// Packets and frames that could not be decoded so far.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Where frames are decoded to.
    pub(crate) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The next frame. An error in reading the file comes after the last frame from before it.
    pub(crate) fn next(&mut self) -> Result<Option<frame::Video>> {
        let mut frame = frame::Video::empty();
        // Once nothing more is read, what the decoder has may be as broken.
        while self.errors < 2 * MAX_ERRORS {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    self.errors = 0;
                    self.frames += 1;
                    return Ok(Some(frame));
                }
                Err(Error::Other { errno: EAGAIN }) if !self.drained => self.feed(),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => break,
                Err(_) => self.skip(),
            }
        }
        self.failure.take().or_else(|| self.missing()).map_or(Ok(None), Err)
    }

    /// What a file that was cut off lacks.
    fn missing(&self) -> Option<anyhow::Error> {
        if let Some(length) = self.length.filter(|length| self.end + SHORT < *length) {
            return Some(anyhow!("ends early: after {:.1} of {length:.1} seconds", self.end));
        }
        // Less than promised alone means nothing: what an edit list leaves out is in the index as well.
        let promised = self.promised.filter(|promised| self.cut && self.whole < *promised)?;
        Some(anyhow!("ends early: {} of {promised} frames", self.frames))
    }

    /// Gives the decoder a packet, or tells it that there are no more.
    fn feed(&mut self) {
        let sent = match self.packet() {
            Some(packet) => self.decoder.send_packet(&packet),
            None => {
                self.drained = true;
                self.decoder.send_eof()
            }
        };
        if sent.is_err() {
            self.skip();
        }
    }

    /// The next packet of the stream; none at the end of the file, or of what can be read of it.
    fn packet(&mut self) -> Option<Packet> {
        while self.failure.is_none() {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    self.cut |= packet.is_corrupt();
                    if packet.stream() == self.stream {
                        self.whole += u64::from(!packet.is_corrupt());
                        self.note_end(&packet);
                        return Some(packet);
                    }
                }
                Err(Error::Eof) => return None,
                // The demuxer finds the next packet by itself.
                Err(Error::InvalidData) => self.skip(),
                Err(error) => {
                    self.failure = Some(anyhow::Error::new(error).context("can't read on"));
                }
            }
        }
        None
    }

    fn note_end(&mut self, packet: &Packet) {
        let (pts, stream) = (packet.pts().or(packet.dts()), self.input.stream(self.stream));
        if let (Some(pts), Some(stream)) = (pts, stream) {
            let end = pts.saturating_add(packet.duration()) as f64 * f64::from(stream.time_base());
            self.end = self.end.max(end);
        }
    }

    fn skip(&mut self) {
        self.skipped += 1;
        self.errors += 1;
        if self.errors == MAX_ERRORS {
            self.failure = Some(match self.has_gone_by() {
                true => anyhow!(
                    "its index is behind its pictures, and a pipe is read once: name the file, or write it \
                     with -movflags +faststart"
                ),
                false => anyhow!("{MAX_ERRORS} errors in a row, so no more of it is read"),
            });
        }
    }

    /// Whether its packets had gone by when it was known where they are, as in most MP4 files.
    fn has_gone_by(&self) -> bool {
        self.is_pipe && self.whole == 0 && self.input.format().name().contains("mp4")
    }
}

/// How many frames a file's index has: where there is none, as in Matroska, nobody knows.
fn indexed_frames(input: &Input, stream: usize) -> Option<u64> {
    u64::try_from(input.stream(stream)?.frames()).ok().filter(|frames| *frames > 0)
}

/// The second at which the stream ends, where whoever wrote the file says so: as 00:02:19.400000000. In
/// other formats than Matroska that was copied from elsewhere, and so may be the length in Matroska's own
/// header, where that was written into a pipe.
fn tagged_length(input: &Input, stream: usize) -> Option<f64> {
    let stream = input.stream(stream).filter(|_| input.format().name().contains("matroska"))?;
    let tags = stream.metadata();
    let parts = tags.get("DURATION")?.split(':').map(|part| part.parse::<f64>().ok());
    parts
        .collect::<Option<Vec<_>>>()
        .map(|parts| parts.iter().fold(0.0, |sum, part| sum * 60.0 + part))
}

/// About how many there are, from the file's length.
fn estimated_frames(input: &Input, stream: usize) -> Option<u64> {
    let stream = input.stream(stream)?;
    let seconds = match (stream.duration(), input.duration()) {
        (duration @ 1.., _) => duration as f64 * f64::from(stream.time_base()),
        (_, duration @ 1..) => duration as f64 / f64::from(ffi::AV_TIME_BASE),
        _ => return None,
    };
    let rate = f64::from(stream.avg_frame_rate());
    let frames = (seconds * rate).round();
    (frames.is_finite() && frames >= 1.0).then_some(frames as u64)
}
