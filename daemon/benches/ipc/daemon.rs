//! The daemon, as a process of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use resized_client::{Client, Endpoint};

/// Killed when this is dropped.
pub(crate) struct Daemon {
    process: Child,
    pub(crate) endpoint: String,
}

impl Daemon {
    pub(crate) fn start(dir: &Path, devices: &str) -> Self {
        Self::start_by(dir, devices, |command| command.spawn().unwrap())
    }

    pub(crate) fn start_by(
        dir: &Path,
        devices: &str,
        spawn: impl FnOnce(&mut Command) -> Child,
    ) -> Self {
        let socket = dir.join(format!("{devices}.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_resized"));
        command.args(["--devices", devices, "--socket"]).arg(&socket).env("RESIZED_LOG", "warn");
        let process = spawn(&mut command);
        while UnixStream::connect(&socket).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { process, endpoint: format!("unix:{}", socket.display()) }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.endpoint.parse::<Endpoint>().unwrap()).unwrap()
    }

    /// Resident KiB and open descriptors.
    pub(crate) fn size(&self) -> (u64, usize) {
        let process = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        // Anonymous memory: what the rings share is counted by whoever has them open.
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let resident = line.trim().trim_end_matches(" kB").parse().unwrap();
        (resident, std::fs::read_dir(process.join("fd")).unwrap().count())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
