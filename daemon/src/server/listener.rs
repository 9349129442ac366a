//! Owns the socket that clients connect to, its file, and the lock beside it, which says who may
//! make that.
//!
//! Invariants: a live daemon's socket is never taken away from it, even from one that is just about
//! to listen; only a file that this process made is removed, and only while it is still that file.
//! The lock is the kernel's, so it goes with its holder however that ends, and the file that is
//! left of it then locks nobody out.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{self, UnixListener};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, umask};

use super::{Peers, ServerError};

/// A listening Unix socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// The file to remove in the end; `None` where a service manager made it.
    _file: Option<Made>,
    /// Goes last.
    _lock: Option<Lock>,
}

/// A file that this process made.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// What only one daemon has of those that would listen at a path.
#[derive(Debug)]
struct Lock {
    /// Removed while it is locked: who has it open then finds that it is another's.
    _file: Made,
    _locked: Flock<File>,
}

impl Listener {
    /// Makes a socket at `path`, and its folder if need be, open to those who may connect. A file
    /// that a dead daemon left there is replaced.
    pub fn bind(path: &Path, peers: Peers) -> Result<Self, ServerError> {
        let failed = |error| ServerError::Listen { path: path.display().to_string(), error };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let lock = Lock::take(path)?;
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let error = io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket is there",
                );
                return Err(failed(error));
            }
            match net::UnixStream::connect(path) {
                Ok(_) => return Err(ServerError::Taken(path.display().to_string())),
                // Nobody listens. Any other error may come from somebody who lives.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        // By the mask, not by a later chmod: there is no moment at which others could connect.
        let mask = match peers {
            Peers::Owner => Mode::from_bits_retain(0o177),
            Peers::Anyone => Mode::from_bits_retain(0o111),
        };
        let before = umask(mask);
        let bound = UnixListener::bind(path);
        umask(before);
        let socket = bound.map_err(failed)?;
        let identity = identity(path).map_err(failed)?;
        let file = Made { path: path.to_owned(), identity };
        Ok(Self { socket, _file: Some(file), _lock: lock })
    }

    /// Takes over a socket that a service manager listens on.
    pub const fn adopt(socket: UnixListener) -> Self {
        Self { socket, _file: None, _lock: None }
    }

    /// The socket as an asynchronous one, of the runtime that this is called in.
    pub(super) fn accepting(&self) -> io::Result<tokio::net::UnixListener> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(socket)
    }
}

impl Lock {
    /// Takes the lock of the socket at `path`, a file beside it; `None` on a file system that has
    /// no locks.
    fn take(socket: &Path) -> Result<Option<Self>, ServerError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |error| ServerError::Listen { path: path.display().to_string(), error };
        // Nobody else's: whoever could open it could lock it too.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        loop {
            let file = options.open(&path).map_err(failed)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => {
                    let identity = locked.metadata().map(|file| of(&file)).map_err(failed)?;
                    // Otherwise its last holder has removed it since it was opened.
                    if self::identity(&path).is_ok_and(|now| now == identity) {
                        return Ok(Some(Self { _file: Made { path, identity }, _locked: locked }));
                    }
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(ServerError::Taken(socket.display().to_string()));
                }
                Err((_, Errno::EINTR)) => {}
                Err((_, errno @ (Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))) => {
                    tracing::warn!(%errno, path = %path.display(), "the socket can't be locked");
                    return Ok(None);
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|now| now == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the file stays behind");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| of(&file))
}

fn of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
