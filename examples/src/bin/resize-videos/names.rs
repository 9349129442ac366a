//! Owns the names of pictures: those in folders of this program's making, and those after a user's
//! pattern.
//!
//! Touches no file, but that a folder which is there is none to be taken for a pattern.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use resizectl::pattern;

/// Where the pictures of a run go.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// A folder, in which each instance has one of its own.
    Folder(PathBuf),
    /// As the user would have it.
    Pattern(Pattern),
}

/// Such as `out/{name}-%05d.jpg`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    folder: Vec<Piece>,
    /// What is before the number of the frame, and behind it.
    prefix: Vec<Piece>,
    digits: usize,
    suffix: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Letter(char),
    /// The video's name without its ending.
    Video,
    /// The number of the instance.
    Instance,
}

/// The names of one instance's pictures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    prefix: String,
    digits: usize,
    suffix: String,
}

impl Output {
    /// Text with a percent sign in it is a pattern, and so should be what is a picture's name, unless there
    /// is a folder of that name. None is of a video.
    pub(crate) fn parse(text: OsString) -> Result<Self> {
        let path = PathBuf::from(text);
        let bytes = path.as_os_str().as_bytes();
        if path.is_dir() || bytes.ends_with(b"/") && !bytes.contains(&b'%') {
            return Ok(Self::Folder(path));
        }
        pattern::check_no_video(&path)?;
        if bytes.contains(&b'%') || is_picture(&path) {
            let text = path.to_str().context("patterns are text in UTF-8")?;
            Pattern::parse(text).map(Self::Pattern)
        } else {
            Ok(Self::Folder(path))
        }
    }

    /// Whether the video's name is a part of the names of its pictures.
    pub(crate) fn has_name(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.text.contains(pattern::NAME))
    }

    /// The folder and the names of an instance's pictures. Instances count from one.
    pub(crate) fn place(&self, instance: usize, video: &Path) -> (PathBuf, Names) {
        match self {
            Self::Folder(folder) => {
                let names =
                    Names { prefix: "Frame".to_owned(), digits: 5, suffix: ".jpg".to_owned() };
                (folder.join(format!("vid-instance{instance}")), names)
            }
            Self::Pattern(pattern) => {
                let fill = |pieces: &[Piece]| fill(pieces, instance, video);
                let folder = match fill(&pattern.folder) {
                    folder if folder.is_empty() => ".".to_owned(),
                    folder => folder,
                };
                let (prefix, suffix) = (fill(&pattern.prefix), fill(&pattern.suffix));
                (folder.into(), Names { prefix, digits: pattern.digits, suffix })
            }
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Pattern(pattern) => f.write_str(&pattern.text),
        }
    }
}

/// Whether a file of this name would be a picture, if none that this program makes.
fn is_picture(path: &Path) -> bool {
    const OTHERS: [&str; 9] = ["png", "webp", "avif", "bmp", "heic", "jp2", "jxl", "tif", "tiff"];
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    is_jpeg(path.as_os_str().as_bytes()) || ending.is_some_and(|ending| OTHERS.contains(&&*ending))
}

/// Whether a file of this name would be a JPEG.
fn is_jpeg(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(b".jpg") || lower.ends_with(b".jpeg")
}

fn fill(pieces: &[Piece], instance: usize, video: &Path) -> String {
    let filled = pieces.iter().map(|piece| match piece {
        Piece::Letter(letter) => letter.to_string(),
        Piece::Video => pattern::name(video).unwrap_or_default().to_string_lossy().into_owned(),
        Piece::Instance => instance.to_string(),
    });
    filled.collect()
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        // The pieces before the number, once it is met, and its digits.
        let (mut numbered, mut pieces, mut rest) = (None, Vec::new(), text);
        while let Some(letter) = rest.chars().next() {
            let (piece, after) = if let Some(after) = rest.strip_prefix(pattern::NAME) {
                (Piece::Video, after)
            } else if let Some(after) = rest.strip_prefix(pattern::NUMBER) {
                (Piece::Instance, after)
            } else if let Some(after) = rest.strip_prefix("%%") {
                (Piece::Letter('%'), after)
            } else if let Some(number) = rest.strip_prefix('%') {
                let (digits, after) = pattern::digits(number.as_bytes()).context(
                    "write %05d, or %d, for the number of the frame, and %% for a percent sign",
                )?;
                let after = &number[number.len() - after.len()..];
                ensure!(numbered.is_none(), "one number of the frame is enough");
                numbered = Some((std::mem::take(&mut pieces), digits));
                rest = after;
                continue;
            } else {
                if let Some(word) = pattern::stray(rest) {
                    bail!(
                        "{{{word}}} stands for nothing: write {{name}} for the video's name, {{n}} for \
                         the instance's number"
                    );
                }
                (Piece::Letter(letter), &rest[letter.len_utf8()..])
            };
            pieces.push(piece);
            rest = after;
        }
        let (mut folder, digits) = numbered.context("%05d is missing, the number of the frame")?;
        ensure!(
            !pieces.contains(&Piece::Letter('/')),
            "the number of the frame is for the file's name, not its folder's"
        );
        ensure!(is_jpeg(text.as_bytes()), "pictures are JPEG files: let their names end with .jpg");
        let slash = folder.iter().rposition(|piece| *piece == Piece::Letter('/'));
        let prefix = folder.split_off(slash.map_or(0, |at| at + 1));
        Ok(Self { text: text.to_owned(), folder, prefix, digits, suffix: pieces })
    }
}

impl Names {
    /// The name of a picture; the first is number one.
    pub(crate) fn of(&self, number: u64) -> String {
        let Self { prefix, digits, suffix } = self;
        format!("{prefix}{number:0digits$}{suffix}")
    }

    /// Whether a picture could have this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        name.strip_prefix(self.prefix.as_str())
            .and_then(|name| name.strip_suffix(self.suffix.as_str()))
            .is_some_and(|number| number.len() >= self.digits && is_number(number))
    }

    /// Whether this is how FFmpeg would name the pictures as a video: with zeros, also where none is
    /// written.
    pub(crate) fn is_pattern(&self, name: &str) -> bool {
        let Self { prefix, digits, suffix } = self;
        let number =
            name.strip_prefix(prefix.as_str()).and_then(|name| name.strip_suffix(suffix.as_str()));
        let number = number.and_then(|number| number.strip_prefix('%')?.strip_suffix('d'));
        number.is_some_and(|least| is_number(least) && least.parse().unwrap_or(0).max(1) == *digits)
    }

    /// Whether pictures of both could have one name: what one has more of before the number, or
    /// less behind it, are digits.
    pub(crate) fn meet(&self, other: &Self) -> bool {
        let prefix = rest(&self.prefix, &other.prefix, |long, short| long.strip_prefix(short));
        let suffix = rest(&self.suffix, &other.suffix, |long, short| long.strip_suffix(short));
        prefix.zip(suffix).is_some_and(|(prefix, suffix)| is_number(prefix) && is_number(suffix))
    }
}

/// What one of both has more than the other, if it begins or ends with that.
fn rest<'a>(
    one: &'a str,
    other: &'a str,
    strip: fn(&'a str, &'a str) -> Option<&'a str>,
) -> Option<&'a str> {
    strip(one, other).or_else(|| strip(other, one))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pattern: &str) -> (PathBuf, Names) {
        let output = Output::parse(pattern.into()).unwrap();
        assert_eq!(output.to_string(), pattern);
        output.place(3, Path::new("in/clip.7.mp4"))
    }

    fn names(prefix: &str, digits: usize, suffix: &str) -> Names {
        Names { prefix: prefix.to_owned(), digits, suffix: suffix.to_owned() }
    }

    #[test]
    fn patterns_are_filled_for_each_instance() {
        assert_eq!(place("out"), ("out/vid-instance3".into(), names("Frame", 5, ".jpg")));
        assert_eq!(place("%05d.jpg"), (".".into(), names("", 5, ".jpg")));
        assert_eq!(place("a/b/{name}-%d.JPEG"), ("a/b/".into(), names("clip.7-", 1, ".JPEG")));
        assert_eq!(
            place("/{n}/{name}/50%%-%03d-{n}.jpg"),
            ("/3/clip.7/".into(), names("50%-", 3, "-3.jpg"))
        );
        // Its stem is the folder above.
        let pattern = Output::parse("out/{name}/%d.jpg".into()).unwrap();
        let (folder, _) = pattern.place(1, Path::new("in/...mp4"));
        assert_eq!(folder, Path::new("out/...mp4/"));
        let (_, names) = place("x/é{name%04d}.jpg");
        assert_eq!(
            (names.of(7), names.of(12_345)),
            ("é{name0007}.jpg".to_owned(), "é{name12345}.jpg".to_owned())
        );
    }

    #[test]
    fn a_folder_that_is_there_is_no_pattern() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Output::parse("small.mp4/".into()), Ok(Output::Folder(_))));
        let path = dir.path().join("100%");
        assert!(Output::parse(path.clone().into()).is_err());
        std::fs::create_dir(&path).unwrap();
        let output = Output::parse(path.clone().into()).unwrap();
        assert!(matches!(&output, Output::Folder(folder) if *folder == path));
    }

    #[test]
    fn patterns_without_meaning_are_refused() {
        for (pattern, part) in [
            ("small.jpg", "%05d is missing"),
            ("small.png", "%05d is missing"),
            ("out/small.WebP", "%05d is missing"),
            ("small.mp4", "what is written are pictures, and no video"),
            ("%05d.mkv", "what is written are pictures, and no video"),
            ("-", "what is written are pictures"),
            ("out/%5d.jpg", "write %05d"),
            ("out/%s.jpg", "write %05d"),
            ("out/%00d.jpg", "write %05d"),
            ("out/%021d.jpg", "write %05d"),
            ("out/100%", "write %05d"),
            ("100%%/a.jpg", "%05d is missing"),
            ("{nmae}-%05d.jpg", "{nmae} stands for nothing: write {name}"),
            ("%05d{N}.jpg", "{N} stands for nothing"),
            ("%05d/a.jpg", "not its folder's"),
            ("%d-%d.jpg", "one number"),
            ("out/%05d.png", ".jpg"),
            ("out/%05d", ".jpg"),
        ] {
            let error = Output::parse(pattern.into()).unwrap_err().to_string();
            assert!(error.contains(part), "{pattern}: {error}");
        }
    }

    #[test]
    fn names_that_may_meet_are_found() {
        let cases = [
            (("a", ".jpg"), ("a", ".jpg"), true),
            (("a", ".jpg"), ("b", ".jpg"), false),
            (("cam1", ".jpg"), ("cam2", ".jpg"), false),
            (("cam1", ".jpg"), ("cam10", ".jpg"), true),
            (("cam1-", ".jpg"), ("cam10-", ".jpg"), false),
            (("", "1.jpg"), ("", "11.jpg"), true),
            (("", "-1.jpg"), ("", "-11.jpg"), false),
            (("1", ".jpg"), ("", "1.jpg"), true),
        ];
        for ((p, s), (q, t), expected) in cases {
            let (one, other) = (names(p, 5, s), names(q, 5, t));
            assert_eq!(
                (one.meet(&other), other.meet(&one)),
                (expected, expected),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn only_what_was_numbered_so_has_such_a_name() {
        let names = names("Frame", 5, ".jpg");
        for name in ["Frame00001.jpg", "Frame123456.jpg"] {
            assert!(names.has(name), "{name}");
        }
        for name in
            ["Frame1.jpg", "Frame0000a.jpg", "frame00001.jpg", "Frame00001.jpeg", ".jpg", "Frame"]
        {
            assert!(!names.has(name), "{name}");
        }
        assert!(!Names { prefix: String::new(), digits: 1, suffix: String::new() }.has(""));
    }
}
