//! Owns the names of the pictures, and their writing: a picture is there whole, or not at all.
//!
//! The names are easy to guess, and the folder may lie where others write too: no file is opened that
//! was there before, so nobody's link is followed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of one instance.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folders of all instances below `output`, and removes the pictures of an earlier run
    /// from them. If one can't be written to, all are left as they were.
    pub(crate) fn prepare(output: &Path, instances: usize) -> Result<Vec<Self>> {
        let mut made = Vec::new();
        let folders = (1..=instances)
            .map(|instance| {
                let path = output.join(format!("vid-instance{instance}"));
                make(&path, &mut made)?;
                let probe = path.join(".resize-videos.part");
                create_anew(&probe)
                    .and_then(|_| fs::remove_file(&probe))
                    .with_context(|| format!("can't write pictures to {}", path.display()))?;
                Ok(Self { path })
            })
            .collect::<Result<Vec<_>>>()
            .inspect_err(|_| made.iter().rev().for_each(|path| drop(fs::remove_dir(path))))?;
        folders.iter().try_for_each(Self::clear)?;
        Ok(folders)
    }

    /// The folders of all instances, in words.
    pub(crate) fn range(output: &Path, instances: usize) -> String {
        let first = output.join("vid-instance1");
        match instances {
            1 => first.display().to_string(),
            _ => format!("{} to vid-instance{instances}", first.display()),
        }
    }

    fn clear(&self) -> Result<()> {
        let path = &self.path;
        let entries =
            fs::read_dir(path).with_context(|| format!("can't list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("can't list {}", path.display()))?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                fs::remove_file(entry.path())
                    .with_context(|| format!("can't remove the old {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Writes picture `number`, aside first, so that nobody ever sees half of it.
    pub(crate) fn write(&self, number: u64, jpeg: &[u8]) -> Result<()> {
        let aside = self.path.join(format!(".Frame{number:05}.jpg.part"));
        let path = self.path.join(format!("Frame{number:05}.jpg"));
        File::create_new(&aside)
            .and_then(|mut file| {
                file.write_all(jpeg)
                    .and_then(|()| fs::rename(&aside, &path))
                    .inspect_err(|_| drop(fs::remove_file(&aside)))
            })
            .with_context(|| format!("can't write {}", path.display()))
    }
}

/// Makes a new file in the place of one that an earlier run may have left.
pub(crate) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Makes a folder and those above it, and notes which were missing.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
        fs::create_dir(path)
            .with_context(|| format!("can't make the folder {}", path.display()))?;
        made.push(path.to_owned());
    }
    Ok(())
}

/// Whether a file is a picture of this program's, whole or in the making.
fn is_ours(name: &str) -> bool {
    let name = match name.strip_prefix('.') {
        Some(name) => name.strip_suffix(".part").unwrap_or_default(),
        None => name,
    };
    name.strip_prefix("Frame")
        .and_then(|name| name.strip_suffix(".jpg"))
        .is_some_and(|n| n.len() >= 5 && n.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_in_the_place_of_pictures_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let (path, victim) = (output.join("vid-instance1"), dir.path().join("victim"));
        fs::create_dir_all(&path).unwrap();
        fs::write(&victim, "precious").unwrap();
        // Left from before, or planted before: they go.
        let names = [".resize-videos.part", ".Frame00001.jpg.part", "Frame00001.jpg"];
        names.iter().for_each(|name| symlink(&victim, path.join(name)).unwrap());
        let folder = Folder::prepare(&output, 1).unwrap().remove(0);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        // Planted afterwards: not touched, and an error.
        let aside = path.join(".Frame00001.jpg.part");
        symlink(&victim, &aside).unwrap();
        let error = folder.write(1, b"jpeg").unwrap_err();
        assert!(format!("{error:#}").contains("exists"), "{error:#}");
        assert!(aside.is_symlink() && !path.join("Frame00001.jpg").exists());
        // In the place of the whole picture: replaced.
        symlink(&victim, path.join("Frame00002.jpg")).unwrap();
        folder.write(2, b"jpeg").unwrap();
        assert!(!path.join("Frame00002.jpg").is_symlink());
        assert_eq!(fs::read(path.join("Frame00002.jpg")).unwrap(), b"jpeg");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn only_this_programs_names_are_its_own() {
        for name in ["Frame00001.jpg", "Frame123456.jpg", ".Frame00001.jpg.part"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["Frame1.jpg", "Frame00001.jpeg", "frame00001.jpg", ".Frame00001.jpg", "a.jpg"]
        {
            assert!(!is_ours(name), "{name}");
        }
        assert!(!is_ours("Frame00001.jpg.part"));
        assert!(!is_ours("Frame0000a.jpg"));
    }
}
