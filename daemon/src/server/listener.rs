//! Owns the socket that clients connect to, and its file.
//!
//! Invariants: a live daemon's socket is never taken away from it; only a file that this process made
//! is removed, and only while it is still that file.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{self, UnixListener};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::{Peers, ServerError};

/// A listening Unix socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// The file to remove in the end; `None` where a service manager made it.
    _file: Option<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Listener {
    /// Makes a socket at `path`, and its folder if need be, open to those who may connect. A file
    /// that a dead daemon left there is replaced.
    pub fn bind(path: &Path, peers: Peers) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen { path: path.display().to_string(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        if is_socket(path) {
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
        Ok(Self { socket, _file: Some(File { path: path.to_owned(), identity }) })
    }

    /// Takes over a socket that a service manager listens on.
    pub const fn adopt(socket: UnixListener) -> Self {
        Self { socket, _file: None }
    }

    /// The socket as an asynchronous one, of the runtime that this is called in.
    pub(super) fn accepting(&self) -> io::Result<tokio::net::UnixListener> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(socket)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|now| now == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket's file stays behind");
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
