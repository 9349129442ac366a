//! Owns what becomes of a process whose rings' pages are gone, and can't be had again.
//!
//! All pages of a region were allocated, but a peer may give some back to the system (fallocate(2)). They are made again when
//! they are touched, unless the system has none to give (`vm.overcommit_memory=2`); of a named segment that was cut off there
//! are none at all, and memory may break. Then the system raises SIGBUS, which ends the process. A daemon asks for
//! [`guard_regions`] instead: memory of its own takes the place of the region in this process, whoever is at it goes on, and
//! the region [is lost](super::Region::is_lost).
//!
//! Knows no slots. Invariants: only regions that are alive are replaced, and only in whole, so that what is written from then
//! on is seen by nobody else; what is no region's goes to whoever had the signal before. The handler takes no lock and
//! allocates nothing: it reads and writes atomics, and calls the system (signal-safety(7)). None of the memory that takes the
//! place is asked for then, since that might be what there is none of: it is [`SPARE`] bytes, in as many places as are
//! touched.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction, signal};

use super::RegionError;
use super::region::{HUGE, PAGE, spare_memory, system};

/// Regions of a process that can be guarded at the same time.
pub const GUARDED: usize = 1 << 16;

/// Bytes of the memory that takes the place of what is gone.
const SPARE: usize = HUGE;

/// Where its regions are, with those that were and will be: a [`Span`] each, or 0.
static SPANS: [AtomicU64; GUARDED] = [const { AtomicU64::new(0) }; GUARDED];

/// What became of each: one of those below.
static STATES: [AtomicU8; GUARDED] = [const { AtomicU8::new(WHOLE) }; GUARDED];

/// The first that never was one: nobody has to look farther.
static END: AtomicUsize = AtomicUsize::new(0);

/// As it was made; about to be replaced, by one thread; replaced.
const WHOLE: u8 = 0;
const GOING: u8 = 1;
const LOST: u8 = 2;

/// The descriptor of the spare memory, which is never closed; none before there is a handler.
static SPARE_FILE: AtomicI32 = AtomicI32::new(-1);

/// What was done about the signal before.
static FORMER: OnceLock<SigAction> = OnceLock::new();

/// Addresses of a region in one word, so that a handler never sees half of them: the number of the first page, and that of
/// pages.
#[derive(Clone, Copy)]
struct Span(u64);

impl Span {
    const LEN_BITS: u32 = 28;

    /// `None`: for an address beyond 48 bits, or more than a TiB.
    fn new(start: NonZeroUsize, len: NonZeroUsize) -> Option<Self> {
        let (first, pages) = ((start.get() / PAGE) as u64, len.get().div_ceil(PAGE) as u64);
        let fits = first >> (u64::BITS - Self::LEN_BITS) == 0 && pages >> Self::LEN_BITS == 0;
        fits.then_some(Self(first << Self::LEN_BITS | pages))
    }

    const fn start(self) -> usize {
        (self.0 >> Self::LEN_BITS) as usize * PAGE
    }

    const fn len(self) -> usize {
        (self.0 & ((1 << Self::LEN_BITS) - 1)) as usize * PAGE
    }

    const fn contains(self, address: usize) -> bool {
        self.start() <= address && address - self.start() < self.len()
    }
}

/// A region's place among those that are guarded.
#[derive(Debug)]
pub(super) struct Guard(usize);

impl Guard {
    /// `None` if there are too many; then its loss ends the process. Dropped before the region is unmapped.
    pub(super) fn new(start: NonZeroUsize, len: NonZeroUsize) -> Option<Self> {
        let span = Span::new(start, len)?;
        let free = |place: &AtomicU64| {
            place.load(Ordering::Relaxed) == 0
                && place.compare_exchange(0, span.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let index = SPANS.iter().position(free)?;
        END.fetch_max(index + 1, Ordering::AcqRel);
        Some(Self(index))
    }

    /// Whether other memory has taken the region's place.
    pub(super) fn is_lost(&self) -> bool {
        STATES[self.0].load(Ordering::Relaxed) != WHOLE
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody touches the region any more, so no handler is at it.
        STATES[self.0].store(WHOLE, Ordering::Relaxed);
        SPANS[self.0].store(0, Ordering::Release);
    }
}

/// From now on, the loss of a region's pages costs this process that region alone. For a program that is a daemon: it takes
/// SIGBUS from whoever has it, and passes on what is not about regions.
///
/// # Errors
///
/// There is no memory to take a region's place, or the signal can't be had.
pub fn guard_regions() -> Result<(), RegionError> {
    // Or the second of two threads would take our handler for the former one.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if FORMER.get().is_some() {
        return Ok(());
    }
    let spare = spare_memory(SPARE)?;
    SPARE_FILE.store(spare.into_raw_fd(), Ordering::Release);
    // On the stack of who is at the region: others, for handlers alone, may have room for little more than vector registers.
    let handler = SigHandler::SigAction(on_bus_error);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler does what a handler may, see above.
    let former = unsafe { sigaction(Signal::SIGBUS, &action) }.map_err(system("sigaction"))?;
    let _ = FORMER.set(former);
    Ok(())
}

/// The handler.
extern "C" fn on_bus_error(number: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the system passes what `SA_SIGINFO` asks for.
    let code = unsafe { (*info).si_code };
    // SAFETY: the same; asked for only of what the system says that it raised itself, over an address.
    let address = || unsafe { (*info).si_addr() as usize };
    let done = match code {
        libc::BUS_ADRERR | libc::BUS_MCEERR_AR => replace(address()),
        // Broken, and nobody has touched it: so the region may be about to go. Whoever does touch it has the signal above.
        libc::BUS_MCEERR_AO => region_at(address()).is_some(),
        _ => false,
    };
    if !done {
        // Those that are no fault of what this thread does, which would do it again.
        pass_on(number, info, context, code <= 0 || code == libc::BUS_MCEERR_AO);
    }
    Errno::set_raw(errno);
}

/// The number of the region that has that address, and where it is.
fn region_at(address: usize) -> Option<(usize, Span)> {
    let spans = SPANS[..END.load(Ordering::Acquire)].iter();
    let spans = spans.map(|span| Span(span.load(Ordering::Acquire)));
    spans.enumerate().find(|(_, span)| span.contains(address))
}

/// Whether there is memory at an address of a region again, which this thread touched.
fn replace(address: usize) -> bool {
    // A region that is touched is not about to go, and neither is its span.
    let Some((index, span)) = region_at(address) else { return false };
    let state = &STATES[index];
    match state.compare_exchange(WHOLE, GOING, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            let replaced = map_spare(span.start(), span.len());
            state.store(if replaced { LOST } else { WHOLE }, Ordering::Release);
            replaced
        }
        // It is tried again, until another thread's handler is done.
        Err(GOING) => true,
        // The spare memory ends before the region does: it begins again.
        Err(_) => {
            let place = (address - span.start()) / SPARE * SPARE;
            map_spare(span.start() + place, (span.len() - place).min(SPARE))
        }
    }
}

/// Has spare memory, and where that ends nothing, take the place of what is at those addresses of a region; whether it has.
fn map_spare(start: usize, len: usize) -> bool {
    let (Some(start), Some(len)) = (NonZeroUsize::new(start), NonZeroUsize::new(len)) else {
        return false;
    };
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
    // SAFETY: the file is never closed; the addresses are those of a region that is alive, whose bytes anybody may change at
    // any moment. Whoever is at them finds others.
    unsafe {
        let spare = BorrowedFd::borrow_raw(SPARE_FILE.load(Ordering::Acquire));
        mmap(Some(start), len, both, flags, spare, 0).is_ok()
    }
}

/// Does what would have been done about the signal without us. It `may_be_ignored` if somebody sent it, or nobody touched what
/// broke.
fn pass_on(
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    may_be_ignored: bool,
) {
    match FORMER.get().map(SigAction::handler) {
        Some(SigHandler::SigAction(handler)) => handler(number, info, context),
        Some(SigHandler::Handler(handler)) => handler(number),
        Some(SigHandler::SigIgn) if may_be_ignored => {}
        Some(SigHandler::SigDfl | SigHandler::SigIgn) | None => {
            // SAFETY: no handler is installed.
            let _ = unsafe { signal(Signal::SIGBUS, SigHandler::SigDfl) };
            // Comes once this handler is over.
            let _ = raise(Signal::SIGBUS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::fcntl::OFlag;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::mman::{shm_open, shm_unlink};
    use nix::sys::stat::Mode;
    use nix::unistd::ftruncate;

    use super::*;
    use crate::shm::{NamedRegion, Region};

    fn span(start: usize, len: usize) -> Option<Span> {
        Span::new(NonZeroUsize::new(start).unwrap(), NonZeroUsize::new(len).unwrap())
    }

    #[test]
    fn a_span_is_what_it_was_made_of_or_none() {
        let last = (1 << 48) - PAGE;
        for (start, len) in [(PAGE, 1), (last, PAGE), (last, (1 << 40) - PAGE)] {
            let span = span(start, len).unwrap();
            assert_eq!((span.start(), span.len()), (start, len.next_multiple_of(PAGE)));
            for (address, within) in [
                (start - 1, false),
                (start, true),
                (start + span.len() - 1, true),
                (start + span.len(), false),
            ] {
                assert_eq!(span.contains(address), within);
            }
        }
        assert!(span(1 << 48, PAGE).is_none() && span(PAGE, 1 << 40).is_none());
        assert!(!Span(0).contains(0));
    }

    /// A region whose file ends before it does.
    fn cut_off(len: usize) -> Region {
        let NamedRegion { region, name, .. } =
            Region::create_named(NonZeroUsize::new(len).unwrap()).unwrap();
        let file = shm_open(name.as_str(), OFlag::O_RDWR, Mode::empty()).unwrap();
        ftruncate(&file, 0).unwrap();
        // A process that ends by the signal would leave the name.
        shm_unlink(name.as_str()).unwrap();
        region
    }

    fn write_and_read(region: &Region, offset: usize) {
        assert!(offset < region.len());
        // SAFETY: within the region; nobody else knows of it.
        unsafe {
            region.start().add(offset).write_volatile(42);
            assert_eq!(region.start().add(offset).read_volatile(), 42);
        }
    }

    #[test]
    fn a_region_that_was_cut_off_is_lost_and_nothing_else() {
        guard_regions().unwrap();
        guard_regions().unwrap();
        let len = 2 * SPARE + 5000;
        let (whole, _descriptor) = Region::create(NonZeroUsize::new(len).unwrap()).unwrap();
        for first in [0, SPARE + 1, len - 1] {
            let (lost, other) = (cut_off(len), cut_off(len));
            assert!(!lost.is_lost());
            write_and_read(&lost, first);
            assert!(lost.is_lost() && !other.is_lost() && !whole.is_lost());
            (0..len).step_by(PAGE).for_each(|offset| write_and_read(&lost, offset));
            write_and_read(&lost, len - 1);
        }
        (0..len).step_by(PAGE).for_each(|offset| write_and_read(&whole, offset));
        assert!(!whole.is_lost());
    }

    #[test]
    fn many_threads_may_find_it_lost_at_once() {
        guard_regions().unwrap();
        for _ in 0..20 {
            let lost = cut_off(4 * SPARE);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let lost = &lost;
                    scope.spawn(move || {
                        for offset in (thread..lost.len()).step_by(PAGE) {
                            // SAFETY: within the region. Others write elsewhere, or the same.
                            unsafe { lost.start().add(offset).write_volatile(7) };
                        }
                    });
                }
            });
            assert!(lost.is_lost());
        }
    }

    /// As siginfo_t has it.
    #[repr(C)]
    struct Told {
        number: libc::c_int,
        errno: libc::c_int,
        code: libc::c_int,
        address: *mut u8,
        others: [u64; 13],
    }

    #[test]
    fn a_region_that_nobody_touched_as_its_memory_broke_stays_where_it_is() {
        guard_regions().unwrap();
        let (region, _descriptor) = Region::create(NonZeroUsize::new(PAGE).unwrap()).unwrap();
        write_and_read(&region, 7);
        let (number, code) = (libc::SIGBUS, libc::BUS_MCEERR_AO);
        let told =
            Told { number, errno: 0, code, address: region.start().as_ptr(), others: [0; 13] };
        assert_eq!(size_of_val(&told), size_of::<libc::siginfo_t>());
        // SAFETY: a process may tell itself what the system would; as long as what it reads.
        let sent = unsafe {
            let (call, itself) = (libc::SYS_rt_tgsigqueueinfo, libc::getpid());
            libc::syscall(call, itself, libc::gettid(), number, &raw const told)
        };
        assert_eq!(Errno::result(sent), Ok(0));
        // SAFETY: within the region; nobody else knows of it.
        assert_eq!(unsafe { region.start().add(7).read_volatile() }, 42);
        assert!(!region.is_lost());
    }

    /// Set in the process that a test has end by the signal.
    const ENDS: &str = "RESIZED_TEST_SIGBUS";

    #[test]
    fn what_is_no_regions_ends_the_process_as_ever() {
        if std::env::var_os(ENDS).is_some() {
            guard_regions().unwrap();
            let _regions = [cut_off(PAGE), cut_off(PAGE)];
            let file = memfd_create(c"none", MFdFlags::empty()).unwrap();
            let len = NonZeroUsize::new(PAGE).unwrap();
            // SAFETY: a new mapping, which is there though its file has nothing.
            unsafe {
                let start = mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0);
                start.unwrap().cast::<u8>().read_volatile();
            }
            return;
        }
        let mut itself = Command::new(std::env::current_exe().unwrap());
        let name = "shm::guard::tests::what_is_no_regions_ends_the_process_as_ever";
        let ended = itself.args(["--exact", name]).env(ENDS, "").output().unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGBUS), "{ended:?}");
    }
}
