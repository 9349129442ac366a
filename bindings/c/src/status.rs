//! Owns how a call ends: its status, the words to it, and that a panic ends here.
//!
//! Invariant: what [`resized_last_error`] points to belongs to the calling thread, and stays until
//! the next call in it that fails.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use resized_client::{EndpointError, Error};
use thiserror::Error as ThisError;

/// How a call ended. New ones may come: take what you do not know for an error.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As asked for.
    Ok = 0,
    /// Nothing went wrong, but the time is over. Ask again, or release.
    Timeout = 1,
    /// An argument is NULL, not aligned, or no value that it may have.
    Argument = 2,
    /// No such handle: NULL, released before, or never given out.
    Handle = 3,
    /// Not what may be done with a slot now: it is not loaned, not submitted or not resized, or
    /// another thread is in a call with it.
    State = 4,
    /// A buffer is too short, or not of the length that it must have.
    Length = 5,
    /// No endpoint: the text is none, or no daemon answers in the usual places.
    Endpoint = 6,
    /// Nobody answers at the endpoint, or nobody whom the client understands, trusts or may reach.
    Connect = 7,
    /// The daemon does not grant it: a limit, a frame of no pixels, a crop that is not within its
    /// frame. Nothing else is affected.
    Refused = 8,
    /// All devices that can do it failed at this frame, or the only one twice. The next may be
    /// resized, unless the memory of the stream's ring is gone: then all its frames fail, so open
    /// another; the next resized_resize does that by itself.
    Failed = 9,
    /// The frame waited longer than its stream's deadline, and was dropped.
    Late = 10,
    /// The frame is no JPEG of the stream's extent.
    Unreadable = 11,
    /// The stream's shared memory can't be mapped.
    Memory = 12,
    /// The daemon is gone, and was not found again in time: everything on this connection fails
    /// from here on.
    Lost = 13,
    /// The daemon said something that it may not say: everything on this connection fails from here
    /// on.
    Protocol = 14,
    /// A bug in this library.
    Internal = 15,
}

impl Status {
    const fn name(self) -> &'static CStr {
        match self {
            Self::Ok => c"ok",
            Self::Timeout => c"the time is over",
            Self::Argument => c"an argument that is none",
            Self::Handle => c"no such handle",
            Self::State => c"not now",
            Self::Length => c"a buffer of the wrong length",
            Self::Endpoint => c"no endpoint",
            Self::Connect => c"nobody answers",
            Self::Refused => c"refused",
            Self::Failed => c"the devices failed",
            Self::Late => c"too late",
            Self::Unreadable => c"not readable",
            Self::Memory => c"no memory",
            Self::Lost => c"the daemon is gone",
            Self::Protocol => c"the daemon broke the protocol",
            Self::Internal => c"a bug in libresized",
        }
    }
}

/// Why a call failed.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("{0} is not aligned as its type asks for")]
    Misaligned(&'static str),
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    #[error("{name} can't be {value}")]
    Value { name: &'static str, value: i64 },
    #[error("{name} says that it has {found} bytes, it has {least} to {most}")]
    Size { name: &'static str, found: usize, least: usize, most: usize },
    #[error("{name} has values at its end that this library is too old for")]
    Newer { name: &'static str },
    #[error("no such {0}: NULL, released before, or never given out")]
    Handle(&'static str),
    #[error("the slot is {found}, not {wanted}")]
    State { wanted: &'static str, found: &'static str },
    #[error("there is no plane {index}: the frame has {planes}")]
    Plane { index: usize, planes: usize },
    #[error("{planes} planes were given, the {name} has {wanted}")]
    Planes { name: &'static str, planes: usize, wanted: usize },
    #[error("frames that are JPEGs have no planes, and others are no JPEGs")]
    Coding,
    #[error("{name} is {found} bytes long, {wanted} are needed")]
    Length { name: &'static str, found: usize, wanted: usize },
    #[error("plane {index} of the {name}: rows are {stride} bytes apart and {row} long")]
    Stride { name: &'static str, index: usize, stride: usize, row: usize },
    #[error("plane {index} of the {name} is {found} bytes long, {wanted} are needed")]
    PlaneLength { name: &'static str, index: usize, found: usize, wanted: usize },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Connecting(Error),
    #[error(transparent)]
    Client(#[from] Error),
    #[error("a bug in libresized: {0}")]
    Panic(String),
}

impl Failure {
    const fn status(&self) -> Status {
        match self {
            Self::Null(_)
            | Self::Misaligned(_)
            | Self::Text(_)
            | Self::Value { .. }
            | Self::Size { .. }
            | Self::Newer { .. }
            | Self::Plane { .. }
            | Self::Planes { .. }
            | Self::Coding => Status::Argument,
            Self::Handle(_) => Status::Handle,
            Self::State { .. } => Status::State,
            Self::Length { .. } | Self::Stride { .. } | Self::PlaneLength { .. } => Status::Length,
            Self::Endpoint(_) => Status::Endpoint,
            Self::Connecting(error) => match of_client(error) {
                // It was not there before.
                Status::Lost => Status::Connect,
                status => status,
            },
            Self::Client(error) => of_client(error),
            Self::Panic(_) => Status::Internal,
        }
    }
}

const fn of_client(error: &Error) -> Status {
    match error {
        Error::Endpoint(_) => Status::Endpoint,
        Error::Connect { .. } => Status::Connect,
        Error::Refused(_) => Status::Refused,
        Error::PackedLen { .. }
        | Error::JpegLen { .. }
        | Error::Stride { .. }
        | Error::PlaneLen { .. } => Status::Length,
        Error::Unreadable => Status::Unreadable,
        Error::Failed => Status::Failed,
        Error::Late => Status::Late,
        Error::Region(_) => Status::Memory,
        Error::Silent
        | Error::Goodbye(_)
        | Error::Disconnected
        | Error::GivenUp { .. }
        | Error::Socket(_) => Status::Lost,
        Error::Codec(_) | Error::Unexpected(_) => Status::Protocol,
    }
}

/// How a call ended that did not fail.
pub(crate) enum Ended {
    Done,
    InTime(bool),
}

impl From<()> for Ended {
    fn from((): ()) -> Self {
        Self::Done
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs the body of a call: what it fails with becomes a status and the thread's last error, and so
/// does a panic.
pub(crate) fn call<T: Into<Ended>>(body: impl FnOnce() -> Result<T, Failure>) -> Status {
    // What a panic may have left half done is behind locks that are taken all the same: a
    // connection of which messages are missing, or a slot that is over.
    let ended = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(&*panic)));
    match ended.map(Into::into) {
        Ok(Ended::Done | Ended::InTime(true)) => Status::Ok,
        Ok(Ended::InTime(false)) => Status::Timeout,
        Err(failure) => {
            let mut text = failure.to_string();
            text.retain(|character| character != '\0');
            let text = CString::new(text).unwrap_or_default();
            // A thread that is ending has no words left.
            let _ = LAST.try_with(|last| last.replace(text));
            failure.status()
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    Failure::Panic(text.unwrap_or_default())
}

/// Why the last call of this thread failed that did, in English, without a line's end. Never NULL;
/// empty before the first. Valid until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn resized_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// A few words for a status. Never NULL, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn resized_status_name(status: u32) -> *const c_char {
    let known = Status::ALL.into_iter().find(|known| *known as u32 == status);
    known.map_or(c"unknown", Status::name).as_ptr()
}

/// This library's version, such as "0.1.0". Never NULL, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn resized_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version with a zero in it"),
        };
    VERSION.as_ptr()
}

impl Status {
    const ALL: [Self; 16] = [
        Self::Ok,
        Self::Timeout,
        Self::Argument,
        Self::Handle,
        Self::State,
        Self::Length,
        Self::Endpoint,
        Self::Connect,
        Self::Refused,
        Self::Failed,
        Self::Late,
        Self::Unreadable,
        Self::Memory,
        Self::Lost,
        Self::Protocol,
        Self::Internal,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: a string that ends with a zero, and no call fails while it is read.
        unsafe { CStr::from_ptr(resized_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_a_status_and_its_words() {
        assert_eq!(call(|| -> Result<(), Failure> { panic!("at {}", 7) }), Status::Internal);
        assert_eq!(last_error(), "a bug in libresized: at 7");
        assert_eq!(call(|| -> Result<(), Failure> { panic!("at once") }), Status::Internal);
        assert_eq!(last_error(), "a bug in libresized: at once");
    }

    #[test]
    fn words_stay_until_the_next_failure_and_are_the_threads_own() {
        assert_eq!(last_error(), "");
        assert_eq!(call(|| Err::<(), _>(Failure::Text("a\0b"))), Status::Argument);
        assert_eq!(call(|| Ok(())), Status::Ok);
        assert_eq!(call(|| Ok(Ended::InTime(false))), Status::Timeout);
        assert_eq!(last_error(), "ab is not UTF-8");
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    }

    #[test]
    fn a_daemon_is_lost_only_once_it_was_there() {
        for error in [Error::Silent, Error::Disconnected] {
            assert_eq!(Failure::Connecting(error.clone()).status(), Status::Connect);
            assert_eq!(Failure::Client(error).status(), Status::Lost);
        }
        let refused = || Error::Refused(resized_client::Refusal::Stopping);
        assert_eq!(Failure::Connecting(refused()).status(), Status::Refused);
        assert_eq!(Failure::Client(refused()).status(), Status::Refused);
    }

    #[test]
    fn every_status_has_a_number_and_words_of_its_own() {
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
            let others = Status::ALL.into_iter().filter(|other| other.name() == status.name());
            assert_eq!(others.count(), 1);
        }
    }
}
