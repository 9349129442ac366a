//! Owns the change between interleaved and planar lines, as plain loops that every level compiles
//! anew with its own instructions.
//!
//! Knows the number of channels and nothing of what they carry.
#![allow(unsafe_code)]

/// Lines of one channel each, and the pixels of those.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Interleave {
    pub(super) channels: usize,
    pub(super) pixels: usize,
    /// Samples, or words, from the start of one line to that of the next.
    pub(super) pitch: usize,
}

/// [`Kernel::split`](super::kernel::Kernel::split).
#[inline(always)]
pub(super) fn split(interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
    match shape.channels {
        2 => split_channels::<2>(interleaved, lines, shape),
        3 => split_channels::<3>(interleaved, lines, shape),
        4 => split_channels::<4>(interleaved, lines, shape),
        channels => unreachable!("no format interleaves {channels} channels"),
    }
}

#[inline(always)]
fn split_channels<const C: usize>(interleaved: &[i16], lines: &mut [i16], shape: Interleave) {
    let mut lines = lines.chunks_mut(shape.pitch);
    let mut lines: [&mut [i16]; C] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let pixels = &interleaved.as_chunks::<C>().0[..shape.pixels];
    // Cut to one length, so that the loop has no checks.
    for line in &mut lines {
        *line = &mut std::mem::take(line)[..pixels.len()];
    }
    for (x, pixel) in pixels.iter().enumerate() {
        for c in 0..C {
            lines[c][x] = pixel[c];
        }
    }
}

/// [`Kernel::merge`](super::kernel::Kernel::merge).
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn merge<T: Copy>(lines: *const T, target: *mut T, shape: Interleave) {
    // SAFETY: the caller's contract is that of the functions called.
    unsafe {
        match shape.channels {
            2 => merge_channels::<2, T>(lines, target, shape),
            3 => merge_channels::<3, T>(lines, target, shape),
            4 => merge_channels::<4, T>(lines, target, shape),
            channels => unreachable!("no format interleaves {channels} channels"),
        }
    }
}

#[inline(always)]
unsafe fn merge_channels<const C: usize, T: Copy>(
    lines: *const T,
    target: *mut T,
    Interleave { pixels, pitch, .. }: Interleave,
) {
    for x in 0..pixels {
        for c in 0..C {
            // SAFETY: `x < pixels` and `c < C`: within what the caller vouches for.
            unsafe { target.add(x * C + c).write(lines.add(c * pitch + x).read()) };
        }
    }
}
