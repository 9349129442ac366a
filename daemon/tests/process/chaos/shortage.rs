//! A daemon that the system gives little: descriptors, shared memory, memory at all.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::{Client, Error, Filter, PixelFormat, Reconnect, Refusal, Resource, Whose};

use crate::oracle::{self, Checked};
use crate::support::{DEADLINE, bounded_by, command, spawn, until};

#[test]
fn a_daemon_with_few_descriptors_refuses_and_lives() {
    bounded_by(DEADLINE, || {
        let dir = tempfile::tempdir().unwrap();
        let daemon = command(dir.path(), &[]);
        let mut few = Command::new("sh");
        few.args(["-c", r#"ulimit -n 64; exec "$0" "$@""#]).arg(daemon.get_program());
        few.args(daemon.get_args()).env("RESIZED_CONFIG", "/dev/null");
        let mut process = spawn(&mut few, dir.path());
        let endpoint = resized_client::Endpoint::Unix(dir.path().join("resized.sock"));
        let connect = || Client::connect_with(&endpoint, Reconnect::NEVER);
        until("the daemon answers", || connect().is_ok());
        let mut clients = Vec::new();
        let refusal = loop {
            match connect() {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        let whose = Whose::Daemon;
        assert!(
            matches!(refusal, Error::Refused(Refusal::Quota { whose: w, what: Resource::Connections, .. }) if w == whose),
            "{refusal}"
        );
        assert_eq!(clients.len(), 32);
        // All of them are served.
        for client in &clients {
            client.open(&oracle::dot()).unwrap().loan().unwrap().submit().unwrap().wait().unwrap();
        }
        drop(clients.pop());
        until("there is room again", || connect().is_ok());
        assert!(process.0.try_wait().unwrap().is_none());
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(0));
    });
}

#[test]
fn a_full_dev_shm_is_a_refusal() {
    bounded_by(DEADLINE, || {
        let dir = tempfile::tempdir().unwrap();
        let daemon = command(dir.path(), &["--allow-named-segments"]);
        let mut full = Command::new("unshare");
        let mount = r#"mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$0" "$@""#;
        full.args(["--mount", "--", "sh", "-c", mount]).arg(daemon.get_program());
        full.args(daemon.get_args()).env("RESIZED_CONFIG", "/dev/null");
        let mut process = spawn(&mut full, dir.path());
        let socket = dir.path().join("resized.sock");
        let answers = || UnixStream::connect(&socket).is_ok();
        while !answers() {
            if process.0.try_wait().unwrap().is_some() {
                eprintln!("SKIPPED: no mount namespace of our own");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let named = UnixStream::connect(&socket).unwrap();
        let named = Client::from_socket_with_named_segments(named).unwrap();
        let error = named.open(&oracle::big()).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::System { .. })), "{error}");
        let client = Client::from_socket(UnixStream::connect(&socket).unwrap()).unwrap();
        Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
        assert_eq!(client.stats().unwrap().region_bytes, 0);
    });
}

/// A control group of our own whose memory has a limit, gone with this.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> io::Result<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let line = |of: &str| {
            let lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            let mut paths =
                lines.filter(|(controllers, _)| controllers.split(',').any(|c| c == of));
            paths.next().map(|(_, path)| path.trim_start_matches('/').to_owned())
        };
        let (root, path, file) = match (line("memory"), line("")) {
            (Some(path), _) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            (None, path) => ("/sys/fs/cgroup", path.unwrap_or_default(), "memory.max"),
        };
        let group = Path::new(root).join(path).join(format!("resized-test-{}", std::process::id()));
        std::fs::create_dir(&group)?;
        let group = Self(group);
        std::fs::write(group.0.join(file), limit.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was killed in it may still be there for a moment.
        let begun = Instant::now();
        while std::fs::remove_dir(&self.0).is_err() && begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_memory_limit_of_the_daemons_group_is_a_refusal() {
    bounded_by(DEADLINE, || {
        const LIMIT: u64 = 256 << 20;
        let group = match Group::new(LIMIT) {
            Ok(group) => group,
            Err(error) => {
                eprintln!("SKIPPED: no control group of our own: {error}");
                return;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        // More than the group has.
        let daemon = command(dir.path(), &["--devices", "cpu", "--memory", "65536"]);
        let mut bounded = Command::new("sh");
        let join = r#"echo $$ > "$GROUP/cgroup.procs"; exec "$0" "$@""#;
        bounded.args(["-c", join]).arg(daemon.get_program()).args(daemon.get_args());
        bounded.env("RESIZED_CONFIG", "/dev/null").env("GROUP", &group.0);
        let mut process = spawn(&mut bounded, dir.path());
        let endpoint = resized_client::Endpoint::Unix(dir.path().join("resized.sock"));
        let connect = || Client::connect_with(&endpoint, Reconnect::NEVER);
        until("the daemon answers", || connect().is_ok());
        let client = connect().unwrap();
        let spec = oracle::spec(PixelFormat::Rgba, Filter::Bicubic, (2048, 1024), (64, 64));
        let mut streams = Vec::new();
        let refusal = loop {
            assert!(streams.len() < 100, "the limit was not seen");
            match client.open(&spec) {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(refusal, Error::Refused(Refusal::Quota { whose: Whose::Machine, left, .. }) if left < LIMIT),
            "{refusal}"
        );
        assert!(!streams.is_empty(), "{refusal}");
        // All of them are served.
        for stream in &streams {
            stream.loan().unwrap().submit().unwrap().wait().unwrap();
        }
        drop(streams);
        until("there is room again", || client.open(&spec).is_ok());
        assert!(process.0.try_wait().unwrap().is_none());
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(0));
    });
}
