//! Makes the manual page and the shells' completions from the command line itself, for packages:
//! `cargo run -p resized-bridge --example resized-bridge-pages -- FOLDER`.

#[path = "../../daemon/examples/pages/make.rs"]
mod pages;

use clap::CommandFactory;

fn main() -> anyhow::Result<()> {
    pages::make("resized-bridge", resized_bridge::Args::command())
}
