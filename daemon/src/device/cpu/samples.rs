//! Owns the steps from samples of any kind to words of 6 fraction bits, centred on zero: a word for each
//! of a row, and the vertical pass of such words where that comes first. Plain loops, that every level
//! compiles anew with its own instructions.
//!
//! Knows what samples are, not where they go.
#![allow(unsafe_code)]

use super::lengths::PIECE;
pub(super) use crate::device::plan::Samples;

/// Source rows below one another, and what each weighs in a row that is made of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Column<'taps> {
    /// Where the first row starts.
    pub(super) first: *const u8,
    /// Bytes from the start of one to that of the next.
    pub(super) stride: usize,
    /// Of each row, at least one.
    pub(super) weights: &'taps [i16],
}

/// [`Kernel::to_words`](super::kernel::Kernel::to_words). A step of eight bits is four of ten.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn to_words(row: *const u8, samples: Samples, len: usize, line: *mut i16) {
    // SAFETY: the caller's contract, for each of these.
    unsafe {
        match samples {
            Samples::Bytes => {
                for x in 0..len {
                    line.add(x).write((i16::from(row.add(x).read()) - 128) << 6);
                }
            }
            Samples::LowTen => {
                for x in 0..len {
                    let ten = row.cast::<u16>().add(x).read().min(1023);
                    line.add(x).write((ten as i16 - 512) << 4);
                }
            }
            Samples::HighTen => {
                for x in 0..len {
                    let ten = row.cast::<u16>().add(x).read() >> 6;
                    line.add(x).write((ten as i16 - 512) << 4);
                }
            }
            Samples::Weighed => {
                for x in (0..len).step_by(4) {
                    let pixel = row.add(x).cast::<[u8; 4]>().read();
                    let weighed = |colour| weighed(colour, pixel[3]) - (128 << 6);
                    let [a, b, c] = [weighed(pixel[0]), weighed(pixel[1]), weighed(pixel[2])];
                    let alpha = (i16::from(pixel[3]) - 128) << 6;
                    line.add(x).cast::<[i16; 4]>().write_unaligned([a, b, c, alpha]);
                }
            }
        }
    }
}

/// 64 x colour x alpha / 255, rounded to the nearest.
#[inline(always)]
const fn weighed(colour: u8, alpha: u8) -> i16 {
    /// 64 / 255 with 18 fraction bits: the product takes 32 bits, and all quotients come out right.
    const SHARE: u32 = 65_793;
    ((colour as u32 * alpha as u32 * SHARE + (1 << 17)) >> 18) as i16
}

/// [`Kernel::vertical_first_words`](super::kernel::Kernel::vertical_first_words). Two rows at a time, so that
/// sums are loaded and stored half as often.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn vertical_first_words(column: Column<'_>, samples: Samples, words: &mut [i16]) {
    let Column { first, stride, weights } = column;
    let len = words.len();
    let mut sums = [1 << 13; PIECE];
    let mut rows = [[0_i16; PIECE]; 2];
    let sums = &mut sums[..len];
    for (i, weights) in weights.chunks(2).enumerate() {
        for (r, row) in rows.iter_mut().enumerate().take(weights.len()) {
            // SAFETY: each weight has its row, and a piece is no longer than `PIECE`.
            unsafe { to_words(first.add((2 * i + r) * stride), samples, len, row.as_mut_ptr()) };
        }
        let [one, other] = &rows;
        let other_weight = i32::from(*weights.get(1).unwrap_or(&0));
        let weights = (i32::from(weights[0]), other_weight);
        for ((sum, one), other) in sums.iter_mut().zip(&one[..len]).zip(&other[..len]) {
            *sum += weights.0 * i32::from(*one) + weights.1 * i32::from(*other);
        }
    }
    for (word, sum) in words.iter_mut().zip(sums) {
        *word = (*sum >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::weighed;

    #[test]
    fn colours_are_weighed_to_the_nearest_word() {
        for (colour, alpha) in (0..=255_u8).flat_map(|c| (0..=255_u8).map(move |a| (c, a))) {
            let exact = f64::from(colour) * f64::from(alpha) * 64.0 / 255.0;
            assert_eq!(weighed(colour, alpha), exact.round() as i16, "{colour} {alpha}");
        }
    }
}
