//! Owns the colour matrix: JPEG files hold the luma and chroma of ITU-R BT.601, HD video has others.
//!
//! Converting mixes the planes, so the daemon, which resizes each for itself, can't do it in passing.
//! It is done to the resized frame: full range, few pixels. Video that does not say what it has is
//! taken to have BT.601, as FFmpeg does.

use ffmpeg_next::color::Space;

/// Bits behind the point of the factors.
const BITS: u32 = 14;

/// What turns luma and chroma of another matrix into BT.601's. Each pair holds the factors of Cb and of
/// Cr, as integers of [`BITS`] bits behind the point; luma adds its pair to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    luma: [i32; 2],
    cb: [i32; 2],
    cr: [i32; 2],
}

impl Matrix {
    /// What a colour space takes, unless it has BT.601's matrix itself.
    pub(crate) fn of(space: Space) -> Option<Self> {
        // Kr and Kb of ITU-T H.273, table 4.
        match space {
            Space::BT709 => Some(Self::between((0.2126, 0.0722), (0.299, 0.114))),
            Space::BT2020NCL => Some(Self::between((0.2627, 0.0593), (0.299, 0.114))),
            Space::SMPTE240M => Some(Self::between((0.212, 0.087), (0.299, 0.114))),
            _ => None,
        }
    }

    /// By way of RGB, H.273 equations 38 to 40, with Y = 0 as it passes through unchanged.
    fn between((kr, kb): (f64, f64), (to_kr, to_kb): (f64, f64)) -> Self {
        let convert = |cb: f64, cr: f64| {
            let (red, blue) = (2.0 * (1.0 - kr) * cr, 2.0 * (1.0 - kb) * cb);
            let green = -(kr * red + kb * blue) / (1.0 - kr - kb);
            let luma = to_kr * red + (1.0 - to_kr - to_kb) * green + to_kb * blue;
            [luma, (blue - luma) / (2.0 * (1.0 - to_kb)), (red - luma) / (2.0 * (1.0 - to_kr))]
                .map(|factor| (factor * f64::from(1 << BITS)).round() as i32)
        };
        let (of_cb, of_cr) = (convert(1.0, 0.0), convert(0.0, 1.0));
        let [luma, cb, cr] = [0, 1, 2].map(|of| [of_cb[of], of_cr[of]]);
        Self { luma, cb, cr }
    }

    /// Converts a row of luma, an even number of samples, by the row of chroma that covers it.
    pub(crate) fn luma(&self, luma: &mut [u8], cb: &[u8], cr: &[u8]) {
        for (pair, (&cb, &cr)) in luma.chunks_exact_mut(2).zip(cb.iter().zip(cr)) {
            let change = mix(self.luma, cb, cr);
            for sample in pair {
                *sample = (i32::from(*sample) + change).clamp(0, 255) as u8;
            }
        }
    }

    /// Converts a row of chroma.
    pub(crate) fn chroma(&self, cb: &mut [u8], cr: &mut [u8]) {
        for (cb, cr) in cb.iter_mut().zip(cr) {
            let converted = [self.cb, self.cr].map(|factors| mix(factors, *cb, *cr) + 128);
            [*cb, *cr] = converted.map(|sample| sample.clamp(0, 255) as u8);
        }
    }
}

fn mix([of_cb, of_cr]: [i32; 2], cb: u8, cr: u8) -> i32 {
    let sum = of_cb * (i32::from(cb) - 128) + of_cr * (i32::from(cr) - 128);
    (sum + (1 << (BITS - 1))) >> BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours_of_bt_709_become_those_of_bt_601() {
        let matrix = Matrix::of(Space::BT709).unwrap();
        // Y, Cb, Cr of red, green and blue, in full range, by the definitions.
        for (from, expected) in [
            ([54, 99, 255], [76, 85, 255]),
            ([182, 30, 12], [150, 44, 21]),
            ([18, 255, 116], [29, 255, 107]),
            ([200, 128, 128], [200, 128, 128]),
        ] {
            let [luma, mut cb, mut cr] = from.map(|sample| [sample; 2]);
            let mut converted = luma;
            matrix.luma(&mut converted, &cb[..1], &cr[..1]);
            matrix.chroma(&mut cb, &mut cr);
            for (found, expected) in [converted, cb, cr]
                .iter()
                .flatten()
                .zip(expected.into_iter().flat_map(|sample: u8| [sample; 2]))
            {
                assert!(found.abs_diff(expected) <= 1, "{from:?}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn bt_601_stays_as_it_is() {
        for space in [Space::SMPTE170M, Space::BT470BG, Space::Unspecified, Space::RGB] {
            assert_eq!(Matrix::of(space), None);
        }
        let one = 1 << BITS;
        let same = Matrix { luma: [0, 0], cb: [one, 0], cr: [0, one] };
        assert_eq!(Matrix::between((0.299, 0.114), (0.299, 0.114)), same);
    }
}
