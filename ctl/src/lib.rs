//! The command line of `resized`, as a library: what its binary runs, what its manual pages are made
//! of, and what it shares with `resize-videos`, which is `resizectl video` as a program of its own.
//!
//! [`args`](Arguments) says what may be asked, and each command is a file of its own that knows
//! nothing of the others. Both programs' manners are public: [`signal`] says when to end, [`mode`] what
//! becomes of another shape, [`terminal`] how to speak, [`pipe`] and [`patience`] how to wait, [`pattern`]
//! how results are named, [`folders`] and [`aside`] how they are left.

mod args;
pub mod aside;
mod bench;
mod doctor;
pub mod folders;
pub mod patience;
pub mod pattern;
pub mod pipe;
mod resize;
pub mod signal;
pub mod terminal;
mod video;
mod watch;

use std::process::ExitCode;

use args::Command;
pub use args::{Arguments, filters, mode, modes, path_or};
pub use resized_protocol::VERSIONS;

/// Does what was asked for. The exit code says whether all of it was done.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let endpoint = arguments.endpoint();
    match &arguments.command {
        Command::Resize(asked) => resize::run(asked, endpoint),
        Command::Video(asked) => video::run(asked, endpoint),
        Command::Top(asked) => watch::top(asked, endpoint),
        Command::Status(asked) => watch::status(asked, endpoint),
        Command::Doctor(asked) => doctor::run(asked, endpoint),
        Command::Bench(asked) => bench::run(asked, endpoint),
    }
}
