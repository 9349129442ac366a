//! The documentation's Rust, compiled: each snippet of these pages is a doctest. The programs are
//! in `bin`.

#![doc(test(attr(deny(warnings), allow(dead_code))))]

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/rust.md")]
mod rust {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/remote.md")]
mod remote {}
