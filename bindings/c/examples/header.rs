//! Writes include/resized.h: cargo run -p resized-c --example header

#[path = "../tests/c/header.rs"]
mod header;

fn main() -> std::io::Result<()> {
    std::fs::write(header::PATH, header::generate())
}
