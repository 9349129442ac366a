//! A daemon that the system gives little: descriptors, shared memory, memory at all. A neighbour that
//! has its stream already is served all the while, and nothing is left in the end.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::{Client, Error, Filter, PixelFormat, Reconnect, Refusal, Resource, Whose};

use crate::oracle::{self, Checked};
use crate::support::{DEADLINE, Daemon, bounded_by, by, by_shell, until};

/// A daemon, and a client that came before there was little.
struct Scene {
    daemon: Daemon,
    client: Client,
    descriptors: usize,
    neighbour: Checked,
}

impl Scene {
    /// The daemon's command line is what `change` makes of it.
    fn new(flags: &[&str], change: impl FnOnce(&Command) -> Command) -> Self {
        let daemon = Daemon::start_as(flags, |command, _| change(&command));
        let client = daemon.faithful_client();
        let (_, descriptors) = daemon.at_rest(&client);
        let neighbour = Checked::open(&client, oracle::mixed(3), 3);
        Self { daemon, client, descriptors, neighbour }
    }

    fn connect(&self) -> Result<Client, Error> {
        Client::connect_with(&self.daemon.endpoint(), Reconnect::NEVER)
    }

    /// The neighbour's frames are right.
    fn is_served(&self) {
        (0..3).for_each(|n| self.neighbour.round_trip(n));
    }

    /// Nothing of the others is left, and the daemon ends as it should.
    fn end(self) {
        self.is_served();
        let Self { mut daemon, client, descriptors, neighbour } = self;
        drop(neighbour);
        daemon.await_rest(&client, descriptors);
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
    }
}

#[test]
fn a_daemon_with_few_descriptors_refuses_and_lives() {
    bounded_by(DEADLINE, || {
        let scene = Scene::new(&[], |daemon| by_shell(r#"ulimit -n 64; exec "$0" "$@""#, daemon));
        let mut clients = Vec::new();
        let refusal = loop {
            match scene.connect() {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        let whose = Whose::Daemon;
        assert!(
            matches!(refusal, Error::Refused(Refusal::Quota { whose: w, what: Resource::Connections, .. }) if w == whose),
            "{refusal}"
        );
        // And the neighbour.
        assert_eq!(clients.len() + 1, 32);
        // All of them are served.
        for (n, client) in clients.iter().enumerate() {
            Checked::open(client, oracle::mixed(n), 1).round_trip(0);
        }
        scene.is_served();
        drop(clients.pop());
        until("there is room again", || scene.connect().is_ok());
        drop(clients);
        scene.end();
    });
}

#[test]
fn a_full_dev_shm_is_a_refusal() {
    bounded_by(DEADLINE, || {
        const MOUNT: &str = "mount -t tmpfs -o size=64k tmpfs /dev/shm";
        let alone = Command::new("unshare").args(["--mount", "--", "sh", "-c", MOUNT]).output();
        if !alone.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no mount namespace of our own: {alone:?}");
            return;
        }
        let mount = format!(r#"{MOUNT} && exec "$0" "$@""#);
        let full = |daemon: &_| by(&["unshare", "--mount", "--", "sh", "-c", &mount], daemon);
        let scene = Scene::new(&["--allow-named-segments"], full);
        let connect = || UnixStream::connect(scene.daemon.socket()).unwrap();
        let named = Client::from_socket_with_named_segments(connect()).unwrap();
        let error = named.open(&oracle::big()).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::System { .. })), "{error}");
        scene.is_served();
        let client = Client::from_socket(connect()).unwrap();
        Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
        drop((named, client));
        scene.end();
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
        let join = r#"echo $$ > "$GROUP/cgroup.procs"; exec "$0" "$@""#;
        // More than the group has.
        let scene = Scene::new(&["--devices", "cpu", "--memory", "65536"], |daemon| {
            let mut bounded = by_shell(join, daemon);
            bounded.env("GROUP", &group.0);
            bounded
        });
        let client = scene.connect().unwrap();
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
        scene.is_served();
        drop(streams);
        until("there is room again", || client.open(&spec).is_ok());
        drop(client);
        scene.end();
    });
}
