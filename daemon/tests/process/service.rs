//! A service manager: the socket it listens on, and what it is told.

use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use resized_client::{Client, Endpoint, Reconnect};

use crate::oracle::workout;
use crate::support::{DEADLINE, bounded, command, spawn, until};

/// What a service manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(dir: &Path) -> Self {
        let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE / 2)).unwrap();
        Self(socket)
    }

    #[track_caller]
    fn hears(&self, wanted: &str) {
        let mut bytes = [0; 4096];
        let len = self.0.recv(&mut bytes).expect(wanted);
        let said = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(said.lines().any(|line| line == wanted), "{said}");
    }
}

#[test]
fn the_manager_is_told_when_it_is_ready_and_when_it_stops() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let manager = Manager::listen(dir.path());
        let mut command = command(dir.path(), &[]);
        let mut daemon = spawn(command.env("NOTIFY_SOCKET", dir.path().join("notify")), dir.path());
        manager.hears("READY=1");
        // Ready means ready: to serve, and to stop in good order.
        let socket = dir.path().join("resized.sock");
        UnixStream::connect(&socket).unwrap();
        daemon.signal(Signal::SIGTERM);
        manager.hears("STOPPING=1");
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!socket.exists());
    });
}

#[test]
fn a_socket_that_the_manager_listens_on_is_taken_over_and_left() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("activated.sock");
        let manager = Manager::listen(dir.path());
        let mut activate = Command::new("systemd-socket-activate");
        activate.arg("--listen").arg(&socket);
        for (name, value) in
            [("NOTIFY_SOCKET", dir.path().join("notify")), ("RESIZED_LOG", "debug".into())]
        {
            activate.arg("--setenv").arg(format!("{name}={}", value.display()));
        }
        activate.arg(env!("CARGO_BIN_EXE_resized"));
        let there =
            Command::new("systemd-socket-activate").arg("--version").stdout(Stdio::null()).status();
        if there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            eprintln!("SKIPPED: there is no systemd-socket-activate");
            return;
        }
        let mut daemon = spawn(&mut activate, dir.path());
        until("the socket is there", || socket.exists());
        let endpoint = Endpoint::Unix(socket.clone());
        let client = Client::connect_with(&endpoint, Reconnect::NEVER).unwrap();
        manager.hears("READY=1");
        workout(&client, 1, 2);
        daemon.signal(Signal::SIGTERM);
        manager.hears("STOPPING=1");
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(socket.exists(), "the manager's file was removed");
        assert!(client.stats().is_err());
    });
}
