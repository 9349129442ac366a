//! Owns where a daemon lives that is told nothing: in its user's session, or as the system's service; by
//! the XDG Base Directory Specification, and as clients see it (`libclient/src/endpoint.rs`).

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

/// The system service's settings.
const SYSTEM_FILE: &str = "/etc/resized/resized.toml";

/// A session's settings, below `$XDG_CONFIG_HOME` or `~/.config`.
const SESSION_FILE: &str = "resized/resized.toml";

/// The socket, below `$XDG_RUNTIME_DIR` or `/run`.
const SOCKET: &str = "resized/resized.sock";

/// The folders of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folders {
    /// `None`: there is no session.
    runtime: Option<PathBuf>,
    settings: Option<PathBuf>,
}

impl Folders {
    /// Those that the environment names.
    pub(super) fn of_environment() -> Self {
        Self::of(geteuid(), |name| std::env::var_os(name))
    }

    /// Those that variables name: none that is not absolute. Another user's, in an environment that was kept
    /// when the user changed, is no session's.
    fn of(user: Uid, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let is_anothers = |folder: &PathBuf| {
            fs::metadata(folder).is_ok_and(|folder| folder.uid() != user.as_raw())
        };
        let settings = folder("XDG_CONFIG_HOME");
        Self {
            runtime: folder("XDG_RUNTIME_DIR").filter(|folder| !is_anothers(folder)),
            settings: settings.or_else(|| Some(folder("HOME")?.join(".config"))),
        }
    }

    /// The file of settings.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self.runtime {
            None => Some(SYSTEM_FILE.into()),
            Some(_) => Some(self.settings.as_ref()?.join(SESSION_FILE)),
        }
    }

    /// The socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.runtime.as_deref().unwrap_or(Path::new("/run")).join(SOCKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file and the socket for a user with these variables.
    fn places(user: Uid, variables: &[(&str, &str)]) -> (String, String) {
        let value = |name: &str| variables.iter().find(|(named, _)| *named == name).map(|(_, v)| v);
        let folders = Folders::of(user, |name| value(name).map(Into::into));
        let file = folders.file().map_or(String::new(), |file| file.display().to_string());
        (file, folders.socket().display().to_string())
    }

    #[test]
    fn a_folder_is_absolute_and_a_sessions_own() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = ("XDG_RUNTIME_DIR", dir.path().to_str().unwrap());
        let (user, home) = (geteuid(), ("HOME", "/home/a"));
        let socket = format!("{}/resized/resized.sock", runtime.1);
        let settings = |folder: &str| (format!("{folder}/resized/resized.toml"), socket.clone());
        let the_systems =
            ("/etc/resized/resized.toml".to_owned(), "/run/resized/resized.sock".to_owned());

        assert_eq!(places(user, &[runtime, home]), settings("/home/a/.config"));
        let elsewhere = [runtime, home, ("XDG_CONFIG_HOME", "/b")];
        assert_eq!(places(user, &elsewhere), settings("/b"));
        for none in ["", "c"] {
            let relative = [runtime, home, ("XDG_CONFIG_HOME", none)];
            assert_eq!(places(user, &relative), settings("/home/a/.config"));
            assert_eq!(places(user, &[home, ("XDG_RUNTIME_DIR", none)]), the_systems);
            assert_eq!(places(user, &[runtime, ("HOME", none)]), (String::new(), socket.clone()));
        }
        assert_eq!(places(user, &[home]), the_systems);
        let other = Uid::from_raw(user.as_raw() + 1);
        assert_eq!(places(other, &[runtime, home]), the_systems);
    }
}
