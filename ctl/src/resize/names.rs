//! Owns what the results are called: each after its picture, in a folder or by a user's pattern, and
//! what the endings of names stand for.
//!
//! Names are bytes: what a picture is called means nothing, and need not be text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use resized_pictures::Format;

use super::error::FileError;
use crate::pattern;

/// The name of a picture's result in a folder: its own, with another ending if it becomes another
/// format.
pub(super) fn in_folder(input: &Path, format: Option<Format>) -> Result<OsString> {
    let mut name = input.file_stem().with_context(|| nameless(input))?.to_owned();
    let ending = match format {
        Some(format) if of_ending(input) != Some(format) => Some(usual_ending(format).as_ref()),
        _ => input.extension(),
    };
    if let Some(ending) = ending {
        name.push(".");
        name.push(ending);
    }
    Ok(name)
}

/// The name of a picture's result after a pattern.
pub(super) fn filled(output: &Path, input: &Path, number: usize) -> Result<PathBuf> {
    let mut path = OsString::new();
    for piece in pieces(output) {
        match piece {
            Piece::Text(text) => path.push(OsStr::from_bytes(text)),
            Piece::Name => path.push(pattern::name(input).with_context(|| nameless(input))?),
            Piece::Number(digits) => path.push(format!("{number:0digits$}")),
        }
    }
    Ok(path.into())
}

/// Why a picture gives a result no name.
fn nameless(input: &Path) -> String {
    match input.is_dir() {
        true => format!("{}: {}", input.display(), FileError::Folder(input.to_owned())),
        false => format!("{}: it has no name", input.display()),
    }
}

/// Fails if somebody took something for a pattern's that is none.
pub(super) fn check_words(output: &Path) -> Result<()> {
    for text in output.as_os_str().as_bytes().utf8_chunks().map(|chunk| chunk.valid()) {
        let stray = text.match_indices('{').find_map(|(at, _)| pattern::stray(&text[at..]));
        if let Some(word) = stray {
            bail!(
                "{{{word}}} stands for nothing: write {{name}} for the picture's name, %05d or {{n}} for its number"
            );
        }
        for (digits, _) in text.split("%0").skip(1).filter_map(|rest| rest.split_once('d')) {
            let number = format!("%0{digits}d");
            ensure!(
                digits.is_empty()
                    || !digits.bytes().all(|byte| byte.is_ascii_digit())
                    || padded(number.as_bytes()).is_some(),
                "{number} stands for nothing: write %05d for the picture's number"
            );
        }
    }
    Ok(())
}

/// A piece of a pattern.
enum Piece<'a> {
    Text(&'a [u8]),
    /// The picture's name, without its ending.
    Name,
    /// Its number, with so many digits at the least.
    Number(usize),
}

/// Names need not be text; those filled in are not looked at again.
fn pieces(output: &Path) -> impl Iterator<Item = Piece<'_>> {
    let mut pattern = output.as_os_str().as_bytes();
    std::iter::from_fn(move || {
        let (piece, rest) = if let Some(rest) = pattern.strip_prefix(pattern::NAME.as_bytes()) {
            (Piece::Name, rest)
        } else if let Some(rest) = pattern.strip_prefix(pattern::NUMBER.as_bytes()) {
            (Piece::Number(1), rest)
        } else if let Some((digits, rest)) = padded(pattern) {
            (Piece::Number(digits), rest)
        } else {
            let more = pattern.iter().skip(1).take_while(|byte| !b"{%".contains(byte)).count();
            let (text, rest) = pattern.split_at_checked(1 + more)?;
            (Piece::Text(text), rest)
        };
        pattern = rest;
        Some(piece)
    })
}

/// How many digits a number has for which it begins, as in `%05d`, and the rest. `%d` is a percent sign
/// and a letter: names of files have percent signs in them, and the words behind those begin so.
fn padded(pattern: &[u8]) -> Option<(usize, &[u8])> {
    let number = pattern.strip_prefix(b"%").filter(|number| number.starts_with(b"0"));
    pattern::digits(number?)
}

/// Whether something in it stands for something.
pub(super) fn is_pattern(output: &Path) -> bool {
    pieces(output).any(|piece| !matches!(piece, Piece::Text(_)))
}

/// Whether the numbers of pictures are in the names of their results.
pub(super) fn has_number(output: &Path) -> bool {
    pieces(output).any(|piece| matches!(piece, Piece::Number(_)))
}

/// The format that the ending of a name stands for.
pub(super) fn of_ending(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" | "jpe" => Some(Format::Jpeg),
        "png" => Some(Format::Png),
        "webp" => Some(Format::Webp),
        _ => None,
    }
}

const fn usual_ending(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "jpg",
        Format::Png => "png",
        Format::Webp => "webp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_in_a_folder_keep_an_ending_that_says_what_they_are() {
        for (input, format, expected) in [
            ("a/x.JPG", None, "x.JPG"),
            ("a/x.jpeg", Some(Format::Jpeg), "x.jpeg"),
            ("a/x.jpeg", Some(Format::Png), "x.png"),
            ("x", None, "x"),
            ("x", Some(Format::Webp), "x.webp"),
        ] {
            assert_eq!(in_folder(Path::new(input), format).unwrap(), expected);
        }
        let error = in_folder(Path::new("/"), None).unwrap_err().to_string();
        assert!(error.starts_with("/: it is a folder"), "{error}");
    }

    #[test]
    fn what_a_picture_is_called_has_no_meaning() {
        let one =
            |input: &str, pattern: &str| filled(Path::new(pattern), Path::new(input), 1).unwrap();
        assert_eq!(one("{n}{name}.png", "a/{name}{n}.jpg"), Path::new("a/{n}{name}1.jpg"));
        let three = |pattern: &str| filled(Path::new(pattern), Path::new("a.jpg"), 3).unwrap();
        assert_eq!(three("%04d/x%%%020d{n}.jpg"), Path::new("0003/x%%000000000000000000033.jpg"));
        for literal in ["100%.jpg", "%d.jpg", "100%done", "%5d", "%0d", "%00d", "%021d", "%"] {
            assert_eq!(three(literal), Path::new(literal));
            assert!(!is_pattern(Path::new(literal)), "{literal}");
        }
        assert!(is_pattern(Path::new("50%/%01d.jpg")));
        // Their stems are the folder's and the one above it.
        assert_eq!(one("...png", "a/{name}/{n}.jpg"), Path::new("a/...png/1.jpg"));
        assert_eq!(one("..png", "{name}{n}{.jpg"), Path::new("..png1{.jpg"));
        let not_text = |name: &'static [u8]| Path::new(OsStr::from_bytes(name));
        let path = filled(not_text(b"\xfd{name}.jpg"), not_text(b"\xff.png"), 1).unwrap();
        assert_eq!(path, not_text(b"\xfd\xff.jpg"));
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        let refused = |output: &str| check_words(Path::new(output)).unwrap_err().to_string();
        for output in ["{nmae}.jpg", "{name}/{N}.jpg", "{stem}/"] {
            assert!(refused(output).contains("} stands for nothing: write {name}"), "{output}");
        }
        for output in ["x%00d.jpg", "{name}-%021d.jpg"] {
            assert!(refused(output).contains("d stands for nothing: write %05d"), "{output}");
        }
        for output in ["x%05d.jpg", "{}.jpg", "{name}{2}.jpg", "{n.jpg", "100%0.jpg", "%0d.jpg"] {
            check_words(Path::new(output)).unwrap();
        }
    }
}
