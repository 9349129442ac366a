//! Owns the reading of what is no file: pipes, sockets, terminals, devices. They may have nothing to give for as long
//! as they like, so whoever waits for them looks now and then whether that has still a sense. And of standard
//! input, whatever that is.

use std::fmt::{self, Debug};
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};

/// Names of standard input.
const INPUT: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Milliseconds from one look to the next.
const STEP: u8 = 50;

/// One that is open.
pub struct Pipe {
    file: File,
    over: Box<dyn Fn() -> bool + Send>,
}

impl Pipe {
    /// Opens it, without waiting for who writes to it. None if a file is there, or nothing: that can
    /// be opened as usual. Reading fails once it is `over`.
    pub fn open(path: &Path, over: impl Fn() -> bool + Send + 'static) -> io::Result<Option<Self>> {
        let is_pipe = |what: FileType| what.is_fifo() || what.is_char_device() || what.is_socket();
        if !fs::metadata(path).is_ok_and(|there| is_pipe(there.file_type())) {
            return Ok(None);
        }
        let file = match standard(path)? {
            Some(file) => file,
            None => File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?,
        };
        Ok(Some(Self { file, over: Box::new(over) }))
    }
}

/// Standard input, if that is its name. By that nobody can open a socket, nor a file that only whoever started
/// this process may read; and of any file it would be the beginning, not what is left of it.
pub(crate) fn standard(path: &Path) -> io::Result<Option<File>> {
    let is_input = INPUT.iter().any(|input| path == Path::new(input));
    let open = is_input.then(|| io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    Ok(open.map(File::from))
}

impl Read for Pipe {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut bytes = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let arrived = match poll(&mut bytes, STEP) {
                Ok(ready) => ready > 0,
                Err(Errno::EINTR) => false,
                Err(errno) => return Err(errno.into()),
            };
            if (self.over)() {
                return Err(Errno::ECANCELED.into());
            }
            if arrived {
                match self.file.read(room) {
                    // Another reader was faster.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        }
    }
}

impl Debug for Pipe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pipe").field("file", &self.file).finish_non_exhaustive()
    }
}
