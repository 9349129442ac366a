//! Owns the passing of descriptors beside bytes (`SCM_RIGHTS`, see unix(7)).
//!
//! Knows no messages. Only the daemon sends descriptors and only clients receive them: the daemon
//! reads its sockets without room for control messages, so the kernel closes whatever is sent at it.
//!
//! A descriptor that was sent and not yet read is on its way: it keeps its file alive, and the
//! kernel counts it against the sender's user, to whom it refuses more of them than RLIMIT_NOFILE,
//! with ETOOMANYREFS.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{self, ControlMessage, MsgFlags, UnixAddr, recvmsg, sendmsg};

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
            Err(Errno::EINTR) => continue,
            sent => return Ok(sent?),
        }
    }
}

/// Bytes of a control message with one descriptor, to the next word; see cmsg(3).
const CONTROL: usize = size_of::<libc::cmsghdr>() + size_of::<usize>();

/// Room for it, where a header may lie.
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// A descriptor that came beside bytes, or why it was lost: this process may have no more of them.
pub type Passed = Result<OwnedFd, Errno>;

/// Receives bytes and the descriptor sent beside them, if any. Waits for the first byte, unless the
/// flags say otherwise. Zero bytes: the peer has closed the connection.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: MsgFlags,
) -> io::Result<(usize, Option<Passed>)> {
    let mut control = Control([0; CONTROL]);
    let mut iov = [IoSliceMut::new(bytes)];
    loop {
        let received = recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut iov,
            Some(&mut control.0),
            flags | MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let (read, cut) = match received {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(received) => (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC)),
        };
        // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
        let own = |raw| unsafe { OwnedFd::from_raw_fd(raw) };
        // All of them, so that those are closed that nobody asked for.
        let descriptor = raw_descriptors(&control.0).map(own).last();
        // There is room for the only one that a daemon sends at a time: the kernel could not give it a
        // number.
        let descriptor = if cut { Some(Err(Errno::EMFILE)) } else { descriptor.map(Ok) };
        return Ok((read, descriptor));
    }
}

/// The descriptors in a buffer for control messages that was zero before and has room for one
/// message, see cmsg(3): its length, level and type, and they. Not by nix, which shows nothing of
/// one that was cut short.
fn raw_descriptors(control: &[u8]) -> impl Iterator<Item = RawFd> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let rights = [libc::SOL_SOCKET, libc::SCM_RIGHTS].map(i32::to_ne_bytes);
    let len = match control.split_at_checked(HEADER) {
        Some((header, _)) if header.ends_with(rights.as_flattened()) => {
            header.first_chunk().map_or(0, |len| usize::from_ne_bytes(*len))
        }
        _ => 0,
    };
    let (raws, _) = control.get(HEADER..len).unwrap_or_default().as_chunks();
    raws.iter().map(|raw| RawFd::from_ne_bytes(*raw))
}

nix::ioctl_read_bad!(
    /// `SIOCOUTQ`, whose number is that of `TIOCOUTQ`. For a Unix socket: bytes of the kernel's
    /// memory that hold what was sent and not yet read, all of it taken for the sender's; see
    /// af_unix.c and `sock_wfree`.
    unread,
    libc::TIOCOUTQ,
    libc::c_int
);

/// What [`unread`] says at the most while the kernel frees the last of it. A message that was not
/// read takes hundreds of bytes.
const FREEING: i32 = 1;

/// Whether the peer has read all that was sent to it, or is gone: then no descriptor is on its way
/// to it.
pub fn all_read(socket: impl AsFd) -> io::Result<bool> {
    let mut bytes = 0;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel writes one `c_int`, for which
    // there is room.
    unsafe { unread(socket.as_fd().as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes <= FREEING)
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
        assert_eq!(inode(descriptor.unwrap().unwrap()), inode(&file));
        let (read, descriptor) = receive(&theirs, &mut bytes, MsgFlags::empty()).unwrap();
        assert_eq!(read, 1);
        assert!(descriptor.is_none());
    }

    #[test]
    fn none_of_more_descriptors_than_there_is_room_for_stays_open() {
        for many in 2..5 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (mut end, writer) = io::pipe().unwrap();
            let rights = vec![writer.as_raw_fd(); many];
            let rights = ControlMessage::ScmRights(&rights);
            let (socket, bytes) = (ours.as_raw_fd(), [IoSlice::new(b"a")]);
            sendmsg::<UnixAddr>(socket, &bytes, &[rights], MsgFlags::empty(), None).unwrap();
            drop(writer);
            let (read, descriptor) = receive(&theirs, &mut [0; 2], MsgFlags::empty()).unwrap();
            assert_eq!((read, many > 2), (1, matches!(descriptor, Some(Err(Errno::EMFILE)))));
            drop(descriptor);
            // It would wait for who could still write.
            assert_eq!(io::Read::read(&mut end, &mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn what_was_sent_is_unread_until_it_is_read_or_the_peer_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(all_read(&ours).unwrap());
        for bytes in [&b"ab"[..], b"c"] {
            send(&ours, bytes, Some(file.as_fd()), MsgFlags::empty()).unwrap();
        }
        let read = |room: &mut [u8]| drop(receive(&theirs, room, MsgFlags::empty()).unwrap());
        read(&mut [0; 2]);
        assert!(!all_read(&ours).unwrap());
        // What others send is no matter.
        send(&theirs, b"d", None, MsgFlags::empty()).unwrap();
        read(&mut [0; 1]);
        assert!(all_read(&ours).unwrap());
        send(&ours, b"e", Some(file.as_fd()), MsgFlags::empty()).unwrap();
        // Hanging up does not take it back.
        ours.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(!all_read(&ours).unwrap());
        drop(theirs);
        assert!(all_read(&ours).unwrap());
    }

    #[test]
    fn a_closed_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = send(&ours, b"a", None, MsgFlags::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
