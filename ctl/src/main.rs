//! `resizectl`: resizes files through the `resized` daemon, watches the daemon, and measures it.

use std::process::ExitCode;

use clap::Parser;
use resizectl::Arguments;
use resizectl::terminal::{advice, complain, one_line, shown};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    resizectl::run(&arguments).unwrap_or_else(|error| {
        let line = one_line(&error) + &advice(&error, arguments.endpoint());
        complain(format_args!("resizectl: {}", shown(&line)));
        ExitCode::FAILURE
    })
}
