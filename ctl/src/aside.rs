//! Owns how a file is written so that nobody ever sees half of it: beside its place, and then moved
//! there.
//!
//! Invariant: what is written to was made here. Nothing that was there before is opened, so nobody's
//! link is followed; but for what the user has named, where that can't be replaced.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

const SUFFIX: &str = ".part";

/// Files that were begun, for a name of its own for each.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// The files of a program that are in the making, which have its name in theirs.
#[derive(Clone, Copy, Debug)]
pub struct Aside(&'static str);

impl Aside {
    /// Those of the program of this name.
    pub const fn of(program: &'static str) -> Self {
        Self(program)
    }

    /// Writes a file, in the place of whatever is there.
    pub fn write(self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        let (mut file, path) = self.create(place)?;
        file.write_all(bytes)
            .and_then(|()| fs::rename(&path, place))
            .inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// As [`write`](Self::write), but what [can't be replaced](is_special) is written to: for a place
    /// that the user has named as it is. Elsewhere it may be somebody's trap.
    pub fn write_named(self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(mut open) = standard(place)? {
            return open.write_all(bytes);
        }
        if is_special(place) {
            // Where it is a file after all it may have been begun.
            return File::options().append(true).open(place)?.write_all(bytes);
        }
        self.write(place, bytes)
    }

    /// Finds out whether a file can be made beside a place, and what the system says of one that was.
    pub fn try_out(self, place: &Path) -> io::Result<Metadata> {
        let (file, path) = self.create(place)?;
        match fs::remove_file(path) {
            // Gone already if another run has cleared the folder.
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => file.metadata(),
        }
    }

    /// Whether a file of this name is one of them.
    pub fn has(self, name: &str) -> bool {
        name.starts_with(&self.prefix()) && name.ends_with(SUFFIX)
    }

    /// Makes a file beside a place. Its name is short, however long that of the place is.
    fn create(self, place: &Path) -> io::Result<(File, PathBuf)> {
        loop {
            let (process, number) = (process::id(), BEGUN.fetch_add(1, Ordering::Relaxed));
            let name = format!("{}{process}-{number}{SUFFIX}", self.prefix());
            let path = place.with_file_name(name);
            match File::create_new(&path) {
                // Left by one that was killed. In containers all are process 1.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.map(|file| (file, path)),
            }
        }
    }

    fn prefix(self) -> String {
        format!(".{}-", self.0)
    }
}

/// Standard output or error, if that is its name: what is a socket can't be opened by it.
fn standard(place: &Path) -> io::Result<Option<File>> {
    let is = |names: [&str; 3]| names.iter().any(|name| place == Path::new(name));
    let open = if is(["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]) {
        io::stdout().as_fd().try_clone_to_owned()?
    } else if is(["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]) {
        io::stderr().as_fd().try_clone_to_owned()?
    } else {
        return Ok(None);
    };
    Ok(Some(open.into()))
}

/// Whether there is something that can't be written to by its name: a socket that is not standard
/// output or error.
pub fn is_out_of_reach(path: &Path) -> bool {
    let is_socket = fs::metadata(path).is_ok_and(|there| there.file_type().is_socket());
    is_socket && !matches!(standard(path), Ok(Some(_)))
}

/// Whether there is something that can't be replaced by a file: a pipe, say, or what is open
/// already, such as /dev/stdout, which lead to names in /proc/self/fd.
pub fn is_special(path: &Path) -> bool {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let linked = fs::read_link(path).ok().and_then(|to| Some(to.parent()?.to_owned()));
    let mut folders = folder.into_iter().chain(linked);
    fs::metadata(path).is_ok_and(|there| !there.is_file())
        || folders.any(|folder| folder.starts_with("/proc") && folder.ends_with("fd"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    const ASIDE: Aside = Aside::of("test");

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_in_the_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        // As long as a name may be.
        let (place, victim) = (dir.path().join("x".repeat(255)), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        // More than other tests of this process begin meanwhile.
        let (process, next) = (process::id(), BEGUN.load(Ordering::Relaxed));
        for number in next..next + 1000 {
            let planted = format!(".test-{process}-{number}.part");
            symlink(&victim, dir.path().join(planted)).unwrap();
        }
        ASIDE.write(&place, b"whole").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"whole");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(entries(dir.path()), 1002);
        // Nothing is left of what can't be moved.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(ASIDE.write(&folder, b"").is_err());
        assert_eq!(entries(dir.path()), 1003);
    }

    #[test]
    fn each_program_has_files_of_its_own() {
        assert!(ASIDE.has(".test-1-0.part"));
        for name in [".test-1-0.jpg", ".tests-1-0.part", "test-1-0.part"] {
            assert!(!ASIDE.has(name), "{name}");
        }
    }

    #[test]
    fn links_are_replaced_wherever_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let (link, victim) = (dir.path().join("link"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        ASIDE.write_named(&link, b"jpeg").unwrap();
        let (result, other) = (fs::read(&link).unwrap(), fs::read(&victim).unwrap());
        assert_eq!((result, other), (b"jpeg".to_vec(), b"precious".to_vec()));
        // Planted where nobody has named it.
        let trap = dir.path().join("trap");
        symlink("/dev/full", &trap).unwrap();
        ASIDE.write(&trap, b"jpeg").unwrap();
        assert_eq!(fs::read(&trap).unwrap(), b"jpeg");
        assert_eq!(entries(dir.path()), 3);
    }

    #[test]
    fn what_is_open_already_is_written_to_under_a_name_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("open"), dir.path().join("link"));
        let mut open = File::create_new(&path).unwrap();
        open.write_all(b"one ").unwrap();
        let descriptor = format!("/proc/self/fd/{}", open.as_raw_fd());
        symlink(&descriptor, &link).unwrap();
        ASIDE.write_named(&link, b"two ").unwrap();
        ASIDE.write_named(Path::new(&descriptor), b"three").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"one two three");
        let full = ASIDE.write_named(Path::new("/dev/full"), b"jpeg").unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}
