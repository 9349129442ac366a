//! Owns the folders of the pictures, and their writing: a picture is there whole, or not at all.
//!
//! The names are easy to guess, and the folder may lie where others write too: no file is opened
//! that was there before (see [`ASIDE`]); and no folder is written to that is another user's, where
//! all may make some, since that one could put something else in its place.
//!
//! Invariant: a folder is locked while it is written to. One of this program's own is for one run
//! alone; in others, where runs write pictures of other names, what is half done is only removed
//! while nobody else writes.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use resizectl::folders::{Made, place};
use resizectl::pattern;

use crate::ASIDE;
use crate::names::{Names, Output};
use crate::outcome::Outcome;
use crate::source;

/// A number of a frame that is as long as they get: eleven hours of video.
const LARGE: u64 = 999_999;

/// Where the pictures of one instance go.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Counted from one.
    instance: usize,
    path: PathBuf,
    names: Names,
    /// Whether it is this program's own. In others nothing is removed that is whole.
    own: bool,
}

/// Keeps other runs out of the folders until it is dropped.
pub(crate) type Locks = Vec<File>;

impl Folder {
    /// Makes the folders of these instances, counted from one, to all of which `videos` are dealt
    /// out in turn, and removes the pictures of an earlier run from those that are its own. If one
    /// can't be written to, or `check` fails, which is asked when the folders are there, all are
    /// left as they were.
    pub(crate) fn prepare(
        output: &Output,
        videos: &[PathBuf],
        instances: &[usize],
        check: impl FnOnce() -> Result<()>,
    ) -> Result<(Vec<Self>, Locks)> {
        let own = matches!(output, Output::Folder(_));
        let folder = |&instance: &usize| {
            let video = &videos[(instance - 1) % videos.len()];
            let (path, names) = output.place(instance, video);
            Self { instance, path, names, own }
        };
        let folders: Vec<_> = instances.iter().map(folder).collect();
        let mut made = Made::default();
        let locks = folders
            .iter()
            .map(|folder| folder.make(&mut made))
            .collect::<Result<Vec<_>>>()
            // Which of them are one is only seen once they are there.
            .and_then(|places| {
                check_names(&folders, &places, videos, output.has_name())?;
                check()?;
                lock(&folders, &places)
            })
            .inspect_err(|_| made.take_back())?;
        if own {
            folders.iter().try_for_each(Self::clear)?;
        }
        Ok((folders, locks))
    }

    /// Makes it, notes what it made, and finds out whether pictures can be written there. Gives the
    /// folder's one name that has no links in it.
    fn make(&self, made: &mut Made) -> Result<PathBuf> {
        let Self { path, names, .. } = self;
        made.make(path)?;
        let name = path.join(names.of(LARGE));
        let tried = ASIDE.try_out(&name);
        let user =
            tried.with_context(|| format!("can't write pictures to {}", path.display()))?.uid();
        // One that is too long is an error even where it is only looked for.
        match fs::symlink_metadata(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't write {}", name.display()))?;
            }
            _ => {}
        }
        let place = path.canonicalize();
        let place = place.with_context(|| format!("can't open {}", path.display()))?;
        // As it is written, and where its links lead.
        let written = std::path::absolute(path).ok();
        let names = [written.as_deref(), Some(&place)];
        let other = names.into_iter().flatten().find_map(|name| of_another(name, user));
        match other {
            None => Ok(place),
            Some(other) => bail!(
                "can't write pictures to {}: {} is another user's, who could put something else there",
                path.display(),
                other.display()
            ),
        }
    }

    /// Whose it is, counted from one.
    pub(crate) fn instance(&self) -> usize {
        self.instance
    }

    /// Where the pictures are from the first of one instance to the last of another, in words.
    pub(crate) fn range(output: &Output, first: &Outcome<'_>, last: &Outcome<'_>) -> String {
        let (folder, names) = output.place(first.instance, first.video);
        if let Output::Folder(_) = output {
            let range = format!("the pictures are in {}", folder.display());
            let (first, last) = (first.instance, last.instance);
            return if first == last { range } else { format!("{range} to vid-instance{last}") };
        }
        let begin = folder.join(names.of(1));
        let (folder, names) = output.place(last.instance, last.video);
        let end = folder.join(names.of(last.frames));
        match begin == end {
            true => format!("the picture is {}", end.display()),
            false => format!("the pictures are {} to {}", begin.display(), end.display()),
        }
    }

    fn clear(&self) -> Result<()> {
        let path = &self.path;
        let entries =
            fs::read_dir(path).with_context(|| format!("can't list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("can't list {}", path.display()))?;
            if entry.file_name().to_str().is_some_and(|name| self.is_left(name)) {
                match fs::remove_file(entry.path()) {
                    // Another run that has just begun only tried whether it can write here.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => removed.with_context(|| {
                        format!("can't remove the old {}", entry.path().display())
                    })?,
                }
            }
        }
        Ok(())
    }

    /// Whether a file is left from an earlier run: a picture in the making, or a whole one in a
    /// folder of ours.
    fn is_left(&self, name: &str) -> bool {
        ASIDE.has(name) || (self.own && self.names.has(name))
    }

    /// Whether this is where a picture goes, if the folder is at `place`; or where all do, by FFmpeg's
    /// pattern for them.
    fn would_replace(&self, file: &Path, place: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str());
        let taken = name.is_some_and(|name| self.names.has(name) || self.names.is_pattern(name));
        taken && file.parent() == Some(place)
    }

    /// Writes picture `number`.
    pub(crate) fn write(&self, number: u64, jpeg: &[u8]) -> Result<()> {
        let path = self.path.join(self.names.of(number));
        ASIDE.write(&path, jpeg).with_context(|| format!("can't write {}", path.display()))
    }
}

/// Locks each folder once, at its place, as several instances may share one. What is half done in
/// those that are not this program's own goes.
fn lock(folders: &[Folder], places: &[PathBuf]) -> Result<Locks> {
    let mut locked = BTreeSet::new();
    let mut locks = Locks::new();
    for (folder, place) in folders.iter().zip(places) {
        if !locked.insert(place) {
            continue;
        }
        let path = &folder.path;
        let lock = File::open(place).with_context(|| format!("can't open {}", path.display()))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                ensure!(!folder.own, "another resize-videos writes to {}", path.display());
            }
            Ok(()) if !folder.own => folder.clear()?,
            // The second where a file system knows no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        if !folder.own {
            share(&lock, path)?;
        }
        locks.push(lock);
    }
    Ok(locks)
}

/// Has a folder together with others. Who has it alone may be clearing it, and soon done.
fn share(lock: &File, path: &Path) -> Result<()> {
    for _ in 0..100 {
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            // Or a file system that knows no locks.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
    bail!("another resize-videos has the folder {} for itself", path.display())
}

/// The first of a folder and those above it that another user made where everybody may make some, as in
/// /tmp, and may replace at any moment. Not one of root's, who could do so anyway.
fn of_another(path: &Path, user: u32) -> Option<&Path> {
    const STICKY: u32 = 0o1000;
    let owner = |path: &Path| fs::symlink_metadata(path).map(|place| place.uid());
    path.ancestors().find(|path| {
        let above = path.parent().and_then(|above| fs::metadata(above).ok());
        above.is_some_and(|above| above.mode() & STICKY != 0)
            && owner(path).is_ok_and(|owner| owner != user && owner != 0)
    })
}

/// Fails if two instances could write one file, or one could write over a video. `places` are the
/// folders without links; `named`, whether the video's name is a part of theirs.
fn check_names(
    folders: &[Folder],
    places: &[PathBuf],
    videos: &[PathBuf],
    named: bool,
) -> Result<()> {
    for (index, folder) in folders.iter().enumerate() {
        let before = (0..index).find(|&before| {
            places[before] == places[index] && folders[before].names.meet(&folder.names)
        });
        if let Some(before) = before {
            ensure!(
                !folder.own,
                "{} and {} are one folder, and each instance needs its own",
                folders[before].path.display(),
                folder.path.display()
            );
            let name =
                |folder: &Folder| pattern::name(&videos[(folder.instance - 1) % videos.len()]);
            let (one, two) = (name(&folders[before]), name(folder));
            if let (Some(one), Some(two), false) = (one, two, one == two || named) {
                bail!(
                    "{} and {} could both write {}: put {{name}}, which stands for these names, into the file's name",
                    one.display(),
                    two.display(),
                    folder.path.join(folder.names.of(1)).display()
                );
            }
            bail!(
                "instances {} and {} could both write {}: put {{n}}, the number of the instance, into the file's name",
                folders[before].instance,
                folder.instance,
                folder.path.join(folder.names.of(1)).display()
            );
        }
        for video in videos {
            let file = source::file(video);
            // As it is named, and what it is a link to.
            let mut read = [place(file), file.canonicalize()].into_iter().flatten();
            ensure!(
                !read.any(|read| folder.would_replace(&read, &places[index])),
                "pictures would take the place of the video {}",
                video.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn links_in_the_place_of_pictures_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let (path, victim) = (output.join("vid-instance1"), dir.path().join("victim"));
        fs::create_dir_all(&path).unwrap();
        fs::write(&victim, "precious").unwrap();
        // Left from before, or planted before: they go.
        let names = [".resize-videos-1-0.part", "Frame00001.jpg"];
        names.iter().for_each(|name| symlink(&victim, path.join(name)).unwrap());
        let output = Output::Folder(output);
        let (folders, _locks) =
            Folder::prepare(&output, &["a.mp4".into()], &[1], || Ok(())).unwrap();
        let folder = &folders[0];
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        // In the place of the whole picture: replaced.
        symlink(&victim, path.join("Frame00002.jpg")).unwrap();
        folder.write(2, b"jpeg").unwrap();
        assert!(!path.join("Frame00002.jpg").is_symlink());
        assert_eq!(fs::read(path.join("Frame00002.jpg")).unwrap(), b"jpeg");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn folders_of_others_where_all_may_make_some_are_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("all");
        let folder = all.join("out/vid-instance1");
        fs::create_dir_all(&folder).unwrap();
        let user = fs::metadata(&folder).unwrap().uid();
        fs::set_permissions(&all, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(of_another(&folder, user), None);
        // Only root can give a folder away; for anybody else it is as if another asked.
        let asking = match chown(all.join("out"), Some(65534), None) {
            Ok(()) => user,
            Err(_) => user + 1,
        };
        assert_eq!(of_another(&folder, asking), Some(&*all.join("out")));
        fs::set_permissions(&all, Permissions::from_mode(0o700)).unwrap();
        assert!(of_another(&folder, asking).is_none_or(|other| !other.starts_with(&all)));
    }

    #[test]
    fn who_begins_beside_another_run_may_find_what_that_tried_out_gone() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::Folder(dir.path().into());
        let prepare = || Folder::prepare(&output, &["a.mp4".into()], &[1], || Ok(())).unwrap();
        let picture = prepare().0[0].path.join("Frame00001.jpg");
        let mut begins = (0..20_000).map(move |_| ASIDE.try_out(&picture));
        let other = move || assert!(begins.all(|tried| tried.is_ok()));
        let other = thread::spawn(other);
        while !other.is_finished() {
            drop(prepare());
        }
        other.join().unwrap();
    }

    #[test]
    fn patterns_take_nothing_away_but_what_is_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let videos = [dir.path().join("a.mp4"), dir.path().join("b.mp4")];
        let prepare = |pattern: &str, instances| {
            let output = Output::parse(dir.path().join(pattern).into()).unwrap();
            let videos = &videos[..usize::max(1, instances - 1)];
            let instances: Vec<_> = (1..=instances).collect();
            Folder::prepare(&output, videos, &instances, || Ok(()))
        };
        for name in ["0001.jpg", "0099.jpg", ".resize-videos-1-0.part", ".1.jpg.part"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let (folders, _locks) = prepare("%04d.jpg", 1).unwrap();
        folders[0].write(1, b"jpeg").unwrap();
        folders[0].write(2, b"jpeg").unwrap();
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [".1.jpg.part", "0001.jpg", "0002.jpg", "0099.jpg"]);
        assert_eq!(fs::read(dir.path().join("0001.jpg")).unwrap(), b"jpeg");
        assert_eq!(fs::read(dir.path().join("0099.jpg")).unwrap(), b"old");

        let error = |pattern, instances| prepare(pattern, instances).unwrap_err().to_string();
        assert!(error("new/%d.jpg", 2).starts_with("instances 1 and 2 could both write "));
        assert!(error("new/{name}-%d.jpg", 3).contains("instances 1 and 3"));
        assert!(!dir.path().join("new").exists());
        assert_eq!(prepare("new/{name}-%d.jpg", 1).unwrap().0.len(), 1);
        assert_eq!(prepare("new/{name}/{n}-%d.jpg", 3).unwrap().0.len(), 3);
    }

    #[test]
    fn a_folder_of_ours_is_for_one_run_at_a_time_and_others_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = |output: &str| {
            let output = Output::parse(dir.path().join(output).into()).unwrap();
            Folder::prepare(&output, &["a.mp4".into(), "b.mp4".into()], &[1, 2], || Ok(()))
        };
        let (folders, locks) = prepare("out").unwrap();
        folders[1].write(1, b"jpeg").unwrap();
        let error = prepare("out").unwrap_err().to_string();
        assert!(error.starts_with("another resize-videos writes to "), "{error}");
        let picture = dir.path().join("out/vid-instance2/Frame00001.jpg");
        assert!(picture.exists());
        drop(locks);
        prepare("out").unwrap();
        assert!(!picture.exists());

        let (folders, locks) = prepare("{n}-%d.jpg").unwrap();
        let half = dir.path().join(".resize-videos-1-0.part");
        fs::write(&half, "").unwrap();
        let (others, other_locks) = prepare("other-{n}-%d.jpg").unwrap();
        assert!(half.exists());
        for folder in folders.iter().chain(&others) {
            folder.write(1, b"jpeg").unwrap();
        }
        drop((locks, other_locks));
        prepare("third-{n}-%d.jpg").unwrap();
        assert!(!half.exists() && dir.path().join("other-2-1.jpg").exists());
    }

    #[test]
    fn a_folder_is_the_same_by_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = |output: &str| {
            let output = Output::parse(dir.path().join(output).into()).unwrap();
            Folder::prepare(&output, &["a.mp4".into()], &[1, 2], || Ok(()))
                .map(|(folders, _)| folders)
        };
        let error = |output| prepare(output).unwrap_err().to_string();
        fs::create_dir(dir.path().join("out")).unwrap();
        symlink("vid-instance1", dir.path().join("out/vid-instance2")).unwrap();
        fs::create_dir(dir.path().join("out/vid-instance1")).unwrap();
        let old = dir.path().join("out/vid-instance1/Frame00001.jpg");
        fs::write(&old, "old").unwrap();
        let same = error("out");
        assert!(same.ends_with("vid-instance2 are one folder, and each instance needs its own"));
        assert!(old.exists(), "{same}");

        symlink("out", dir.path().join("1")).unwrap();
        symlink("out", dir.path().join("2")).unwrap();
        let same = error("{n}/%d.jpg");
        assert!(same.starts_with("instances 1 and 2 could both write "), "{same}");
        // Only seen once they are there.
        assert!(error("{n}/new/%d.jpg").starts_with("instances 1 and 2 "));
        assert!(!dir.path().join("out/new").exists());
        assert_eq!(prepare("{n}/{n}-%d.jpg").unwrap().len(), 2);
    }

    #[test]
    fn names_may_be_as_long_as_the_file_system_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = |letters: usize| {
            let pattern = format!("new/{}-%05d.jpg", "x".repeat(letters));
            let output = Output::parse(dir.path().join(pattern).into()).unwrap();
            Folder::prepare(&output, &["a.mp4".into()], &[1], || Ok(()))
        };
        let error = prepare(245).unwrap_err();
        assert!(format!("{error:#}").ends_with("-999999.jpg: File name too long (os error 36)"));
        assert!(!dir.path().join("new").exists());
        prepare(244).unwrap().0[0].write(123_456, b"jpeg").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn folders_that_were_made_go_again_if_a_check_fails() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::Folder(dir.path().join("a/b"));
        let check = || {
            assert!(dir.path().join("a/b/vid-instance1").exists());
            bail!("no")
        };
        Folder::prepare(&output, &["a.mp4".into()], &[1], check).unwrap_err();
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn videos_are_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("out/vid-instance1/Frame00001.jpg");
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::create_dir_all(precious.parent().unwrap()).unwrap();
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, dir.path().join("link.jpg")).unwrap();
        let prepare = |protocol: &str, video: &str, pattern: &str| {
            let output = Output::parse(dir.path().join(pattern).into()).unwrap();
            let video = format!("{protocol}{}", dir.path().join(video).display());
            Folder::prepare(&output, &[video.into()], &[1], || Ok(()))
                .map_err(|error| error.to_string())
        };
        for (video, pattern) in [
            ("in/00001.jpg", "in/%05d.jpg"),
            ("in/00001.jpg", "in/../in/%d.jpg"),
            ("in/%05d.jpg", "in/%05d.jpg"),
            ("in/%5d.jpg", "in/%05d.jpg"),
            ("in/%d.jpg", "in/%d.jpg"),
            ("link.jpg", "out"),
        ] {
            for protocol in ["", "file:"] {
                let error = prepare(protocol, video, pattern).expect_err(video);
                assert!(
                    error.starts_with("pictures would take the place of the video "),
                    "{error}"
                );
            }
        }
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        for (video, pattern) in [
            ("in/1.jpg", "in/%05d.jpg"),
            ("in/%04d.jpg", "in/%05d.jpg"),
            ("in/00001.jpg", "out/%05d.jpg"),
        ] {
            assert_eq!(prepare("", video, pattern).unwrap().0.len(), 1, "{pattern}");
        }
    }
}
