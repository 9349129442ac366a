//! Owns the seam between the walk of a band and the instructions that do its work: [`Kernel`].
//!
//! A kernel knows lines and taps only. Every implementation gives the bits that
//! [`scalar`](super::scalar) gives. Invariant of the memory it is handed: where it may run over the end
//! of a line, it may do so up to the next multiple of [`LINE`] samples.

use crate::filter::Taps;

/// Samples to which a line's memory is rounded up: kernels read and write whole vectors.
pub(super) const LINE: usize = 32;

/// The two passes, and the change between interleaved and planar lines.
pub(super) trait Kernel: Send + Sync + 'static {
    /// Horizontal taps in the order in which this kernel reads them.
    type Windows: Send + Sync;

    /// Arranges horizontal taps, once a stream.
    fn arrange(&self, taps: Taps) -> Self::Windows;

    /// Makes `len` words out of as many columns of `weights.len()` rows, at least one; the first row
    /// starts at `first`, the next `stride` bytes behind it. Words behind `len`, up to the multiple of
    /// [`LINE`], may be overwritten.
    ///
    /// # Safety
    ///
    /// Each row must be readable for `len` bytes, rounded up to a multiple of [`LINE`].
    unsafe fn vertical(
        &self,
        first: *const u8,
        stride: usize,
        weights: &[i16],
        words: &mut [i16],
        len: usize,
    );

    /// Makes a line of samples out of a line of words, one for each window; `constant` is bias and
    /// rounding, with 20 fraction bits. `words` must have [`LINE`] words, of any content, behind those
    /// that the windows reach.
    ///
    /// # Safety
    ///
    /// `target` must be writable for a byte for each window, rounded up to a multiple of [`LINE`].
    unsafe fn horizontal(
        &self,
        words: &[i16],
        windows: &Self::Windows,
        constant: i32,
        target: *mut u8,
    );

    /// Parts a line of interleaved words into lines of one channel each, `pitch` words apart.
    fn split(&self, interleaved: &[i16], lines: &mut [i16], pitch: usize);

    /// Interleaves `width` samples of each of `channels` lines, which lie `pitch` bytes apart.
    ///
    /// # Safety
    ///
    /// The lines must be readable for `width` bytes each, `target` writable for `width` x `channels`.
    unsafe fn merge(
        &self,
        lines: *const u8,
        pitch: usize,
        channels: usize,
        width: usize,
        target: *mut u8,
    );
}
