//! The daemon as a library.

pub mod device;
pub mod filter;
