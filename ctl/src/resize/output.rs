//! Owns the names of the results, and their writing: a result is there whole, or not at all.
//!
//! Invariants of [`Outputs`]: no two results have the same name, and none is the name of a picture that is yet
//! to be read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use resized_pictures::Format;

use super::error::FileError;

/// Where the results go.
#[derive(Debug)]
pub(crate) struct Outputs {
    paths: Vec<PathBuf>,
    /// What the user wants them to be; `None` for what the picture was.
    format: Option<Format>,
}

impl Outputs {
    /// The results of `inputs`, in order, named as `output` says, and the folder for them if it is missing.
    pub(crate) fn plan(inputs: &[PathBuf], output: &Path, format: Option<Format>) -> Result<Self> {
        let text = output.to_string_lossy();
        let pattern = ["{name}", "{n}"].iter().any(|part| text.contains(part));
        let folder = !pattern && (output.is_dir() || text.ends_with('/'));
        if folder {
            fs::create_dir_all(output)
                .with_context(|| format!("can't make the folder {}", output.display()))?;
        } else {
            ensure!(
                pattern || inputs.len() == 1,
                "{} is one file, and there are {} pictures: write {0}/ for a folder, or a pattern with {{name}}",
                output.display(),
                inputs.len()
            );
        }
        let ending = |path: &Path| of_ending(&path.extension()?.to_string_lossy());
        let format = format.or_else(|| ending(output).filter(|_| !folder));
        let paths: Vec<PathBuf> = inputs
            .iter()
            .zip(1_usize..)
            .map(|(input, number)| {
                let name = input
                    .file_stem()
                    .context("it has no name")
                    .with_context(|| input.display().to_string())?;
                let name = name.to_string_lossy();
                Ok(if folder {
                    let own =
                        || input.extension().map(|ending| ending.to_string_lossy().into_owned());
                    let same = format.is_none() || format == ending(input);
                    let named = own()
                        .filter(|_| same)
                        .or(format.map(|format| usual_ending(format).to_owned()));
                    output.join(named.map_or(name.to_string(), |ending| format!("{name}.{ending}")))
                } else {
                    text.replace("{name}", &name).replace("{n}", &number.to_string()).into()
                })
            })
            .collect::<Result<_>>()?;
        check(inputs, &paths)?;
        Ok(Self { paths, format })
    }

    /// The result of a picture.
    pub(crate) fn path(&self, number: usize) -> &Path {
        &self.paths[number]
    }

    /// Its format, if the user has said.
    pub(crate) const fn format(&self) -> Option<Format> {
        self.format
    }
}

/// The format that the ending of a name stands for.
fn of_ending(ending: &str) -> Option<Format> {
    match ending.to_ascii_lowercase().as_str() {
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

fn check(inputs: &[PathBuf], paths: &[PathBuf]) -> Result<()> {
    let mut named = HashMap::new();
    for (input, path) in inputs.iter().zip(paths) {
        if let Some(other) = named.insert(path, input) {
            bail!(
                "{} and {} would both become {}: use a pattern with {{n}}",
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

/// Writes a result: aside first, so that nobody ever sees half of it, unless there is something in its place
/// that is no file, such as a pipe.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let special = fs::metadata(path).is_ok_and(|there| !there.is_file());
    let written = if special {
        File::options().write(true).open(path).and_then(|mut file| file.write_all(bytes))
    } else {
        // The process's own, so that two that write the same result do not meet in it; and made anew, so that nobody's
        // link is followed.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        File::create_new(&aside).and_then(|mut file| {
            file.write_all(bytes)
                .and_then(|()| fs::rename(&aside, path))
                .inspect_err(|_| drop(fs::remove_file(&aside)))
        })
    };
    written.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
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
    fn results_that_would_take_each_others_place_are_refused() {
        let refused =
            |inputs: &[&str], output: &str| planned(inputs, output, None).unwrap_err().to_string();
        assert!(refused(&["a.jpg", "b.jpg"], "out.jpg").contains("there are 2 pictures"));
        let same = refused(&["a/x.jpg", "b/x.jpg"], "{name}-small.jpg");
        assert_eq!(
            same,
            "a/x.jpg and b/x.jpg would both become x-small.jpg: use a pattern with {n}"
        );
        let dir = tempfile::tempdir().unwrap();
        let (picture, link) = (dir.path().join("x.jpg"), dir.path().join("y.jpg"));
        fs::write(&picture, "").unwrap();
        symlink(&picture, &link).unwrap();
        let (picture, link) = (picture.to_str().unwrap(), link.to_str().unwrap());
        for output in [picture, link, dir.path().to_str().unwrap()] {
            assert!(refused(&[picture], output).contains("would take the place of"), "{output}");
        }
    }

    #[test]
    fn a_result_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jpg");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        write(&path, b"jpeg").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&victim).unwrap()),
            (b"jpeg".to_vec(), b"precious".to_vec())
        );
        let full = write(Path::new("/dev/full"), b"jpeg").unwrap_err().to_string();
        assert_eq!(full, "can't write /dev/full: No space left on device (os error 28)");
        let error = write(&dir.path().join("no/x.jpg"), b"jpeg").unwrap_err().to_string();
        assert!(error.ends_with("no/x.jpg: No such file or directory (os error 2)"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
