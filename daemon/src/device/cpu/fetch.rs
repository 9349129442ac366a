//! Owns having memory brought to a core before it is read or written.
//!
//! Knows no frames. Rings are larger than caches, so a frame lies in memory as often as not, and
//! its rows are more streams than the CPU's own prefetchers follow. Lines are asked for in the
//! second cache: the first waits for few of them at a time, and a frame from memory took half as
//! long again. And where many are to come they are asked for a few at a time, between pieces of
//! work, which all at once would hold up. Invariant: it is a hint, and no result depends on it.
#![allow(unsafe_code)]

/// Bytes that caches and memory exchange.
const LINE: usize = 64;

/// Asks for `len` bytes, from the line of `start` on, a line at the least. They may lie anywhere: nothing is
/// read. Where an architecture has no stable intrinsic for it, nothing is asked.
#[inline(always)]
pub(super) fn fetch(start: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // The end is looked at last: most calls are for one line, from innermost loops.
        let mut offset = 0;
        loop {
            // SAFETY: every x86-64 CPU has it, and it takes any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(offset).cast()) };
            offset += LINE;
            if offset >= len {
                break;
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len, LINE);
}
