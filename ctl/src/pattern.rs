//! Owns the words that stand for something in a user's pattern for the names of results.
//!
//! Whose name and which number they stand for is up to whoever fills them in.

use std::ffi::OsStr;
use std::path::Path;

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
    fn a_name_is_never_a_folders() {
        for (file, expected) in
            [("in/clip.7.mp4", "clip.7"), ("in/...mp4", "...mp4"), ("..png", "..png")]
        {
            assert_eq!(name(Path::new(file)), Some(OsStr::new(expected)));
        }
        assert_eq!(name(Path::new("/")), None);
    }
}
