//! `resizectl`: resizes files through the `resized` daemon, watches the daemon, and measures it.

use std::process::ExitCode;

use clap::Parser;
use resizectl::Arguments;
use resizectl::terminal::{complain, one_line, shown};

fn main() -> ExitCode {
    resizectl::run(&Arguments::parse()).unwrap_or_else(|error| {
        complain(format_args!("resizectl: {}", shown(&one_line(&error))));
        ExitCode::FAILURE
    })
}
