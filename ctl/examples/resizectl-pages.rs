//! Makes the manual pages and the shells' completions from the command line itself, for packages:
//! `cargo run -p resizectl --example resizectl-pages -- FOLDER`.

#[path = "../../daemon/examples/pages/make.rs"]
mod pages;

use clap::CommandFactory;

fn main() -> anyhow::Result<()> {
    // Without a page of its own for "help".
    pages::make("resizectl", resizectl::Arguments::command().disable_help_subcommand(true))
}
