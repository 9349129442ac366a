//! A client that does nothing wrong, and must notice nothing of those that do.

use resized_client::{Client, Extent, FrameSpec, PixelFormat, Stream, StreamSpec};

/// A client with a stream of its own.
#[derive(Debug)]
pub struct Honest(Stream);

impl Honest {
    /// Opens its stream.
    pub fn new(client: &Client) -> Self {
        let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(64, 64));
        Self(client.open(&StreamSpec::new(source, Extent::new(32, 32))).unwrap())
    }

    /// A frame of one shade stays that.
    pub fn frame(&self, shade: u8) {
        let mut slot = self.0.loan().unwrap();
        slot.plane_mut(0).fill(shade);
        let frame = slot.submit().unwrap().wait().unwrap();
        let plane = frame.layout().planes()[0];
        for row in frame.plane(0).chunks(plane.stride) {
            assert!(row[..plane.row_bytes()].iter().all(|&pixel| pixel == shade));
        }
    }
}
