//! Owns the names of the pictures, and their writing: a picture is there whole, or not at all.

use std::fs::{self, File};
use std::io::Write;
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
                File::create(&probe)
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
        File::create(&aside)
            .and_then(|mut file| file.write_all(jpeg))
            .and_then(|()| fs::rename(&aside, &path))
            .inspect_err(|_| drop(fs::remove_file(&aside)))
            .with_context(|| format!("can't write {}", path.display()))
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
    use super::*;

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
