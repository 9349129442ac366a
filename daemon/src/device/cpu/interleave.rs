//! Owns the change between interleaved and planar lines, as plain loops that every level compiles
//! anew with its own instructions.
//!
//! Knows the number of channels and nothing of what they carry.
#![allow(unsafe_code)]

/// [`Kernel::split`](super::kernel::Kernel::split).
#[inline(always)]
pub(super) fn split(interleaved: &[i16], channels: usize, lines: &mut [i16], pitch: usize) {
    match channels {
        2 => split_channels::<2>(interleaved, lines, pitch),
        3 => split_channels::<3>(interleaved, lines, pitch),
        4 => split_channels::<4>(interleaved, lines, pitch),
        _ => unreachable!("no format interleaves {channels} channels"),
    }
}

#[inline(always)]
fn split_channels<const C: usize>(interleaved: &[i16], lines: &mut [i16], pitch: usize) {
    let mut lines = lines.chunks_mut(pitch);
    let mut lines: [&mut [i16]; C] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let (pixels, _) = interleaved.as_chunks::<C>();
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
pub(super) unsafe fn merge<T: Copy>(
    lines: *const T,
    pitch: usize,
    channels: usize,
    width: usize,
    target: *mut T,
) {
    // SAFETY: the caller's contract is that of the functions called.
    unsafe {
        match channels {
            2 => merge_channels::<2, T>(lines, pitch, width, target),
            3 => merge_channels::<3, T>(lines, pitch, width, target),
            4 => merge_channels::<4, T>(lines, pitch, width, target),
            _ => unreachable!("no format interleaves {channels} channels"),
        }
    }
}

#[inline(always)]
unsafe fn merge_channels<const C: usize, T: Copy>(
    lines: *const T,
    pitch: usize,
    width: usize,
    target: *mut T,
) {
    for x in 0..width {
        for c in 0..C {
            // SAFETY: `x < width` and `c < C`: within what the caller vouches for.
            unsafe { target.add(x * C + c).write(lines.add(c * pitch + x).read()) };
        }
    }
}
