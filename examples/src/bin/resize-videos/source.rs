//! Owns where the bytes of a video come from: a file or an address, which FFmpeg reads, or a pipe, which is
//! read here.
//!
//! Knows nothing of what the bytes are. Invariant: nobody waits for bytes for long once the run ends.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ffmpeg_next::Error;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::format::{input_from_stream, input_with_interrupt};
use resizectl::pipe::Pipe;

use crate::stop::Stop;

/// Opens a video, and says whether it is a pipe. Reading it fails once the run ends.
pub(crate) fn open(path: &Path, stop: &Arc<Stop>) -> Result<(Input, bool)> {
    let name = path.to_str().filter(|name| !name.contains('\0'));
    let name = name.context("FFmpeg only takes file names in UTF-8")?;
    let over = {
        let stop = Arc::clone(stop);
        move || stop.is_set()
    };
    // What FFmpeg calls standard input.
    let place = if matches!(name, "pipe:" | "pipe:0") { Path::new("/dev/stdin") } else { path };
    if let Some(pipe) = Pipe::open(place, over.clone()).map_err(of_the_system)? {
        return Ok((input_from_stream(StreamIo::from_read(pipe)?, Some(name), None)?, true));
    }
    // FFmpeg takes what is before a colon for a protocol, but not behind a slash.
    let base = if path.exists() { "." } else { "" };
    Ok((input_with_interrupt(&Path::new(base).join(path), over)?, false))
}

/// The file that a video's name is of, or the files, by a pattern of FFmpeg's: as [`open`] takes it.
pub(crate) fn file(video: &Path) -> &Path {
    let protocol = video.to_str().and_then(|name| name.strip_prefix("file:"));
    protocol.filter(|_| !video.exists()).map_or(video, Path::new)
}

/// As FFmpeg would put it.
fn of_the_system(error: io::Error) -> Error {
    error.raw_os_error().map_or(Error::External, |errno| Error::Other { errno })
}
