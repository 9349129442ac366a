//! How a daemon ends, and what its clients notice: by a signal in good order, by force at once. And how
//! the next one finds the socket.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process;
use std::sync::mpsc::channel;
use std::thread;

use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use resized_client::{Client, Error, Reconnect, StreamSpec};
use resized_protocol::message::Goodbye;

use crate::oracle::{self, Checked};
use crate::support::{Daemon, Folder, Process, bounded, by_shell, command, spawn, until};
use crate::wire::Wire;

fn said_goodbye(error: &Error) -> bool {
    matches!(error, Error::Goodbye(Goodbye::Stopping))
}

/// Stops a daemon that has frames waiting.
fn stop_under_load(signal: Signal) {
    let mut daemon = Daemon::start(&[]);
    let client = daemon.faithful_client();
    let spec = StreamSpec { slots: 24, ..oracle::big() };
    let stream = Checked::open(&client, spec, 4);
    // Others that go on submitting: until the goodbye every frame of theirs is right.
    let endpoint = daemon.endpoint();
    let start = |n: usize| {
        let endpoint = endpoint.clone();
        thread::spawn(move || {
            let client = Client::connect_with(&endpoint, Reconnect::NEVER).unwrap();
            let stream = Checked::open(&client, oracle::mixed(n), 3);
            for n in 0.. {
                match stream.submit(n).and_then(|pending| pending.wait()) {
                    Ok(frame) => stream.check(n, &frame),
                    Err(error) => return error,
                }
            }
            unreachable!()
        })
    };
    let others: Vec<_> = (3..5).map(start).collect();
    until("all others are connected", || client.stats().unwrap().streams == 3);

    let pendings: Vec<_> = (0..24).map(|n| stream.submit(n).unwrap()).collect();
    daemon.process.signal(signal);
    for (n, pending) in pendings.into_iter().enumerate() {
        stream.check(n, &pending.wait().expect("what was submitted before the signal"));
    }
    let error = loop {
        match stream.submit(0).and_then(|pending| pending.wait()) {
            Ok(frame) => stream.check(0, &frame),
            Err(error) => break error,
        }
    };
    assert!(said_goodbye(&error), "{error}");
    let error = client.stats().unwrap_err();
    assert!(said_goodbye(&error), "{error}");
    for other in others {
        let error = other.join().unwrap();
        assert!(said_goodbye(&error), "{error}");
    }
    assert_eq!(daemon.process.wait().code(), Some(0));
    assert!(!daemon.socket().exists());
}

#[test]
fn sigterm_completes_what_was_submitted() {
    bounded(|| stop_under_load(Signal::SIGTERM));
}

#[test]
fn sigint_completes_what_was_submitted() {
    bounded(|| stop_under_load(Signal::SIGINT));
}

/// A daemon whose log goes where nothing can be written.
fn serves_without_a_log(at: &str) {
    let script = format!("exec \"$0\" \"$@\" 2>{at}");
    let mut daemon =
        Daemon::start_as(&["--log", "debug"], |command, _| by_shell(&script, &command));
    let client = daemon.faithful_client();
    let stream = Checked::open(&client, oracle::mixed(0), 1);
    // The daemon names what is wrong, and hangs up.
    let mut rude = UnixStream::connect(daemon.socket()).unwrap();
    rude.write_all(&[0xff; 4000]).unwrap();
    let _ = rude.read_to_end(&mut Vec::new());
    stream.check(0, &stream.submit(0).unwrap().wait().unwrap());
    daemon.process.signal(Signal::SIGTERM);
    assert!(daemon.process.wait().success());
}

#[test]
fn a_log_that_can_not_be_written_is_lost_and_nothing_else() {
    bounded(|| serves_without_a_log("/dev/full"));
}

#[test]
fn a_log_that_nobody_reads_is_lost_and_nothing_else() {
    bounded(|| {
        let (_reader, mut writer) = pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        while writer.write(&[0]).is_ok() {}
        // Opened anew there, without that flag.
        serves_without_a_log(&format!("/proc/{}/fd/{}", process::id(), writer.as_raw_fd()));
    });
}

#[test]
fn an_idle_daemon_stops_too() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.faithful_client();
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(!daemon.socket().exists());
        assert!(said_goodbye(&client.stats().unwrap_err()));
        assert!(matches!(Client::connect(&daemon.endpoint()), Err(Error::Connect { .. })));
    });
}

#[test]
fn a_daemon_killed_wakes_everyone_who_waits() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let client = daemon.faithful_client();
        let waited_for = client.open(&oracle::big()).unwrap();
        let held = client.open(&StreamSpec { slots: 2, ..oracle::dot() }).unwrap();
        let slots = [held.loan().unwrap(), held.loan().unwrap()];
        let (waiting, ready) = channel();
        let loaning = {
            let (held, waiting) = (held.clone(), waiting.clone());
            thread::spawn(move || {
                waiting.send(()).unwrap();
                held.loan().map(drop)
            })
        };
        // Stopped, so that the frame is surely still in flight when it dies.
        daemon.process.signal(Signal::SIGSTOP);
        let pending = waited_for.loan().unwrap().submit().unwrap();
        let other = waited_for.loan().unwrap().submit().unwrap();
        let waiter = |pending: resized_client::Pending| {
            let waiting = waiting.clone();
            thread::spawn(move || {
                waiting.send(()).unwrap();
                pending.wait().map(drop)
            })
        };
        let waiters = [waiter(pending), waiter(other)];
        (0..3).for_each(|_| ready.recv().unwrap());
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        let error = loaning.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Disconnected | Error::Socket(_)), "{error}");
        for waiter in waiters {
            assert!(waiter.join().unwrap().is_err());
        }
        // From here on everything fails, at once, and dropping what is left does no harm.
        assert!(client.stats().is_err());
        assert!(client.open(&oracle::dot()).is_err());
        for slot in slots {
            assert!(slot.submit().is_err());
        }
    });
}

#[test]
fn a_dead_daemons_socket_is_replaced() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let old = daemon.faithful_client();
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        assert!(daemon.socket().exists());
        daemon.start_again(&[]);
        assert!(old.stats().is_err());
        Checked::open(&daemon.client(), oracle::mixed(2), 1).round_trip(0);
    });
}

/// A second daemon at that place gives up; returns what it said.
fn refused_start(dir: &Path) -> String {
    let aside = Folder::new();
    let mut second: Process = spawn(&mut command(dir, &[]), aside.path());
    assert_eq!(second.wait().code(), Some(1));
    std::fs::read_to_string(aside.path().join("log")).unwrap()
}

#[test]
fn a_live_daemons_socket_is_not_taken() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.faithful_client();
        let said = refused_start(daemon.dir());
        let path = daemon.socket().display().to_string();
        assert!(said.contains(&path) && said.contains("already"), "{said}");
        client.stats().unwrap();
        Checked::open(&daemon.client(), oracle::mixed(2), 1).round_trip(0);
    });
}

#[test]
fn a_socket_is_left_to_who_has_its_lock() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        daemon.process.signal(Signal::SIGKILL);
        daemon.process.wait();
        // What is left of a lock locks nobody out; another daemon that looks at the dead one's
        // socket does.
        let path = daemon.dir().join("resized.sock.lock");
        let lock = File::open(&path).unwrap();
        assert_eq!(lock.metadata().unwrap().mode() & 0o777, 0o600);
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        let said = refused_start(daemon.dir());
        assert!(said.contains("already"), "{said}");
        assert!(daemon.socket().exists());
        drop(lock);
        daemon.start_again(&[]);
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(!daemon.socket().exists() && !path.exists());
    });
}

#[test]
fn of_daemons_that_start_at_once_over_a_dead_ones_socket_one_serves() {
    bounded(|| {
        for _ in 0..5 {
            let dir = Folder::new();
            let socket = dir.path().join("resized.sock");
            drop(UnixListener::bind(&socket).unwrap());
            let start = |_| spawn(&mut command(dir.path(), &["--devices", "null"]), dir.path());
            let mut daemons: Vec<_> = (0..6).map(start).collect();
            until("all but one have given up", || {
                let lives = |daemon: &mut Process| match daemon.0.try_wait().unwrap() {
                    Some(status) => {
                        assert_eq!(status.code(), Some(1));
                        false
                    }
                    None => true,
                };
                daemons.retain_mut(lives);
                daemons.len() < 2
            });
            let mut daemon = daemons.pop().unwrap();
            // Who listens there is the one that lives. Before it serves a signal ends it at once.
            until("it listens", || UnixStream::connect(&socket).is_ok());
            let served = Wire::welcomed(&socket);
            let peer = getsockopt(&served.socket, PeerCredentials).unwrap();
            assert_eq!(peer.pid(), daemon.0.id() as i32);
            drop(served);
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.wait().code(), Some(0));
            let left = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
            assert_eq!(left.collect::<Vec<_>>(), ["log"]);
        }
    });
}

#[test]
fn a_folder_that_takes_no_file_is_named() {
    bounded(|| {
        let said = refused_start(Path::new("/proc"));
        assert!(said.contains("/proc/resized.sock"), "{said}");
    });
}

#[test]
fn what_is_no_dead_daemons_socket_is_left_alone() {
    bounded(|| {
        let path = |dir: &Path| dir.join("resized.sock");
        let file = Folder::new();
        std::fs::write(path(file.path()), "precious").unwrap();
        let said = refused_start(file.path());
        assert!(said.contains(&path(file.path()).display().to_string()), "{said}");
        assert!(said.contains("is no socket"), "{said}");
        assert_eq!(std::fs::read_to_string(path(file.path())).unwrap(), "precious");

        // Somebody's socket, alive, that does not take our kind of connection.
        let other = Folder::new();
        let datagrams = UnixDatagram::bind(path(other.path())).unwrap();
        refused_start(other.path());
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"still there", path(other.path())).unwrap();
        let mut bytes = [0; 11];
        datagrams.recv(&mut bytes).unwrap();
        assert_eq!(&bytes, b"still there");
    });
}

#[test]
fn a_stopping_daemon_removes_its_own_socket_only() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        std::fs::remove_file(daemon.socket()).unwrap();
        let _other = UnixListener::bind(daemon.socket()).unwrap();
        daemon.process.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait().code(), Some(0));
        assert!(daemon.socket().exists());
    });
}
