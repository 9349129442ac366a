//! What the daemon costs beside its kernels: `cargo bench -p resized --bench ipc`, or `... -- tax`
//! for the rows with that in their names.
//!
//! Every figure stands beside its yardstick, taken in turns with it in this run; ratios are medians
//! over the turns. The daemon is a process of its own, and so are the clients of the throughput rows.
//! Prints a table and writes `target/bench/ipc.json`.

mod clients;
mod crowd;
mod daemon;
mod modest;
mod round_trip;
mod size;
mod throughput;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use resized_client::{Extent, Filter, FrameSpec, PixelFormat, StreamSpec};

use round_trip::Placement;

const TURNS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("echo") => round_trip::echo(Path::new(&arguments[2])),
        Some("client") => clients::client(&arguments[2], &arguments[3]),
        Some("flood") => clients::flood(&arguments[2], &arguments[3]),
        // cargo itself adds --bench.
        Some(wanted) if !wanted.starts_with('-') => bench(wanted),
        _ => bench(""),
    }
}

/// Prints its figures, and returns them as JSON; works in the folder that it is given.
type Row = (&'static str, fn(&Path) -> String);

const ROWS: [Row; 9] = [
    ("round trip on one core", |dir| round_trip::round_trip(Placement::OneCore, dir)),
    ("round trip on two cores", |dir| round_trip::round_trip(Placement::TwoCores, dir)),
    ("messages", throughput::messages),
    ("tax", throughput::tax),
    ("modest", modest::modest),
    ("crowd", crowd::crowd),
    ("idle", size::idle),
    ("opening", size::opening),
    ("flat", size::flat),
];

fn bench(wanted: &str) {
    let names = ROWS.map(|(name, _)| name);
    assert!(names.iter().any(|name| name.contains(wanted)), "no row is {wanted}, but {names:?}");
    let dir = tempfile::tempdir().unwrap();
    let cores = thread::available_parallelism().unwrap().get();
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|(name, _)| name.contains(wanted) && (cores > 1 || !name.contains("two cores")))
        .map(|(_, row)| row(dir.path()))
        .collect();
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("ipc.json"), format!("[{}]\n", rows.join(",\n "))).unwrap();
}

/// 1080p to 640x360.
fn film(slots: u32) -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(1920, 1080));
    StreamSpec { slots, filter: Filter::Bicubic, ..StreamSpec::new(source, Extent::new(640, 360)) }
}

/// 320x180 to 160x90.
fn thumbnail() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(320, 180));
    StreamSpec::new(source, Extent::new(160, 90))
}

/// p50 and p99 in microseconds.
fn percentiles(rounds: usize, mut round: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[rounds / 2], times[rounds * 99 / 100])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
