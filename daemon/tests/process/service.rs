//! A service manager: the socket it listens on, and what it is told.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use resized_client::{
    Client, Endpoint, Error, Filter, PixelFormat, Reconnect, Refusal, Resource, StreamSpec,
};

use crate::oracle::workout;
use crate::skip::skip;
use crate::support::{DEADLINE, Daemon, Folder, bounded, command, spawn, until};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");

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
        let said = self.next();
        assert!(said.lines().any(|line| line == wanted), "{said}");
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let len = self.0.recv(&mut bytes).expect("something is said");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

#[test]
fn the_manager_is_told_when_it_is_ready_and_when_it_stops() {
    bounded(|| {
        let dir = Folder::new();
        let manager = Manager::listen(dir.path());
        let mut command = command(dir.path(), &[]);
        let mut daemon = spawn(command.env("NOTIFY_SOCKET", dir.path().join("notify")), dir.path());
        manager.hears("READY=1");
        // Ready means ready: to serve, and to stop in good order.
        let socket = dir.path().join("resized.sock");
        UnixStream::connect(&socket).unwrap();
        daemon.signal(Signal::SIGTERM);
        let said = manager.next();
        assert!(said.lines().any(|line| line == "STOPPING=1"), "{said}");
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!socket.exists());
    });
}

#[test]
fn a_socket_that_the_manager_listens_on_is_taken_over_and_left() {
    bounded(|| {
        let dir = Folder::new();
        let socket = dir.path().join("activated.sock");
        let manager = Manager::listen(dir.path());
        let mut activate = Command::new("systemd-socket-activate");
        activate.arg("--listen").arg(&socket);
        // It passes on what it is told to, and nothing else.
        for (name, value) in [
            ("NOTIFY_SOCKET", dir.path().join("notify")),
            ("RESIZED_CONFIG", "/dev/null".into()),
            ("RESIZED_DEVICES", "cpu".into()),
        ] {
            activate.arg("--setenv").arg(format!("{name}={}", value.display()));
        }
        activate.arg(env!("CARGO_BIN_EXE_resized"));
        let there =
            Command::new("systemd-socket-activate").arg("--version").stdout(Stdio::null()).status();
        if there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            skip("systemd-socket-activate", "there is none");
            return;
        }
        let mut daemon = spawn(&mut activate, dir.path());
        let endpoint = Endpoint::Unix(socket.clone());
        let mut client = None;
        // Its file is there before anyone listens.
        until("the manager listens", || {
            client = match Client::connect_with(&endpoint, Reconnect::NEVER) {
                Ok(client) => Some(client),
                Err(Error::Connect { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            client.is_some()
        });
        let client = client.unwrap();
        manager.hears("READY=1");
        workout(&client, 1, 2);
        daemon.signal(Signal::SIGTERM);
        manager.hears("STOPPING=1");
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(socket.exists(), "the manager's file was removed");
        assert!(client.stats().is_err());
    });
}

#[test]
fn the_manager_hears_that_the_daemon_is_well() {
    bounded(|| {
        let dir = Folder::new();
        let manager = Manager::listen(dir.path());
        let mut command = command(dir.path(), &[]);
        command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "200000");
        let _daemon = spawn(&mut command, dir.path());
        manager.hears("READY=1");
        (0..5).for_each(|_| manager.hears("WATCHDOG=1"));
    });
}

/// What a daemon that does not start says, with that file of settings and those flags.
fn refused(settings: &str, flags: &[&str]) -> String {
    let dir = Folder::new();
    let file = dir.path().join("resized.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = command(dir.path(), flags);
    let output = command.env("RESIZED_CONFIG", &file).output().unwrap();
    // As the units know, it is of no use to start again.
    let code = if flags.contains(&"much") { 2 } else { 78 };
    assert_eq!(output.status.code(), Some(code), "with {settings:?} and {flags:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn settings_that_are_not_understood_are_refused_with_their_place() {
    bounded(|| {
        for check in [&["--check-config"][..], &[]] {
            let said = refused("memory = 64\nusers-memory = 5\n", check);
            for part in ["resized.toml", "line 2", "users-memory"] {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert!(refused("peers = \"all\"", check).contains("owner, anyone"));
            let loud = [check, &["--log", "resized=loud"]].concat();
            assert!(refused("", &loud).contains("resized=loud"));
        }
        assert!(refused("", &["--config", "/nowhere", "--check-config"]).contains("/nowhere"));
        assert!(refused("", &["--memory", "much"]).contains("much"));
        for unit in ["resized.service", "user/resized.service"] {
            let text = std::fs::read_to_string(Path::new(UNITS).join(unit)).unwrap();
            assert!(text.contains("\nRestartPreventExitStatus=2 78\n"), "{unit} tries again");
        }
        let help = command(Path::new("/"), &["--help"]).output().unwrap().stdout;
        assert!(String::from_utf8(help).unwrap().contains("78 when settings can't be used"));
        let good = command(Path::new("/"), &["--check-config"]).output().unwrap();
        assert!(good.status.success());
        assert!(String::from_utf8(good.stdout).unwrap().contains("good"));
    });
}

#[test]
fn figures_that_can_not_be_given_where_the_settings_say_are_refused_as_these() {
    bounded(|| {
        let place = "/proc/nowhere/metrics.sock";
        let said = refused(&format!("metrics = \"unix:{place}\""), &["--devices", "null"]);
        assert!(said.contains(&format!("metrics: can't listen at {place}")), "{said}");
        // Who has it may give it back.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().to_string();
        let dir = Folder::new();
        let flags = ["--devices", "null", "--metrics", &taken];
        let output = command(dir.path(), &flags).env("RESIZED_CONFIG", "/dev/null").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("can't listen at {taken}")), "{said}");
    });
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    bounded(|| {
        let dir = Folder::new();
        let file = dir.path().join("resized.toml");
        let settings = "user-streams = 1\nuser-slots = 2\ndevices = \"null\"";
        std::fs::write(&file, settings).unwrap();
        let mut command = command(dir.path(), &["--user-slots", "4"]);
        command.env("RESIZED_CONFIG", &file).env_remove("RESIZED_DEVICES");
        command.env("RESIZED_USER_SLOTS", "3").env("RESIZED_USER_STREAMS", "5");
        let _daemon = spawn(&mut command, dir.path());
        let socket = dir.path().join("resized.sock");
        until("the daemon answers", || UnixStream::connect(&socket).is_ok());
        let client = Client::connect(&Endpoint::Unix(socket)).unwrap();
        assert_eq!(client.devices()[..], ["null"]);
        let spec = StreamSpec { slots: 1, ..crate::oracle::dot() };
        let streams: Vec<_> = (0..4).map(|_| client.open(&spec).unwrap()).collect();
        let refusal = client.open(&spec).unwrap_err();
        let Error::Refused(Refusal::Quota { what: Resource::Slots, limit: 4, .. }) = refusal else {
            panic!("{refusal}");
        };
        drop(streams);
    });
}

/// As a drop-in, or a file of variables, takes back what is set elsewhere.
#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    bounded(|| {
        let names =
            ["DEVICES", "PEERS", "MEMORY", "ALLOW_NAMED_SEGMENTS", "DRAIN", "METRICS", "LOG"];
        for name in names.map(|name| format!("RESIZED_{name}")) {
            let mut command = command(Path::new("/"), &["--check-config"]);
            let output = command.env(&name, "").output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
        }
        let help =
            command(Path::new("/"), &["--help"]).env("RESIZED_METRICS", "").output().unwrap();
        assert!(help.status.success());
    });
}

#[test]
fn sighup_has_the_settings_read_again_and_bad_ones_change_nothing() {
    bounded(|| {
        let dir = Folder::new();
        let manager = Manager::listen(dir.path());
        let file = dir.path().join("resized.toml");
        std::fs::write(&file, "user-streams = 1").unwrap();
        let mut command = command(dir.path(), &[]);
        command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("RESIZED_CONFIG", &file);
        let daemon = spawn(&mut command, dir.path());
        manager.hears("READY=1");
        let client = Client::connect(&Endpoint::Unix(dir.path().join("resized.sock"))).unwrap();
        let spec = crate::oracle::dot();
        let _stream = client.open(&spec).unwrap();
        for (settings, opens) in [
            ("user-streams = 1", false),
            ("user-streams = 2", true),
            ("user-streamers = 1", true),
            ("user-streams = 1\nlog = \"debug\"", false),
        ] {
            std::fs::write(&file, settings).unwrap();
            daemon.signal(Signal::SIGHUP);
            assert!(manager.next().contains("RELOADING=1"));
            manager.hears("READY=1");
            until("it is as the settings say", || client.open(&spec).is_ok() == opens);
            // Those that were open stay open.
            until("only one is open", || client.stats().unwrap().streams == 1);
        }
    });
}

#[test]
fn a_level_or_a_transfer_that_is_none_is_warned_of_by_its_name() {
    bounded(|| {
        let all = "is none of: direct, copied, both-ways, staged";
        for (variable, value, warning) in [
            ("RESIZED_CPU", "scalar", None),
            ("RESIZED_CPU", "", None),
            ("RESIZED_CPU", "avx", Some("'avx' is none of: scalar".to_owned())),
            ("RESIZED_VULKAN_TRANSFER", "staged", None),
            ("RESIZED_VULKAN_TRANSFER", "", None),
            ("RESIZED_VULKAN_TRANSFER", "Staged", Some(format!("'Staged' {all}"))),
        ] {
            let daemon = Daemon::start_with(&["--devices", "cpu"], &[(variable, value)]);
            drop(daemon.client());
            let log = daemon.log();
            match warning {
                None => assert!(!log.contains("none of"), "{variable}={value}: {log}"),
                Some(warning) => assert!(log.contains(&warning), "{variable}={value}: {log}"),
            }
        }
    });
}

#[test]
fn a_daemon_that_does_not_get_done_ends_in_time() {
    bounded(|| {
        let dir = Folder::new();
        // Scalar, and far more than a second's work.
        let mut command = command(dir.path(), &["--drain", "1"]);
        let mut daemon = spawn(command.env("RESIZED_CPU", "scalar"), dir.path());
        let socket = dir.path().join("resized.sock");
        until("the daemon answers", || UnixStream::connect(&socket).is_ok());
        let endpoint = Endpoint::Unix(socket);
        let client = Client::connect_with(&endpoint, Reconnect::NEVER).unwrap();
        let spec =
            crate::oracle::spec(PixelFormat::Rgba, Filter::Lanczos3, (4096, 4096), (4095, 4095));
        let stream = client.open(&StreamSpec { slots: 8, ..spec }).unwrap();
        let slots = (0..8).map(|_| stream.loan().unwrap()).collect();
        let pendings = stream.submit_all(slots).unwrap();
        until("it is at work", || client.stats().unwrap().queued < 8);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(pendings.into_iter().any(|pending| pending.wait().is_err()));
    });
}

#[test]
fn the_units_are_as_tight_as_they_can_be() {
    bounded(|| {
        // What a session's service manager can't do counts against that one's.
        for (unit, tenths) in
            [("resized.service", 15), ("resized-bridge.service", 15), ("user/resized.service", 70)]
        {
            let mut analyze = Command::new("systemd-analyze");
            analyze.args(["security", "--offline=yes", "--no-pager"]);
            analyze.arg(format!("--threshold={tenths}"));
            match analyze.arg(Path::new(UNITS).join(unit)).output() {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stdout);
                    assert!(output.status.success(), "{said}");
                    assert!(said.contains("Overall exposure level"), "{said}");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    skip("systemd-analyze", "there is none");
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
}

/// What makes a unit look tighter and breaks the service, and what lets in those alone who may.
#[test]
fn the_units_are_no_tighter_than_the_service_can_bear_and_let_in_its_group_alone() {
    let lines = |unit: &str| -> Vec<_> {
        let text = std::fs::read_to_string(Path::new(UNITS).join(unit)).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    let daemon = lines("resized.service");
    let bridge = lines("resized-bridge.service");
    let session = lines("user/resized.service");
    let has = |unit: &[String], name: &str| unit.iter().any(|line| line.starts_with(name));
    // Drivers of GPUs make code as they run.
    for unit in [&daemon, &session] {
        assert!(!has(unit, "MemoryDenyWriteExecute="));
    }
    // Everybody would be the same user, with one quota, and nobody in the socket's group.
    for unit in [&daemon, &bridge, &session] {
        assert!(!has(unit, "PrivateUsers="));
    }
    // GPUs would be hidden, and how much memory there is.
    for name in ["PrivateDevices=", "ProcSubset="] {
        assert!(!has(&daemon, name), "{name}");
    }
    for unit in [&daemon, &bridge] {
        assert!(unit.contains(&"DevicePolicy=closed".into()));
    }
    // Dumps would have clients' frames, which lie in shared memory, and all that a bridge knows.
    for unit in [&daemon, &session] {
        assert!(unit.contains(&"CoredumpFilter=private-anonymous elf-headers".into()));
    }
    assert!(bridge.contains(&"CoredumpFilter=elf-headers".into()));
    assert!(bridge.contains(&"LimitCORE=0".into()));
    // The system gives as many as are of use, and whoever sets the limit lowers it.
    for unit in [&daemon, &bridge, &session] {
        assert!(!has(unit, "LimitNOFILE="));
    }
    for (unit, name, wanted) in [
        ("resized.socket", "SocketMode=", &["0660"][..]),
        ("resized.socket", "SocketGroup=", &["resized"]),
        ("user/resized.socket", "SocketMode=", &["0600"]),
        ("user/resized.socket", "SocketGroup=", &[]),
    ] {
        let lines = lines(unit);
        // The last of several would hold.
        let said: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(name)).collect();
        assert_eq!(said, wanted, "{name} of {unit}");
    }
    assert!(bridge.contains(&"SupplementaryGroups=resized".into()));
}
