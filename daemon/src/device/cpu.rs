//! Owns the device made of this machine's cores: which instructions it uses, and the walk of a band
//! through the two passes.
//!
//! Knows planes, rows and taps; of the slot's memory only addresses, since a client may write it
//! meanwhile: no reference to it is formed. Invariant: every address a kernel is given comes from a
//! layout that was computed here from the stream's spec, and the slot's own must be equal to it.
//!
//! The passes, and so the result of every level, bit by bit (`scalar` is the oracle). `order` decides
//! which comes first. Horizontal first:
//!
//! 1. horizontal, for each source row: `word = (sum(weight x sample) + bias + 2^6) >> 7`. With weights
//!    of 13 fraction bits a word has 6; the bias also moves the middle of 0..=255 to zero. Gain and bias
//!    of a change of range are in this pass;
//! 2. vertical: each product is rounded to the sum's `f` fraction bits, 5 to 7 of them,
//!    `sum((weight x word + 2^14) >> 15)`; then `sample = ((sum + 2^(f - 1)) >> f) + 128`, saturated to
//!    8 bits. Words of the same weight are added before they are weighed. No word and no sum can leave
//!    16 bits: `order` sees to it.
//!
//! Vertical first:
//!
//! 1. vertical, for each sample of a row: `word = (sum(weight x sample) + 2^7) >> 8`, saturated to 16
//!    bits. With weights of 14 fraction bits a word has 6, and a sign;
//! 2. horizontal: `sample = (sum(weight x word) + bias + 2^19) >> 20`, saturated to 8 bits. Gain and
//!    bias of a change of range are in this pass's weights and constant.
//!
//! No window's positive weights reach 2 (see [`Taps`]), so words do not saturate
//! in fact, and sums are far from overflowing 32 bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod gather;
mod interleave;
mod kernel;
mod order;
mod plan;
mod rolling;
mod scalar;

use std::ops::Range;

use resized_protocol::message::StreamSpec;
use resized_protocol::shm::{RingLayout, SlotMemory};

use self::kernel::{Kernel, ROWS};
use self::plan::{AcrossDown, ChannelPlan, Passes, PlanePlan};
use super::{Band, Device, DeviceError, Resizer, Scratch};
use crate::filter::Taps;

const NAME: &str = "cpu";

/// Environment variable that caps the level: `scalar`, `avx2` or `avx512`. Anything else caps nothing.
pub const LEVEL_VARIABLE: &str = "RESIZED_CPU";

/// Source and destination pixels that a band should have: some 20 us of work, where waking a lane for
/// it takes about 4.
const PIXELS_PER_BAND: u64 = 1 << 17;

/// Source and destination pixels below which no lane is worth waking at all.
const PIXELS_AT_ONCE: u64 = 1 << 13;

/// Which instructions the kernels use. All levels give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, for any machine: the oracle of the others.
    Scalar,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors, with BW, VL, VBMI, VBMI2 and VNNI.
    Avx512,
}

/// All cores of this machine.
#[derive(Debug)]
pub struct Cpu {
    lanes: usize,
    kernel: AnyKernel,
}

/// The kernel of a level; that there is one proves that this CPU can run it.
#[derive(Clone, Copy, Debug)]
enum AnyKernel {
    Scalar(scalar::Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl AnyKernel {
    fn new(level: Level) -> Option<Self> {
        match level {
            Level::Scalar => Some(Self::Scalar(scalar::Scalar)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::Avx2::new().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::Avx512::new().map(Self::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => None,
        }
    }
}

impl Cpu {
    /// A device of `lanes` lanes at the best level that this CPU has and [`LEVEL_VARIABLE`] allows.
    pub fn new(lanes: usize) -> Self {
        let allowed = match std::env::var(LEVEL_VARIABLE).as_deref() {
            Ok("scalar") => Level::Scalar,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        let levels = [Level::Avx512, Level::Avx2].into_iter().filter(|&level| level <= allowed);
        let kernel = levels.filter_map(AnyKernel::new).next();
        Self { lanes, kernel: kernel.unwrap_or(AnyKernel::Scalar(scalar::Scalar)) }
    }

    /// A device at that level, or `None` where this CPU lacks it.
    pub fn with_level(lanes: usize, level: Level) -> Option<Self> {
        AnyKernel::new(level).map(|kernel| Self { lanes, kernel })
    }

    /// The level at which it works.
    pub const fn level(&self) -> Level {
        match self.kernel {
            AnyKernel::Scalar(_) => Level::Scalar,
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx2(_) => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx512(_) => Level::Avx512,
        }
    }
}

impl Device for Cpu {
    fn name(&self) -> &str {
        NAME
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn open(&self, spec: &StreamSpec, ring: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        if spec.source.format != spec.destination.format {
            let reason = "source and destination differ in pixel format";
            return Err(DeviceError::Unsupported { device: NAME.to_owned(), reason });
        }
        if RingLayout::new(spec).as_ref() != Ok(ring) {
            return Err(DeviceError::Layout);
        }
        Ok(match self.kernel {
            AnyKernel::Scalar(kernel) => Box::new(CpuResizer::new(kernel, spec, ring)),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx2(kernel) => Box::new(CpuResizer::new(kernel, spec, ring)),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx512(kernel) => Box::new(CpuResizer::new(kernel, spec, ring)),
        })
    }
}

/// The plan of one stream, and the kernel that it was arranged for.
struct CpuResizer<K: Kernel> {
    kernel: K,
    ring: RingLayout,
    planes: Vec<PlanePlan<K>>,
    worth: u32,
}

impl<K: Kernel> CpuResizer<K> {
    /// `ring` must be the spec's own.
    fn new(kernel: K, spec: &StreamSpec, ring: &RingLayout) -> Self {
        let (source, destination) = (spec.source.extent, spec.destination.extent);
        let worth = match source.pixels() + destination.pixels() {
            ..PIXELS_AT_ONCE => 0,
            pixels => (pixels / PIXELS_PER_BAND).clamp(1, u64::from(destination.height)) as u32,
        };
        let planes = plan::planes(&kernel, spec, ring);
        Self { kernel, ring: ring.clone(), planes, worth }
    }

    /// Resizes the rows of `band` in one plane.
    ///
    /// # Safety
    ///
    /// `input` and `output` must be the starts of frames laid out as `self.ring` says, readable and
    /// writable respectively.
    unsafe fn resize_plane(
        &self,
        plan: &PlanePlan<K>,
        (input, output): (*const u8, *mut u8),
        band: Band,
        scratch: &mut Scratch,
    ) {
        let words = scratch.words(plan.scratch_words());
        let rows = band.rows(plan.destination.rows());
        // SAFETY: by this function's contract both planes lie in their frames as the plan says.
        unsafe {
            let (source, target) =
                (input.add(plan.source.offset), output.add(plan.destination.offset));
            match &plan.passes {
                Passes::HorizontalFirst(passes) => {
                    self.across_down(plan, passes, (source, target), rows, words);
                }
                Passes::VerticalFirst { vertical, channels } => {
                    self.down_across(plan, (vertical, channels), (source, target), rows, words);
                }
            }
        }
    }

    /// Resizes output rows of a plane, the horizontal pass first: each source row that they need becomes
    /// a line of words, [`ROWS`] of them at once, and waits there for its last use. Strip by strip.
    ///
    /// # Safety
    ///
    /// `source` and `target` must be the starts of the plan's planes in frames laid out as `self.ring`
    /// says, readable and writable respectively.
    unsafe fn across_down(
        &self,
        plan: &PlanePlan<K>,
        passes: &AcrossDown<K>,
        (source, target): (*const u8, *mut u8),
        rows: Range<usize>,
        words: &mut [i16],
    ) {
        let rolling = &passes.rolling;
        assert!(words.len() >= rolling.words());
        let lines = words.as_mut_ptr();
        let ahead = ROWS * plan.source.stride;
        let Some(last) = rows.clone().last().map(|row| rolling.row(row).end - 1) else { return };
        let width = plan.destination.row_bytes();
        for start in (0..width).step_by(passes.strip) {
            let outputs = start..(start + passes.strip).min(width);
            let mut next = 0;
            for index in rows.clone() {
                let row = rolling.row(index);
                next = next.max(row.first);
                while next < row.end {
                    // Beyond the band's last source row that one is made again.
                    let batch: [usize; ROWS] = std::array::from_fn(|i| (next + i).min(last));
                    let (gathers, outputs) = (&passes.gathers, outputs.clone());
                    // SAFETY: rows up to `last` lie within the plane, each readable up to its stride
                    // and 64 bytes beyond: the next row, or the frame's tail. Lines lie within `words`,
                    // whose alignment is `Scratch`'s.
                    unsafe {
                        let rows = batch.map(|row| source.add(row * plan.source.stride));
                        let lines = batch.map(|row| lines.add(rolling.offset(row)));
                        self.kernel.across(rows, ahead, gathers, outputs, passes.constants, lines);
                    }
                    next += ROWS;
                }
                // SAFETY: every tap's line has been made by now; the output row is writable up to its
                // stride, a multiple of 64, and strips end on such multiples or with the row.
                unsafe {
                    let target = target.add(index * plan.destination.stride + start);
                    self.kernel.down(lines, row, passes.fraction_bits, outputs.len(), target);
                }
            }
        }
    }

    /// Resizes output rows of a plane, the vertical pass first.
    ///
    /// # Safety
    ///
    /// As for [`Self::across_down`].
    unsafe fn down_across(
        &self,
        plan: &PlanePlan<K>,
        (vertical, channels): (&Taps, &[ChannelPlan<K>]),
        (source, target): (*const u8, *mut u8),
        rows: Range<usize>,
        words: &mut [i16],
    ) {
        let (row, lines) = words.split_at_mut(plan.row_words());
        for index in rows {
            let window = vertical.window(index);
            // SAFETY: the window's rows lie within the plane; each is readable up to its stride, which
            // is a multiple of 64 and so reaches to the row's length in whole vectors. So does the
            // output row's.
            let target = unsafe {
                let first = source.add(window.start * plan.source.stride);
                let bytes = plan.source.row_bytes();
                self.kernel.vertical(first, plan.source.stride, window.weights, row, bytes);
                target.add(index * plan.destination.stride)
            };
            match channels {
                [ChannelPlan { windows, constant }] => {
                    // SAFETY: the output row is writable up to its stride, a multiple of 64.
                    unsafe { self.kernel.horizontal(row, windows, *constant, target) };
                }
                channels => {
                    // SAFETY: the output row is writable for its pixels.
                    unsafe { self.interleaved_row(plan, channels, row, lines, target) };
                }
            }
        }
    }

    /// The horizontal pass of a row whose channels are interleaved: each on its own.
    ///
    /// # Safety
    ///
    /// `target` must be writable for a row of the destination plane.
    unsafe fn interleaved_row(
        &self,
        plan: &PlanePlan<K>,
        channels: &[ChannelPlan<K>],
        row: &[i16],
        lines: &mut [i16],
        target: *mut u8,
    ) {
        let (words, samples) = lines.split_at_mut(plan.line_words() * channels.len());
        let width = plan.source.extent.width as usize;
        self.kernel.split(&row[..width * channels.len()], words, plan.line_words());
        let pitch = plan.line_bytes();
        assert!(size_of_val(samples) >= pitch * channels.len());
        let samples = samples.as_mut_ptr().cast::<u8>();
        let lines = words.chunks_exact(plan.line_words());
        for (c, (line, channel)) in lines.zip(channels).enumerate() {
            // SAFETY: `samples` holds a line of `pitch` bytes, whole vectors, for each channel, as just
            // asserted.
            unsafe {
                self.kernel.horizontal(
                    line,
                    &channel.windows,
                    channel.constant,
                    samples.add(c * pitch),
                );
            }
        }
        let width = plan.destination.extent.width as usize;
        // SAFETY: as above, `pitch` is at least `width`, and by this function's contract.
        unsafe { self.kernel.merge(samples, pitch, channels.len(), width, target) };
    }
}

impl<K: Kernel> Resizer for CpuResizer<K> {
    fn worth(&self) -> u32 {
        self.worth
    }

    fn resize(
        &self,
        slot: SlotMemory<'_>,
        band: Band,
        scratch: &mut Scratch,
    ) -> Result<(), DeviceError> {
        if *slot.layout() != self.ring {
            return Err(DeviceError::Layout);
        }
        for plan in &self.planes {
            // SAFETY: a slot's frames are readable and writable as far as its layout says, and that is
            // `self.ring`.
            unsafe { self.resize_plane(plan, (slot.input(), slot.output()), band, scratch) };
        }
        Ok(())
    }
}
