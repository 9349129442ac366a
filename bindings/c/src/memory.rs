//! Owns every touch of memory that is the caller's: what is read from it, what is written to it.
//!
//! Knows no frames, only addresses, lengths and strides. Invariants: nothing is read or written at
//! NULL or at an address that is not aligned; no reference to the caller's memory outlives a call,
//! and none is formed to pixels.
//!
//! What can't be checked here is what callers promise: that a pointer which is neither is good for
//! as much as its type, or the length beside it, says. Each function that takes a pointer is
//! `unsafe` for that.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use crate::status::Failure;

/// A type of the header's structs: made of numbers alone, so that any bytes are one.
///
/// # Safety
///
/// That it is, and `#[repr(C)]`.
pub(crate) unsafe trait Plain: Copy {}

/// A struct that may grow at its end in later versions.
///
/// # Safety
///
/// Its first field is a `usize`, the size that the caller knows.
pub(crate) unsafe trait Growing: Plain {
    /// Bytes of the struct in the first version that had it.
    const LEAST: usize;
}

/// More bytes than any of them will ever have: beyond that the size is rubbish.
const MOST: usize = 4096;

/// Where the caller wants something.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    ///
    /// A pointer that is neither NULL nor misaligned is good for writing a `T` until the call
    /// returns.
    pub(crate) unsafe fn new(pointer: *mut T, name: &'static str) -> Result<Self, Failure> {
        checked(pointer, name).map(Self)
    }

    pub(crate) fn put(&self, value: T) {
        // SAFETY: neither NULL nor misaligned, so good for writing, as `new` was promised.
        unsafe { self.0.write(value) }
    }
}

fn checked<T>(pointer: *mut T, name: &'static str) -> Result<NonNull<T>, Failure> {
    let pointer = NonNull::new(pointer).ok_or(Failure::Null(name))?;
    if pointer.is_aligned() { Ok(pointer) } else { Err(Failure::Misaligned(name)) }
}

/// Reads a struct.
///
/// # Safety
///
/// A pointer that is neither NULL nor misaligned is good for reading a `T`.
pub(crate) unsafe fn read<T: Plain>(from: *const T, name: &'static str) -> Result<T, Failure> {
    let from = checked(from.cast_mut(), name)?;
    // SAFETY: neither NULL nor misaligned, so good for reading; any bytes are a `T`.
    Ok(unsafe { from.read() })
}

/// Reads a struct as large as it says, into one of the size that this library knows: what the
/// caller does not know is `default`'s, and what only the caller knows must be zero.
///
/// # Safety
///
/// A pointer that is neither NULL nor misaligned is good for reading a `usize`, and as many bytes
/// as that says.
pub(crate) unsafe fn read_sized<T: Growing>(
    from: *const T,
    default: T,
    name: &'static str,
) -> Result<T, Failure> {
    let from = checked(from.cast_mut(), name)?;
    let known = size_of::<T>();
    // SAFETY: neither NULL nor misaligned, and the size comes first.
    let size = unsafe { from.cast::<usize>().read() };
    if !(T::LEAST..=MOST).contains(&size) {
        return Err(Failure::Size { name, found: size, least: T::LEAST, most: known });
    }
    let mut value = default;
    let bytes = from.cast::<u8>();
    // SAFETY: the caller has `size` bytes there, `value` has `known` of them and is not the
    // caller's; any bytes are a `T`.
    unsafe { bytes.copy_to_nonoverlapping(NonNull::from(&mut value).cast(), size.min(known)) };
    // SAFETY: as above; each is below `size`.
    let zero = |at: usize| unsafe { bytes.add(at).read() } == 0;
    if (known..size).all(zero) { Ok(value) } else { Err(Failure::Newer { name }) }
}

/// Writes the first `size` bytes of a struct, for a caller that knows so much of it.
///
/// # Safety
///
/// A pointer that is neither NULL nor misaligned is good for writing `size` bytes.
pub(crate) unsafe fn write_sized<T: Growing>(
    to: *mut T,
    size: usize,
    value: &T,
    name: &'static str,
) -> Result<(), Failure> {
    let to = checked(to, name)?.cast::<u8>();
    let known = size_of::<T>();
    if !(T::LEAST..=MOST).contains(&size) {
        return Err(Failure::Size { name, found: size, least: T::LEAST, most: known });
    }
    // SAFETY: the caller has `size` bytes there, `value` has `known` of them; what is beyond is set
    // to zero.
    unsafe {
        to.copy_from_nonoverlapping(NonNull::from(value).cast(), size.min(known));
        to.add(size.min(known)).write_bytes(0, size.saturating_sub(known));
    }
    Ok(())
}

/// A text that the caller has, if it is not NULL.
///
/// # Safety
///
/// A pointer that is not NULL is one to a string that ends with a zero, and stays as it is for
/// `'a`.
pub(crate) unsafe fn text<'a>(
    from: *const c_char,
    name: &'static str,
) -> Result<Option<&'a str>, Failure> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so a string that ends and stays.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map(Some).map_err(|_| Failure::Text(name))
}

/// Writes a text and a zero.
///
/// # Safety
///
/// A pointer that is not NULL is good for writing `len` bytes.
pub(crate) unsafe fn put_text(
    text: &str,
    to: *mut c_char,
    len: usize,
    name: &'static str,
) -> Result<(), Failure> {
    let to = checked(to, name)?.cast::<u8>();
    let wanted = text.len() + 1;
    if len < wanted {
        return Err(Failure::Length { name, found: len, wanted });
    }
    // SAFETY: the text and a zero fit into `len` bytes, which are the caller's, and no part of the
    // text.
    unsafe {
        to.copy_from_nonoverlapping(NonNull::from(text.as_bytes()).cast(), text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

/// The caller's array.
///
/// # Safety
///
/// A pointer that is neither NULL nor misaligned is good for reading `count` of `T`, which stay as
/// they are for `'a`.
pub(crate) unsafe fn array<'a, T: Plain>(
    from: *const T,
    count: usize,
    name: &'static str,
) -> Result<&'a [T], Failure> {
    let from = checked(from.cast_mut(), name)?;
    if count > MOST {
        return Err(Failure::Length { name, found: count, wanted: MOST });
    }
    // SAFETY: neither NULL nor misaligned, so good for reading `count`, which stay; any bytes are a
    // `T`, and these are not too many.
    Ok(unsafe { std::slice::from_raw_parts(from.as_ptr(), count) })
}

/// The caller's bytes, to be read.
///
/// # Safety
///
/// A pointer that is not NULL is good for reading `len` bytes, which stay as they are for `'a`.
pub(crate) unsafe fn bytes<'a>(
    from: *const u8,
    len: usize,
    name: &'static str,
) -> Result<&'a [u8], Failure> {
    let from = checked(from.cast_mut(), name)?;
    if isize::try_from(len).is_err() {
        return Err(Failure::Length { name, found: len, wanted: isize::MAX as usize });
    }
    // SAFETY: not NULL, so good for reading `len` bytes, which stay, and are not too many.
    Ok(unsafe { std::slice::from_raw_parts(from.as_ptr(), len) })
}

/// A plane of the caller's, or a part of one: rows of pixels, a stride apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    start: NonNull<u8>,
    stride: usize,
}

impl Rows {
    /// # Safety
    ///
    /// A pointer that is not NULL is good for reading and, if they are [written](Self::write), for
    /// writing, in the rows that are copied, until the call returns.
    pub(crate) unsafe fn new(
        start: *mut u8,
        stride: usize,
        name: &'static str,
    ) -> Result<Self, Failure> {
        Ok(Self { start: checked(start, name)?, stride })
    }

    /// Copies as many rows of `row` bytes from here as there are in `to`, whose rows are `stride`
    /// apart. They may be the same memory: the caller may have been given this very slot's plane.
    /// So no reference to either is formed.
    ///
    /// # Safety
    ///
    /// There are as many, as long, as `new` was promised, and `to` is good for writing.
    pub(crate) unsafe fn read(self, row: usize, to: NonNull<[u8]>, stride: usize) {
        for (index, to) in rows_of(row, to, stride).enumerate() {
            // SAFETY: the row is one of the caller's, `row` bytes long, and `to` has as many.
            unsafe { self.at(index).copy_to(to, row) };
        }
    }

    /// The same, the other way.
    ///
    /// # Safety
    ///
    /// As [`read`](Self::read), but that `from` is good for reading.
    pub(crate) unsafe fn write(self, row: usize, from: NonNull<[u8]>, stride: usize) {
        for (index, from) in rows_of(row, from, stride).enumerate() {
            // SAFETY: as in `read`.
            unsafe { self.at(index).copy_from(from, row) };
        }
    }

    /// # Safety
    ///
    /// There is such a row.
    unsafe fn at(self, index: usize) -> NonNull<u8> {
        // SAFETY: within what the caller has, whose rows are a stride apart.
        unsafe { self.start.add(index * self.stride) }
    }
}

/// Where the rows of a plane of ours begin, each of which has `row` bytes within it.
fn rows_of(row: usize, plane: NonNull<[u8]>, stride: usize) -> impl Iterator<Item = NonNull<u8>> {
    assert!(row <= stride, "rows of {row} bytes, {stride} apart");
    // SAFETY: as many strides as there are in the plane lie within it.
    (0..plane.len() / stride).map(move |row| unsafe { plane.cast::<u8>().add(row * stride) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Grown {
        size: usize,
        first: u32,
        second: u32,
    }

    // SAFETY: numbers, and no padding.
    unsafe impl Plain for Grown {}
    // SAFETY: the size comes first.
    unsafe impl Growing for Grown {
        const LEAST: usize = 12;
    }

    const DEFAULT: Grown = Grown { size: 0, first: 7, second: 8 };

    fn read_grown(words: &[usize; 4]) -> Result<Grown, Failure> {
        // SAFETY: no test says that it has more than these.
        unsafe { read_sized(words.as_ptr().cast(), DEFAULT, "it") }
    }

    #[test]
    fn a_struct_may_be_older_or_newer_than_the_library() {
        let both = usize::from_ne_bytes(1_u64.to_ne_bytes()) | (2 << 32);
        let read =
            |size, third| read_grown(&[size, both, third, 0]).map(|read| (read.first, read.second));
        assert_eq!(read(16, 9).unwrap(), (1, 2));
        assert_eq!(read(12, 9).unwrap(), (1, 8));
        assert_eq!(read(32, 0).unwrap(), (1, 2));
        assert!(matches!(read(24, 9), Err(Failure::Newer { .. })));
        for size in [0, 8, 11, MOST + 1, usize::MAX] {
            assert!(matches!(read(size, 0), Err(Failure::Size { .. })), "{size}");
        }
    }

    #[test]
    fn a_struct_is_written_as_far_as_the_caller_knows_it() {
        let write = |size| {
            let mut words = [usize::MAX; 4];
            // SAFETY: no size of this test is beyond the array.
            unsafe { write_sized(words.as_mut_ptr().cast(), size, &DEFAULT, "it") }.unwrap();
            words
        };
        let [known, first] = [7 | (8 << 32), 7 | (0xFFFF_FFFF << 32)];
        assert_eq!(write(16), [0, known, usize::MAX, usize::MAX]);
        assert_eq!(write(12), [0, first, usize::MAX, usize::MAX]);
        assert_eq!(write(24), [0, known, 0, usize::MAX]);
    }

    #[test]
    fn nothing_is_touched_at_null_or_between_two_numbers() {
        let null = std::ptr::null_mut::<Grown>();
        let odd = null.wrapping_byte_add(9);
        // SAFETY: NULL or misaligned, all of them.
        unsafe {
            assert!(matches!(Out::new(null, "it"), Err(Failure::Null("it"))));
            assert!(matches!(Out::new(odd, "it"), Err(Failure::Misaligned("it"))));
            assert!(matches!(read(null, "it"), Err(Failure::Null(_))));
            assert!(matches!(read(odd, "it"), Err(Failure::Misaligned(_))));
            assert!(matches!(read_sized(null, DEFAULT, "it"), Err(Failure::Null(_))));
            assert!(matches!(write_sized(odd, 16, &DEFAULT, "it"), Err(Failure::Misaligned(_))));
            assert!(matches!(array(null, 3, "it"), Err(Failure::Null(_))));
            assert!(matches!(bytes(null.cast(), 3, "it"), Err(Failure::Null(_))));
            assert!(matches!(put_text("", null.cast(), 9, "it"), Err(Failure::Null(_))));
            assert_eq!(text(null.cast(), "it").unwrap(), None);
        }
    }

    #[test]
    fn rows_are_copied_and_what_is_between_them_is_not() {
        let mut theirs = *b"ab..cd..ef";
        let mut ours = [b'-'; 9];
        // SAFETY: three rows of two bytes, four apart.
        let rows = unsafe { Rows::new(theirs.as_mut_ptr(), 4, "it") }.unwrap();
        // SAFETY: as above; they are three.
        unsafe { rows.read(2, NonNull::from(&mut ours[..]), 3) };
        assert_eq!(&ours, b"ab-cd-ef-");
        // SAFETY: likewise.
        unsafe { rows.write(2, NonNull::from(&b"AB-CD-EF-"[..]), 3) };
        assert_eq!(&theirs, b"AB..CD..EF");
        // SAFETY: likewise, and onto themselves.
        unsafe {
            let own = NonNull::from(&mut ours[..]);
            Rows::new(own.as_ptr().cast(), 3, "it").unwrap().read(2, own, 3);
        }
        assert_eq!(&ours, b"ab-cd-ef-");
    }
}
