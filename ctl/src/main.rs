//! `resizectl`: resizes files through the `resized` daemon, watches the daemon, and measures it.

use std::process::ExitCode;

use clap::Parser;
use resizectl::Arguments;

fn main() -> ExitCode {
    resizectl::run(&Arguments::parse()).unwrap_or_else(|error| {
        resizectl::complain(format_args!("resizectl: {}", resizectl::one_line(&error)));
        ExitCode::FAILURE
    })
}
