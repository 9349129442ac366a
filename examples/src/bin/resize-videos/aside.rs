//! Owns how a file is written so that nobody ever sees half of it: beside its place, and then moved
//! there.
//!
//! Invariant: what is written to was made here. Nothing that was there before is opened, so
//! nobody's link is followed.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = ".resize-videos-";
const SUFFIX: &str = ".part";

/// Files that were begun, for a name of its own for each.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Makes a file beside a place. Its name is short, however long that of the place is.
fn create(place: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let (process, number) = (process::id(), BEGUN.fetch_add(1, Ordering::Relaxed));
        let path = place.with_file_name(format!("{PREFIX}{process}-{number}{SUFFIX}"));
        match File::create_new(&path) {
            // Left by one that was killed. In containers all are process 1.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (file, path)),
        }
    }
}

/// Finds out whether a file can be made beside a place, and what the system says of one that was.
pub(crate) fn try_out(place: &Path) -> io::Result<Metadata> {
    let (file, path) = create(place)?;
    match fs::remove_file(path) {
        // Gone already if another run has cleared the folder.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => file.metadata(),
    }
}

/// Writes a file, in the place of one that may be there.
pub(crate) fn write(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let (mut file, path) = create(place)?;
    file.write_all(bytes)
        .and_then(|()| fs::rename(&path, place))
        .inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Whether a file has a name that was made here.
pub(crate) fn is_aside(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_in_the_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (place, victim) = (dir.path().join("x".repeat(255)), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        // More than other tests of this process begin meanwhile.
        let (process, next) = (process::id(), BEGUN.load(Ordering::Relaxed));
        for number in next..next + 1000 {
            let planted = format!("{PREFIX}{process}-{number}{SUFFIX}");
            symlink(&victim, dir.path().join(planted)).unwrap();
        }
        write(&place, b"whole").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"whole");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1002);
        // Nothing is left of what can't be moved.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(write(&folder, b"").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1003);
    }
}
