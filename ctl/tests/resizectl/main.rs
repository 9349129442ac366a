//! The program as a user runs it: a process of its own, on pictures and daemons with a known content.

mod bench;
mod doctor;
mod resize;
mod shop;
#[path = "../../../daemon/tests/common/skip.rs"]
mod skip;
mod trouble;
mod video;
mod watch;
