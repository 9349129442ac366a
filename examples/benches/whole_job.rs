//! The whole job beside FFmpeg's command line: `cargo bench -p resized-examples --bench whole_job --
//! CLIP...`, after `cargo build --release -p resized`.
//!
//! N copies of a clip to 640x360 JPEGs: N processes of ffmpeg against one resize-videos of N instances
//! and a daemon of its own, in turns, wall time from start to last exit; the pictures go to memory.
//! Without clips it makes two. Prints a table and writes `target/bench/whole_job.json`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const TURNS: usize = 5;

/// Longest that a daemon may take to listen.
const START: Duration = Duration::from_secs(10);

const PROGRAM: &str = env!("CARGO_BIN_EXE_resize-videos");

fn main() {
    let dir = folder();
    let given = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let mut clips: Vec<PathBuf> = given.map(PathBuf::from).collect();
    if clips.is_empty() {
        clips = vec![sample(dir.path(), "768x432", 25, 40), sample(dir.path(), "1920x1080", 60, 3)];
    }
    let daemon = Daemon::start(dir.path());
    let mut rows = Vec::new();
    println!("clip | N | frames | ours fps | ffmpeg fps | ratio, median of {TURNS} turns (each)");
    for clip in &clips {
        for instances in [1, 2, 4] {
            rows.push(compare(clip, instances, &daemon, dir.path()));
        }
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&folder).expect("target/bench");
    std::fs::write(folder.join("whole_job.json"), format!("[{}]\n", rows.join(",\n ")))
        .expect("target/bench/whole_job.json");
}

/// A folder for pictures, in memory where that can be: for minutes after files were deleted ext4
/// looks at each of their inodes again whenever it makes a new one, which cost both sides more than
/// their JPEGs.
fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder for pictures")
}

/// Takes turns, prints a row and returns it as JSON.
fn compare(clip: &Path, instances: usize, daemon: &Daemon, dir: &Path) -> String {
    let mut turns: Vec<(f64, f64)> = Vec::new();
    let mut frames = 0;
    for _ in 0..TURNS {
        let (theirs, made) = ffmpeg(clip, instances, &dir.join("ffmpeg"));
        let (ours, written) = resize_videos(clip, instances, daemon, &dir.join("ours"));
        assert_eq!(made, written, "both write every frame of {}", clip.display());
        frames = made;
        turns.push((made as f64 / ours, made as f64 / theirs));
    }
    let ratios: Vec<f64> = turns.iter().map(|(ours, theirs)| ours / theirs).collect();
    let (ours, theirs) =
        (median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1)));
    let ratio = median(ratios.iter().copied());
    let name = clip.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut each = String::new();
    ratios.iter().for_each(|ratio| write!(each, " {ratio:.2}").expect("a string takes all"));
    println!(
        "{name} | {instances} | {frames} | {ours:.0} | {theirs:.0} | {ratio:.2} ({})",
        each.trim()
    );
    format!(
        r#"{{"clip":{name:?},"instances":{instances},"frames":{frames},"ours_fps":{ours:.1},"ffmpeg_fps":{theirs:.1},"ratio":{ratio:.3}}}"#
    )
}

/// Seconds and pictures of N processes at once.
fn ffmpeg(clip: &Path, instances: usize, dir: &Path) -> (f64, usize) {
    let folders: Vec<PathBuf> = (0..instances).map(|k| dir.join(k.to_string())).collect();
    folders.iter().for_each(|folder| std::fs::create_dir_all(folder).expect("a folder"));
    let begun = Instant::now();
    let children = folders.iter().map(|folder| {
        Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(clip)
            .args(["-vf", "scale=640:360:flags=bicubic", "-q:v", "3"])
            .arg(folder.join("Frame%05d.jpg"))
            .spawn()
            .expect("ffmpeg, from the package of that name")
    });
    finish("ffmpeg", children.collect(), begun, dir)
}

fn resize_videos(clip: &Path, instances: usize, daemon: &Daemon, dir: &Path) -> (f64, usize) {
    std::fs::create_dir_all(dir).expect("a folder");
    let begun = Instant::now();
    let child = Command::new(PROGRAM)
        .arg(clip)
        .args(["-q", "-m", "0", "-s", "640x360", "-n", &instances.to_string(), "-o"])
        .arg(dir)
        .args(["--connect", &daemon.endpoint])
        .spawn()
        .expect("resize-videos");
    finish("resize-videos", vec![child], begun, dir)
}

/// Waits for all, then counts the pictures and removes them, outside the time.
fn finish(name: &str, children: Vec<Child>, begun: Instant, dir: &Path) -> (f64, usize) {
    for mut child in children {
        let status = child.wait().expect("a child to wait for");
        assert!(status.success(), "{name} failed: {status}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let folders = std::fs::read_dir(dir).expect("the folder of the pictures");
    let pictures = folders.map(|folder| std::fs::read_dir(folder.expect("a folder").path()));
    let count = pictures.map(|pictures| pictures.expect("a folder").count()).sum();
    std::fs::remove_dir_all(dir).expect("to remove the pictures");
    (seconds, count)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A clip with motion and grain, as H.264.
fn sample(dir: &Path, size: &str, rate: u32, seconds: u32) -> PathBuf {
    let path = dir.join(format!("sample-{size}.mp4"));
    let source = format!("testsrc2=size={size}:rate={rate}:duration={seconds},noise=alls=6:allf=t");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source])
        .args(["-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .expect("ffmpeg, from the package of that name");
    assert!(status.success(), "ffmpeg failed to make {}: {status}", path.display());
    path
}

/// The daemon as a process of its own.
struct Daemon {
    process: Child,
    endpoint: String,
}

impl Daemon {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("resized.sock");
        let mut process = Command::new(Path::new(PROGRAM).with_file_name("resized"))
            .arg("--socket")
            .arg(&socket)
            .env("RESIZED_LOG", "error")
            .spawn()
            .expect("the daemon: cargo build --release -p resized");
        let begun = Instant::now();
        while !socket.exists() {
            let ended = process.try_wait().expect("a child to look after");
            assert!(ended.is_none(), "the daemon ended at once: {ended:?}");
            if begun.elapsed() > START {
                let _ = process.kill();
                panic!("the daemon does not listen at {} after {START:?}", socket.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, endpoint: format!("unix:{}", socket.display()) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
