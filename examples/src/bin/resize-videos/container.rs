//! Owns what a file says around its coded video, as far as `ffmpeg-next` has no safe way to it.
#![allow(unsafe_code)]

use ffmpeg_next::Rational;
use ffmpeg_next::format::stream::Stream;

/// How many times wider than high the samples of a stream are to be shown; 0/1 where the file leaves that
/// to the coded video.
pub(crate) fn aspect_ratio(stream: &Stream<'_>) -> Rational {
    // SAFETY: the stream is its open file's, which is borrowed as long as it is: FFmpeg neither frees
    // it nor writes to it but by calls that have the file to themselves.
    unsafe { (*stream.as_ptr()).sample_aspect_ratio }.into()
}
