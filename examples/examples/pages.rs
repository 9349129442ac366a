//! Makes the manual page of resize-videos and the shells' completions from the command line itself,
//! for packages: `cargo run -p resized-examples --example pages -- FOLDER`.

// Of a binary, and not all of it is for pages.
#[allow(dead_code)]
#[path = "../src/bin/resize-videos/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../src/bin/resize-videos/names.rs"]
mod names;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    let mut command = args::Args::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "resize-videos", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    Ok(())
}
