//! Owns the passing of descriptors beside bytes (`SCM_RIGHTS`, see unix(7)).
//!
//! Knows no messages. Only the daemon sends descriptors and only clients receive them: the daemon
//! reads its sockets without room for control messages, so the kernel closes whatever is sent at it.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    self, ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg,
};

/// Sends bytes, and a descriptor beside the first of them. Returns how many bytes were taken: if any,
/// the descriptor went along. Never raises `SIGPIPE`.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    flags: MsgFlags,
) -> io::Result<usize> {
    let socket = socket.as_fd().as_raw_fd();
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    loop {
        let sent = match descriptor {
            None => socket::send(socket, bytes, flags),
            Some(descriptor) => {
                let rights = ControlMessage::ScmRights(&[descriptor.as_raw_fd()]);
                sendmsg::<UnixAddr>(socket, &[IoSlice::new(bytes)], &[rights], flags, None)
            }
        };
        match sent {
            Err(nix::errno::Errno::EINTR) => continue,
            sent => return Ok(sent?),
        }
    }
}

/// Receives bytes and the descriptor sent beside them, if any. Waits for the first byte, unless the
/// flags say otherwise. Zero bytes: the peer has closed the connection.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: MsgFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = cmsg_space!(RawFd);
    let mut iov = [IoSliceMut::new(bytes)];
    loop {
        let received = recvmsg::<UnixAddr>(
            socket.as_fd().as_raw_fd(),
            &mut iov,
            Some(&mut control),
            flags | MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let received = match received {
            Err(nix::errno::Errno::EINTR) => continue,
            received => received?,
        };
        let mut descriptor = None;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raws) = message {
                for raw in raws {
                    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                    descriptor = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        return Ok((received.bytes, descriptor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn inode(descriptor: impl AsFd) -> (u64, u64) {
        let stat = nix::sys::stat::fstat(descriptor).unwrap();
        (stat.st_dev, stat.st_ino)
    }

    #[test]
    fn a_descriptor_arrives_as_the_same_file() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(send(&ours, b"ab", Some(file.as_fd()), MsgFlags::empty()).unwrap(), 2);
        assert_eq!(send(&ours, b"c", None, MsgFlags::empty()).unwrap(), 1);
        let mut bytes = [0; 2];
        let (read, descriptor) = receive(&theirs, &mut bytes, MsgFlags::empty()).unwrap();
        assert_eq!((read, &bytes), (2, b"ab"));
        assert_eq!(inode(descriptor.unwrap()), inode(&file));
        let (read, descriptor) = receive(&theirs, &mut bytes, MsgFlags::empty()).unwrap();
        assert_eq!(read, 1);
        assert!(descriptor.is_none());
    }

    #[test]
    fn a_closed_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = send(&ours, b"a", None, MsgFlags::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
