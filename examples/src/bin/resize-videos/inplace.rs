//! Owns the memory that a decoder writes its frames into: slots of the stream that resizes them, so
//! that no frame is copied. What does not fit a slot, or finds none, FFmpeg allocates itself.
//!
//! Knows nothing of what becomes of a frame; [`instance`](crate::instance) tells which stream it
//! is, and takes the slots of the frames that come out.
//!
//! Invariants: a slot is lent to a decoder together with a [`Hold`] that goes when FFmpeg drops its
//! last reference, so a frame that others are predicted from is never overwritten; no slice of a
//! slot is made while the decoder may write it; one slot at least is not held, so that who waits
//! for one gets it.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg_next::codec::{decoder, threading};
use ffmpeg_next::util::frame;
use ffmpeg_next::{Error, Packet, ffi};
use resized_client::{Extent, FrameLayout, Hold, PixelFormat, Slot, Stream};

use crate::picture::known;
use crate::stop::Stop;

/// Slots that no decoder gets: frames that are copied need one.
const SPARE: usize = 1;

/// Most frames that a decoder is taken to need at once. H.264 keeps 16 at the most.
const MAX_NEED: usize = 16;

/// A decoder, and where it writes.
pub(crate) struct Decoder {
    /// First, so that it is gone before what it points to.
    decoder: decoder::Video,
    lender: Arc<Lender>,
}

/// What frames should lie in for the decoder to write into slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Planar, luma and halved chroma.
    pub(crate) format: PixelFormat,
    /// The picture is in the upper left corner of this.
    pub(crate) extent: Extent,
    /// Frames that the decoder holds at once.
    pub(crate) frames: usize,
}

impl Decoder {
    /// Lets a decoder ask for its memory here. None of its frames may have been decoded.
    pub(crate) fn new(mut decoder: decoder::Video, stop: Arc<Stop>) -> Self {
        let lender = Arc::new(Lender { stop, state: Mutex::default() });
        // SAFETY: the context is open and used by nobody else. `opaque` stays valid for as long as
        // it can be called with: `lender` lives on the heap and outlives the decoder, which nobody
        // can take out of `self`. It is shared with the decoder's threads, so `Lender` is `Sync`.
        unsafe {
            let context = decoder.as_mut_ptr();
            (*context).opaque = Arc::as_ptr(&lender).cast_mut().cast();
            (*context).get_buffer2 = Some(get_buffer);
        }
        Self { decoder, lender }
    }

    pub(crate) fn send_packet(&mut self, packet: &Packet) -> Result<(), Error> {
        self.decoder.send_packet(packet)
    }

    pub(crate) fn send_eof(&mut self) -> Result<(), Error> {
        self.decoder.send_eof()
    }

    pub(crate) fn receive_frame(&mut self, frame: &mut frame::Video) -> Result<(), Error> {
        self.decoder.receive_frame(frame)
    }

    /// What the frames that were begun last would need, if they can be decoded into slots.
    pub(crate) fn need(&self) -> Option<Need> {
        self.lender.state().need
    }

    /// Decodes into slots of this stream, made for this [need](Self::need), from now on.
    pub(crate) fn lend(&self, stream: &Stream, need: Need, slots: u32) {
        let limit = (slots as usize).saturating_sub(SPARE);
        self.lender.switch(Some(Ring { stream: stream.clone(), need, limit }));
    }

    /// Decodes into memory of FFmpeg's from now on. Frames that lie in slots already are not
    /// [taken](Self::take) any more: what comes next is for another stream.
    pub(crate) fn lend_nothing(&self) {
        self.lender.switch(None);
    }

    /// The slot that a frame lies in as a whole, once. The frame must be kept until the slot's is
    /// resized: a decoder may write again into what it alone holds.
    pub(crate) fn take(&self, frame: &frame::Video) -> Option<Slot> {
        // SAFETY: a frame points to an AVFrame of its own. Rows may go upwards, so not by slices.
        let (data, strides) = unsafe { ((*frame.as_ptr()).data, (*frame.as_ptr()).linesize) };
        let address = data[0].addr();
        let slot = {
            let mut state = self.lender.state();
            let index = state.lent.iter().position(|lent| lent.address == address)?;
            state.lent.swap_remove(index).slot
        };
        let lies = slot.layout().planes().iter().enumerate().all(|(index, plane)| {
            data[index].addr() == address + plane.offset
                && usize::try_from(strides[index]) == Ok(plane.stride)
        });
        lies.then_some(slot)
    }
}

/// How FFmpeg should use threads: its older versions want to be told that [`get_buffer`] may be called
/// from all of them.
pub(crate) fn threads(count: usize) -> threading::Config {
    /// Stands in for `Config::safe` where newer versions need none.
    #[allow(dead_code)]
    trait Safe {
        fn safe(value: bool) -> threading::Config;
    }
    impl Safe for threading::Config {
        fn safe(_: bool) -> threading::Config {
            Self::default()
        }
    }
    #[allow(clippy::needless_update)]
    threading::Config { kind: threading::Type::Frame, count, ..threading::Config::safe(true) }
}

/// What a decoder and its owner share.
struct Lender {
    stop: Arc<Stop>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    need: Option<Need>,
    ring: Option<Arc<Ring>>,
    /// Slots of that ring whose frames have not come out.
    lent: Vec<Lent>,
    /// Slots that FFmpeg has references to.
    held: usize,
}

struct Ring {
    stream: Stream,
    need: Need,
    /// Most slots to be held.
    limit: usize,
}

struct Lent {
    /// Where the slot's memory begins.
    address: usize,
    slot: Slot,
}

/// The input frame of a slot that is held.
struct Memory {
    start: *mut u8,
    layout: FrameLayout,
    held: Held,
}

/// A reference of FFmpeg's to a slot, or several.
struct Held {
    lender: Arc<Lender>,
    address: usize,
    _hold: Hold,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.lender.state();
        state.held -= 1;
        // Still there if the frame never came out. Dropped when the state is no longer locked.
        let index = state.lent.iter().position(|lent| lent.address == self.address);
        let _unused = index.map(|index| state.lent.swap_remove(index));
        drop(state);
    }
}

impl Lender {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a frame that needs this, held: waits until one is free. None if there is no such
    /// stream, the decoder holds too many already, or the run ends.
    fn borrow(self: &Arc<Self>, need: Need) -> Option<Memory> {
        let ring = {
            let mut state = self.state();
            state.need = Some(need);
            let ring = Arc::clone(state.ring.as_ref()?);
            let fits = (ring.need.format, ring.need.extent) == (need.format, need.extent);
            if !fits || state.held >= ring.limit {
                return None;
            }
            state.held += 1;
            ring
        };
        let loan = || {
            let mut slot = self.stop.loan(&ring.stream).ok().flatten()?;
            let hold = slot.hold().ok()?;
            Some((slot, hold))
        };
        // If the connection is gone, the feeder finds out with its next frame.
        let Some((mut slot, hold)) = loan() else {
            self.state().held -= 1;
            return None;
        };
        let start = slot.input_mut().as_mut_ptr();
        let layout = slot.layout().clone();
        let address = start.addr();
        let mut state = self.state();
        // Else the frame is for another stream by now, and will be copied.
        if state.ring.as_ref().is_some_and(|current| Arc::ptr_eq(current, &ring)) {
            state.lent.push(Lent { address, slot });
        }
        drop(state);
        let held = Held { lender: Arc::clone(self), address, _hold: hold };
        Some(Memory { start, layout, held })
    }

    fn switch(&self, ring: Option<Ring>) {
        let mut state = self.state();
        let _before = (state.ring.take(), std::mem::take(&mut state.lent));
        state.ring = ring.map(Arc::new);
        drop(state); // before what was lent, which needs the connection's
    }
}

/// FFmpeg's `get_buffer2`: gives a frame memory to be decoded into.
unsafe extern "C" fn get_buffer(
    context: *mut ffi::AVCodecContext,
    frame: *mut ffi::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: FFmpeg calls this with an open context, `Decoder::new`'s or a thread's copy of it, and a
    // frame that it gives to nobody else meanwhile.
    unsafe {
        let done = need(context, frame).is_some_and(|need| give_slot(context, frame, need));
        if done { 0 } else { ffi::avcodec_default_get_buffer2(context, frame, flags) }
    }
}

/// What a frame needs to be decoded into a slot; none if it can't be.
///
/// # Safety
///
/// As for `get_buffer`.
unsafe fn need(context: *mut ffi::AVCodecContext, frame: *const ffi::AVFrame) -> Option<Need> {
    // SAFETY: as the caller promises; an open context has a codec, and FFmpeg writes as many alignments
    // as it has data pointers.
    let (width, height, pixel, aligns, frames) = unsafe {
        if (*(*context).codec).capabilities as u32 & ffi::AV_CODEC_CAP_DR1 == 0 {
            return None;
        }
        let (mut width, mut height) = ((*frame).width, (*frame).height);
        let mut aligns = [0; ffi::AV_NUM_DATA_POINTERS as usize];
        ffi::avcodec_align_dimensions2(context, &mut width, &mut height, aligns.as_mut_ptr());
        let frames = [(*context).refs, (*context).has_b_frames, (*context).thread_count];
        // The frame has a number, the context the name.
        let pixel = (*context).pix_fmt;
        if (*frame).format != pixel as c_int {
            return None;
        }
        (width, height, pixel, aligns, frames)
    };
    let format = known(pixel.into())
        .filter(|format| matches!(format, PixelFormat::I420 | PixelFormat::I420P10))?;
    // Rows of slots lie on multiples of 64.
    if aligns[..3].iter().any(|&align| align <= 0 || 64 % align != 0) {
        return None;
    }
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    // From one row to the next in FFmpeg's own memory, so that rows of chroma are aligned too. Some
    // decoders lose a frame where slots differ from it.
    let align = aligns[..3].iter().max().and_then(|&align| u32::try_from(align).ok())?;
    let bytes = format.sample_bytes() as u32;
    let width = width.checked_next_multiple_of((2 * align / bytes).max(2))?;
    if !(width * bytes).is_multiple_of(128) {
        return None;
    }
    let extent = Extent::new(width, height);
    let frames: usize = frames.iter().map(|&frames| usize::try_from(frames).unwrap_or(0)).sum();
    Some(Need { format, extent, frames: frames.min(MAX_NEED) })
}

/// Makes a frame lie in a slot, if there is one for it.
///
/// # Safety
///
/// As for `get_buffer`.
unsafe fn give_slot(
    context: *mut ffi::AVCodecContext,
    frame: *mut ffi::AVFrame,
    need: Need,
) -> bool {
    // SAFETY: `opaque` is what `Decoder::new` set, of which one count at least lives as long as the
    // decoder does.
    let lender = unsafe {
        let lender = (*context).opaque.cast_const().cast::<Lender>();
        Arc::increment_strong_count(lender);
        Arc::from_raw(lender)
    };
    let Some(Memory { start, layout, held }) = lender.borrow(need) else { return false };
    let opaque = Box::into_raw(Box::new(held)).cast::<c_void>();
    // SAFETY: the slot's memory is as long as its layout says, and is mapped, loaned to nobody else
    // and not looked at by us until `give_back` drops the hold, or the frame has come out and is
    // not written any more. It begins on a page and its planes on multiples of 64.
    unsafe {
        let buffer = ffi::av_buffer_create(start, layout.len(), Some(give_back), opaque, 0);
        if buffer.is_null() {
            give_back(opaque, start);
            return false;
        }
        (*frame).buf[0] = buffer;
        for (index, plane) in layout.planes().iter().enumerate() {
            (*frame).data[index] = start.add(plane.offset);
            (*frame).linesize[index] = plane.stride as c_int;
        }
        (*frame).extended_data = (&raw mut (*frame).data).cast();
    }
    true
}

/// Called by FFmpeg, on any thread, when it has dropped its last reference to a slot.
unsafe extern "C" fn give_back(opaque: *mut c_void, _: *mut u8) {
    // SAFETY: it was made of a box by `give_slot`, and FFmpeg gives it back once.
    drop(unsafe { Box::from_raw(opaque.cast::<Held>()) });
}
