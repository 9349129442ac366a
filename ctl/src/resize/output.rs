//! Owns the names of the results, and their writing: a result is there whole, or not at all.
//!
//! Invariants of [`Outputs`]: no two results have the same name, and none is the name of a picture
//! that is yet to be read.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use resized_pictures::Format;

use super::error::FileError;

/// Where the results go.
#[derive(Debug)]
pub(crate) struct Outputs {
    paths: Vec<PathBuf>,
    /// What the user wants them to be; `None` for what the picture was.
    format: Option<Format>,
    /// Whether the user has named the one result as it is.
    exact: bool,
}

impl Outputs {
    /// The results of `inputs`, in order, named as `output` says, and the folders for them where
    /// they are missing.
    pub(crate) fn plan(inputs: &[PathBuf], output: &Path, format: Option<Format>) -> Result<Self> {
        let text = output.as_os_str().as_bytes();
        let pattern = pieces(text).any(|piece| !matches!(piece, Piece::Text(_)));
        let folder = !pattern && (output.is_dir() || text.ends_with(b"/"));
        if !output.is_dir() {
            check_words(text)?;
        }
        ensure!(
            folder || pattern || inputs.len() == 1,
            "{} is one file, and there are {} pictures: write {0}/ for a folder, or a pattern with {{name}}",
            output.display(),
            inputs.len()
        );
        let asked = format.or_else(|| of_ending(output).filter(|_| !folder));
        // Who names a GIF wants one.
        ensure!(
            folder || asked.is_some() || output.extension().is_none(),
            "{} ends in none of .jpg, .png and .webp: say what it is to be by --format",
            output.display()
        );
        let name = |(input, number): (&PathBuf, usize)| match folder {
            true => Ok(output.join(in_folder(input, asked)?)),
            false => filled(output, input, number),
        };
        let paths = inputs.iter().zip(1..).map(name).collect::<Result<Vec<_>>>()?;
        check(inputs, &paths)?;
        let folders: BTreeSet<_> = match folder {
            true => [output].into(),
            false if pattern => paths.iter().filter_map(|path| path.parent()).collect(),
            false => BTreeSet::new(),
        };
        make(&folders, || {
            // Two names may lead to one place, which is only seen once the folders are there.
            let places = paths.iter().map(|path| place(path)).collect::<Vec<_>>();
            check(inputs, &places)
        })?;
        Ok(Self { paths, format: asked, exact: !(folder || pattern) })
    }

    /// Writes the result of a picture.
    pub(crate) fn write(&self, number: usize, bytes: &[u8]) -> Result<(), FileError> {
        write(&self.paths[number], bytes, self.exact)
    }

    /// Its format, if the user has said.
    pub(crate) const fn format(&self) -> Option<Format> {
        self.format
    }
}

/// The name of a picture's result in a folder: its own, with another ending if it becomes another
/// format.
fn in_folder(input: &Path, format: Option<Format>) -> Result<OsString> {
    let mut name = stem(input)?.to_owned();
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
fn filled(pattern: &Path, input: &Path, number: usize) -> Result<PathBuf> {
    let mut path = OsString::new();
    for piece in pieces(pattern.as_os_str().as_bytes()) {
        match piece {
            Piece::Text(text) => path.push(OsStr::from_bytes(text)),
            // One of dots would be a folder's.
            Piece::Name => path.push(match stem(input)? {
                dots if dots == "." || dots == ".." => input.file_name().unwrap_or(dots),
                stem => stem,
            }),
            Piece::Number => path.push(number.to_string()),
        }
    }
    Ok(path.into())
}

fn stem(input: &Path) -> Result<&OsStr> {
    input.file_stem().with_context(|| match input.is_dir() {
        true => format!("{}: {}", input.display(), FileError::Folder(input.to_owned())),
        false => format!("{}: it has no name", input.display()),
    })
}

/// Fails if somebody took something for a pattern's that is none.
fn check_words(pattern: &[u8]) -> Result<()> {
    let text = pattern.utf8_chunks().map(|chunk| chunk.valid());
    for text in text {
        for braced in text.split('{').skip(1).filter_map(|rest| rest.split_once('}')) {
            let word = braced.0;
            let is_word = !word.is_empty() && word.chars().all(char::is_alphabetic);
            ensure!(
                !is_word || ["name", "n"].contains(&word),
                "{{{word}}} stands for nothing: write {{name}} for the picture's name, {{n}} for its number"
            );
        }
        for number in text.split("%0").skip(1).filter_map(|rest| rest.split_once('d')) {
            let digits = number.0;
            ensure!(
                digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()),
                "%0{digits}d stands for nothing: write {{n}} for the picture's number"
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
    /// Its number.
    Number,
}

/// Names need not be text; those filled in are not looked at again.
fn pieces(mut pattern: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let (piece, rest) = if let Some(rest) = pattern.strip_prefix(b"{name}") {
            (Piece::Name, rest)
        } else if let Some(rest) = pattern.strip_prefix(b"{n}") {
            (Piece::Number, rest)
        } else {
            let more = pattern.iter().skip(1).take_while(|&&byte| byte != b'{').count();
            let (text, rest) = pattern.split_at_checked(1 + more)?;
            (Piece::Text(text), rest)
        };
        pattern = rest;
        Some(piece)
    })
}

/// The format that the ending of a name stands for.
fn of_ending(path: &Path) -> Option<Format> {
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

/// Makes folders, and takes back those that it made if a check of what is there then fails.
fn make(folders: &BTreeSet<&Path>, check: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut made = Vec::new();
    let mut make = |folder: &&Path| {
        let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            match fs::create_dir(path) {
                Ok(()) => made.push(path.to_owned()),
                // By way of one that was missing, say.
                Err(_) if path.is_dir() => {}
                Err(error) => Err(error)
                    .with_context(|| format!("can't make the folder {}", path.display()))?,
            }
        }
        Ok(())
    };
    let done = folders.iter().try_for_each(&mut make).and_then(|()| check());
    // Those within others come first.
    done.inspect_err(|_| made.iter().rev().for_each(|path| drop(fs::remove_dir(path))))
}

/// The same file, in a folder without links or dots. What it is a link to itself does not matter: a
/// result takes its place.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Fails if two pictures would become one file, or one would take the place of another.
fn check(inputs: &[PathBuf], paths: &[PathBuf]) -> Result<()> {
    let mut named = HashMap::new();
    for (input, path) in inputs.iter().zip(paths) {
        if let Some(other) = named.insert(path, input) {
            bail!(
                "{} and {} would both become {}: use a pattern with {{n}} in the file's name",
                other.display(),
                input.display(),
                path.display()
            );
        }
    }
    let identity = |path: &Path| {
        let file = fs::metadata(path).ok().filter(|file| file.is_file())?;
        Some((file.dev(), file.ino()))
    };
    let read: HashMap<_, _> =
        inputs.iter().filter_map(|path| Some((identity(path)?, path))).collect();
    for path in paths {
        if let Some(input) = identity(path).and_then(|file| read.get(&file)) {
            bail!("{} would take the place of the picture {}", path.display(), input.display());
        }
    }
    Ok(())
}

/// Results whose writing has begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Whether there is something that can't be replaced by a file: a pipe, say, or what is open
/// already, such as /dev/stdout, which lead to names in /proc/self/fd.
fn is_special(path: &Path) -> bool {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let linked = fs::read_link(path).ok().and_then(|to| Some(to.parent()?.to_owned()));
    let mut folders = folder.into_iter().chain(linked);
    fs::metadata(path).is_ok_and(|there| !there.is_file())
        || folders.any(|folder| folder.starts_with("/proc") && folder.ends_with("fd"))
}

/// Writes a result: aside first, so that nobody ever sees half of it. Only what the user has named
/// as it is may be something other than a file, such as a pipe, and is written to; elsewhere it may
/// be somebody's trap.
fn write(path: &Path, bytes: &[u8], exact: bool) -> Result<(), FileError> {
    let written = if exact && is_special(path) {
        // Where it is a file after all it may have been begun.
        File::options().append(true).open(path).and_then(|mut file| file.write_all(bytes))
    } else {
        beside(path).and_then(|(aside, mut file)| {
            file.write_all(bytes)
                .and_then(|()| fs::rename(&aside, path))
                .inspect_err(|_| drop(fs::remove_file(&aside)))
        })
    };
    written.map_err(|error| FileError::Write { path: path.to_owned(), error })
}

/// A new file in the folder of `path`. Nobody else's, so that no two that write the same result
/// meet in it; and made anew, so that nobody's link is followed.
fn beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let process = std::process::id();
    loop {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_file_name(format!(".resizectl-{process}-{number}.part"));
        match File::create_new(&aside) {
            // Of one that was killed and had this number: in containers all have the same.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((aside, made?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    fn planned(inputs: &[&str], output: &str, format: Option<Format>) -> Result<Vec<String>> {
        let inputs: Vec<PathBuf> = inputs.iter().map(PathBuf::from).collect();
        let outputs = Outputs::plan(&inputs, Path::new(output), format)?;
        Ok(outputs.paths.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn results_are_named_after_their_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new").display().to_string();
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{folder}/{name}")).collect()
        };
        let into = format!("{folder}/");
        let paths = planned(&["a/x.JPG", "b/y.png", "z"], &into, None).unwrap();
        assert_eq!(paths, names(&["x.JPG", "y.png", "z"]));
        // A folder by now.
        let paths = planned(&["a/x.JPG", "b/y.png", "z"], &folder, Some(Format::Png)).unwrap();
        assert_eq!(paths, names(&["x.png", "y.png", "z.png"]));
        let pattern = format!("{folder}/{{n}}-{{name}}.webp");
        assert_eq!(
            planned(&["a/x.JPG", "x.png"], &pattern, None).unwrap(),
            names(&["1-x.webp", "2-x.webp"])
        );
        assert_eq!(planned(&["x.png"], "one.jpg", None).unwrap(), ["one.jpg"]);
    }

    #[test]
    fn what_a_picture_is_called_has_no_meaning() {
        let dir = tempfile::tempdir().unwrap();
        let folder = format!("{}/", dir.path().display());
        let one = |input: &str, pattern: &str| {
            let made = planned(&[input], &format!("{folder}{pattern}"), None).unwrap().remove(0);
            made.strip_prefix(&folder).unwrap().to_owned()
        };
        assert_eq!(one("{n}{name}.png", "a/{name}{n}.jpg"), "a/{n}{name}1.jpg");
        // Their stems are the folder's and the one above it.
        assert_eq!(one("...png", "a/{name}/{n}.jpg"), "a/...png/1.jpg");
        assert_eq!(one("..png", "{name}{n}{.jpg"), "..png1{.jpg");
        let not_text = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
        let inputs = [not_text(b"\xff.png"), not_text(b"\xfe.png")];
        let paths = |output: &[u8]| {
            Outputs::plan(&inputs, &not_text(output), Some(Format::Jpeg)).unwrap().paths
        };
        let expected = [&b"\xfd\xff.jpg"[..], b"\xfd\xfe.jpg"].map(not_text);
        assert_eq!(paths(b"\xfd{name}.jpg"), expected);
        let dir = tempfile::tempdir().unwrap();
        let expected = [&b"\xff.jpg"[..], b"\xfe.jpg"].map(|name| dir.path().join(not_text(name)));
        assert_eq!(paths(dir.path().as_os_str().as_bytes()), expected);
        let alone = Outputs::plan(&inputs[..1], &not_text(b"\xfc.jpg"), None).unwrap();
        assert_eq!(alone.paths, [not_text(b"\xfc.jpg")]);
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        let refused = |output: &str| planned(&["a.jpg"], output, None).unwrap_err().to_string();
        for output in ["{nmae}.jpg", "{name}/{N}.jpg", "{stem}/"] {
            assert!(refused(output).contains("} stands for nothing: write {name}"), "{output}");
        }
        for output in ["x%05d.jpg", "{name}-%03d.jpg"] {
            assert!(refused(output).contains("d stands for nothing: write {n}"), "{output}");
        }
        for output in ["{}.jpg", "{name}{2}.jpg", "{n.jpg", "100%0.jpg", "%0d.jpg"] {
            planned(&["a.jpg"], output, None).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("{odd}");
        fs::create_dir(&folder).unwrap();
        planned(&["a.jpg"], folder.to_str().unwrap(), None).unwrap();
    }

    #[test]
    fn folders_of_patterns_are_made_and_those_of_one_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let within = |name: &str| dir.path().join(name).display().to_string();
        planned(&["a.jpg", "b.jpg"], &within("{name}/{n}.webp"), None).unwrap();
        assert!(dir.path().join("a").is_dir() && dir.path().join("b").is_dir());
        planned(&["a.jpg"], &within("c/d.jpg"), None).unwrap();
        assert!(!dir.path().join("c").exists());
    }

    #[test]
    fn a_name_whose_ending_says_nothing_takes_a_format() {
        for output in ["a.gif", "{name}.tiff"] {
            let error = planned(&["x.jpg"], output, None).unwrap_err().to_string();
            assert!(error.contains(output) && error.contains("--format"), "{error}");
            planned(&["x.jpg"], output, Some(Format::Png)).unwrap();
        }
        assert_eq!(planned(&["x.jpg"], "y", None).unwrap(), ["y"]);
    }

    #[test]
    fn results_that_would_take_each_others_place_are_refused() {
        let refused =
            |inputs: &[&str], output: &str| planned(inputs, output, None).unwrap_err().to_string();
        assert!(refused(&["a.jpg", "b.jpg"], "out.jpg").contains("there are 2 pictures"));
        let same = refused(&["a/x.jpg", "b/x.jpg"], "{name}-small.jpg");
        assert_eq!(
            same,
            "a/x.jpg and b/x.jpg would both become x-small.jpg: use a pattern with {n} in the file's name"
        );
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("new/");
        assert!(refused(&["a/x.jpg", "b/x.jpg"], into.to_str().unwrap()).contains("both become"));
        assert!(!into.exists());
        let (picture, link) = (dir.path().join("x.jpg"), dir.path().join("y.jpg"));
        fs::write(&picture, "").unwrap();
        symlink(&picture, &link).unwrap();
        let (picture, link) = (picture.to_str().unwrap(), link.to_str().unwrap());
        for output in [picture, link, dir.path().to_str().unwrap()] {
            assert!(refused(&[picture], output).contains("would take the place of"), "{output}");
        }
    }

    #[test]
    fn results_that_come_to_lie_in_one_place_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let within = |name: &str| dir.path().join(name).display().to_string();
        let refused = |output: &str| {
            let error = planned(&["a.jpg", "b.jpg"], &within(output), None).unwrap_err();
            error.to_string()
        };
        let path = dir.path().canonicalize().unwrap().join("new/x.jpg");
        let same = format!(
            "a.jpg and b.jpg would both become {}: use a pattern with {{n}} in the file's name",
            path.display()
        );
        assert_eq!(refused("new/{n}/../x.jpg"), same);
        assert!(!dir.path().join("new").exists());
        fs::create_dir(dir.path().join("new")).unwrap();
        for number in ["1", "2"] {
            symlink("new", dir.path().join(number)).unwrap();
        }
        assert_eq!(refused("{n}/x.jpg"), same);
        planned(&["a.jpg", "b.jpg"], &within("{n}/{n}.jpg"), None).unwrap();
        // Nor where a picture lies.
        fs::write(&path, "").unwrap();
        let error = planned(&[&within("new/x.jpg")], &within("other/{n}/../../new/x.jpg"), None);
        assert!(error.unwrap_err().to_string().contains("would take the place of"));
        assert!(!dir.path().join("other").exists());
    }

    #[test]
    fn what_one_that_was_killed_has_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let begun = BEGUN.load(Ordering::Relaxed);
        let left = |number| format!(".resizectl-{}-{number}.part", std::process::id());
        // Other tests write, too.
        for number in begun..begun + 100 {
            fs::write(dir.path().join(left(number)), "half").unwrap();
        }
        write(&dir.path().join("x.jpg"), b"jpeg", false).unwrap();
        assert_eq!(fs::read(dir.path().join("x.jpg")).unwrap(), b"jpeg");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 101);
    }

    #[test]
    fn a_result_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jpg");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        write(&path, b"jpeg", true).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&victim).unwrap()),
            (b"jpeg".to_vec(), b"precious".to_vec())
        );
        // As long as a name may be.
        let long = dir.path().join(format!("{}.jpg", "x".repeat(251)));
        write(&long, b"jpeg", true).unwrap();
        assert_eq!(fs::read(&long).unwrap(), b"jpeg");
        fs::remove_file(&long).unwrap();
        // Planted where a folder's results go.
        let trap = dir.path().join("trap.jpg");
        symlink("/dev/full", &trap).unwrap();
        write(&trap, b"jpeg", false).unwrap();
        assert_eq!(fs::read(&trap).unwrap(), b"jpeg");
        fs::remove_file(&trap).unwrap();
        let full = write(Path::new("/dev/full"), b"jpeg", true).unwrap_err().to_string();
        assert_eq!(full, "can't write /dev/full: No space left on device (os error 28)");
        // What is open already: said after what was said before, and the name stays.
        let mut open = File::create_new(victim.with_extension("open")).unwrap();
        open.write_all(b"one ").unwrap();
        let descriptor = format!("/proc/self/fd/{}", open.as_raw_fd());
        let link = dir.path().join("link");
        symlink(&descriptor, &link).unwrap();
        write(&link, b"two ", true).unwrap();
        write(Path::new(&descriptor), b"three", true).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(victim.with_extension("open")).unwrap(), b"one two three");
        fs::remove_file(&link).unwrap();
        fs::remove_file(victim.with_extension("open")).unwrap();
        let error = write(&dir.path().join("no/x.jpg"), b"jpeg", true).unwrap_err().to_string();
        assert!(error.ends_with("no/x.jpg: No such file or directory (os error 2)"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
