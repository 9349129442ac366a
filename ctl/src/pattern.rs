//! Owns the words that stand for something in a user's pattern for the names of results.
//!
//! Whose name and which number they stand for is up to whoever fills them in.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Result, ensure};

/// A file's name without its ending.
pub const NAME: &str = "{name}";

/// A number that counts from one.
pub const NUMBER: &str = "{n}";

/// The word in braces with which text begins, if it looks as if it stood for something, but does not.
pub fn stray(text: &str) -> Option<&str> {
    if [NAME, NUMBER].iter().any(|known| text.starts_with(known)) {
        return None;
    }
    let (word, _) = text.strip_prefix('{')?.split_once('}')?;
    (!word.is_empty() && word.chars().all(char::is_alphabetic)).then_some(word)
}

/// Most digits of a number, with which the largest has no need of more.
const MAX_DIGITS: usize = 20;

/// How many digits a number has at least that text asks for behind a percent sign, as C has it: `05d`. And
/// what is behind that.
pub fn digits(text: &[u8]) -> Option<(usize, &[u8])> {
    let end = text.iter().position(|letter| !letter.is_ascii_digit())?;
    let (number, after) = (str::from_utf8(&text[..end]).ok()?, text[end..].strip_prefix(b"d")?);
    let digits = match number {
        "" => 1,
        padded => padded.strip_prefix('0')?.parse().ok()?,
    };
    (1..=MAX_DIGITS).contains(&digits).then_some((digits, after))
}

/// Fails if who made that the output of pictures wants a video made, or one written to standard output.
pub fn check_no_video(output: &Path) -> Result<()> {
    const ENDINGS: [&str; 10] =
        ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "gif"];
    let ending = output.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    let is_video = ending.is_some_and(|ending| ENDINGS.contains(&&*ending));
    ensure!(
        !is_video && output != "-",
        "what is written are pictures, and no video: write a pattern for their names, such as out/%05d.jpg; then \
         ffmpeg -framerate RATE -i out/%05d.jpg small.mp4 makes a video of them, of so many frames a second"
    );
    Ok(())
}

/// What [`NAME`] stands for. The name without its ending, unless that is of dots: it would be a
/// folder's.
pub fn name(file: &Path) -> Option<&OsStr> {
    match file.file_stem()? {
        dots if dots == "." || dots == ".." => file.file_name(),
        stem => Some(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_stand_for_nothing_are_found() {
        for (text, word) in [("{nmae}-x", "nmae"), ("{N}", "N"), ("{nom}{n}", "nom"), ("{é}", "é")]
        {
            assert_eq!(stray(text), Some(word), "{text}");
        }
        for text in ["", "{name}.jpg", "{n}", "{", "{}", "{n", "x{N}", "{n5}", "{%05d}", "{a b}"] {
            assert_eq!(stray(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_have_as_many_digits_as_are_asked_for() {
        for (text, expected) in [("05d.jpg", (5, ".jpg")), ("d", (1, "")), ("020dd", (20, "d"))] {
            let (digits, after) = digits(text.as_bytes()).unwrap();
            assert_eq!((digits, str::from_utf8(after)), (expected.0, Ok(expected.1)), "{text}");
        }
        for text in
            ["", "5d", "0d", "00d", "021d", "05", "05i", "%05d", "-1d", "099999999999999999999d"]
        {
            assert_eq!(digits(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn who_wants_a_video_is_told_that_none_is_made() {
        for output in ["-", "small.mp4", "a/B.MKV", "x.gif"] {
            let error = check_no_video(Path::new(output)).unwrap_err().to_string();
            assert!(error.starts_with("what is written are pictures, and no video: "), "{error}");
        }
        for output in ["out", "out/", "mp4", ".mp4", "a.b", "x.jpg", "%05d.jpg"] {
            check_no_video(Path::new(output)).unwrap();
        }
    }

    #[test]
    fn a_name_is_never_a_folders() {
        for (file, expected) in
            [("in/clip.7.mp4", "clip.7"), ("in/...mp4", "...mp4"), ("..png", "..png")]
        {
            assert_eq!(name(Path::new(file)), Some(OsStr::new(expected)));
        }
        assert_eq!(name(Path::new("/")), None);
    }
}
