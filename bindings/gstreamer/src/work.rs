//! Owns what was negotiated: a stream of the daemon's, and a frame's way through a slot of it.
//!
//! Knows no element. Invariants: a frame is copied once, into its slot; the result is seen where it
//! lies, as a buffer whose memory is the slot's, or is copied once more. At least one slot is not lent
//! to buffers, so whoever keeps buffers gets copies, and never stops the stream.

use std::sync::Arc;
use std::time::Duration;

use gst::glib;
use gst_video::prelude::*;
use gst_video::{
    VideoBufferFlags, VideoFrameFlags, VideoFrameRef, VideoInfo, VideoInterlaceMode, VideoMeta,
};
use resized_client::{
    Client, Extent, Filter, Frame, FrameLayout, Plane, Rectangle, Slot, Stream, StreamSpec,
};
use thiserror::Error;

use crate::formats;
use crate::picture::{self, Ratio, Shape};

/// How often who waits for a daemon asks whether to go on.
const GLANCE: Duration = Duration::from_millis(100);

/// Why frames can't be resized.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("the daemon knows no {}", .0.to_str())]
    Format(gst_video::VideoFormat),
    #[error(transparent)]
    Client(#[from] resized_client::Error),
    /// Nobody wants them any longer.
    #[error("flushing")]
    Flushing,
}

/// Why a frame was not resized.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] resized_client::Error),
    #[error("a buffer is no frame of its caps: {0}")]
    Buffer(#[from] glib::BoolError),
    #[error("a buffer's rows of {0} bytes do not lie one behind the other")]
    Rows(usize),
    #[error("interlaced frames are not resized: have them deinterlaced before")]
    Interlaced,
    /// Nobody wants it any longer.
    #[error("flushing")]
    Flushing,
}

/// Frames of some caps that become frames of others.
pub(crate) struct Work {
    stream: Stream,
    from: VideoInfo,
    to: VideoInfo,
    /// Where the picture lies in frames of the output.
    picture: Rectangle,
    /// A black pixel of each plane.
    black: Vec<Vec<u8>>,
    /// There is one more for each slot that a buffer sees.
    lent: Share,
}

impl Work {
    /// `None`: nothing changes, so buffers go through as they are. Until `stop` says that nobody wants
    /// it.
    pub(crate) fn new(
        client: &Client,
        (from, to): (&VideoInfo, &VideoInfo),
        filter: Filter,
        borders: bool,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Self>, Refused> {
        let (seen, shown) = (shape(from), shape(to));
        let whole = Rectangle { left: 0, top: 0, extent: shown.extent };
        let picture = if borders { picture::fit(&seen, &shown) } else { whole };
        if picture == whole && seen.extent == shown.extent {
            return Ok(None);
        }
        let source = formats::frame_spec(from).ok_or(Refused::Format(from.format()))?;
        let mut destination = formats::frame_spec(to).ok_or(Refused::Format(to.format()))?;
        let black = formats::black(to, &destination);
        destination.extent = picture.extent;
        if from.colorimetry().matrix() == to.colorimetry().matrix() {
            // What is usual depends on the height, and counts where there is none that we know.
            destination.matrix = source.matrix;
        }
        let usual = StreamSpec::new(source, picture.extent);
        let spec = StreamSpec { destination, filter, ..usual };
        let mut opening = client.opening(&spec);
        let stream = loop {
            opening = match opening.wait_timeout(GLANCE)? {
                Ok(stream) => break stream,
                // Dropped, and so given up.
                Err(_) if stop() => return Err(Refused::Flushing),
                Err(opening) => opening,
            }
        };
        let (from, to) = (from.clone(), to.clone());
        Ok(Some(Self { stream, from, to, picture, black, lent: Arc::default() }))
    }

    /// Resizes a frame, until `stop` says that nobody wants it.
    pub(crate) fn resize(
        &self,
        buffer: &gst::BufferRef,
        stop: impl Fn() -> bool,
    ) -> Result<Frame, Failure> {
        // What its caps say is of some frames.
        if self.from.interlace_mode() == VideoInterlaceMode::Mixed
            && buffer.video_flags().contains(VideoBufferFlags::INTERLACED)
        {
            return Err(Failure::Interlaced);
        }
        let mut slot = loop {
            match self.stream.loan_timeout(GLANCE)? {
                Some(slot) => break slot,
                None if stop() => return Err(Failure::Flushing),
                None => {}
            }
        };
        fill(&mut slot, &VideoFrameRef::from_buffer_ref_readable(buffer, &self.from)?)?;
        let mut pending = slot.submit()?;
        loop {
            pending = match pending.wait_timeout(GLANCE)? {
                Ok(frame) => return Ok(frame),
                // Dropped, and so cancelled.
                Err(_) if stop() => return Err(Failure::Flushing),
                Err(pending) => pending,
            }
        }
    }

    /// Whether the next result may be seen where it lies: by who reads where its rows are, or if they
    /// are where all expect them, and if there are slots to go on with.
    pub(crate) fn share(&self, reads_meta: bool, layout: &FrameLayout) -> Option<Share> {
        let whole = self.picture.extent == shape(&self.to).extent;
        let seen = whole && (reads_meta || self.is_usual(layout));
        // Taken, and then counted: of several threads none takes one too many.
        let share = Arc::clone(&self.lent);
        (seen && Arc::strong_count(&share) <= StreamSpec::SLOTS as usize).then_some(share)
    }

    /// A buffer whose memory is the result's.
    pub(crate) fn lend(&self, frame: Frame, share: Share) -> Result<gst::Buffer, Failure> {
        let usual = self.is_usual(frame.layout());
        let planes = frame.layout().planes();
        let offsets: Vec<_> = planes.iter().map(|plane| plane.offset).collect();
        // Rows of 16384 pixels at the most.
        let strides: Vec<_> = planes.iter().map(|plane| plane.stride as i32).collect();
        let len = if usual { self.to.size() } else { frame.layout().rows_len() };
        let mut buffer = gst::Buffer::from_mut_slice(Lent { frame, len, _share: share });
        VideoMeta::add_full(
            buffer.make_mut(),
            VideoFrameFlags::empty(),
            self.to.format(),
            self.to.width(),
            self.to.height(),
            &offsets,
            &strides,
        )?;
        Ok(buffer)
    }

    /// Copies a result into a buffer, and blackens what is around it.
    pub(crate) fn copy(&self, frame: &Frame, buffer: &mut gst::BufferRef) -> Result<(), Failure> {
        let mut target = VideoFrameRef::from_buffer_ref_writable(buffer, &self.to)?;
        for (index, plane) in frame.layout().planes().iter().enumerate() {
            let black = &self.black[index];
            // Of these formats' planes each is one component's, or begins with it.
            let row_bytes = self.to.comp_width(index as u8) as usize * black.len();
            let stride = stride(target.plane_stride(), index, row_bytes)?;
            let height = self.to.comp_height(index as u8) as usize;
            let (info, at) = (self.to.format_info(), &self.picture);
            let left = (at.left >> info.w_sub()[index]) as usize * black.len();
            let top = (at.top >> info.h_sub()[index]) as usize;
            let inner = left..left + plane.row_bytes();
            let mut rows = frame.plane(index).chunks_exact(plane.stride);
            let targets = target.plane_data_mut(index as u32)?.chunks_mut(stride);
            for (number, target) in targets.take(height).enumerate() {
                let target = &mut target[..row_bytes];
                match if number < top { None } else { rows.next() } {
                    Some(row) => {
                        target[inner.clone()].copy_from_slice(&row[..plane.row_bytes()]);
                        blacken(&mut target[..inner.start], black);
                        blacken(&mut target[inner.end..], black);
                    }
                    None => blacken(target, black),
                }
            }
        }
        Ok(())
    }

    /// What the same rectangle of the source becomes: left, top, width, height.
    pub(crate) fn place(
        &self,
        (x, y, width, height): (u32, u32, u32, u32),
    ) -> (u32, u32, u32, u32) {
        let Rectangle { left, top, extent } = self.picture;
        let scaled = |length: u32, to: u32, from: u32| {
            u32::try_from(u64::from(length) * u64::from(to) / u64::from(from)).unwrap_or(u32::MAX)
        };
        let across = |length| scaled(length, extent.width, self.from.width());
        let down = |length| scaled(length, extent.height, self.from.height());
        (left.saturating_add(across(x)), top.saturating_add(down(y)), across(width), down(height))
    }

    /// The point of the source that became that one; the nearest of it where that is on a border.
    pub(crate) fn point_back(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let Rectangle { left, top, extent } = self.picture;
        let back = |at: f64, start: u32, side: u32, from: u32| {
            let from = f64::from(from);
            ((at - f64::from(start)) * from / f64::from(side)).clamp(0.0, from)
        };
        (
            back(x, left, extent.width, self.from.width()),
            back(y, top, extent.height, self.from.height()),
        )
    }

    /// Whether the planes lie where those who know nothing but caps expect them.
    fn is_usual(&self, layout: &FrameLayout) -> bool {
        let places = self.to.offset().iter().zip(self.to.stride());
        let same = |(plane, (&offset, &stride)): (&Plane, (&usize, &i32))| {
            plane.offset == offset && usize::try_from(stride) == Ok(plane.stride)
        };
        self.to.size() <= layout.rows_len() && layout.planes().iter().zip(places).all(same)
    }
}

/// Copies a buffer's frame into a slot.
fn fill(slot: &mut Slot, frame: &VideoFrameRef<&gst::BufferRef>) -> Result<(), Failure> {
    for index in 0..slot.layout().planes().len() {
        let plane = slot.layout().planes()[index];
        // First: where rows lie backwards there is no such slice as the plane's.
        let stride = stride(frame.plane_stride(), index, plane.row_bytes())?;
        let rows = frame.plane_data(index as u32)?.chunks(stride);
        let targets = slot.plane_mut(index).chunks_exact_mut(plane.stride);
        for (target, row) in targets.zip(rows) {
            target[..plane.row_bytes()].copy_from_slice(&row[..plane.row_bytes()]);
        }
    }
    Ok(())
}

/// Bytes from one row of a plane to the next: as many as a row has, or more. Who made a buffer may
/// say anything.
fn stride(strides: &[i32], index: usize, row_bytes: usize) -> Result<usize, Failure> {
    let stride = strides.get(index).and_then(|&stride| usize::try_from(stride).ok());
    stride.filter(|&stride| stride >= row_bytes).ok_or(Failure::Rows(row_bytes))
}

fn blacken(bytes: &mut [u8], pixel: &[u8]) {
    bytes.chunks_exact_mut(pixel.len()).for_each(|target| target.copy_from_slice(pixel));
}

fn shape(info: &VideoInfo) -> Shape {
    Shape { extent: Extent::new(info.width(), info.height()), pixel: Ratio::of(info.par()) }
}

/// A result that a buffer sees.
struct Lent {
    frame: Frame,
    /// Bytes of it that are the buffer's.
    len: usize,
    _share: Share,
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.frame.output_mut()[..self.len]
    }
}

/// One of the slots that may be lent at the same time.
pub(crate) type Share = Arc<()>;

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoFormat;

    #[test]
    fn who_waits_in_vain_stops_when_nobody_wants_the_frame() {
        gst::init().unwrap();
        let server = resized::Server::embedded().unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let info = |side| VideoInfo::builder(VideoFormat::Gray8, side, side).build().unwrap();
        let caps = (&info(64), &info(32));
        let work = Work::new(&client, caps, Filter::Area, true, || false).unwrap().unwrap();
        let buffer = gst::Buffer::with_size(64 * 64).unwrap();
        let taken: Vec<_> = (0..StreamSpec::SLOTS).map(|_| work.stream.loan().unwrap()).collect();
        assert!(matches!(work.resize(&buffer, || true), Err(Failure::Flushing)));
        drop(taken);
        let frame = work.resize(&buffer, || false).unwrap();
        let shares: Vec<_> = (0..9).filter_map(|_| work.share(true, frame.layout())).collect();
        assert_eq!(shares.len(), 3);
    }
}
