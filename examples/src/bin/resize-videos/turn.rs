//! Owns which way up a video is: what a phone filmed while it was held upright lies on its side in
//! the file, which says so by a matrix.
//!
//! Pictures are turned once they are small. Knows no file and no decoder.

use resized_client::{Crop, Extent, FrameLayout, Plane};

/// The tangent of the angle, one degree, within which a picture counts as straight, as in FFmpeg.
const STRAIGHT: f64 = 0.0175;

/// What is done with a picture as it lies in the file for it to be upright: its axes are swapped
/// first, then some reversed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    swapped: bool,
    /// Its columns then count from the right.
    from_right: bool,
    /// Its rows then count from below.
    from_below: bool,
}

impl Turn {
    /// Reads the first two columns of FFmpeg's display matrix: three rows of three numbers, of which x
    /// and y of the upright picture are the first two sums. None if the angle is no multiple of a right
    /// one.
    pub(crate) fn of_matrix(matrix: &[u8]) -> Option<Self> {
        let number = |index: usize| {
            let bytes = matrix.get(4 * index..)?.first_chunk()?;
            Some(f64::from(i32::from_ne_bytes(*bytes)))
        };
        let [xx, xy, yx, yy] = [number(0)?, number(1)?, number(3)?, number(4)?];
        // Whether two are as good as zero beside the others.
        let vanish = |one: f64, two: f64, beside: f64, and: f64| {
            one.abs().max(two.abs()) <= beside.abs().min(and.abs()) * STRAIGHT
        };
        if vanish(xy, yx, xx, yy) {
            Some(Self { swapped: false, from_right: xx < 0.0, from_below: yy < 0.0 })
        } else if vanish(xx, yy, xy, yx) {
            Some(Self { swapped: true, from_right: yx < 0.0, from_below: xy < 0.0 })
        } else {
            None
        }
    }

    /// The upright picture's extent of the stored one's, and the other way round.
    pub(crate) const fn extent(self, extent: Extent) -> Extent {
        let Extent { width, height } = extent;
        if self.swapped { Extent::new(height, width) } else { extent }
    }

    /// Where a part of the upright picture lies in the stored one, if it is in the middle: elsewhere it would
    /// have to be reversed, too.
    pub(crate) const fn centred(self, crop: Crop) -> Crop {
        let Crop { left, top, width, height } = crop;
        if self.swapped {
            Crop { left: top, top: left, width: height, height: width }
        } else {
            crop
        }
    }

    /// How many times wider than high the upright picture's samples are, by the stored one's.
    pub(crate) fn aspect(self, aspect: f64) -> f64 {
        if self.swapped { aspect.recip() } else { aspect }
    }

    /// Writes a plane of bytes as the upright picture has it.
    fn plane(self, from: &Plane, stored: &[u8], to: &Plane, upright: &mut [u8]) {
        let (columns, rows, stride) = (from.row_bytes(), from.rows(), from.stride as isize);
        // By how much what is stored goes on, from sample to sample of a row, and from row to row.
        let (mut across, mut down) = (1, stride);
        let (mut width, mut height) = (columns, rows);
        if self.swapped {
            (across, down, width, height) = (down, across, height, width);
        }
        let mut start = from.offset;
        if self.from_right {
            start = start.wrapping_add_signed(across * (width as isize - 1));
            across = -across;
        }
        if self.from_below {
            start = start.wrapping_add_signed(down * (height as isize - 1));
            down = -down;
        }
        for row in upright[to.offset..].chunks_mut(to.stride).take(height) {
            let mut at = start;
            if across == 1 {
                row[..width].copy_from_slice(&stored[at..][..width]);
            } else {
                for sample in &mut row[..width] {
                    *sample = stored[at];
                    at = at.wrapping_add_signed(across);
                }
            }
            start = start.wrapping_add_signed(down);
        }
    }

    /// Writes a frame, whose planes are of bytes, as the upright picture has it, into a larger one that
    /// is laid out so: from that column and that row on, both even where chroma is halved.
    pub(crate) fn frame(
        self,
        from: &FrameLayout,
        stored: &[u8],
        to: &FrameLayout,
        (left, top): (u32, u32),
        upright: &mut [u8],
    ) {
        for (index, (from, to)) in from.planes().iter().zip(to.planes()).enumerate() {
            let (left, top) = if index == 0 { (left, top) } else { (left / 2, top / 2) };
            let offset = to.offset + top as usize * to.stride + left as usize;
            self.plane(from, stored, &Plane { offset, ..*to }, upright);
        }
    }
}

#[cfg(test)]
mod tests {
    use resized_client::PixelFormat;

    use super::*;

    const ONE: i32 = 1 << 16;

    fn of(xx: i32, xy: i32, yx: i32, yy: i32) -> Option<Turn> {
        let matrix = [xx, xy, 0, yx, yy, 0, 0, 0, 1 << 30];
        Turn::of_matrix(&matrix.map(i32::to_ne_bytes).concat())
    }

    #[test]
    fn right_angles_are_read_and_others_are_not() {
        assert_eq!(of(ONE, 0, 0, ONE), Some(Turn::default()));
        assert_eq!(of(ONE, 100, -100, ONE), Some(Turn::default()));
        assert_eq!(of(ONE, ONE / 20, -ONE / 20, ONE), None);
        assert_eq!(of(ONE, ONE, -ONE, ONE), None);
        assert_eq!(of(0, 0, 0, 0), Some(Turn::default()));
        assert_eq!(Turn::of_matrix(&[0; 19]), None);
    }

    #[test]
    fn every_sample_of_every_plane_is_moved() {
        let stored = FrameLayout::new(PixelFormat::I420, Extent::new(5, 3)).unwrap();
        let samples: Vec<u8> = (0..stored.len()).map(|n| n as u8).collect();
        for (turn, place) in [
            // Where the upright picture's sample is stored, in a plane of so many columns and rows.
            (of(ONE, 0, 0, ONE), (|x, y, _, _| (x, y)) as fn(usize, usize, usize, usize) -> _),
            (of(-ONE, 0, 0, ONE), |x, y, w, _| (w - 1 - x, y)),
            (of(ONE, 0, 0, -ONE), |x, y, _, h| (x, h - 1 - y)),
            (of(-ONE, 0, 0, -ONE), |x, y, w, h| (w - 1 - x, h - 1 - y)),
            (of(0, ONE, ONE, 0), |x, y, _, _| (y, x)),
            (of(0, ONE, -ONE, 0), |x, y, _, h| (y, h - 1 - x)), // clockwise
            (of(0, -ONE, ONE, 0), |x, y, w, _| (w - 1 - y, x)),
            (of(0, -ONE, -ONE, 0), |x, y, w, h| (w - 1 - y, h - 1 - x)),
        ] {
            let turn = turn.unwrap();
            let extent = turn.extent(Extent::new(5, 3));
            let layout = FrameLayout::new(PixelFormat::I420, extent).unwrap();
            let mut upright = vec![0; layout.len()];
            turn.frame(&stored, &samples, &layout, (0, 0), &mut upright);
            for (from, to) in stored.planes().iter().zip(layout.planes()) {
                for (x, y) in (0..to.rows()).flat_map(|y| (0..to.row_bytes()).map(move |x| (x, y)))
                {
                    let (column, row) = place(x, y, from.row_bytes(), from.rows());
                    assert_eq!(
                        upright[to.offset + y * to.stride + x],
                        samples[from.offset + row * from.stride + column],
                        "{turn:?} {x} {y}"
                    );
                }
            }
        }
    }
}
