//! Makes the manual page and the shells' completions from the command line itself, for packages:
//! `cargo run -p resized --example resized-pages -- FOLDER`.

#[allow(dead_code)]
#[path = "../src/config.rs"]
mod config;
#[path = "pages/make.rs"]
mod pages;

use clap::CommandFactory;

fn main() -> anyhow::Result<()> {
    pages::make("resized", config::Arguments::command())
}
