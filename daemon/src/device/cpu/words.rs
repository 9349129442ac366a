//! Owns the step from a row of samples to a line of words of 6 fraction bits, centred on zero,
//! where that is no pass: as plain loops that every level compiles anew with its own instructions.
//!
//! Knows what samples are, not where they go.
#![allow(unsafe_code)]

pub(super) use crate::device::plan::Samples;

/// [`Kernel::words`](super::kernel::Kernel::words). A step of eight bits is four of ten.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(super) unsafe fn words(row: *const u8, samples: Samples, len: usize, line: *mut i16) {
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
                    let alpha = u32::from(pixel[3]);
                    let weighed = |colour: u8| {
                        // Rounded to the nearest word.
                        let word = (u32::from(colour) * alpha * 64 + 127) / 255;
                        word as i16 - (128 << 6)
                    };
                    let [a, b, c] = [weighed(pixel[0]), weighed(pixel[1]), weighed(pixel[2])];
                    let alpha = (i16::from(pixel[3]) - 128) << 6;
                    line.add(x).cast::<[i16; 4]>().write_unaligned([a, b, c, alpha]);
                }
            }
        }
    }
}
