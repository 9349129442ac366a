//! A daemon that the system gives little, descriptors, shared memory, memory at all, and a user whose
//! quota is used up. Who asks for more is refused; all who have their streams are served meanwhile.
//!
//! The neighbour is timed beside those who ask for as much as there is, and for no more.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::socket::MsgFlags;
use resized_client::{
    Client, Error, Filter, PixelFormat, Refusal, Resource, Stream, StreamSpec, Whose,
};
use resized_protocol::fdpass::receive;
use resized_protocol::message::Request;
use resized_protocol::shm::RingLayout;

use super::neighbour::{Scene, row, row_of_daemon};
use crate::oracle::{self, Checked};
use crate::skip::skip;
use crate::support::{Daemon, bounded, by, by_shell, until};
use crate::wire::{Wire, bytes};

/// Waits for what there is room for once what was taken before is given back.
fn admitted<T>(mut ask: impl FnMut() -> Result<T, Error>) -> T {
    let mut given = None;
    until("there is room", || {
        given = ask().ok();
        given.is_some()
    });
    given.unwrap()
}

#[track_caller]
fn refusal<T>(outcome: Result<T, Error>) -> Refusal {
    match outcome {
        Ok(_) => panic!("there was room"),
        Err(Error::Refused(refusal)) => refusal,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_daemon_with_few_descriptors_refuses_and_lives() {
    /// Connections that a daemon takes with 64 descriptors, less the neighbour's and the watcher's.
    const ROOM: usize = 3;
    let come = |scene: &Scene<'_>, asked: usize| {
        let connect = || scene.daemon.connect();
        while scene.goes_on() {
            let mut clients: Vec<_> = (0..ROOM).map(|_| admitted(connect)).collect();
            for _ in ROOM..asked {
                let refusal = refusal(connect());
                let Refusal::Quota { whose: Whose::Daemon, what, left: 0, .. } = refusal else {
                    panic!("{refusal}")
                };
                assert_eq!(what, Resource::Connections);
            }
            // All of them are served.
            for (n, client) in clients.iter().enumerate() {
                Checked::open(client, oracle::mixed(n), 1).round_trip(0);
            }
            drop(clients.pop());
            drop(admitted(connect));
        }
    };
    let start = || {
        let few = |daemon, _: &Path| by_shell(r#"ulimit -n 64; exec "$0" "$@""#, &daemon);
        Daemon::start_as(&[], few)
    };
    row_of_daemon(start, move |scene| come(scene, ROOM), move |scene| come(scene, 20 * ROOM));
}

#[test]
fn a_full_dev_shm_is_a_refusal() {
    const MOUNT: &str = "mount -t tmpfs -o size=64k tmpfs /dev/shm";
    let alone = Command::new("unshare").args(["--mount", "--", "sh", "-c", MOUNT]).output();
    if !alone.as_ref().is_ok_and(|output| output.status.success()) {
        return skip("mounts", &format!("there is no mount namespace of our own: {alone:?}"));
    }
    let ask = |scene: &Scene<'_>, named: bool| {
        let connect = || UnixStream::connect(scene.daemon.socket()).unwrap();
        while scene.goes_on() {
            if named {
                let client = Client::from_socket_with_named_segments(connect()).unwrap();
                let refusal = refusal(client.open(&oracle::big()));
                assert!(matches!(refusal, Refusal::System { .. }), "{refusal}");
            }
            let client = Client::from_socket(connect()).unwrap();
            Checked::open(&client, oracle::mixed(1), 1).round_trip(0);
        }
    };
    let start = || {
        let mount = format!(r#"{MOUNT} && exec "$0" "$@""#);
        let full =
            |daemon, _: &Path| by(&["unshare", "--mount", "--", "sh", "-c", &mount], &daemon);
        Daemon::start_as(&["--allow-named-segments"], full)
    };
    row_of_daemon(start, move |scene| ask(scene, false), move |scene| ask(scene, true));
}

/// Takes streams, so many or all there are to be had, and has a frame of each, again and again;
/// returns why there were no more.
fn take(scene: &Scene<'_>, spec: &StreamSpec, most: Option<usize>) -> Option<Refusal> {
    let client = scene.daemon.client();
    let before = client.stats().unwrap().streams;
    let mut refused = None;
    while scene.goes_on() {
        let mut streams: Vec<Stream> = vec![admitted(|| client.open(spec))];
        while most.is_none_or(|most| streams.len() < most) {
            assert!(streams.len() < 100, "the limit was not seen");
            match client.open(spec) {
                Ok(stream) => streams.push(stream),
                Err(error) => {
                    refused = Some(refusal::<()>(Err(error)));
                    break;
                }
            }
        }
        // All of them are served.
        for stream in &streams {
            drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        }
        drop(streams);
        until("they are closed", || client.stats().unwrap().streams == before);
    }
    refused
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
        let group =
            Path::new(root).join(path).join(format!("resized-test-{}-{limit}", std::process::id()));
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

/// A daemon in that group, which gives rings more than the group has.
fn daemon_in(group: &Path) -> Daemon {
    let join = r#"echo $$ > "$GROUP/cgroup.procs"; exec "$0" "$@""#;
    Daemon::start_as(&["--devices", "cpu", "--memory", "65536"], |daemon, _| {
        let mut bounded = by_shell(join, &daemon);
        bounded.env("GROUP", group);
        bounded
    })
}

/// A stream whose slots take eight MiB and little more each.
fn eights() -> StreamSpec {
    oracle::spec(PixelFormat::Rgba, Filter::Bicubic, (2048, 1024), (64, 64))
}

#[test]
fn a_memory_limit_of_the_daemons_group_is_a_refusal() {
    const LIMIT: u64 = 256 << 20;
    let group = match Group::new(LIMIT) {
        Ok(group) => group,
        Err(error) => return skip("cgroup", &format!("there is none of our own: {error}")),
    };
    let path = group.0.clone();
    let start = move || daemon_in(&path);
    let spec = eights();
    let little = move |scene: &Scene<'_>| assert_eq!(take(scene, &spec, Some(3)), None);
    let all = move |scene: &Scene<'_>| {
        let refusal = take(scene, &spec, None).unwrap();
        let whose_limit =
            matches!(refusal, Refusal::Quota { whose: Whose::Machine, left, .. } if left < LIMIT);
        assert!(whose_limit, "{refusal}");
    };
    row_of_daemon(start, little, all);
}

#[test]
fn what_a_client_gave_back_of_its_ring_nobody_else_is_given() {
    const LIMIT: u64 = 320 << 20;
    let group = match Group::new(LIMIT) {
        Ok(group) => group,
        Err(error) => return skip("cgroup", &format!("there is none of our own: {error}")),
    };
    bounded(move || {
        let daemon = daemon_in(&group.0);
        let client = daemon.client();
        let wire = Wire::welcomed(&daemon.socket());
        let spec = StreamSpec { slots: 20, ..eights() };
        let open = Request::Open { stream: 0, spec, named: false };
        (&wire.socket).write_all(&bytes(&open)).unwrap();
        let (_, ring) = receive(&wire.socket, &mut [0; 4096], MsgFlags::empty()).unwrap();
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let len = RingLayout::new(&spec).unwrap().len().get();
        fallocate(ring.unwrap().unwrap(), punch, 0, len as i64).unwrap();
        let refusal = refusal(client.open(&spec));
        let is_machines = matches!(refusal, Refusal::Quota { whose: Whose::Machine, left, .. } if left < 160 << 20);
        assert!(is_machines, "{refusal}");
        drop(wire);
        drop(admitted(|| client.open(&spec)));
    });
}

#[test]
fn who_asks_for_more_memory_than_its_user_may_have_is_refused() {
    let spec = StreamSpec { slots: 2, ..oracle::big() };
    let little = move |scene: &Scene<'_>| assert_eq!(take(scene, &spec, Some(3)), None);
    let all = move |scene: &Scene<'_>| {
        let refusal = take(scene, &spec, None).unwrap();
        let Refusal::Quota { whose: Whose::User, what: Resource::RingBytes, asked, left, limit } =
            refusal
        else {
            panic!("{refusal}")
        };
        assert!(left < asked && limit == 16 << 20, "{refusal}");
    };
    row(&["--user-memory", "16"], little, all);
}
