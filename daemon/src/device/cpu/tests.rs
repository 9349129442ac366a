//! What kernels may touch: frames lie between pages that can't be touched, so a load or a store
//! outside ends the test. Slots lie in one mapping, where nobody would notice. And which cores
//! lanes are bound to, and what is kept of memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZero;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter};
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Tensor};

use super::*;
use crate::levels::if_there;
pub(super) use crate::specs::spec;

/// Whole pages with one before and one behind them that can't be touched.
struct Fenced {
    all: NonNull<c_void>,
    len: usize,
}

impl Fenced {
    const PAGE: usize = 1 << 16;

    fn new(len: usize) -> Self {
        let len = len.next_multiple_of(Self::PAGE);
        let all = NonZero::new(len + 2 * Self::PAGE).unwrap();
        // SAFETY: new memory, of nobody else.
        let all = unsafe { mmap_anonymous(None, all, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) };
        let fenced = Self { all: all.unwrap(), len };
        // SAFETY: a part of it.
        unsafe {
            let within = fenced.all.byte_add(Self::PAGE);
            mprotect(within, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).unwrap();
        }
        fenced
    }

    /// Where `len` bytes begin that are the first ones, or the last ones.
    fn place(&self, len: usize, first: bool) -> *mut u8 {
        let skip = if first { 0 } else { self.len - len };
        // SAFETY: within the memory.
        unsafe { self.all.byte_add(Self::PAGE + skip).as_ptr().cast() }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a part of it any more.
        unsafe { munmap(self.all, self.len + 2 * Self::PAGE).unwrap() };
    }
}

/// What is tried with a kernel of any level.
pub(super) trait Tried {
    fn with<K: Kernel>(&self, kernel: K);
}

/// A lane at every level that this CPU has.
pub(super) fn every_level() -> impl Iterator<Item = Cpu> {
    Level::ALL.iter().filter_map(|&level| if_there(level.name(), Cpu::with_level(1, level)))
}

/// Tries it at every level that this CPU has.
pub(super) fn at_every_level(tried: &impl Tried) {
    for cpu in every_level() {
        match cpu.kernel {
            AnyKernel::Scalar(kernel) => tried.with(kernel),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx2(kernel) => tried.with(kernel),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx512(kernel) => tried.with(kernel),
            #[cfg(target_arch = "aarch64")]
            AnyKernel::Neon(kernel) => tried.with(kernel),
        }
    }
}

/// Frames that lie in fenced memory, first and last there.
struct InFences<'a> {
    spec: &'a StreamSpec,
    memory: &'a (Fenced, Fenced),
}

impl Tried for InFences<'_> {
    fn with<K: Kernel>(&self, kernel: K) {
        let (spec, (input, output)) = (self.spec, self.memory);
        let ring = RingLayout::new(spec).unwrap();
        for first in [false, true] {
            let frames = Frames {
                input: input.place(ring.input().len(), first),
                // What is behind the last row is never written.
                output: output.place(ring.output().rows_len(), first),
            };
            resize(&kernel, spec, &ring, frames, &mut Scratch::default());
        }
    }
}

fn resize<K: Kernel>(
    kernel: &K,
    spec: &StreamSpec,
    ring: &RingLayout,
    frames: Frames,
    scratch: &mut Scratch,
) {
    let placement = spec.placement().unwrap();
    for work in plan::works(kernel, spec, &placement, ring) {
        for band in Band::cut(2) {
            // SAFETY: frames of those layouts.
            unsafe { band::work(kernel, &work, frames, band, scratch) };
        }
    }
}

#[test]
fn nothing_beyond_a_frame_is_touched() {
    let memory = (Fenced::new(1 << 20), Fenced::new(1 << 21));
    let tensor = |element, arrangement| {
        PixelFormat::Tensor(Tensor { element, arrangement, order: ChannelOrder::Rgb })
    };
    let sources = || PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT);
    let destinations = [
        PixelFormat::Bgr24,
        PixelFormat::P010,
        tensor(Element::F32, Arrangement::Planar),
        tensor(Element::I8, Arrangement::Interleaved),
    ];
    let widths = [1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 85, 86, 127, 129, 255, 300];
    let mut n = 0;
    for (from, to) in widths.into_iter().flat_map(|from| widths.map(|to| (from, to))) {
        for format in sources() {
            n += 1;
            // Shrinking and enlarging, and beyond what goes horizontally first.
            let (rows, height) = [(5, 3), (2, 7), (90, 1)][n % 3];
            let source = FrameSpec::new(format, Extent::new(from, rows));
            let mut spec = StreamSpec::new(source, Extent::new(to, height));
            spec.filter = Filter::ALL[n % Filter::ALL.len()];
            if n.is_multiple_of(2) {
                spec.destination.format = destinations[n / 2 % destinations.len()];
            }
            if n % 5 < 2 {
                let width = f64::from(from) * 0.6;
                let left = if n % 5 == 0 { 0.0 } else { f64::from(from) - width };
                spec.crop = Some(Crop { left, top: 0.0, width, height: f64::from(rows) });
            }
            if n.is_multiple_of(7) {
                spec.framing = Framing::Fit { align: Align::End, pad: [0; 3] };
            }
            spec.alpha = if n.is_multiple_of(11) { Alpha::Weighs } else { Alpha::Apart };
            at_every_level(&InFences { spec: &spec, memory: &memory });
        }
    }
}

/// Nor beyond those whose rows are worked on in pieces, in either order of the passes and where a
/// direction does not change.
#[test]
fn nothing_beyond_a_frame_of_long_rows_is_touched() {
    let memory = (Fenced::new(1 << 20), Fenced::new(1 << 20));
    for format in PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT) {
        for (from, to) in [
            ((513, 40), (513, 11)),
            ((1100, 60), (70, 4)),
            ((1100, 9), (700, 5)),
            ((1100, 40), (1100, 40)),
        ] {
            let spec = spec(format, Filter::Bicubic, from, to);
            at_every_level(&InFences { spec: &spec, memory: &memory });
        }
    }
}

/// A narrow crop of a wide frame. What a row of it takes is told by how much of the working memory it
/// writes, beside what is as long as the picture.
struct NarrowCrop(StreamSpec);

impl Tried for NarrowCrop {
    fn with<K: Kernel>(&self, kernel: K) {
        const WORDS: usize = 1 << 20;
        // No two near ones alike: to move them is to change them.
        let before = |i: usize| (i as i16).wrapping_mul(0x2b5d);
        let spec = &self.0;
        let ring = RingLayout::new(spec).unwrap();
        let (input, mut output) = (vec![200; ring.input().len()], vec![0; ring.output().len()]);
        let frames = Frames { input: input.as_ptr(), output: output.as_mut_ptr() };
        let mut scratch = Scratch::default();
        scratch.words(WORDS).iter_mut().enumerate().for_each(|(i, word)| *word = before(i));
        resize(&kernel, spec, &ring, frames, &mut scratch);
        let words = scratch.words(WORDS).iter().enumerate();
        let written = words.filter(|&(i, &word)| word != before(i)).count();
        assert!((1..4000).contains(&written), "{written} words: {spec:?}");
    }
}

#[test]
fn a_narrow_crop_costs_no_whole_rows() {
    let (from, crop) = ((16_384, 8), Crop { left: 9000.0, top: 0.0, width: 34.0, height: 8.0 });
    for (format, alpha, to) in [
        (PixelFormat::Rgba, Alpha::Apart, (1, 8)),
        (PixelFormat::Rgb24, Alpha::Apart, (2, 3)),
        (PixelFormat::Rgba, Alpha::Weighs, (10, 8)),
        (PixelFormat::P010, Alpha::Apart, (10, 8)),
        (PixelFormat::P010, Alpha::Apart, (1, 3)),
    ] {
        let spec = spec(format, Filter::Bicubic, from, to);
        at_every_level(&NarrowCrop(StreamSpec { crop: Some(crop), alpha, ..spec }));
    }
}

#[test]
fn lanes_are_bound_where_there_is_one_for_each_of_a_few_cores() {
    let given: Vec<_> = Cores::given().unwrap().numbers().collect();
    let bound = |lanes| Cpu::with_level(lanes, Level::Scalar).unwrap().cores;
    assert_eq!(bound(given.len()), if given.len() <= FEW_CORES { given.clone() } else { vec![] });
    for lanes in [given.len() - 1, given.len() + 1] {
        assert!(bound(lanes).is_empty());
    }
}

/// The system's allocator, which counts what each thread has of it.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Not for a thread that ends.
fn count(bytes: i64) {
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: all of it is the system's allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count(len as i64 - layout.size() as i64);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that what is made keeps.
pub(crate) fn kept<T>(make: impl FnOnce() -> T) -> u64 {
    let before = HELD.get();
    let made = make();
    let kept = HELD.get() - before;
    drop(made);
    kept as u64
}

#[test]
fn a_level_is_known_by_its_name_and_what_is_none_is_named_with_those_there_are() {
    for &level in Level::ALL {
        assert_eq!(level.name().parse(), Ok(level));
    }
    for name in ["", "avx", "AVX2", "scalar "] {
        let error = name.parse::<Level>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{name}' is none of: scalar")), "{error}");
    }
}
