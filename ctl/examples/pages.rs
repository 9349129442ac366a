//! Makes the manual pages and the shells' completions from the command line itself, for packages:
//! `cargo run -p resizectl --example pages -- FOLDER`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    // Without a page of its own for "help".
    let mut command = resizectl::Arguments::command().disable_help_subcommand(true);
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "resizectl", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    Ok(())
}
