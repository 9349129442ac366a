//! Makes the manual page and the shells' completions from the command line itself, for packages:
//! `cargo run -p resized --example pages -- FOLDER`.

#[allow(dead_code)]
#[path = "../src/config.rs"]
mod config;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    let mut command = config::Arguments::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "resized", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    Ok(())
}
