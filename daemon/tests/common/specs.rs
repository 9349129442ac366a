//! Owns the spec that most tests begin with; for those in the daemon's sources and those beside them.

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Filter, StreamSpec};

pub(crate) fn spec(
    format: PixelFormat,
    filter: Filter,
    from: (u32, u32),
    to: (u32, u32),
) -> StreamSpec {
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    StreamSpec { filter, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
}
