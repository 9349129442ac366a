//! The whole job beside FFmpeg's command line: `cargo bench -p resized-examples --bench whole_job --
//! CLIP...`, after `cargo build --release -p resized`.
//!
//! N copies of a clip to 640x360 JPEGs: N processes of ffmpeg against one resize-videos of N instances
//! and a daemon of its own, in turns, wall time from start to last exit; the pictures go to memory.
//! Clips of less than ten seconds are repeated until they last that long. Of several ways to run
//! ffmpeg the fastest counts. Beside each ratio stand the milliseconds of CPU time that a frame took,
//! all processes together, and how many cores that kept busy: a ratio alone does not tell work from
//! idle cores. Without clips it makes two. Prints a table and writes `target/bench/whole_job.json`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

const TURNS: usize = 5;

/// Turns where a run of ours takes less than [`SHORT`].
const MANY_TURNS: usize = 9;

const SHORT: Duration = Duration::from_secs(1);

/// Seconds that a clip lasts, at the least.
const LENGTH: f64 = 10.0;

/// Clock ticks a second in `/proc`, on every machine that Linux runs on here.
const TICKS: f64 = 100.0;

/// Longest that a daemon may take to listen.
const START: Duration = Duration::from_secs(10);

const PROGRAM: &str = env!("CARGO_BIN_EXE_resize-videos");

/// A way to run ffmpeg: what it is called, options before the clip and options behind it.
type Way = (&'static str, &'static [&'static str], &'static [&'static str]);

const WAYS: [Way; 4] = [
    ("as it is", &[], &[]),
    ("-huffman default", &[], &["-huffman", "default"]),
    ("-threads 1", &ONE_THREAD, &[]),
    ("-threads 1 -huffman default", &ONE_THREAD, &["-huffman", "default"]),
];

const SCALE: [&str; 2] = ["-vf", "scale=640:360:flags=bicubic"];

const ONE_THREAD: [&str; 4] = ["-threads", "1", "-filter_threads", "1"];

fn main() {
    let dir = folder();
    let given = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let mut clips: Vec<PathBuf> = given.map(PathBuf::from).collect();
    if clips.is_empty() {
        clips = vec![sample(dir.path(), "768x432", 25, 40), sample(dir.path(), "1920x1080", 60, 3)];
    }
    let daemon = Daemon::start(dir.path());
    let mut rows = Vec::new();
    for clip in &clips {
        let clip = lengthened(clip, dir.path());
        println!("{}", likeness(&clip, &daemon, dir.path()));
        println!(
            "clip | N | frames | ours fps | ffmpeg fps | ratio, median of turns (each) | \
             CPU ms a frame, ours, ffmpeg | cores busy, ours, ffmpeg | ffmpeg's fastest way"
        );
        for instances in [1, 2, 4] {
            rows.push(compare(&clip, instances, &daemon, dir.path()));
        }
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&folder).expect("target/bench");
    fs::write(folder.join("whole_job.json"), format!("[{}]\n", rows.join(",\n ")))
        .expect("target/bench/whole_job.json");
}

/// A folder for pictures, in memory where that can be: for minutes after files were deleted ext4
/// looks at each of their inodes again whenever it makes a new one, which cost both sides more than
/// their JPEGs.
fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder for pictures")
}

/// What one side took for its N copies.
struct Run {
    seconds: f64,
    /// Of CPU time, of all processes together.
    cpu: f64,
    pictures: usize,
    /// Of all pictures.
    bytes: u64,
}

impl Run {
    fn fps(&self) -> f64 {
        self.pictures as f64 / self.seconds
    }

    /// Milliseconds of CPU time.
    fn cpu_ms_a_frame(&self) -> f64 {
        1e3 * self.cpu / self.pictures as f64
    }

    fn cores(&self) -> f64 {
        self.cpu / self.seconds
    }
}

/// Takes turns, prints a row and returns it as JSON.
fn compare(clip: &Path, instances: usize, daemon: &Daemon, dir: &Path) -> String {
    let (our_dir, their_dir) = (dir.join("ours"), dir.join("ffmpeg"));
    let ours = || cleared(resize_videos(clip, instances, 85, daemon, &our_dir), &our_dir);
    let theirs = |way: usize| cleared(ffmpeg(clip, instances, &WAYS[way], &their_dir), &their_dir);
    // A lone process is not faster for having fewer threads.
    let ways = if instances == 1 { 2 } else { WAYS.len() };
    let once = |way| theirs(way).seconds.min(theirs(way).seconds);
    let tried = (0..ways).map(|way| (once(way), way));
    let (_, way) = tried.min_by(|one, other| one.0.total_cmp(&other.0)).expect("there are some");
    let short = ours().seconds < SHORT.as_secs_f64();
    let mut turns: Vec<(Run, Run)> = Vec::new();
    for turn in 0..if short { MANY_TURNS } else { TURNS } {
        // What drifts meanwhile should not always be on the same side.
        let (ours, theirs) = if turn % 2 == 0 {
            let first = theirs(way);
            (ours(), first)
        } else {
            (ours(), theirs(way))
        };
        let same = ours.pictures == theirs.pictures;
        assert!(same, "both write every frame of {}", clip.display());
        turns.push((ours, theirs));
    }
    let frames = turns[0].0.pictures;
    let ratios: Vec<f64> = turns.iter().map(|(ours, theirs)| ours.fps() / theirs.fps()).collect();
    let of_both = |figure: fn(&Run) -> f64| {
        let ours = median(turns.iter().map(|turn| figure(&turn.0)));
        (ours, median(turns.iter().map(|turn| figure(&turn.1))))
    };
    let (fps, cpu, cores) = (of_both(Run::fps), of_both(Run::cpu_ms_a_frame), of_both(Run::cores));
    let ratio = median(ratios.iter().copied());
    let name = name(clip);
    let mut each = String::new();
    ratios.iter().for_each(|ratio| write!(each, " {ratio:.2}").expect("a string takes all"));
    println!(
        "{name} | {instances} | {frames} | {:.0} | {:.0} | {ratio:.2} ({}) | {:.2}, {:.2} | {:.2}, {:.2} | {}",
        fps.0,
        fps.1,
        each.trim(),
        cpu.0,
        cpu.1,
        cores.0,
        cores.1,
        WAYS[way].0
    );
    format!(
        r#"{{"clip":{name:?},"instances":{instances},"frames":{frames},"ours_fps":{:.1},"ffmpeg_fps":{:.1},"ratio":{ratio:.3},"ours_cpu_ms":{:.3},"ffmpeg_cpu_ms":{:.3},"ffmpeg_way":{:?}}}"#,
        fps.0, fps.1, cpu.0, cpu.1, WAYS[way].0
    )
}

/// How much both write, and how close that is to what they were to write: that the work is equal.
fn likeness(clip: &Path, daemon: &Daemon, dir: &Path) -> String {
    let [ours, best, theirs, scaled] = ["ours", "best", "ffmpeg", "scaled"].map(|at| dir.join(at));
    let (our_run, their_run) =
        (resize_videos(clip, 1, 85, daemon, &ours), ffmpeg(clip, 1, &WAYS[0], &theirs));
    resize_videos(clip, 1, 100, daemon, &best);
    let raw = ["-f", "rawvideo", "-pix_fmt", "yuvj420p"];
    let mut scale = Command::new("ffmpeg");
    scale.args(["-v", "error", "-nostdin", "-i"]).arg(clip).args(SCALE).args(raw).arg(&scaled);
    assert!(scale.status().expect("ffmpeg").success(), "can't scale {}", clip.display());
    let pictures = |dir: &Path| dir.join("Frame%05d.jpg");
    let ours_like =
        psnr(&pictures(&ours.join("vid-instance1")), &[], &pictures(&best.join("vid-instance1")));
    let size = ["-s", "640x360"];
    let theirs_like = psnr(&pictures(&theirs.join("0")), &[&raw[..], &size].concat(), &scaled);
    fs::remove_file(&scaled).expect("to remove the frames");
    let bytes = |run: &Run| run.bytes / run.pictures as u64;
    let line = format!(
        "{}: ours {} bytes a picture, {ours_like} dB from its own of quality 100; ffmpeg {} bytes, \
         {theirs_like} dB from the frames it scaled",
        name(clip),
        bytes(&our_run),
        bytes(&their_run)
    );
    for dir in [ours, best, theirs] {
        fs::remove_dir_all(dir).expect("to remove the pictures");
    }
    line
}

/// The signal to noise ratio between pictures and others, which `options` describe.
fn psnr(pictures: &Path, options: &[&str], others: &Path) -> String {
    let rate = ["-framerate", "25"];
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner"])
        .args(rate)
        .arg("-i")
        .arg(pictures)
        .args(options)
        .args(rate)
        .arg("-i")
        .arg(others)
        .args(["-lavfi", "psnr", "-f", "null", "-"])
        .output()
        .expect("ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    let average = said.rsplit_once("average:").and_then(|(_, rest)| rest.split_whitespace().next());
    average.unwrap_or_else(|| panic!("ffmpeg says no PSNR: {said}")).to_owned()
}

/// N processes at once.
fn ffmpeg(clip: &Path, instances: usize, way: &Way, dir: &Path) -> Run {
    let (_, before, behind) = way;
    let folders: Vec<PathBuf> = (0..instances).map(|k| dir.join(k.to_string())).collect();
    folders.iter().for_each(|folder| fs::create_dir_all(folder).expect("a folder"));
    let start = |folder: &PathBuf| {
        Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin"])
            .args(*before)
            .arg("-i")
            .arg(clip)
            .args(SCALE)
            .args(["-fps_mode", "passthrough", "-q:v", "3"])
            .args(*behind)
            .arg(folder.join("Frame%05d.jpg"))
            .spawn()
            .expect("ffmpeg, from the package of that name")
    };
    run("ffmpeg", || folders.iter().map(start).collect(), || 0.0, dir)
}

fn resize_videos(clip: &Path, instances: usize, quality: u32, daemon: &Daemon, dir: &Path) -> Run {
    fs::create_dir_all(dir).expect("a folder");
    let start = || {
        let child = Command::new(PROGRAM)
            .arg(clip)
            .args(["-q", "-m", "0", "-s", "640x360", "-n", &instances.to_string(), "-o"])
            .arg(dir)
            .args(["--quality", &quality.to_string(), "--connect", &daemon.endpoint])
            .spawn()
            .expect("resize-videos");
        vec![child]
    };
    run("resize-videos", start, || daemon.cpu(), dir)
}

/// Starts processes and waits for all; `served` is the CPU time of whoever serves them.
fn run(
    name: &str,
    start: impl FnOnce() -> Vec<Child>,
    served: impl Fn() -> f64,
    dir: &Path,
) -> Run {
    let cpu = || children_cpu() + served();
    let (begun, before) = (Instant::now(), cpu());
    for mut child in start() {
        let status = child.wait().expect("a child to wait for");
        assert!(status.success(), "{name} failed: {status}");
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu() - before);
    let folders = fs::read_dir(dir).expect("the folder of the pictures");
    let files = |folder: fs::DirEntry| fs::read_dir(folder.path()).expect("a folder");
    let files = folders.flat_map(|folder| files(folder.expect("a folder")));
    let sizes: Vec<u64> =
        files.map(|file| file.and_then(|file| file.metadata()).expect("a picture").len()).collect();
    Run { seconds, cpu, pictures: sizes.len(), bytes: sizes.iter().sum() }
}

/// The run, whose pictures are removed: outside its time.
fn cleared(run: Run, dir: &Path) -> Run {
    fs::remove_dir_all(dir).expect("to remove the pictures");
    run
}

/// CPU seconds of all children that were waited for.
fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a figure of the system's");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn name(clip: &Path) -> String {
    clip.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A clip that lasts [`LENGTH`], made of this one as often as that takes, its packets as they are.
fn lengthened(clip: &Path, dir: &Path) -> PathBuf {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]).arg(clip);
    let said = probe.output().expect("ffprobe, from the package of ffmpeg").stdout;
    let length: Option<f64> = String::from_utf8_lossy(&said).trim().parse().ok();
    let times = length.map_or(1.0, |length| (LENGTH / length).ceil());
    if times <= 1.0 {
        return clip.to_owned();
    }
    let path = dir.join(format!("{times}-times-{}", name(clip)));
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-stream_loop", &(times - 1.0).to_string(), "-i"])
        .arg(clip)
        .args(["-map", "0:v:0", "-c", "copy"])
        .arg(&path)
        .status()
        .expect("ffmpeg, from the package of that name");
    assert!(status.success(), "ffmpeg can't repeat {}: {status}", clip.display());
    path
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

    /// CPU seconds so far.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(path).expect("a daemon that runs");
        // Behind the name, which may be anything, the 12th and 13th are user and system time.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks = fields.skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
        ticks.sum::<f64>() / TICKS
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
