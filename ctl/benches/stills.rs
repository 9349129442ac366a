//! `resizectl resize` beside vipsthumbnail and mogrify: `cargo bench -p resizectl --bench stills`.
//!
//! 500 JPEGs of a camera's size, and of a video's, to what fits 640x360, quality 85; wall time, in
//! turns, all in memory. The three write pictures of the same size; none but ours is told how many
//! cores there are. No daemon runs. Prints a table and writes `target/bench/stills.json`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const TURNS: usize = 3;

const PICTURES: usize = 500;

/// Pictures that differ; the others are links to them.
const DIFFERENT: usize = 20;

/// Pictures that mogrify gets, which takes too long for all.
const FEW: usize = 25;

fn main() {
    let dir = folder();
    let mut rows = Vec::new();
    println!(
        "pictures | resizectl, a second | vipsthumbnail | mogrify | ratio to vipsthumbnail, median of {TURNS} (each) | to mogrify"
    );
    for (size, subsamp) in
        [("4000x3000", "yuvj420p"), ("4000x3000", "yuvj422p"), ("1920x1080", "yuvj420p")]
    {
        rows.push(compare(dir.path(), size, subsamp));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&folder).expect("target/bench");
    let json = format!("[{}]\n", rows.join(",\n "));
    std::fs::write(folder.join("stills.json"), json).expect("target/bench/stills.json");
}

/// In memory where that can be.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a folder")
}

fn compare(dir: &Path, size: &str, format: &str) -> String {
    let inputs = pictures(dir, size, format);
    let out = dir.join("out");
    let rate = |inputs: &[PathBuf], command: &mut Command| {
        std::fs::create_dir_all(&out).expect("a folder");
        let begun = Instant::now();
        let status = command
            .status()
            .expect("libvips-tools and imagemagick, from the packages of those names");
        let seconds = begun.elapsed().as_secs_f64();
        assert!(status.success(), "{command:?}: {status}");
        let made = std::fs::read_dir(&out).expect("the folder of the results").count();
        assert_eq!(made, inputs.len(), "{command:?}");
        std::fs::remove_dir_all(&out).expect("to remove the results");
        inputs.len() as f64 / seconds
    };
    let turns: Vec<[f64; 3]> = (0..TURNS)
        .map(|_| {
            let few = &inputs[..FEW];
            [
                rate(&inputs, &mut ours(&inputs, &out, dir)),
                rate(&inputs, &mut vipsthumbnail(&inputs, &out)),
                rate(few, &mut mogrify(few, &out)),
            ]
        })
        .collect();
    std::fs::remove_dir_all(dir.join("in")).expect("to remove the pictures");
    let [ours, vips, magick] = [0, 1, 2].map(|who| median(turns.iter().map(|turn| turn[who])));
    let ratio = |other: usize| median(turns.iter().map(|turn| turn[0] / turn[other]));
    let each: Vec<_> = turns.iter().map(|turn| format!("{:.2}", turn[0] / turn[1])).collect();
    let (to_vips, to_magick) = (ratio(1), ratio(2));
    println!(
        "{PICTURES} of {size} {format} | {ours:.1} | {vips:.1} | {magick:.1} | {to_vips:.2} ({}) | {to_magick:.2}",
        each.join(" ")
    );
    format!(
        r#"{{"size":{size:?},"format":{format:?},"resizectl":{ours:.2},"vipsthumbnail":{vips:.2},"mogrify":{magick:.2},"ratio":{to_vips:.3}}}"#
    )
}

fn ours(inputs: &[PathBuf], out: &Path, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resizectl"));
    command.args(["resize", "--quiet", "--size", "640x360", "--quality", "85", "--output"]);
    command.arg(out).args(inputs).env_remove("RESIZED_ENDPOINT").env("XDG_RUNTIME_DIR", dir);
    command
}

fn vipsthumbnail(inputs: &[PathBuf], out: &Path) -> Command {
    let mut command = Command::new("vipsthumbnail");
    command.args(["--size", "640x360", "--output"]).arg(out.join("%s.jpg[Q=85]")).args(inputs);
    command
}

fn mogrify(inputs: &[PathBuf], out: &Path) -> Command {
    let mut command = Command::new("mogrify");
    command.args(["-resize", "640x360", "-quality", "85", "-path"]).arg(out).args(inputs);
    command
}

/// Pictures with detail and grain.
fn pictures(dir: &Path, size: &str, format: &str) -> Vec<PathBuf> {
    let dir = dir.join("in");
    std::fs::create_dir_all(&dir).expect("a folder");
    let source = format!("testsrc2=size={size},noise=alls=12:allf=t");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-pix_fmt", format])
        .args(["-frames:v", &DIFFERENT.to_string(), "-q:v", "3"])
        .arg(dir.join("%d.jpg"))
        .status()
        .expect("ffmpeg, from the package of that name");
    assert!(status.success(), "ffmpeg failed to make pictures: {status}");
    (1..=PICTURES)
        .map(|number| {
            let path = dir.join(format!("{number}.jpg"));
            if number > DIFFERENT {
                let of = dir.join(format!("{}.jpg", (number - 1) % DIFFERENT + 1));
                std::fs::hard_link(of, &path).expect("a link");
            }
            path
        })
        .collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
