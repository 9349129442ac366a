//! Owns the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::{
    PathBufValueParser, PossibleValue, PossibleValuesParser, RangedI64ValueParser, TypedValueParser,
};
use clap::{Args, Parser, Subcommand};
use resized_client::{Crop, Endpoint, Extent, Filter, PixelFormat, Quality};
use resized_pictures::{Colour, Format, Mode, Size, SizeError};
use resized_protocol::VERSIONS;
use resized_protocol::message::MAX_SLOTS;

/// Resize pictures and videos through the resized daemon; see what it does, and whether it is well.
#[derive(Debug, Parser)]
#[command(name = "resizectl", version, long_version = VERSIONS.as_str(), about)]
pub struct Arguments {
    /// Address of the daemon, such as unix:/run/resized/resized.sock, or of a bridge to one,
    /// tcp://HOST:PORT or tls://HOST:PORT, or of a service of many, nats://HOST:PORT/stream [default:
    /// $RESIZED_ENDPOINT, else the running service's, else for resize, video and bench a daemon inside
    /// this process, on the cores alone]
    ///
    /// What a bridge wants to see, and whom to trust, is in files that the environment names:
    /// RESIZED_TOKEN_FILE its token, RESIZED_CA the authorities that may have signed its
    /// certificate, RESIZED_CERTIFICATE and RESIZED_KEY a certificate of one's own,
    /// RESIZED_NATS_CREDENTIALS those for a NATS service. RESIZED_NATS_INBOX=_INBOX.NAME says where
    /// that service's answers are awaited, for clients that have the right to no other inbox
    #[arg(long, value_name = "ENDPOINT", global = true)]
    pub(crate) connect: Option<Endpoint>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The daemon that was named.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.connect.as_ref()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Resize(Resize),
    Video(Video),
    Top(Top),
    Status(Status),
    Doctor(Doctor),
    Bench(Bench),
}

/// Look for what is wrong, and say what to do about it
///
/// The way to the daemon, devices and why one is not used, a frame there and back, and whether
/// memory, descriptors, quotas as they are by default and other limits are enough for so many
/// streams; not those of a bridge's machine, which can't be seen from here. The exit code is 1 if
/// something is bad.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Streams that the limits should be enough for, each of a client of its own
    #[arg(long, value_name = "N", default_value = "16",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) streams: u64,

    /// Size of their frames
    #[arg(long, value_name = "WxH", default_value = "1920x1080", value_parser = extent)]
    pub(crate) from: Extent,

    /// Size of the results
    #[arg(short, long, value_name = "WxH", default_value = "640x360", value_parser = extent)]
    pub(crate) size: Extent,

    /// Format of both
    #[arg(long, default_value = "i420", value_parser = frame_formats())]
    pub(crate) format: PixelFormat,

    /// Frames that each has in flight
    #[arg(long, value_name = "N", default_value = "4", value_parser = slots())]
    pub(crate) slots: u32,
}

/// Load the daemon, and say how long frames took
///
/// Without --rate each client submits a frame when one is back (closed loop). With it frames are
/// due at that rate, whatever becomes of those before, and times count from when they were due
/// (open loop). No figures are given that may be those of the load itself. Where no daemon runs,
/// one inside this process is measured, on the cores alone.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Size of the frames
    #[arg(long, value_name = "WxH", default_value = "1920x1080", value_parser = extent)]
    pub(crate) from: Extent,

    /// Size of the results
    #[arg(short, long, value_name = "WxH", default_value = "640x360", value_parser = extent)]
    pub(crate) size: Extent,

    /// Format of both
    #[arg(long, default_value = "i420", value_parser = frame_formats())]
    pub(crate) format: PixelFormat,

    /// How pixels are resampled
    #[arg(long, default_value = "bicubic", value_parser = filters())]
    pub(crate) filter: Filter,

    /// Clients, each with a connection and a stream
    #[arg(short, long, value_name = "N", default_value = "1", allow_negative_numbers = true,
          value_parser = one_or_more)]
    pub(crate) clients: NonZeroUsize,

    /// Frames that each may have in flight
    #[arg(long, value_name = "N", default_value = "4", value_parser = slots())]
    pub(crate) in_flight: u32,

    /// Frames a second of all clients together
    #[arg(long, value_name = "FPS", value_parser = rate)]
    pub(crate) rate: Option<f64>,

    /// Seconds that are measured, after a tenth more that is not
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what the daemon does, as it does it: devices, clients and their streams
///
/// Times are bounds: half of the frames, or 99 of 100, took less. Of other users' clients the
/// daemon tells only root and its own user.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Seconds between looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,

    /// Print the figures of one interval, and end
    #[arg(long)]
    pub(crate) once: bool,

    /// As JSON
    #[arg(long, requires = "once")]
    pub(crate) json: bool,
}

/// Say whether the daemon answers, and what it has done since it started
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Resize JPEG, PNG and WebP files, many at once
///
/// Pictures are turned upright as their EXIF orientation says; their colour profile is kept, all
/// other metadata, such as where they were taken, is not. Of an animation only the first picture is
/// kept, and of 16 bits a channel only 8; that is said of each. A picture that can't be resized is
/// named and the others go on; the exit code is 1 then. Where no daemon runs, one inside this
/// process serves, on the cores alone.
#[derive(Args, Debug)]
pub(crate) struct Resize {
    /// Pictures to resize; - is standard input
    #[arg(value_name = "IN", required_unless_present = "files_from",
          value_parser = path_or("/dev/stdin"))]
    pub(crate) inputs: Vec<PathBuf>,

    /// Also resize the pictures that FILE lists, one path in each line, relative to the folder of this
    /// process; - is standard input
    #[arg(long, value_name = "FILE", value_parser = path_or("/dev/stdin"))]
    pub(crate) files_from: Option<PathBuf>,

    /// Size of the results; 640x and x360 leave the other side to the picture's shape
    #[arg(short, long, value_name = "WxH", allow_hyphen_values = true)]
    pub(crate) size: Size,

    /// A folder, with / at its end if it is not there yet; a file, for a single picture, - for
    /// standard output; or a pattern for files, in which {name} is the name of the picture without its
    /// ending, %05d its number with five digits, and the letter n in braces its number without zeros
    /// before it
    #[arg(short, long, value_name = "OUT", value_parser = path_or("/dev/stdout"))]
    pub(crate) output: PathBuf,

    /// What becomes of pictures of another shape
    #[arg(long, default_value = "fit", value_parser = modes())]
    pub(crate) mode: Mode,

    /// Fill what a fitted picture leaves of the size with this colour, such as ffffff: results then have exactly the size, or
    /// with --only-shrink its shape. The picture is in the middle, in a JPEG to within two pixels
    #[arg(long, value_name = "RRGGBB")]
    pub(crate) pad: Option<Colour>,

    /// Resize only this part of each picture, in its upright pixels from the upper left corner
    #[arg(long, value_name = "WxH+X+Y", value_parser = crop)]
    pub(crate) crop: Option<Crop>,

    /// How pixels are resampled
    #[arg(long, default_value = "bicubic", value_parser = filters())]
    pub(crate) filter: Filter,

    /// Quality of JPEG results [default: 85]; PNG and WebP are encoded without loss
    #[arg(long, value_name = "Q")]
    pub(crate) quality: Option<Quality>,

    /// Format of the results [default: what the ending of OUT says, else the picture's own]
    #[arg(long, value_parser = formats())]
    pub(crate) format: Option<Format>,

    /// Make nothing larger than it was
    #[arg(long)]
    pub(crate) only_shrink: bool,

    /// Skip pictures whose result file is there already, as after a run that was ended. Only its name
    /// is compared: results of another --size count, too, and a pattern needs {name} and no number
    #[arg(long)]
    pub(crate) skip_existing: bool,

    /// Pictures at work at once [default: one for each core]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Refuse pictures of more than N million pixels, before they are decoded
    #[arg(long, value_name = "N", default_value = "200", value_parser = megapixels)]
    pub(crate) max_megapixels: u64,

    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Resize videos, frame by frame, into numbered JPEG files
///
/// All videos at once, each through an instance of its own. A video that can't be resized is named
/// and the others go on; the exit code is 1 then. This runs resize-videos, a program that is
/// installed apart, since it takes FFmpeg's libraries. Where no daemon runs, one inside that program
/// serves, on the cores alone.
#[derive(Args, Debug)]
pub(crate) struct Video {
    /// Videos to resize; - is standard input
    #[arg(value_name = "IN", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Size of the pictures; 640x and x360 leave the other side to the video's shape
    #[arg(short, long, value_name = "WxH", allow_hyphen_values = true)]
    pub(crate) size: Size,

    /// What becomes of videos of another shape
    #[arg(long, default_value = "fit", value_parser = modes())]
    pub(crate) mode: Mode,

    /// Fill what a fitted picture leaves of the size with this colour, such as ffffff: pictures then have
    /// exactly the size, with the video in the middle
    #[arg(long, value_name = "RRGGBB")]
    pub(crate) pad: Option<Colour>,

    /// A pattern for the names of the pictures, such as out/%05d.jpg, in which %05d is the number
    /// of the frame with five digits, {name} the video's name without its ending, and the letter n in
    /// braces the video's number; or a folder, for the pattern {name}-%05d.jpg in it. Files that have
    /// these names are overwritten
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Make pictures of every Nth frame only, from the first on
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) every: u64,

    /// End each video after so many pictures
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,

    /// How pixels are resampled
    #[arg(long, default_value = "bicubic", value_parser = filters())]
    pub(crate) filter: Filter,

    /// JPEG quality
    #[arg(long, value_name = "Q", default_value_t)]
    pub(crate) quality: Quality,

    /// Write the figures to FILE, as JSON, which resize-videos(1) describes
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a page that shows the run to FILE, as HTML
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Reads a path; a dash is what is open already.
pub fn path_or(standard: &'static str) -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new()
        .map(move |path| if path.as_os_str() == "-" { standard.into() } else { path })
}

/// Reads the name of a filter.
pub fn filters() -> impl TypedValueParser<Value = Filter> {
    PossibleValuesParser::new(Filter::ALL.map(Filter::name)).try_map(|name| name.parse())
}

/// Reads the name of a format of frames that are resized to themselves.
fn frame_formats() -> impl TypedValueParser<Value = PixelFormat> {
    const NAMED: [(&str, PixelFormat); 9] = [
        ("gray8", PixelFormat::Gray8),
        ("i420", PixelFormat::I420),
        ("nv12", PixelFormat::Nv12),
        ("rgb24", PixelFormat::Rgb24),
        ("bgr24", PixelFormat::Bgr24),
        ("rgba", PixelFormat::Rgba),
        ("bgra", PixelFormat::Bgra),
        ("i420p10", PixelFormat::I420P10),
        ("p010", PixelFormat::P010),
    ];
    let format = |given: String| NAMED.into_iter().find(|(name, _)| *name == given);
    PossibleValuesParser::new(NAMED.map(|(name, _)| name))
        .try_map(move |given| format(given).map(|(_, format)| format).ok_or("no such format"))
}

/// Reads the name of a mode.
pub fn modes() -> impl TypedValueParser<Value = Mode> {
    let value = |mode: Mode| {
        PossibleValue::new(mode.name()).help(match mode {
            Mode::Fit | Mode::Pad(_) => {
                "As large as it can be within the size; one side may be shorter, unless --pad fills it"
            }
            Mode::Fill => "Exactly the size; what is too much is cut off evenly at both ends",
            Mode::Stretch => "Exactly the size; the shape changes",
        })
    };
    PossibleValuesParser::new(Mode::ALL.map(value)).try_map(|name| name.parse())
}

/// The mode of pictures for which this size was asked, padded with a colour if there is one. Fails where an
/// option would do nothing.
pub fn mode(mode: Mode, size: Size, pad: Option<Colour>) -> Result<Mode> {
    let mode = match pad {
        None => mode,
        Some(colour) => mode.padded(colour).context("--pad is for --mode fit")?,
    };
    ensure!(
        matches!(size, Size::Box(_)) || !matches!(mode, Mode::Fill | Mode::Pad(_)),
        "--mode fill and --pad need both sides of --size"
    );
    Ok(mode)
}

/// Reads the name of a format of files.
fn formats() -> impl TypedValueParser<Value = Format> {
    let value = |format: Format| {
        let value = PossibleValue::new(format.name());
        if format == Format::Jpeg { value.alias("jpg") } else { value }
    };
    PossibleValuesParser::new(Format::ALL.map(value)).try_map(|name| name.parse())
}

fn extent(text: &str) -> Result<Extent> {
    match text.parse() {
        Ok(Size::Box(extent)) => Ok(extent),
        Ok(_) | Err(SizeError::Form) => anyhow::bail!("write WIDTHxHEIGHT, like 640x360"),
        Err(error) => Err(error.into()),
    }
}

fn slots() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS))
}

fn one_or_more(text: &str) -> Result<NonZeroUsize> {
    text.parse().context("write how many, 1 or more")
}

fn megapixels(text: &str) -> Result<u64> {
    let megapixels = text.parse().ok().filter(|megapixels| (1..=4096).contains(megapixels));
    megapixels.context("write millions of pixels, a whole number from 1 to 4096")
}

fn rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse().context("not a number of frames a second")?;
    ensure!((0.01..=1e9).contains(&rate), "from 0.01 to 1000000000 frames a second");
    Ok(rate)
}

/// A length of time that can be waited for.
fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().context("not a number of seconds")?;
    ensure!((0.01..=86_400.0).contains(&seconds), "from 0.01 to 86400 seconds");
    Ok(Duration::from_secs_f64(seconds))
}

/// Whether it is within a picture shows when there is one.
fn crop(text: &str) -> Result<Crop> {
    let parts = || {
        let (size, place) = text.split_once('+')?;
        let ((width, height), (left, top)) = (size.split_once(['x', 'X'])?, place.split_once('+')?);
        Some([width, height, left, top])
    };
    let parts = parts().context("write WIDTHxHEIGHT+LEFT+TOP, like 800x600+100+0")?;
    let number = |text: &str| -> Result<f64> {
        let number: u32 =
            text.parse().with_context(|| format!("'{text}' is no number of pixels"))?;
        Ok(number.into())
    };
    let [width, height, left, top] = parts.map(number);
    let crop = Crop { width: width?, height: height?, left: left?, top: top? };
    ensure!(crop.width > 0.0 && crop.height > 0.0, "a crop has at least one pixel");
    Ok(crop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn errors_say_what_to_write() {
        for (line, words) in [
            ("bench -c 0", "'0' for '--clients <N>': write how many, 1 or more"),
            ("bench -c -1", "'-1' for '--clients <N>': write how many, 1 or more"),
            ("resize a.jpg -s 4x4 -o b --max-megapixels 0.5", "a whole number from 1 to 4096"),
            ("bench -s 640x", "'640x' for '--size <WxH>': write WIDTHxHEIGHT, like 640x360"),
            ("bench -s 640", "'640' for '--size <WxH>': write WIDTHxHEIGHT, like 640x360"),
            ("resize a.jpg -s 640 -o b", "like 640x360, or 640x for the width alone"),
            ("resize a.jpg -s 4x4 -o b -j some", "'some' for '--jobs <N>': write how many"),
        ] {
            let line = format!("resizectl {line}");
            let error = Arguments::try_parse_from(line.split_whitespace()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn crops_are_read_as_they_are_usually_written() {
        let expected = Crop { left: 100.0, top: 7.0, width: 800.0, height: 600.0 };
        assert_eq!(crop("800x600+100+7").unwrap(), expected);
        assert_eq!(crop("800X600+100+7").unwrap(), expected);
        for text in
            ["", "800x600", "800x600+1", "0x600+1+1", "800x600-1+1", "nanx1+1+1", "1.5x1+1+1"]
        {
            assert!(crop(text).is_err(), "{text}");
        }
    }
}
