//! Writes what fuzzing starts from, one a file, into the folder that is given: a folder in there for
//! each target.

mod bridge;
mod client;
mod daemon;

use std::path::PathBuf;

fn main() {
    let seeds = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = seeds.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    daemon::write_all(write);
    bridge::write_all(write);
    client::write_all(write);
}
