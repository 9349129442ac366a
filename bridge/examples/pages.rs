//! Makes the manual page and the shells' completions from the command line itself, for packages:
//! `cargo run -p resized-bridge --example pages -- FOLDER`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    let mut command = resized_bridge::Args::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "resized-bridge", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    Ok(())
}
