//! Owns what becomes of a test that this machine lacks something for: it says so and passes, or
//! fails where that has to be there. So nothing that the tested code does can hide its own tests.

use std::io::{Write, stderr};

/// Names of what has to be there, spaces between. `make test` sets it to what it installs.
const VARIABLE: &str = "RESIZED_TESTS_NEED";

/// What can be named there: levels of the CPU; a GPU, one into which rings are imported, the layer that looks
/// on; programs, a browser among them, and a glslc whose output equals ours; and what the system may lack or
/// deny: huge pages, IPv6, networks of our own, file systems of our own, control groups of our own,
/// processes of other users, and page faults of our own.
const NAMES: [&str; 18] = [
    "avx2",
    "avx512",
    "neon",
    "vulkan",
    "import",
    "validation",
    "glslc",
    "same-glslc",
    "browser",
    "systemd-analyze",
    "systemd-socket-activate",
    "hugepages",
    "ipv6",
    "networks",
    "mounts",
    "cgroup",
    "users",
    "userfaultfd",
];

/// Says that a test, or a part of it, does not run for lack of one of these [`NAMES`]. Panics where
/// that is needed.
#[track_caller]
pub(crate) fn skip(what: &str, why: &str) {
    let needed = std::env::var(VARIABLE).unwrap_or_default();
    let mut named = needed.split_whitespace().chain([what]);
    assert_eq!(named.find(|name| !NAMES.contains(name)), None, "nobody skips anything for it");
    assert!(!needed.split_whitespace().any(|name| name == what), "{what} is needed, but {why}");
    // Not by `eprintln`, which a test that passes says to nobody.
    let _ = writeln!(stderr(), "SKIPPED: {why}");
}
