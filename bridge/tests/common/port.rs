//! Owns ports for programs that can't find one themselves, or are to find the same again.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Of this machine, below those that Linux gives to outgoing connections (32768 and up), one of
/// which could have the port before its program does.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port at which nobody listens, another each time.
pub(crate) fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Tests of several processes begin in different places.
    let begin = process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin.wrapping_add(tried.into()) % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("all ports are taken");
}
