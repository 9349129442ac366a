//! Owns the folders of results: where a result really lies, and the making of folders, which are taken
//! back where nothing comes of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The same file, in a folder without links or dots. What it is a link to itself does not matter: a
/// result takes its place. Fails where there is no such folder, or the path ends in none of its files.
pub fn place(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
    path.file_name().map(|name| folder.join(name)).ok_or(io::ErrorKind::IsADirectory.into())
}

/// Folders that were missing, those above others before them.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a folder and those above it, as far as they are missing.
    pub fn make(&mut self, folder: &Path) -> Result<()> {
        let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            match fs::create_dir(path) {
                Ok(()) => self.0.push(path.to_owned()),
                // By way of one that was missing, say.
                Err(_) if path.is_dir() => {}
                Err(error) => Err(error)
                    .with_context(|| format!("can't make the folder {}", path.display()))?,
            }
        }
        Ok(())
    }

    /// Takes them back, but for those in which there is something.
    pub fn take_back(self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_links_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let within = |path: &str| place(&dir.path().join(path));
        assert_eq!(within("link/../link/./a.jpg").unwrap(), real.join("a.jpg"));
        assert_eq!(within("link").unwrap(), real.with_file_name("link"));
        assert_eq!(place(Path::new("a")).unwrap(), std::env::current_dir().unwrap().join("a"));
        assert!(within("missing/a.jpg").is_err() && within("link/..").is_err());
    }

    #[test]
    fn what_was_made_is_taken_back_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("old")).unwrap();
        let mut made = Made::default();
        for folder in ["old", "old/a/b", "new/../other/c", "new"] {
            made.make(&dir.path().join(folder)).unwrap();
            assert!(dir.path().join(folder).is_dir(), "{folder}");
        }
        fs::write(dir.path().join("other/file"), "").unwrap();
        let error = made.make(&dir.path().join("other/file/d")).unwrap_err().to_string();
        assert!(error.starts_with("can't make the folder ") && error.ends_with("/d"), "{error}");
        made.take_back();
        let left = |folder: &str| fs::read_dir(dir.path().join(folder)).unwrap().count();
        assert_eq!((left(""), left("old"), left("other")), (2, 0, 1));
    }
}
