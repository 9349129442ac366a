//! Owns a mapping of shared memory and its life: made by the daemon, mapped again by the client.
//!
//! Knows nothing of slots or frames. Invariants: the mapping is readable and writable for `len` bytes until the `Region` is
//! dropped; all its pages are allocated before anyone sees it, so touching them can't fail until either end gives some back
//! to the system. Then they are made again, as zeros, when they are touched: where the system has none to give, see
//! [`guard`](super::guard). No reference to its bytes is ever formed here, since a peer may write them.
//!
//! Pages are huge where the system has them: Linux 6.1 and later, whatever `shmem_enabled` says but
//! `deny`. Then 26 MiB are made in 2 ms instead of 8, first touched by either end in next to no
//! time instead of 12 ms, and copied a quarter faster.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap, shm_open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{SysconfVar, ftruncate, sysconf};
use shared_memory::{Shmem, ShmemConf, ShmemError};
use thiserror::Error;

use super::guard::Guard;

/// Seals that make a region's length final: no end can be cut off under the other.
const SEALS: SealFlag =
    SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Bytes of a huge page, of x86-64 and of aarch64 with pages of 4 KiB. Where they are of another size,
/// there are none but by chance.
pub(super) const HUGE: usize = 2 << 20;

/// Bytes of the smallest pages that there are.
pub(super) const PAGE: usize = 4096;

/// Of <linux/mman.h>; `libc` has them with glibc only.
const MADV_POPULATE_READ: libc::c_int = 22;
const MADV_COLLAPSE: libc::c_int = 25;

/// Why a region can't be made or mapped.
#[derive(Debug, Error)]
pub enum RegionError {
    /// A system call failed.
    #[error("{call}: {}", .errno.desc())]
    System {
        /// Name of the call.
        call: &'static str,
        /// The system's error.
        errno: Errno,
    },
    /// The named segment could not be made or opened.
    #[error("named segment: {0}")]
    Named(ShmemError),
    /// The descriptor is not sealed against a change of its length.
    #[error("the region is not sealed")]
    Unsealed,
    /// The region is shorter than its ring.
    #[error("the region has {found} bytes, its ring needs {needed}")]
    Short {
        /// Bytes there are.
        found: usize,
        /// Bytes there must be.
        needed: usize,
    },
}

impl RegionError {
    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { errno, .. } => Some(*errno as i32),
            Self::Named(
                ShmemError::MapCreateFailed(errno)
                | ShmemError::MapOpenFailed(errno)
                | ShmemError::UnknownOsError(errno),
            ) => i32::try_from(*errno).ok(),
            Self::Named(_) | Self::Unsealed | Self::Short { .. } => None,
        }
    }
}

pub(super) fn system(call: &'static str) -> impl FnOnce(Errno) -> RegionError {
    move |errno| RegionError::System { call, errno }
}

/// A mapping of shared memory.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: NonZeroUsize,
    /// `Some` for a named segment, whose crate owns the mapping; `None` where we unmap it ourselves.
    named: Option<SendShmem>,
    /// Of one that this process made.
    guard: Option<Guard>,
}

/// A region that other processes can open by name, and the name.
#[derive(Debug)]
pub struct NamedRegion {
    /// The mapping.
    pub region: Region,
    /// What [`Region::open_named`] takes.
    pub name: String,
    /// Its file.
    pub file: OwnedFd,
}

struct SendShmem(Shmem);

impl std::fmt::Debug for SendShmem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.get_os_id())
    }
}

// SAFETY: a `Shmem` is a pointer, a length, a descriptor and a name, none of them bound to a thread;
// it is only kept to be dropped, once.
unsafe impl Send for SendShmem {}
// SAFETY: as above; nothing is called through a shared reference but its name's getter.
unsafe impl Sync for SendShmem {}

// SAFETY: a `Region` is an address and a length. It gives out raw pointers only; who dereferences them
// answers for it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Makes a region of `len` bytes: an anonymous file, its pages allocated, its length sealed. The
    /// descriptor is what a peer needs to map it, or another opening of the file ([`Lent`](super::Lent)).
    pub fn create(len: NonZeroUsize) -> Result<(Self, OwnedFd), RegionError> {
        let descriptor =
            memfd_create(c"resized-ring", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
                .map_err(system("memfd_create"))?;
        let file_len = file_len(len)?;
        ftruncate(&descriptor, file_len).map_err(system("ftruncate"))?;
        let region = Self::map(&descriptor, len)?.guarded();
        region.take_huge_pages(&descriptor, file_len);
        allocate(&descriptor, 0, file_len)?;
        fcntl(&descriptor, FcntlArg::F_ADD_SEALS(SEALS)).map_err(system("fcntl(F_ADD_SEALS)"))?;
        Ok((region, descriptor))
    }

    /// Maps a region that a daemon made, which must be sealed and at least `len` bytes long.
    pub fn open(descriptor: impl AsFd, len: NonZeroUsize) -> Result<Self, RegionError> {
        let seals = fcntl(descriptor.as_fd(), FcntlArg::F_GET_SEALS)
            .map_err(system("fcntl(F_GET_SEALS)"))?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(RegionError::Unsealed);
        }
        let stat = fstat(descriptor.as_fd()).map_err(system("fstat"))?;
        let found = usize::try_from(stat.st_size).unwrap_or(0);
        if found < len.get() {
            return Err(RegionError::Short { found, needed: len.get() });
        }
        Self::map(descriptor, len)
    }

    /// Makes a region that can be opened by name. It has no seals: any process of this user can attach to it, and one that
    /// truncates it kills who opened it, and who made it unless that [guards its regions](super::guard_regions). The name goes
    /// with the `Region`.
    pub fn create_named(len: NonZeroUsize) -> Result<NamedRegion, RegionError> {
        let segment = ShmemConf::new().size(len.get()).create().map_err(RegionError::Named)?;
        let name = segment.get_os_id().to_owned();
        // The crate only sets the length: allocate the pages too.
        let file = shm_open(name.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(system("shm_open"))?;
        allocate(&file, 0, file_len(len)?)?;
        Ok(NamedRegion { region: Self::attach(segment, len)?.guarded(), name, file })
    }

    /// Maps a region of that name and at least `len` bytes.
    pub fn open_named(name: &str, len: NonZeroUsize) -> Result<Self, RegionError> {
        Self::attach(ShmemConf::new().os_id(name).open().map_err(RegionError::Named)?, len)
    }

    fn attach(segment: Shmem, len: NonZeroUsize) -> Result<Self, RegionError> {
        let short = RegionError::Short { found: segment.len(), needed: len.get() };
        match NonNull::new(segment.as_ptr()) {
            Some(start) if segment.len() >= len.get() => {
                Ok(Self { start, len, named: Some(SendShmem(segment)), guard: None })
            }
            _ => Err(short),
        }
    }

    fn map(descriptor: impl AsFd, len: NonZeroUsize) -> Result<Self, RegionError> {
        let map = |at: Option<NonZeroUsize>, flags: MapFlags| {
            // SAFETY: a new mapping, at an address of the kernel's choice or in place of what the
            // caller has reserved.
            unsafe {
                let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
                mmap(at, len, all, MapFlags::MAP_SHARED | flags, descriptor.as_fd(), 0)
            }
        };
        let start = match Reserved::new(len) {
            Some(reserved) => {
                let start = map(Some(reserved.aligned()), MapFlags::MAP_FIXED);
                reserved.keep(if start.is_ok() { len.get() } else { 0 });
                start
            }
            None => map(None, MapFlags::empty()),
        };
        let start = start.map_err(system("mmap"))?;
        Ok(Self { start: start.cast(), len, named: None, guard: None })
    }

    fn guarded(mut self) -> Self {
        self.guard = Guard::new(self.start.addr(), self.len);
        self
    }

    /// Has the kernel put huge pages where whole ones fit. It makes none of a stretch of a file
    /// that has no page at all, so each gets its first; the rest is cleared. What can't be had is
    /// left to [`allocate`]. Nobody else has the descriptor yet, and so sees pages change.
    fn take_huge_pages(&self, descriptor: impl AsFd, file_len: i64) {
        let firsts = (0..=file_len - HUGE as i64).step_by(HUGE);
        for first in firsts {
            if allocate(descriptor.as_fd(), first, 1).is_err() {
                return;
            }
        }
        let whole = self.len.get() / HUGE * HUGE;
        if whole > 0 {
            // SAFETY: the range lies within our own mapping, and its bytes stay what they are.
            unsafe { libc::madvise(self.start.as_ptr().cast(), whole, MADV_COLLAPSE) };
        }
    }

    /// Has this process's tables filled in for all pages. No frame waits for that then, and the system counts all of them as
    /// shared memory that this process has (`RssShmem`, see proc(5)), until somebody gives some back.
    pub fn populate(&self) {
        // SAFETY: the range is that of our own mapping, and its bytes stay what they are.
        let populated = unsafe {
            libc::madvise(self.start.as_ptr().cast(), self.len.get(), MADV_POPULATE_READ)
        };
        if populated != 0 {
            // Linux before 5.14 does not know it.
            for offset in (0..self.len.get()).step_by(PAGE) {
                // SAFETY: within the mapping. What is read is of no consequence, whoever may write it.
                unsafe { self.start.add(offset).read_volatile() };
            }
        }
    }

    /// Whether other memory has taken its place in this process, for its own is gone: what is read is of no meaning, and
    /// nobody sees what is written. Only of one that this process [made](Self::create), and if it
    /// [guards](super::guard_regions) them.
    pub fn is_lost(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_lost)
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub const fn len(&self) -> usize {
        self.len.get()
    }

    /// Address of the first byte, page aligned: mapped for [`Self::len`] bytes as long as the region lives. A peer may write
    /// them, or have their pages be zeros, at any moment.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// Addresses with nothing behind them, within which a mapping can begin where a huge page does.
struct Reserved {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Reserved {
    /// For a mapping of `len` bytes; none if that is less than a huge page, or the addresses are
    /// not to be had.
    fn new(len: NonZeroUsize) -> Option<Self> {
        let len = len.checked_add(HUGE - 1).filter(|_| len.get() >= HUGE)?;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing of ours.
        let start =
            unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) };
        Some(Self { start: start.ok()?, len })
    }

    /// The first address in it where a huge page begins.
    fn aligned(&self) -> NonZeroUsize {
        let start = self.start.addr();
        NonZeroUsize::new(start.get().next_multiple_of(HUGE)).unwrap_or(start)
    }

    /// Gives back all but so many bytes from the aligned address on, which are somebody else's now.
    fn keep(self, len: usize) {
        let (start, end) = (self.start.addr().get(), self.start.addr().get() + self.len.get());
        let kept = self.aligned().get();
        // In whole pages, as the kernel has them.
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map_or(HUGE, |page| page as usize);
        let pages = |bytes: usize| bytes.next_multiple_of(page);
        for (from, to) in [(start, kept), (kept + pages(len), pages(end))] {
            if to > from {
                // SAFETY: within what was reserved, and not within what is kept.
                let given_back = unsafe { munmap(self.start.byte_add(from - start), to - from) };
                debug_assert_eq!(given_back, Ok(()));
            }
        }
    }
}

/// So many bytes of memory, allocated, which nobody else can take back.
pub(super) fn spare_memory(len: usize) -> Result<OwnedFd, RegionError> {
    let file = memfd_create(c"resized-spare", MFdFlags::MFD_CLOEXEC);
    let file = file.map_err(system("memfd_create"))?;
    ftruncate(&file, len as i64).map_err(system("ftruncate"))?;
    allocate(&file, 0, len as i64)?;
    Ok(file)
}

/// Beyond what a file can have, it is refused as the kernel would refuse it.
fn file_len(len: NonZeroUsize) -> Result<i64, RegionError> {
    i64::try_from(len.get()).map_err(|_| system("ftruncate")(Errno::EFBIG))
}

/// Allocates the file's pages from an offset on.
fn allocate(descriptor: impl AsFd, from: i64, len: i64) -> Result<(), RegionError> {
    loop {
        match fallocate(descriptor.as_fd(), FallocateFlags::empty(), from, len) {
            Err(Errno::EINTR) => continue,
            outcome => return outcome.map_err(system("fallocate")),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Before another can have its addresses.
        self.guard = None;
        if self.named.is_none() {
            // SAFETY: `start` and `len` are those of the mapping that `map` made, unmapped only here.
            let unmapped = unsafe { munmap(self.start.cast(), self.len.get()) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::skip;

    fn len(bytes: usize) -> NonZeroUsize {
        NonZeroUsize::new(bytes).unwrap()
    }

    fn write_and_read_back(ours: &Region, theirs: &Region, offset: usize) {
        assert!(offset < ours.len() && offset < theirs.len());
        // SAFETY: within both mappings, as just asserted; nobody else knows of them.
        unsafe {
            ours.start().add(offset).write(42);
            assert_eq!(theirs.start().add(offset).read(), 42);
        }
    }

    #[test]
    fn both_ends_see_the_same_bytes() {
        let (ours, descriptor) = Region::create(len(10_000)).unwrap();
        let theirs = Region::open(&descriptor, len(10_000)).unwrap();
        write_and_read_back(&ours, &theirs, 9_999);
    }

    #[test]
    fn all_pages_are_there_before_anyone_touches_them() {
        for bytes in [1, HUGE - 1, HUGE, HUGE + 1, 5 * HUGE / 2] {
            let (ours, descriptor) = Region::create(len(bytes)).unwrap();
            let stat = fstat(&descriptor).unwrap();
            assert_eq!(stat.st_size, bytes as i64);
            assert!(stat.st_blocks * 512 >= stat.st_size, "{} blocks for {bytes}", stat.st_blocks);
            let theirs = Region::open(&descriptor, len(bytes)).unwrap();
            write_and_read_back(&ours, &theirs, 0);
            write_and_read_back(&ours, &theirs, bytes - 1);
        }
    }

    #[test]
    fn large_regions_begin_where_a_huge_page_does_whoever_else_maps() {
        let both = || {
            let (ours, descriptor) = Region::create(len(3 * HUGE + 5000)).unwrap();
            let theirs = Region::open(&descriptor, len(3 * HUGE + 5000)).unwrap();
            for region in [&ours, &theirs] {
                assert!(region.start().addr().get().is_multiple_of(HUGE));
            }
            write_and_read_back(&ours, &theirs, 3 * HUGE + 4999);
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20).for_each(|_| both()));
            }
        });
    }

    /// KiB that a line of smaps, see proc(5), says of a region.
    fn in_smaps(region: &Region, key: &str) -> u64 {
        let start = format!("{:x}-", region.start().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.lines().skip_while(|line| !line.starts_with(&start));
        let mut found = mapping.filter_map(|line| line.strip_prefix(key));
        found.next().map_or(0, |kib| kib.trim().trim_end_matches(" kB").parse().unwrap())
    }

    #[test]
    fn what_was_populated_counts_until_a_peer_gives_it_back() {
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for pages in [10, 3 * HUGE / 2 / PAGE] {
            let (region, descriptor) = Region::create(len(pages * PAGE)).unwrap();
            region.populate();
            assert_eq!(in_smaps(&region, "Rss:"), 4 * pages as u64);
            fallocate(&descriptor, punch, 0, 4 * PAGE as i64).unwrap();
            // Of a huge page that has a hole nothing counts until it is touched.
            assert!(in_smaps(&region, "Rss:") <= 4 * (pages - 4) as u64);
        }
    }

    #[test]
    fn pages_are_huge_where_the_system_has_them() {
        let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
        let (region, _descriptor) = Region::create(len(4 * HUGE)).unwrap();
        // SAFETY: within the mapping, of which nobody else knows.
        unsafe { region.start().write(1) };
        let huge = in_smaps(&region, "ShmemPmdMapped:");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut release = release.split('.').map_while(|number| number.parse::<u32>().ok());
        let release = (release.next().unwrap_or(0), release.next().unwrap_or(0));
        match setting {
            Ok(setting) if !setting.contains("[deny]") && release >= (6, 1) => assert!(huge > 0),
            setting => skip("hugepages", &format!("none on Linux {release:?}: {setting:?}")),
        }
    }

    #[test]
    fn a_peer_can_neither_cut_nor_grow_nor_unseal_it() {
        let (_region, descriptor) = Region::create(len(8192)).unwrap();
        assert_eq!(ftruncate(&descriptor, 4096), Err(Errno::EPERM));
        assert_eq!(ftruncate(&descriptor, 16384), Err(Errno::EPERM));
        let more = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
        assert_eq!(fcntl(&descriptor, more), Err(Errno::EPERM));
    }

    #[test]
    fn an_unsealed_or_short_file_is_not_mapped() {
        let file = memfd_create(c"loose", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&file, 8192).unwrap();
        assert!(matches!(Region::open(&file, len(8192)), Err(RegionError::Unsealed)));
        let (_region, descriptor) = Region::create(len(8192)).unwrap();
        let short = Region::open(&descriptor, len(8193));
        assert!(matches!(short, Err(RegionError::Short { found: 8192, needed: 8193 })));
    }

    #[test]
    fn a_named_segment_is_shared_and_gone_when_dropped() {
        let NamedRegion { region: ours, name, .. } = Region::create_named(len(10_000)).unwrap();
        let theirs = Region::open_named(&name, len(10_000)).unwrap();
        write_and_read_back(&ours, &theirs, 9_999);
        drop(ours);
        assert!(Region::open_named(&name, len(10_000)).is_err());
    }

    #[test]
    fn a_length_beyond_any_file_is_an_error() {
        let error = Region::create(len(usize::MAX)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EFBIG as i32));
    }
}
