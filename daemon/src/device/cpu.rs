//! Owns the device made of this machine's cores: which instructions it uses, and what is prepared for a
//! stream.
//!
//! Knows specs and slots; `plan` knows planes, `band` walks through them, kernels know lines and taps.
//! Invariant: every address a kernel is given comes from a layout that was computed here from the
//! stream's spec, and the slot's own must be equal to it.
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
//!    16 bits: `order` sees to it. What is mixed stays a sum.
//!
//! Samples that are no bytes, and rows of bytes that would swell, become words of 6 fraction bits first,
//! centred on zero. Of those the horizontal pass makes `(sum(weight x word) + 2^13) >> 14`, with weights of
//! 14 fraction bits, saturated to 16 bits.
//!
//! Vertical first:
//!
//! 1. vertical, for each sample of a row: `word = (sum(weight x sample) + 2^7) >> 8`, saturated to 16
//!    bits. With weights of 14 fraction bits a word has 6, and a sign. Of samples that are no bytes,
//!    which become words first, `(sum(weight x word) + 2^13) >> 14`, saturated and centred on zero;
//! 2. horizontal: `sample = (sum(weight x word) + bias + 2^19) >> 20`, saturated to 8 bits. Gain and
//!    bias of a change of range are in this pass's weights and constant. What is mixed stays a word, centred
//!    on zero: `(sum(weight x word) + 2^13) >> 14`, less 128 steps where words of bytes come in.
//!
//! A mix, where the destination has other components than the source: words of `f` fraction bits as above,
//! but not shifted back, are weighed and added in single precision, and rounded once (see `mix`).
//!
//! No window's positive weights reach 2 (see `Taps` in `filter.rs`), so words do not saturate
//! in fact, and sums are far from overflowing 32 bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod band;
mod deinterleave;
mod fetch;
#[cfg(target_arch = "x86_64")]
mod gather;
mod interleave;
mod kernel;
mod lengths;
mod memory;
mod mix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod rolling;
mod samples;
mod scalar;
mod tables;
#[cfg(test)]
pub(crate) mod tests;

use std::str::FromStr;

use resized_protocol::message::StreamSpec;
use resized_protocol::placement::Placement;
use resized_protocol::shm::{RingLayout, SlotMemory};
use thiserror::Error;

use self::band::Frames;
use self::kernel::Kernel;
use super::plan::{self, Work};
use super::{Band, Device, DeviceError, Preparation, Resizer, Scratch};
use crate::cores::Cores;

const NAME: &str = "cpu";

/// Environment variable that caps the level, by its [name](Level::name): `scalar`, `avx2` or
/// `avx512` on x86-64, `scalar` or `neon` on aarch64. Anything else is warned of, and caps nothing.
const LEVEL_VARIABLE: &str = "RESIZED_CPU";

/// Source and destination pixels that a band should have: some 20 us of work, where waking a lane for
/// it takes about 4.
const PIXELS_PER_BAND: u64 = 1 << 17;

/// Source and destination pixels below which no lane is worth waking, whatever else there is to do. Of
/// larger frames that is for the scheduler to say, by what they were measured to take.
const PIXELS_AT_ONCE: u64 = 1 << 13;

/// Most cores that lanes are bound to. Linux looks for an idle core among those that share a cache
/// only while they are less busy than a share that grows with their number: 60 % for two, 74 % for
/// four, 80 % for eight (`select_idle_cpu` in fair.c). Many have it choose well, and it knows which
/// of them are siblings, or slow.
const FEW_CORES: usize = 4;

/// Which instructions the kernels use. All levels give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, for any machine: the oracle of the others.
    Scalar,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors, with BW, VL, VBMI and VNNI.
    Avx512,
    /// 128-bit vectors of aarch64.
    Neon,
}

impl Level {
    /// Those of this architecture, the best one last. Its CPUs may lack some.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: &[Self] = &[Self::Scalar, Self::Avx2, Self::Avx512];
    /// Those of this architecture, the best one last. Its CPUs may lack some.
    #[cfg(target_arch = "aarch64")]
    pub const ALL: &[Self] = &[Self::Scalar, Self::Neon];
    /// The only one of this architecture.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const ALL: &[Self] = &[Self::Scalar];

    /// What it is called where people choose it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }
}

/// Something that is no level of this architecture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is none of: {list}", list = Level::ALL.iter().map(|level| level.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.iter().find(|level| level.name() == name);
        found.copied().ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}

/// All cores of this machine.
#[derive(Debug)]
pub struct Cpu {
    lanes: usize,
    /// Those that the thread that made this may use, if they are few and there is a lane for each.
    cores: Vec<usize>,
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
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
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
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon::Neon::new().map(Self::Neon),
            #[cfg(not(target_arch = "aarch64"))]
            Level::Neon => None,
        }
    }
}

impl Cpu {
    /// A device of `lanes` lanes at the best level that this CPU has and `$RESIZED_CPU` allows.
    pub fn new(lanes: usize) -> Self {
        let cap = std::env::var_os(LEVEL_VARIABLE).filter(|cap| !cap.is_empty());
        let cap = cap.and_then(|cap| match cap.to_string_lossy().parse() {
            Ok(level) => Some(level),
            Err(error) => {
                tracing::warn!(%error, "${LEVEL_VARIABLE} caps nothing");
                None
            }
        });
        let allowed = |level: &&Level| cap.is_none_or(|cap: Level| **level <= cap);
        let levels = Level::ALL.iter().filter(allowed).rev();
        let kernel = levels.copied().find_map(AnyKernel::new);
        Self::of(lanes, kernel.unwrap_or(AnyKernel::Scalar(scalar::Scalar)))
    }

    /// A device at that level, or `None` where this CPU lacks it.
    pub fn with_level(lanes: usize, level: Level) -> Option<Self> {
        AnyKernel::new(level).map(|kernel| Self::of(lanes, kernel))
    }

    fn of(lanes: usize, kernel: AnyKernel) -> Self {
        let mut cores: Vec<_> = Cores::given().iter().flat_map(Cores::numbers).collect();
        // Where there are fewer lanes than cores, which of these are free is for the system to say.
        if cores.len() != lanes || cores.len() > FEW_CORES {
            cores.clear();
        }
        Self { lanes, cores, kernel }
    }

    /// The level at which it works.
    pub const fn level(&self) -> Level {
        match self.kernel {
            AnyKernel::Scalar(_) => Level::Scalar,
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx2(_) => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx512(_) => Level::Avx512,
            #[cfg(target_arch = "aarch64")]
            AnyKernel::Neon(_) => Level::Neon,
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

    fn cores(&self) -> &[usize] {
        &self.cores
    }

    fn is_anybodys(&self) -> bool {
        true
    }

    fn open(&self, spec: &StreamSpec, ring: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        if RingLayout::new(spec).as_ref() != Ok(ring) {
            return Err(DeviceError::Layout);
        }
        let unsupported = |reason| DeviceError::Unsupported { device: NAME.to_owned(), reason };
        if !plan::is_aligned(ring.input()) {
            return Err(unsupported("a tensor is no source"));
        }
        let placement =
            spec.placement().map_err(|_| unsupported("the crop is not within the source"))?;
        Ok(match self.kernel {
            AnyKernel::Scalar(kernel) => Box::new(CpuResizer::new(kernel, spec, &placement, ring)),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx2(kernel) => Box::new(CpuResizer::new(kernel, spec, &placement, ring)),
            #[cfg(target_arch = "x86_64")]
            AnyKernel::Avx512(kernel) => Box::new(CpuResizer::new(kernel, spec, &placement, ring)),
            #[cfg(target_arch = "aarch64")]
            AnyKernel::Neon(kernel) => Box::new(CpuResizer::new(kernel, spec, &placement, ring)),
        })
    }

    fn table_bytes(&self, spec: &StreamSpec) -> u64 {
        tables::bytes(spec)
    }
}

/// The plan of one stream, and the kernel that it was arranged for.
struct CpuResizer<K: Kernel> {
    kernel: K,
    ring: RingLayout,
    works: Vec<Work<K>>,
    worth: u32,
}

impl<K: Kernel> CpuResizer<K> {
    /// `placement` and `ring` must be the spec's own.
    fn new(kernel: K, spec: &StreamSpec, placement: &Placement, ring: &RingLayout) -> Self {
        let (source, destination) = (&placement.source, spec.destination.extent);
        let seen = (source.width * source.height) as u64;
        let worth = match seen + destination.pixels() {
            ..PIXELS_AT_ONCE => 0,
            pixels => (pixels / PIXELS_PER_BAND).clamp(1, u64::from(destination.height)) as u32,
        };
        let works = plan::works(&kernel, spec, placement, ring);
        Self { kernel, ring: ring.clone(), works, worth }
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
    ) -> Result<Preparation, DeviceError> {
        if *slot.layout() != self.ring {
            return Err(DeviceError::Layout);
        }
        let frames = Frames { input: slot.input(), output: slot.output() };
        for work in &self.works {
            // SAFETY: a slot's frames are readable and writable as far as its layout says, and that is
            // `self.ring`, from which the plan was made.
            unsafe { band::work(&self.kernel, work, frames, band, scratch) };
        }
        Ok(Preparation::Before)
    }
}
