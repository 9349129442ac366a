//! What clients do to the memory that they share with the daemon, and streams without number.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::MsgFlags;
use nix::unistd::ftruncate;
use resized_client::{Client, StreamSpec};
use resized_protocol::fdpass::receive;
use resized_protocol::message::Request;

use super::neighbour::{Scene, row};
use super::{length, raise_descriptor_limit};
use crate::oracle::{self, Checked};
use crate::skip::skip;
use crate::support::{DEADLINE, Daemon, Process, Segments, bounded, bounded_by};
use crate::wire::{Wire, bytes};

/// A client that opens a stream and submits all it has, with the stream's ring.
fn opener(socket: &Path) -> (Wire, OwnedFd) {
    let wire = Wire::welcomed(socket);
    let open = Request::Open { stream: 0, spec: oracle::big(), named: false };
    (&wire.socket).write_all(&bytes(&open)).unwrap();
    let (_, ring) = receive(&wire.socket, &mut [0; 4096], MsgFlags::empty()).unwrap();
    let submit = Request::Submit { stream: 0, slots: vec![0, 1, 2, 3] };
    (&wire.socket).write_all(&bytes(&submit)).unwrap();
    (wire, ring.unwrap().unwrap())
}

#[test]
fn regions_can_neither_be_cut_nor_unsealed() {
    // The neighbour is timed beside one that does the same and leaves the region as it is.
    let honest = |scene: &Scene<'_>| {
        while scene.goes_on() {
            drop(opener(&scene.daemon.socket()));
        }
    };
    let attack = |scene: &Scene<'_>| {
        while scene.goes_on() {
            let (_wire, ring) = opener(&scene.daemon.socket());
            for len in [0, 4096, 1 << 30] {
                assert_eq!(ftruncate(&ring, len), Err(Errno::EPERM));
            }
            let seals = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
            assert_eq!(fcntl(&ring, seals), Err(Errno::EPERM));
            // Its pages may be taken from under the daemon: it reads zeros then.
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&ring, punch, 0, 1 << 20).unwrap();
            fallocate(&ring, FallocateFlags::empty(), 1 << 30, 4096).unwrap_err();
        }
    };
    row(&[], honest, attack);
}

/// Holds the lock of the file on its standard input: has it written from a page that nobody brings, as anybody can by a FUSE
/// file of their own. Says so, or why not.
const HOLD: &str = r#"
import ctypes, fcntl, mmap, os, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
faults = libc.syscall({"x86_64": 323, "aarch64": 282}[os.uname().machine], os.O_CLOEXEC)
if faults < 0:
    raise SystemExit("userfaultfd: " + os.strerror(ctypes.get_errno()))
fcntl.ioctl(faults, 0xc018aa3f, bytearray(struct.pack("<QQQ", 0xaa, 0, 0)))
page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
fcntl.ioctl(faults, 0xc020aa00, bytearray(struct.pack("<QQQQ", at, mmap.PAGESIZE, 1, 0)))
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
threading.Thread(target=lambda: libc.write(0, at, mmap.PAGESIZE), daemon=True).start()
time.sleep(0.1)
print("held", flush=True)
time.sleep(3600)
"#;

/// A process that holds the lock of a ring; none where the system lets nobody.
fn hold(ring: OwnedFd) -> Option<Process> {
    let mut python = Command::new("python3");
    python.args(["-c", HOLD]).stdin(ring).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(&mut python);
    let mut said = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    if said != "held\n" {
        let mut why = String::new();
        process.0.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        skip("userfaultfd", why.trim());
        return None;
    }
    Some(process)
}

/// More of them than there are threads, all of whose frames are under way as they leave. What waited for the lock could not even
/// be killed.
#[test]
fn who_holds_the_lock_of_its_ring_keeps_the_ring_and_nothing_else() {
    bounded(|| {
        let mut daemon = Daemon::start(&[]);
        let mut held = Vec::new();
        for _ in 0..12 {
            let (wire, ring) = opener(&daemon.socket());
            let Some(process) = hold(ring) else { return };
            held.push(process);
            drop(wire);
        }
        let client = daemon.client();
        Checked::open(&client, oracle::big(), 1).round_trip(0);
        drop(client);
        daemon.process.signal(Signal::SIGTERM);
        assert!(daemon.process.wait().success());
    });
}

/// A client whose rings lie in named segments.
fn named(socket: &Path) -> Client {
    Client::from_socket_with_named_segments(UnixStream::connect(socket).unwrap()).unwrap()
}

#[test]
fn a_soak_of_streams_that_open_and_close_is_flat() {
    let seconds = std::env::var("RESIZED_SOAK").ok().map(|text| text.parse().unwrap());
    let soak = Duration::from_secs(seconds.unwrap_or(length(3, 30)));
    // Warming up for a quarter of it, and settling nine times.
    bounded_by(soak * 3 / 2 + DEADLINE, move || {
        raise_descriptor_limit();
        let segments = Segments::now();
        let daemon = Daemon::start(&["--allow-named-segments"]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let one = named(&daemon.socket()).open(&oracle::dot()).unwrap();
        assert!(segments.more() > 0, "its ring has no name");
        drop(one);
        let churn = |until: Instant| {
            thread::scope(|scope| {
                for seed in 0..4 {
                    let (endpoint, socket) = (daemon.endpoint(), daemon.socket());
                    scope.spawn(move || {
                        let mut n = seed;
                        while Instant::now() < until {
                            let client = match n % 2 {
                                0 => Client::connect(&endpoint).unwrap(),
                                _ => named(&socket),
                            };
                            for _ in 0..10 {
                                n += 1;
                                let spec = StreamSpec { slots: 2, ..oracle::mixed(n % 36) };
                                let stream = Checked::open(&client, spec, 1);
                                stream.round_trip(0);
                                drop(stream.submit(0));
                            }
                        }
                    });
                }
            });
            daemon.await_rest(&watcher, descriptors);
            daemon.anonymous_kib()
        };
        churn(Instant::now() + soak / 4);
        let begun = Instant::now();
        let mut sizes = Vec::new();
        // One of them grows in no case.
        while begun.elapsed() < soak || sizes.len() < 2 {
            sizes.push(churn(Instant::now() + soak / 8));
        }
        println!("resident KiB: {sizes:?}");
        let grown = sizes.last().unwrap().saturating_sub(sizes[0]);
        assert!(grown < 2 * 1024, "{sizes:?}");
        segments.await_rest();
    });
}
