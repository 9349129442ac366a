//! Owns how manual pages and the shells' completions are made of a command line, for packages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::{Shell, generate_to};

/// Into the folder that is given.
pub(crate) fn make(name: &str, mut command: clap::Command) -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, name, &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    Ok(())
}
