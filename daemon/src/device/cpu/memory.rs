//! Owns how much working memory a stream's passes take, and where in it what lies.
//!
//! Knows the plan and no pixels. Invariant: what is counted here is what [`Kernel`] asks for.

use super::deinterleave::Deinterleaved;
use super::kernel::{Kernel, ROWS};
use super::lengths::{LINE, WIDE_LINE};
use super::mix;
use crate::device::plan::{FirstPass, Passes, Resized, Work};

impl<K: Kernel> Resized<K> {
    /// Words of a row between the passes, if the vertical one is first, with what the horizontal one
    /// may read behind it.
    pub(super) const fn row_words(&self) -> usize {
        self.row_samples().next_multiple_of(LINE) + LINE
    }

    /// The plane's channels, where the horizontal pass takes one after the other.
    pub(super) const fn deinterleaved(&self) -> Deinterleaved {
        let channels = self.source.channels;
        let source = self.source.extent.width as usize;
        // The first column is a multiple of whole vectors, not always a pixel's first.
        let pixels = self.columns.start.div_ceil(channels)..self.columns.end / channels;
        Deinterleaved { channels, source, pixels, picture: self.samples / channels }
    }

    /// Words of working memory for the channels of a row of words, one after the other, where the
    /// horizontal pass comes first.
    pub(super) const fn words_room(&self) -> usize {
        if K::DEINTERLEAVES { self.deinterleaved().room() } else { 0 }
    }

    /// Words of working memory for the passes: with the vertical one first the row and its channels apart,
    /// else the lines that are held and, where rows become words before they become lines, these.
    pub(super) fn held_words(&self) -> usize {
        match &self.passes {
            Passes::Copy { .. } => 0,
            Passes::HorizontalFirst(passes) => {
                let rows = match passes.first {
                    FirstPass::Words(_) => ROWS * self.row_words() + self.words_room(),
                    FirstPass::Gather { .. } | FirstPass::Widen(_) => 0,
                };
                passes.lines.rolling.words() + rows
            }
            Passes::VerticalFirst(_) => self.row_words() + self.deinterleaved().room(),
        }
    }

    /// Bytes of a row of the picture, in whole vectors.
    pub(super) const fn row_bytes(&self) -> usize {
        self.samples.next_multiple_of(WIDE_LINE)
    }

    /// Words of a line of the picture, with what a mix may read behind it.
    pub(super) const fn picture_words(&self) -> usize {
        self.samples.next_multiple_of(WIDE_LINE) + mix::SLACK
    }
}

impl<K: Kernel> Work<K> {
    /// Words of working memory.
    pub(super) fn scratch_words(&self) -> usize {
        match self {
            Self::Resize(resized, _) => resized.held_words() + resized.row_bytes() / 2,
            Self::Mix { inputs, .. } => {
                let words = |input: &Resized<K>| input.held_words() + input.picture_words();
                inputs.iter().map(words).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::{Alpha, StreamSpec};
    use resized_protocol::shm::RingLayout;

    use super::super::{CpuResizer, scalar};
    use super::*;

    /// Bytes that a lane may need beside the frames, and keeps, charged to nobody: whatever is
    /// resized, with sides of so many pixels. Four times that with the longest sides.
    const MOST: usize = 8 << 20;
    const SIDE: u32 = 4096;

    #[test]
    fn no_stream_makes_a_lane_keep_much() {
        const SIDES: [((u32, u32), (u32, u32)); 8] = [
            ((SIDE, 1), (1, SIDE)),
            ((1, SIDE), (SIDE, 1)),
            ((SIDE, SIDE), (SIDE, 280)),
            ((SIDE, SIDE), (SIDE, 1)),
            ((SIDE, SIDE), (1, SIDE)),
            ((1, 1), (SIDE, SIDE)),
            ((SIDE, 300), (SIDE - 99, SIDE)),
            ((300, SIDE), (SIDE, 280)),
        ];
        for (from, to) in SIDES {
            for (format, into, alpha) in [
                (PixelFormat::Gray8, PixelFormat::Gray8, Alpha::Apart),
                (PixelFormat::Rgba, PixelFormat::Rgba, Alpha::Apart),
                (PixelFormat::Rgba, PixelFormat::I420, Alpha::Weighs),
                (PixelFormat::I420P10, PixelFormat::Rgb24, Alpha::Apart),
            ] {
                let source = FrameSpec::new(format, Extent::new(from.0, from.1));
                let mut spec = StreamSpec::new(source, Extent::new(to.0, to.1));
                (spec.destination.format, spec.alpha, spec.slots) = (into, alpha, 1);
                let ring = RingLayout::new(&spec).unwrap();
                let placement = spec.placement().unwrap();
                let resizer = CpuResizer::new(scalar::Scalar, &spec, &placement, &ring);
                let words = resizer.works.iter().map(Work::scratch_words).max().unwrap_or(0);
                assert!(words * size_of::<i16>() <= MOST, "{words} words: {spec:?}");
            }
        }
    }
}
