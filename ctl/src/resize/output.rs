//! Owns the places of the results, and their writing: a result is there whole, or not at all.
//!
//! Invariants of [`Outputs`]: no two results have the same name, and none is the name of a picture
//! that is yet to be read.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use resized_pictures::Format;

use super::error::FileError;
use super::names;
use crate::aside::{Aside, is_special};
use crate::folders::{Made, place};

const ASIDE: Aside = Aside::of("resizectl");

/// Where the results go.
#[derive(Debug)]
pub(crate) struct Outputs {
    paths: Vec<PathBuf>,
    /// Where they lie, as far as these are to be made where they are missing.
    folders: BTreeSet<PathBuf>,
    /// What the user wants them to be; `None` for what the picture was.
    format: Option<Format>,
    /// Whether the user has named the one result as it is.
    exact: bool,
}

impl Outputs {
    /// The results of `inputs`, in order, named as `output` says. Nothing is made yet.
    pub(crate) fn plan(inputs: &[PathBuf], output: &Path, format: Option<Format>) -> Result<Self> {
        let pattern = names::is_pattern(output);
        let ends_as_one = output.as_os_str().as_bytes().ends_with(b"/");
        let folder = !pattern && (output.is_dir() || ends_as_one);
        if !output.is_dir() {
            names::check_words(output)?;
        }
        ensure!(
            folder || pattern || inputs.len() == 1,
            "{} is one file, and there are {} pictures: write {0}/ for a folder, or a pattern with {{name}} or %05d",
            output.display(),
            inputs.len()
        );
        let asked = format.or_else(|| names::of_ending(output).filter(|_| !folder));
        // Who names a GIF wants one.
        ensure!(
            folder || asked.is_some() || output.extension().is_none(),
            "{} ends in none of .jpg, .png and .webp: say what it is to be by --format",
            output.display()
        );
        ensure!(
            folder || pattern || asked.is_some() || output.as_os_str() == "-" || output.exists(),
            "{} has no ending: write {0}/ for a folder, or say by --format what it is to be",
            output.display()
        );
        let name = |(input, number): (&PathBuf, usize)| match folder {
            true => Ok(output.join(names::in_folder(input, asked)?)),
            false => names::filled(output, input, number),
        };
        let paths = inputs.iter().zip(1..).map(name).collect::<Result<Vec<_>>>()?;
        check(inputs, &paths)?;
        let parents = || paths.iter().filter_map(|path| path.parent());
        let folders = match folder {
            true => [output.to_owned()].into(),
            false if pattern => parents().map(Path::to_owned).collect(),
            false => BTreeSet::new(),
        };
        Ok(Self { paths, folders, format: asked, exact: !(folder || pattern) })
    }

    /// Makes the folders for the results of these inputs, where they are missing.
    pub(crate) fn make_folders(&self, inputs: &[PathBuf]) -> Result<()> {
        let mut made = Made::default();
        let all_made = self.folders.iter().try_for_each(|folder| made.make(folder));
        // Two names may lead to one place, which is only seen once the folders are there.
        let checked = all_made.and_then(|()| {
            let place = |path: &PathBuf| place(path).unwrap_or_else(|_| path.clone());
            let places = self.paths.iter().map(place).collect::<Vec<_>>();
            check(inputs, &places)
        });
        checked.inspect_err(|_| made.take_back())
    }

    /// Whether the result of a picture is there: whole, then. What is open already, such as standard output, has
    /// nobody written a result to yet, and a file without bytes is none.
    pub(crate) fn is_there(&self, number: usize) -> bool {
        let path = &self.paths[number];
        fs::metadata(path).is_ok_and(|there| there.is_file() && there.len() > 0)
            && !is_special(path)
    }

    /// Writes the result of a picture.
    pub(crate) fn write(&self, number: usize, bytes: &[u8]) -> Result<(), FileError> {
        let path = &self.paths[number];
        let written = match self.exact {
            true => ASIDE.write_named(path, bytes),
            false => ASIDE.write(path, bytes),
        };
        written.map_err(|error| FileError::Write { path: path.clone(), error })
    }

    /// Its format, if the user has said.
    pub(crate) const fn format(&self) -> Option<Format> {
        self.format
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn planned(inputs: &[&str], output: &str, format: Option<Format>) -> Result<Vec<String>> {
        let inputs: Vec<PathBuf> = inputs.iter().map(PathBuf::from).collect();
        let outputs = Outputs::plan(&inputs, Path::new(output), format)?;
        outputs.make_folders(&inputs)?;
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
    fn a_folder_that_is_there_is_no_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("{odd}");
        let plan = || planned(&["a.jpg"], folder.to_str().unwrap(), None);
        assert!(plan().unwrap_err().to_string().contains("{odd} stands for nothing"));
        fs::create_dir(&folder).unwrap();
        plan().unwrap();
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
        for output in ["a.gif", "{name}.tiff", "small"] {
            let error = planned(&["x.jpg"], output, None).unwrap_err().to_string();
            assert!(error.contains(output) && error.contains("--format"), "{error}");
            planned(&["x.jpg"], output, Some(Format::Png)).unwrap();
        }
        // What is there may be written to.
        for there in ["-", "/dev/null"] {
            assert_eq!(planned(&["x.jpg"], there, None).unwrap(), [there]);
        }
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
    fn only_what_the_user_has_named_may_be_other_than_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let full = dir.path().join("full.jpg");
        let write = |output: &Path| {
            let outputs = Outputs::plan(&["a/full.jpg".into()], output, None).unwrap();
            outputs.write(0, b"jpeg").map_err(|error| error.to_string())
        };
        symlink("/dev/full", &full).unwrap();
        let error = write(&full).unwrap_err();
        assert!(error.ends_with("full.jpg: No space left on device (os error 28)"), "{error}");
        // Planted where a folder's results go.
        write(dir.path()).unwrap();
        assert_eq!(fs::read(&full).unwrap(), b"jpeg");
        // Nor has a pattern named it.
        fs::remove_file(&full).unwrap();
        symlink("/dev/full", &full).unwrap();
        write(&dir.path().join("{name}.jpg")).unwrap();
        assert_eq!(fs::read(&full).unwrap(), b"jpeg");
    }
}
