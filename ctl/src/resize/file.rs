//! Owns one file's way: read, resized, written.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use resized_client::Client;
use resized_pictures::{Desk, Limits, Loss, PictureError, Settings};

use super::error::FileError;
use super::output::Outputs;
use crate::pipe::{Pipe, standard};
use crate::signal::{GRACE, Signal};

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 30;

/// Resizes one file after the other. Each thread has one.
pub(crate) struct Files {
    desk: Desk,
    settings: Settings,
    signal: Signal,
    file: Vec<u8>,
}

impl Files {
    pub(crate) fn new(
        client: Client,
        limits: Limits,
        settings: Settings,
        signal: Signal,
    ) -> Result<Self, PictureError> {
        let over = {
            let (signal, came) = (signal.clone(), OnceLock::new());
            move || signal.came() && came.get_or_init(Instant::now).elapsed() >= GRACE
        };
        let desk = Desk::new(client, limits)?.until(over);
        Ok(Self { desk, settings, signal, file: Vec::new() })
    }

    /// Resizes the picture at `from`, which has that number among the outputs. What was lost. After a
    /// signal no pipe is waited for, nor the daemon for long.
    pub(crate) fn resize(
        &mut self,
        from: &Path,
        outputs: &Outputs,
        number: usize,
    ) -> Result<Vec<Loss>, FileError> {
        let signal = self.signal.clone();
        read(from, move || signal.came(), &mut self.file)?;
        let planned = self.desk.plan(&self.file, &self.settings)?;
        let losses = planned.losses();
        outputs.write(number, &self.desk.make(planned)?.bytes)?;
        Ok(losses)
    }
}

/// The names in a file, one a line; lines may end as on Windows. There may be none.
pub(crate) fn listed(list: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut file = Vec::new();
    let bytes = bytes(list, || false, &mut file).map_err(FileError::Read)?;
    if bytes > MAX_FILE {
        return Err(FileError::Long(MAX_FILE));
    }
    let lines = file.split(|&byte| byte == b'\n');
    let names = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name).into()).collect())
}

/// Reads a picture. A pipe is waited for until that is `over`.
fn read(
    path: &Path,
    over: impl Fn() -> bool + Send + 'static,
    file: &mut Vec<u8>,
) -> Result<(), FileError> {
    let bytes = bytes(path, over, file).map_err(|error| match error.kind() {
        ErrorKind::IsADirectory => FileError::Folder(path.to_owned()),
        _ => FileError::Read(error),
    });
    match bytes? {
        0 => Err(FileError::Empty),
        1..=MAX_FILE => Ok(()),
        _ => Err(FileError::Long(MAX_FILE)),
    }
}

/// Reads what there is, at most one byte more than may be, and says how many bytes that is.
fn bytes(
    path: &Path,
    over: impl Fn() -> bool + Send + 'static,
    file: &mut Vec<u8>,
) -> io::Result<u64> {
    file.clear();
    let read = match Pipe::open(path, over)? {
        Some(pipe) => pipe.take(MAX_FILE + 1).read_to_end(file),
        None => {
            let open = standard(path)?.map_or_else(|| File::open(path), Ok)?;
            open.take(MAX_FILE + 1).read_to_end(file)
        }
    };
    read.map(|bytes| bytes as u64)
}
