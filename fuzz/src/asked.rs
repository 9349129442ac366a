//! What a client asks a bridge for that says anything at all.

use resized_client::{
    Coding, Extent, FrameSpec, Jpeg, PixelFormat, Quality, StreamSpec, Subsampling,
};

/// Slots of each stream.
pub const SLOTS: usize = 2;

/// One stream after the other: of planes, and of JPEGs.
pub fn specs() -> [StreamSpec; 2] {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(6, 4));
    let planes = StreamSpec { slots: SLOTS as u32, ..StreamSpec::new(source, Extent::new(5, 3)) };
    let jpeg_out = Some(Jpeg { quality: Quality::DEFAULT, subsampling: Subsampling::Neither });
    [planes, StreamSpec { coding: Coding { jpeg_in: true, jpeg_out }, ..planes }]
}
