//! Owns how the header is made of the crate's sources. Also for examples/header.rs, which writes
//! it.

use std::path::Path;

/// Where it is committed.
pub(crate) const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/resized.h");

/// In the order in which they should be read.
const SOURCES: [&str; 8] =
    ["status", "abi", "handles", "client", "spec", "stream", "slot", "resize"];

/// The header.
pub(crate) fn generate() -> Vec<u8> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(crate_dir.join("src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    header
}
