//! Owns what every test here needs: clips made by the ffmpeg tool, runs of the program, and pictures
//! read back.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use turbojpeg::PixelFormat;

const PROGRAM: &str = env!("CARGO_BIN_EXE_resize-videos");

/// In seconds: far longer than any run takes on a loaded machine.
const DEADLINE: &str = "120";

/// A folder for clips and pictures, gone at the end of the test.
pub(crate) struct Bench {
    dir: TempDir,
}

/// RGB, eight bits, row after row.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a clip from the source `lavfi`, coded as `options` say, which may name files of this folder.
    pub(crate) fn clip(&self, name: &str, lavfi: &str, options: &str) -> PathBuf {
        let path = self.path(name);
        let inputs = ["-f", "lavfi", "-i", lavfi];
        ffmpeg(inputs.into_iter().chain(options.split_whitespace()), &path);
        path
    }

    /// The program, to be run with no daemon to be found but its own, and `out` as its output folder.
    pub(crate) fn command(&self, videos: &[&Path]) -> Command {
        self.prepared(Command::new(PROGRAM), videos)
    }

    /// The same, ended if it hangs. Signals are passed on to it.
    pub(crate) fn bounded(&self, videos: &[&Path]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "-sKILL", DEADLINE, PROGRAM]);
        self.prepared(command, videos)
    }

    fn prepared(&self, mut command: Command, videos: &[&Path]) -> Command {
        command
            .env_remove("RESIZED_ENDPOINT")
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .current_dir(self.dir.path())
            .args(videos)
            .args(["-o", "out"]);
        command
    }

    /// Runs the program, which is ended if it hangs.
    pub(crate) fn run(&self, videos: &[&Path], options: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", DEADLINE, PROGRAM]);
        self.prepared(command, videos).args(options.split_whitespace()).output().unwrap()
    }

    /// The figures that a run wrote to `figures.json`.
    pub(crate) fn figures(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("figures.json")).unwrap()).unwrap()
    }

    /// Names in the folder of an instance, in order.
    pub(crate) fn names(&self, instance: usize) -> Vec<String> {
        let entries =
            fs::read_dir(self.path("out").join(format!("vid-instance{instance}"))).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// A picture that an instance wrote.
    pub(crate) fn picture(&self, instance: usize, number: usize) -> Picture {
        let name = format!("out/vid-instance{instance}/Frame{number:05}.jpg");
        let jpeg = fs::read(self.path(&name)).unwrap();
        let image = turbojpeg::decompress(&jpeg, PixelFormat::RGB).expect(&name);
        assert_eq!(image.pitch, image.width * 3);
        Picture { width: image.width, height: image.height, rgb: image.pixels }
    }
}

/// Waits until something is there.
pub(crate) fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", path.display());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same MP4 file, shown by another matrix: x and y of what is shown are the sums of its columns.
pub(crate) fn turned(clip: &Path, matrix: [i32; 4]) -> PathBuf {
    let mut bytes = fs::read(clip).unwrap();
    let header = bytes.windows(4).position(|word| word == b"tkhd").unwrap();
    for (place, number) in [0, 1, 3, 4].into_iter().zip(matrix) {
        let number = (number << 16).to_be_bytes();
        bytes[header + 44 + 4 * place..][..4].copy_from_slice(&number);
    }
    let path = clip.with_file_name(format!("{matrix:?}.mp4"));
    fs::write(&path, bytes).unwrap();
    path
}

/// What the names of `count` pictures are.
pub(crate) fn frame_names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("Frame{number:05}.jpg")).collect()
}

/// The frames of a clip as FFmpeg's own scaler gives them.
pub(crate) fn ffmpeg_pictures(clip: &Path, width: usize, height: usize) -> Vec<Picture> {
    filtered_pictures(clip, &format!("scale={width}:{height}"), (width, height))
}

/// The frames of a clip after filters of FFmpeg's, which make them so large.
pub(crate) fn filtered_pictures(
    clip: &Path,
    filters: &str,
    (width, height): (usize, usize),
) -> Vec<Picture> {
    let raw = clip.with_extension("rgb");
    let filter = format!("sws_flags=bicubic+accurate_rnd+full_chroma_int;{filters}");
    let options = ["-vf", &filter, "-f", "rawvideo", "-pix_fmt", "rgb24"].map(OsStr::new);
    ffmpeg([OsStr::new("-i"), clip.as_os_str()].into_iter().chain(options), &raw);
    let picture = |rgb: &[u8]| Picture { width, height, rgb: rgb.to_vec() };
    fs::read(raw).unwrap().chunks_exact(width * height * 3).map(picture).collect()
}

impl Picture {
    /// Likeness to another picture, as the peak signal-to-noise ratio in decibels.
    pub(crate) fn psnr(&self, other: &Self) -> f64 {
        self.likeness(other, |rgb| rgb.map(f64::from))
    }

    /// As [`psnr`](Self::psnr), of brightness alone (ITU-R BT.601).
    pub(crate) fn luma_psnr(&self, other: &Self) -> f64 {
        self.likeness(other, |rgb| {
            let [red, green, blue] = rgb.map(f64::from);
            [0.299 * red + 0.587 * green + 0.114 * blue]
        })
    }

    fn likeness<const N: usize>(&self, other: &Self, samples: impl Fn([u8; 3]) -> [f64; N]) -> f64 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        let pixels = |picture: &Self| -> Vec<f64> {
            let pixels = picture.rgb.chunks_exact(3);
            pixels.flat_map(|rgb| samples([rgb[0], rgb[1], rgb[2]])).collect()
        };
        let (ours, theirs) = (pixels(self), pixels(other));
        let squares = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).powi(2));
        let mean = squares.sum::<f64>() / ours.len() as f64;
        20.0 * 255_f64.log10() - 10.0 * mean.log10()
    }

    /// Colour of the middle.
    pub(crate) fn middle(&self) -> [u8; 3] {
        let pixel = self.height / 2 * self.width + self.width / 2;
        [0, 1, 2].map(|sample| self.rgb[3 * pixel + sample])
    }
}

fn ffmpeg<A: AsRef<OsStr>>(options: impl IntoIterator<Item = A>, output: &Path) {
    let mut command = Command::new("ffmpeg");
    command.current_dir(output.parent().unwrap());
    command.args(["-v", "error", "-y", "-nostdin"]).args(options).arg(output);
    let status = command.status().expect("the ffmpeg tool is needed to make clips");
    assert!(status.success(), "{command:?}");
}
