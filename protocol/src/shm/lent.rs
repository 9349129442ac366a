//! Owns the file of a region that its maker has lent to a peer, until the peer has let go of it.
//!
//! Knows no mappings. Whoever may write a file can hold its lock for as long as it likes: a write(2) from memory that never
//! comes, of a FUSE file of its own, say. Who takes pages back from the file waits for that lock, and can't even be killed
//! meanwhile. So they are taken back only while nobody else has the file open or mapped, which a lease tells (fcntl(2),
//! `F_SETLEASE`): while it is held nobody can open the file either. Invariant: a peer has openings of the file of its own, never
//! the one here, or the lease would not tell.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{self, c_int};

use super::RegionError;
use super::region::{HUGE, system};

/// Of <linux/fcntl.h>; `libc` has it with glibc only.
const F_SETSIG: c_int = 10;

/// A region's file.
#[derive(Debug)]
pub struct Lent {
    /// Opened by its path, so that the system counts it among those that have it open: the one that made it is not.
    file: File,
    len: i64,
}

impl Lent {
    /// The file of a region of that length, by the descriptor that came with it.
    pub fn new(made: OwnedFd, len: NonZeroUsize) -> Result<Self, RegionError> {
        let file = open(&made)?;
        // To its end, in whole pages of whatever size.
        let len = i64::try_from(len.get().next_multiple_of(HUGE)).unwrap_or(i64::MAX);
        Ok(Self { file, len })
    }

    /// Opens it once more, for a peer.
    pub fn open(&self) -> Result<OwnedFd, RegionError> {
        open(&self.file).map(OwnedFd::from)
    }

    /// Gives the pages back to the system, unless somebody else has the file open or mapped. Returns whether nobody has, as far as
    /// the system can tell.
    pub fn take_back(&self) -> bool {
        // Who opens the file during a lease waits, and has us sent a signal. The usual one would end this process; this one is
        // ignored by default. The end of a lease forgets it.
        let leased = control(&self.file, F_SETSIG, libc::SIGURG)
            .and_then(|()| control(&self.file, libc::F_SETLEASE, libc::F_WRLCK));
        match leased {
            Ok(()) => {}
            // Somebody has, or it can't be told now.
            Err(Errno::EAGAIN | Errno::ENOMEM | Errno::ENOLCK) => return false,
            // There are no leases here, or none for this process. The pages go with the file then, when nobody has it any more.
            Err(_) => return true,
        }
        // They go with the file, but for who kept a path to it (O_PATH).
        let all = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let _ = fallocate(&self.file, all, 0, self.len);
        let _ = control(&self.file, libc::F_SETLEASE, libc::F_UNLCK);
        true
    }
}

fn open(file: &impl AsRawFd) -> Result<File, RegionError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    opened.map_err(|error| system("open")(errno(error)))
}

fn control(file: &File, command: c_int, argument: c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and these commands take a number.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use nix::sys::stat::fstat;

    use super::*;
    use crate::shm::{NamedRegion, Region};

    fn len() -> NonZeroUsize {
        NonZeroUsize::new(10_000).unwrap()
    }

    fn made() -> (Region, Lent) {
        let (region, file) = Region::create(len()).unwrap();
        (region, Lent::new(file, len()).unwrap())
    }

    fn pages(lent: &Lent) -> i64 {
        fstat(&lent.file).unwrap().st_blocks
    }

    #[test]
    fn what_nobody_has_is_taken_back() {
        let (region, lent) = made();
        assert!(pages(&lent) > 0);
        drop(region);
        assert!(lent.take_back());
        assert_eq!(pages(&lent), 0);
        // Also once more.
        assert!(lent.take_back());
    }

    #[test]
    fn what_somebody_has_in_any_way_is_not() {
        let (region, lent) = made();
        let theirs = lent.open().unwrap();
        assert!(!lent.take_back());
        let again = theirs.try_clone().unwrap();
        drop(theirs);
        assert!(!lent.take_back());
        let mapped = Region::open(&again, len()).unwrap();
        drop(again);
        assert!(!lent.take_back());
        // SAFETY: within the mappings, of which nobody else knows.
        unsafe {
            mapped.start().write(7);
            assert_eq!(region.start().read(), 7);
        }
        drop(mapped);
        let path = format!("/proc/self/fd/{}", lent.file.as_raw_fd());
        let reads = File::open(path).unwrap();
        assert!(pages(&lent) > 0 && !lent.take_back());
        drop(reads);
        drop(region);
        assert!(lent.take_back());
        assert_eq!(pages(&lent), 0);
    }

    /// It is opened meanwhile again and again, by whoever kept a way to it: that costs nobody this process.
    #[test]
    fn who_opens_it_as_it_is_taken_back_ends_nobody() {
        let (_region, lent) = made();
        thread::scope(|scope| {
            let opening = scope.spawn(|| {
                for _ in 0..2000 {
                    drop(lent.open());
                }
            });
            while !opening.is_finished() {
                lent.take_back();
            }
        });
        thread::sleep(Duration::from_millis(10));
        assert!(lent.take_back());
    }

    #[test]
    fn a_named_one_is_taken_back_when_its_maker_has_let_go_too() {
        let NamedRegion { region, name, file } = Region::create_named(len()).unwrap();
        let lent = Lent::new(file, len()).unwrap();
        let theirs = Region::open_named(&name, len()).unwrap();
        drop(region);
        assert!(!lent.take_back());
        drop(theirs);
        assert!(lent.take_back());
    }
}
