//! Owns which rows of a source frame count in results: no others are copied to a GPU. Shaders may read
//! more, with weights of zero; whatever lies there, in integers that is nothing.
//!
//! Knows layouts and numbers of rows, no shaders. Invariant: what is copied lies within the rows of
//! the frame, and no byte of it is copied twice.

use std::ops::Range;

use resized_protocol::frame::{FrameLayout, Plane};

/// Of each plane of a frame the rows from the first that is read to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::device::vulkan) struct Reads {
    planes: Vec<(Plane, Range<usize>)>,
}

impl Reads {
    /// So far no row of a frame that is laid out so.
    pub(super) fn new(frame: &FrameLayout) -> Self {
        Self { planes: frame.planes().iter().map(|&plane| (plane, 0..0)).collect() }
    }

    /// `rows` of the plane that starts where this one does are read too.
    pub(super) fn note(&mut self, plane: &Plane, rows: Range<usize>) {
        for (_, read) in self.planes.iter_mut().filter(|(other, _)| other.offset == plane.offset) {
            *read = match (Range::is_empty(read), rows.is_empty()) {
                (true, _) => rows.clone(),
                (false, true) => continue,
                (false, false) => read.start.min(rows.start)..read.end.max(rows.end),
            };
        }
    }

    /// Where they lie in the frame: whole rows, padding included, of planes that follow each other
    /// at once. None, where shaders read nothing: all channels of a tensor may be constants.
    pub(in crate::device::vulkan) fn bytes(&self) -> Vec<Range<usize>> {
        let mut all: Vec<Range<usize>> = Vec::with_capacity(self.planes.len());
        for (plane, rows) in self.planes.iter().filter(|(_, rows)| !rows.is_empty()) {
            let byte = |row: usize| plane.offset + row * plane.stride;
            let bytes = byte(rows.start)..byte(rows.end);
            match all.last_mut() {
                Some(before) if before.end == bytes.start => before.end = bytes.end,
                _ => all.push(bytes),
            }
        }
        all
    }

    /// Bytes of pixels in them, padding left out.
    pub(in crate::device::vulkan) fn pixel_bytes(&self) -> u64 {
        self.planes.iter().map(|(plane, rows)| (plane.row_bytes() * rows.len()) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, PixelFormat};

    use super::*;

    #[test]
    fn whole_frames_are_one_piece_and_parts_one_for_each_plane() {
        let frame = FrameLayout::new(PixelFormat::I420, Extent::new(100, 60)).unwrap();
        let mut reads = Reads::new(&frame);
        assert_eq!((reads.bytes(), reads.pixel_bytes()), (vec![], 0));
        let [luma, one, other] = *frame.planes() else { panic!() };
        reads.note(&luma, 10..20);
        reads.note(&luma, 30..40);
        reads.note(&luma, 0..0);
        reads.note(&other, 0..7);
        let rows = |plane: &Plane, rows: Range<usize>| {
            plane.offset + rows.start * plane.stride..plane.offset + rows.end * plane.stride
        };
        assert_eq!(reads.bytes(), [rows(&luma, 10..40), rows(&other, 0..7)]);
        assert_eq!(reads.pixel_bytes(), 30 * 100 + 7 * 50);
        [luma, one, other].iter().for_each(|plane| reads.note(plane, 0..plane.rows()));
        assert_eq!(reads.bytes(), std::slice::from_ref(&(0..frame.rows_len())));
        assert_eq!(reads.pixel_bytes(), frame.packed_len() as u64);
    }
}
