//! Owns the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use resizectl::{VERSIONS, filters, mode, modes, path_or};
use resized_client::{Endpoint, Filter, Quality};
use resized_pictures::{Colour, Mode, Size};

use crate::names::Output;
use crate::shape::Shape;

/// Most copies that are asked for by anybody who means it. The system's limits come sooner, and are
/// named.
const MAX_COPIES: usize = 10_000;

/// Resize videos through the resized daemon, frame by frame, into JPEG files.
///
/// Instance K writes OUT/vid-instanceK/Frame00001.jpg, Frame00002.jpg, ..., and removes those of an
/// earlier run. If OUT is a pattern, files that have its names are overwritten, and others stay. Where
/// no daemon runs, one inside this process serves, on the cores alone.
///
/// What is wrong with one video ends its instance alone: it is named, the others go on, and the
/// exit code is 1 in the end. If it can't be opened, no picture of an earlier run is removed for
/// it. What all need, such as the daemon or room on the disk, stops all where it is missing. The
/// figures and the report are written either way, and after a signal.
#[derive(Parser)]
#[command(name = "resize-videos", version, long_version = VERSIONS.as_str())]
pub(crate) struct Args {
    /// Videos to resize; several are dealt out over the instances in turn; - is standard input
    #[arg(value_name = "VIDEO", required = true,
          value_parser = path_or("/dev/stdin"))]
    pub(crate) videos: Vec<PathBuf>,

    /// Copies to run at once, as far as the daemon has room, each a client of its own: 1 to 10000
    /// [default: one for each video, but 2 for a single one, unless it can be read only once, as
    /// standard input]
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = copies)]
    instances: Option<usize>,

    /// Seconds from the start of one instance to the start of the next; fractions are allowed
    #[arg(short = 'm', long, value_name = "SECONDS", default_value = "1", allow_negative_numbers = true,
          value_parser = seconds)]
    pub(crate) interval: Duration,

    /// Size of the pictures; 640x or x360 keeps the aspect ratio in which the video is shown
    #[arg(short, long, value_name = "WxH", default_value = "640x360", allow_hyphen_values = true)]
    size: Size,

    /// What becomes of videos of another shape [default: stretch, for the size is that of the pictures, or
    /// fit with --pad]
    #[arg(long, value_parser = modes())]
    mode: Option<Mode>,

    /// Fill what a fitted picture leaves of the size with this colour, such as ffffff: pictures then have
    /// exactly the size, with the video in the middle
    #[arg(long, value_name = "RRGGBB")]
    pad: Option<Colour>,

    /// Folder in which the instances' folders are made; or a pattern for the names of the pictures,
    /// such as out/{name}-%05d.jpg, of which the first for clip.mp4 is out/clip-00001.jpg: %05d is
    /// the number of the frame with five digits, {name} the video's name without its ending, and the
    /// letter n in braces the number of the instance
    #[arg(short, long, value_name = "OUT", default_value = "/tmp",
          value_parser = OsStringValueParser::new().try_map(Output::parse))]
    pub(crate) output: Output,

    /// Make pictures of every Nth frame only, from the first on
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) every: u64,

    /// End each instance after so many pictures
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,

    /// How pixels are resampled
    #[arg(long, default_value = "bicubic", value_parser = filters())]
    pub(crate) filter: Filter,

    /// JPEG quality
    #[arg(long, value_name = "Q", default_value_t)]
    pub(crate) quality: Quality,

    /// Address of the daemon, such as unix:/run/resized/resized.sock, or of a bridge to one,
    /// tcp://HOST:PORT or tls://HOST:PORT, or of a service of many, nats://HOST:PORT/stream
    /// [default: $RESIZED_ENDPOINT, else the running service's, else a daemon inside this process, on
    /// the cores alone]
    ///
    /// What a bridge wants to see, and whom to trust, is in files that the environment names:
    /// RESIZED_TOKEN_FILE its token, RESIZED_CA the authorities that may have signed its
    /// certificate, RESIZED_CERTIFICATE and RESIZED_KEY a certificate of one's own,
    /// RESIZED_NATS_CREDENTIALS those for a NATS service. RESIZED_NATS_INBOX=_INBOX.NAME says where
    /// that service's answers are awaited, for clients that have the right to no other inbox
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) connect: Option<Endpoint>,

    /// Write the figures to FILE, as JSON; - is standard output, for which there is --quiet
    ///
    /// "stopped" is null or says what ended the run before its time: {"signal": NUMBER} or
    /// {"error": TEXT}. "instances" has one object for each instance that had begun by then, and for
    /// each whose video can't be opened. In it, "complete" says whether all pictures were made that
    /// were asked for (of a video with --frames no more than that), and "error" what was wrong, or
    /// null; "frames" counts pictures, "skipped" frames that could not be decoded, "devices" frames by
    /// the device that resized them; "latency_ms" is the time from submitted to received, "written_ms"
    /// that from decoded to written. "total" is all instances together
    #[arg(long, value_name = "FILE", value_parser = path_or("/dev/stdout"))]
    pub(crate) json: Option<PathBuf>,

    /// Write a page that shows the run to FILE, as HTML: frames a second over time, how long frames
    /// took, who resized them; - is standard output
    #[arg(long, value_name = "FILE", value_parser = path_or("/dev/stdout"))]
    pub(crate) report: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Args {
    /// How many pictures are made of a video of so many frames.
    pub(crate) fn pictures(&self, frames: u64) -> u64 {
        frames.div_ceil(self.every).min(self.frames.unwrap_or(u64::MAX))
    }

    /// The shape of the pictures.
    pub(crate) fn shape(&self) -> Result<Shape> {
        let usual = if self.pad.is_some() { Mode::Fit } else { Mode::Stretch };
        let mode = mode(self.mode.unwrap_or(usual), self.size, self.pad)?;
        Ok(Shape::new(self.size, mode))
    }

    /// Number of copies to run.
    pub(crate) fn instances(&self) -> Result<usize> {
        let videos = self.videos.len();
        let is_once = self.videos.iter().any(|video| is_read_once(video));
        let usual = || if is_once { videos } else { videos.max(2) };
        let instances = self.instances.unwrap_or_else(usual);
        ensure!(
            instances >= videos,
            "{videos} videos are too many for {instances} instances: each resizes one"
        );
        // Those that are dealt out more than once.
        let mut again = self.videos.iter().take(instances - videos);
        if let Some(video) = again.find(|video| is_read_once(video)) {
            bail!(
                "{} is no file, and only one copy could read what comes from it: use -n {videos}",
                video.display()
            );
        }
        Ok(instances)
    }
}

/// Whether it can be closed and opened again later, and is then as it was: it is a file, or at an
/// address that is asked for it. A server may not keep who asked early.
pub(crate) fn is_there_again(video: &Path) -> bool {
    const ASKED: [&str; 5] = ["http:", "https:", "ftp:", "rtsp:", "rtsps:"];
    let is_asked = |name: &str| ASKED.iter().any(|scheme| name.starts_with(scheme));
    video.is_file() || video.to_str().is_some_and(is_asked)
}

/// Whether it is a pipe, or something else that has nothing left for whoever opens it next.
fn is_read_once(video: &Path) -> bool {
    match fs::metadata(video) {
        Ok(what) => !what.is_file() && !what.is_dir(),
        // FFmpeg's name of one that is open already.
        Err(_) => video.to_str().is_some_and(|name| name.starts_with("pipe:")),
    }
}

fn copies(text: &str) -> Result<usize> {
    let copies = text.parse().ok().filter(|copies| (1..=MAX_COPIES).contains(copies));
    copies.with_context(|| format!("write how many copies, 1 to {MAX_COPIES}"))
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.context("write seconds, 0 or more, like 0.5")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_long_version_says_the_protocols() {
        let said = Args::command().render_long_version();
        assert_eq!(said, format!("resize-videos {}\n", *VERSIONS));
    }

    #[test]
    fn intervals_may_be_fractions_but_not_negative() {
        assert_eq!(seconds("0.25").unwrap(), Duration::from_millis(250));
        for text in ["-1", "nan", "inf", "1e30", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (line, words) in [
            ("-n 0", "'0' for '--instances <N>': write how many copies, 1 to 10000"),
            ("-n -2", "'-2' for '--instances <N>': write how many copies, 1 to 10000"),
            ("-n 10001", "'10001' for '--instances <N>': write how many copies, 1 to 10000"),
            ("-m -1", "'-1' for '--interval <SECONDS>': write seconds, 0 or more"),
            ("-m 1e30", "'1e30' for '--interval <SECONDS>': write seconds, 0 or more"),
            ("-n -s 640x360", "a value is required for '--instances <N>'"),
            ("-m soon", "'soon' for '--interval <SECONDS>': write seconds, 0 or more"),
        ] {
            let line = format!("resize-videos clip {line}");
            let Err(error) = Args::try_parse_from(line.split_whitespace()) else {
                panic!("{line}")
            };
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn frames_are_left_out_and_pictures_counted() {
        let pictures = |options: &str, frames| {
            let line = format!("resize-videos a {options}");
            Args::try_parse_from(line.split_whitespace()).unwrap().pictures(frames)
        };
        assert_eq!(pictures("", 30), 30);
        assert_eq!((pictures("--every 25", 50), pictures("--every 25", 51)), (2, 3));
        assert_eq!((pictures("--every 2 --frames 5", 8), pictures("--frames 5", 8)), (4, 5));
    }

    #[test]
    fn there_is_an_instance_for_each_video() {
        let instances =
            |line: &str| Args::try_parse_from(line.split_whitespace()).unwrap().instances().ok();
        assert_eq!(instances("resize-videos a"), Some(2));
        assert_eq!(instances("resize-videos a b c"), Some(3));
        // What gives what it has once.
        assert_eq!(instances("resize-videos /dev/null"), Some(1));
        assert_eq!(instances("resize-videos /dev/null -n 2"), None);
        assert_eq!(instances("resize-videos a b c -n 4"), Some(4));
        assert_eq!(instances("resize-videos a b c -n 2"), None);
    }

    #[test]
    fn what_speaks_once_is_not_opened_twice() {
        for video in ["/proc/self/exe", "http://host/a.mkv", "rtsp://host/camera"] {
            assert!(is_there_again(Path::new(video)), "{video}");
        }
        for video in ["/dev/null", "pipe:0", "fd:", "tcp://0.0.0.0:9?listen", "cache:pipe:0"] {
            assert!(!is_there_again(Path::new(video)), "{video}");
        }
    }

    #[test]
    fn a_size_may_begin_with_a_minus() {
        let args = Args::try_parse_from(["resize-videos", "clip", "-s", "-1x360"]).unwrap();
        assert_eq!(args.size, Size::Height(360));
    }
}
