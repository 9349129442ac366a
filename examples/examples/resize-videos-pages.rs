//! Makes the manual page of resize-videos and the shells' completions from the command line itself,
//! for packages: `cargo run -p resized-examples --example resize-videos-pages -- FOLDER`.

// Of a binary, and not all of it is for pages.
#[allow(dead_code)]
#[path = "../src/bin/resize-videos/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../src/bin/resize-videos/names.rs"]
mod names;
#[path = "../../daemon/examples/pages/make.rs"]
mod pages;
#[allow(dead_code)]
#[path = "../src/bin/resize-videos/shape.rs"]
mod shape;

use clap::CommandFactory;

fn main() -> anyhow::Result<()> {
    pages::make("resize-videos", args::Args::command())
}
