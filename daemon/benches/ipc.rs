//! What the daemon costs beside its kernels: `cargo bench -p resized --bench ipc`.
//!
//! Every figure stands beside its yardstick, taken in turns with it in this run; ratios are medians
//! over the turns. The daemon is a process of its own, and so are the clients of the throughput rows.
//! Prints a table and writes `target/bench/ipc.json`.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resized::device::cpu::Cpu;
use resized::device::{Band, Device, Resizer, Scratch};
use resized_client::{
    Client, Endpoint, Extent, Filter, FrameSpec, Pending, PixelFormat, Stream, StreamSpec,
};
use resized_protocol::shm::{Region, RingLayout, SlotMemory};

const TURNS: usize = 7;
const ROUNDS: usize = 4_000;
/// Turns of the throughput row, and the frames of each client in one.
const TAX_TURNS: usize = 100;
const TAX_FRAMES: usize = 300;
const CLIENTS: usize = 4;
const FLOODS: usize = 8;
/// Frames that each of them keeps in flight: as many as `resize-videos` does on two cores.
const IN_FLIGHT: u32 = 6;
/// Bytes between those of a submit of one slot, 28, and those of its completion, 42.
const MESSAGE: usize = 35;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("echo") => echo(Path::new(&arguments[2])),
        Some("client") => client(&arguments[2]),
        Some("flood") => flood(&arguments[2]),
        _ => bench(),
    }
}

fn bench() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = vec![round_trip(Placement::OneCore, dir.path())];
    if thread::available_parallelism().unwrap().get() > 1 {
        rows.push(round_trip(Placement::TwoCores, dir.path()));
    }
    rows.push(tax(dir.path()));
    rows.push(modest(dir.path()));
    rows.extend(flat(dir.path()));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("ipc.json"), format!("[{}]\n", rows.join(",\n "))).unwrap();
}

/// The daemon as a process of its own.
struct Daemon {
    process: Child,
    endpoint: String,
}

impl Daemon {
    fn start(dir: &Path, devices: &str) -> Self {
        Self::start_by(dir, devices, |command| command.spawn().unwrap())
    }

    fn start_by(dir: &Path, devices: &str, spawn: impl FnOnce(&mut Command) -> Child) -> Self {
        let socket = dir.join(format!("{devices}.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_resized"));
        command.args(["--devices", devices, "--socket"]).arg(&socket).env("RESIZED_LOG", "warn");
        let process = spawn(&mut command);
        while UnixStream::connect(&socket).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { process, endpoint: format!("unix:{}", socket.display()) }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.endpoint.parse::<Endpoint>().unwrap()).unwrap()
    }

    /// Resident KiB and open descriptors.
    fn size(&self) -> (u64, usize) {
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

fn spec(slots: u32) -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(1920, 1080));
    StreamSpec { slots, filter: Filter::Bicubic, ..StreamSpec::new(source, Extent::new(640, 360)) }
}

/// Where the two ends of a round trip run. A scheduler that finds them on one core leaves them there, and
/// one that finds them on two leaves them too: what a wake-up costs differs much, so each end of the
/// yardstick is placed as ours is.
#[derive(Clone, Copy)]
enum Placement {
    OneCore,
    TwoCores,
}

/// Runs `spawn` so that the process it starts stays on that core, and this thread on core 0.
fn placed(placement: Placement, spawn: impl FnOnce() -> Child) -> Child {
    let core = |core| {
        let mut set = CpuSet::new();
        set.set(core).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    };
    core(match placement {
        Placement::OneCore => 0,
        Placement::TwoCores => 1,
    });
    let child = spawn();
    core(0);
    child
}

/// One frame at a time through a daemon that does nothing with it, beside bare messages of about the
/// same size between two processes.
fn round_trip(placement: Placement, dir: &Path) -> String {
    let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let daemon =
        Daemon::start_by(dir, "null", |command| placed(placement, || command.spawn().unwrap()));
    let stream = daemon.connect().open(&spec(1)).unwrap();
    let path = dir.join("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut echo = Command::new(std::env::current_exe().unwrap());
    let mut peer = placed(placement, || echo.arg("echo").arg(&path).spawn().unwrap());
    let mut socket = listener.accept().unwrap().0;

    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let bare = percentiles(ROUNDS, || {
            let mut message = [0; MESSAGE];
            socket.write_all(&message).unwrap();
            socket.read_exact(&mut message).unwrap();
        });
        let round = || drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        let ours = percentiles(ROUNDS, round);
        turns.push((bare, ours));
    }
    drop(socket);
    peer.wait().unwrap();
    std::fs::remove_file(&path).unwrap();
    sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
    let bare = median(turns.iter().map(|turn| turn.0.0));
    let ours = median(turns.iter().map(|turn| turn.1.0));
    let p50 = median(turns.iter().map(|(bare, ours)| ours.0 / bare.0));
    let p99 = median(turns.iter().map(|(bare, ours)| ours.1 / bare.1));
    let place = match placement {
        Placement::OneCore => "on one core",
        Placement::TwoCores => "on two cores",
    };
    println!(
        "one frame at a time, null device, {place}: p50 {ours:.1} us, bare ping-pong {bare:.1} us: \
         {p50:.2}x (goal 2.0x), p99 {p99:.2}x"
    );
    format!(
        r#"{{"figure":"round trip {place}","ours_us":{ours:.2},"bare_us":{bare:.2},"p50_ratio":{p50:.3},"p99_ratio":{p99:.3}}}"#
    )
}

/// p50 and p99 in microseconds.
fn percentiles(rounds: usize, mut round: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[rounds / 2], times[rounds * 99 / 100])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sends back whatever comes, until the other end is gone.
fn echo(path: &Path) {
    let mut socket = UnixStream::connect(path).unwrap();
    let mut message = [0; MESSAGE];
    while socket.read_exact(&mut message).is_ok() {
        socket.write_all(&message).unwrap();
    }
}

/// Frames a second of the kernels on all cores, in this process and through the daemon. What else goes on
/// in the machine changes both from one moment to the next: many short turns.
fn tax(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let cores = thread::available_parallelism().unwrap().get();
    let spec = spec(IN_FLIGHT * CLIENTS as u32);
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _descriptor) = Region::create(ring.len()).unwrap();
    let resizer = Cpu::new(cores).open(&spec, &ring).unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Process::start(&daemon.endpoint)).collect();
    let mut turns = Vec::new();
    for turn in 0..TAX_TURNS {
        let bare = per_second(|| in_process(cores, &region, &ring, &*resizer));
        let ours = per_second(|| {
            clients.iter_mut().for_each(Process::go);
            clients.iter_mut().for_each(Process::await_answer);
        });
        // The first brings pages and caches.
        if turn > 0 {
            turns.push((bare, ours));
        }
    }
    let [bare, ours] =
        [median(turns.iter().map(|turn| turn.0)), median(turns.iter().map(|turn| turn.1))];
    let ratio = median(turns.iter().map(|(bare, ours)| ours / bare));
    println!(
        "1080p -> 640x360 I420 bicubic, {CLIENTS} clients: {ours:.0} frames/s, in process {bare:.0}: {:.1} % (goal 95 %)",
        ratio * 100.0
    );
    format!(
        r#"{{"figure":"tax","ours_fps":{ours:.1},"in_process_fps":{bare:.1},"ratio":{ratio:.4}}}"#
    )
}

/// Of the frames of one turn.
fn per_second(turn: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    turn();
    (TAX_FRAMES * CLIENTS) as f64 / begun.elapsed().as_secs_f64()
}

fn in_process(cores: usize, region: &Region, ring: &RingLayout, resizer: &dyn Resizer) {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                loop {
                    let frame = next.fetch_add(1, Ordering::Relaxed);
                    if frame as usize >= TAX_FRAMES * CLIENTS {
                        break;
                    }
                    let slot = SlotMemory::new(region, ring, frame % ring.slots()).unwrap();
                    resizer.resize(slot, Band::WHOLE, &mut scratch).unwrap();
                }
            });
        }
    });
}

/// A client as a process of its own, which resizes the frames of one turn each time it is told to.
struct Process {
    child: Child,
}

impl Process {
    fn start(endpoint: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["client", endpoint]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self { child: command.spawn().unwrap() };
        process.await_answer();
        process
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(&[0]).unwrap();
    }

    fn await_answer(&mut self) {
        self.child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Submits without end.
fn flood(endpoint: &str) {
    let stream =
        Client::connect(&endpoint.parse().unwrap()).unwrap().open(&spec(IN_FLIGHT)).unwrap();
    loop {
        resize(&stream, 100);
    }
}

/// One frame at a time beside clients that flood the daemon, and without them: they are stopped.
fn modest(dir: &Path) -> String {
    let daemon = Daemon::start(dir, "cpu");
    let floods: Vec<_> = (0..FLOODS)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            Flood(command.args(["flood", &daemon.endpoint]).spawn().unwrap())
        })
        .collect();
    let client = daemon.connect();
    let stream = client.open(&spec(1)).unwrap();
    let signal = |signal| {
        floods.iter().for_each(|flood| kill(Pid::from_raw(flood.0.id() as i32), signal).unwrap());
        thread::sleep(Duration::from_millis(50));
    };
    while client.stats().unwrap().streams < FLOODS as u32 + 1 {
        thread::sleep(Duration::from_millis(5));
    }
    let cpu = Cpu::new(1);
    let spec = spec(1);
    let ring = RingLayout::new(&spec).unwrap();
    let (region, _descriptor) = Region::create(ring.len()).unwrap();
    let resizer = cpu.open(&spec, &ring).unwrap();
    let mut scratch = Scratch::default();
    let mut work = || {
        let slot = SlotMemory::new(&region, &ring, 0).unwrap();
        resizer.resize(slot, Band::WHOLE, &mut scratch).unwrap();
    };
    let round = || drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        signal(Signal::SIGSTOP);
        let (work, alone) = (percentiles(500, &mut work), percentiles(500, round));
        signal(Signal::SIGCONT);
        let beside = percentiles(500, round);
        turns.push((work, alone, beside));
    }
    // Of three times alone and one frame's work.
    let p50 = median(turns.iter().map(|(work, alone, beside)| beside.0 / (3.0 * alone.0 + work.0)));
    let p99 = median(turns.iter().map(|(work, alone, beside)| beside.1 / (3.0 * alone.1 + work.0)));
    let work = median(turns.iter().map(|turn| turn.0.0));
    let alone = median(turns.iter().map(|turn| turn.1.0));
    let beside = median(turns.iter().map(|turn| turn.2.0));
    println!(
        "one 1080p frame at a time beside {FLOODS} flooding clients: p50 {beside:.0} us, alone {alone:.0} us, \
         one frame's work {work:.0} us: {p50:.2} of three times alone and one frame (goal 1.0), p99 {p99:.2}"
    );
    format!(
        r#"{{"figure":"modest","beside_us":{beside:.1},"alone_us":{alone:.1},"work_us":{work:.1},"p50_of_bound":{p50:.3},"p99_of_bound":{p99:.3}}}"#
    )
}

/// A process that is killed, stopped or not, when this is dropped.
struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process of a [`Process`].
fn client(endpoint: &str) {
    let client = Client::connect(&endpoint.parse().unwrap()).unwrap();
    let stream = client.open(&spec(IN_FLIGHT)).unwrap();
    loop {
        std::io::stdout().write_all(&[0]).unwrap();
        std::io::stdout().flush().unwrap();
        if std::io::stdin().read_exact(&mut [0]).is_err() {
            break;
        }
        resize(&stream, TAX_FRAMES);
    }
}

/// Keeps all slots of a stream in flight until so many frames are done; those that are done together
/// are submitted together.
fn resize(stream: &Stream, frames: usize) {
    let mut submitted = 0;
    let mut pendings = VecDeque::new();
    while submitted < frames || !pendings.is_empty() {
        let mut slots = Vec::new();
        while submitted + slots.len() < frames
            && let Some(slot) = stream.try_loan().unwrap()
        {
            slots.push(slot);
        }
        submitted += slots.len();
        pendings.extend(stream.submit_all(slots).unwrap());
        let mut wait = pendings.pop_front();
        while let Some(oldest) = wait {
            drop(oldest.wait().unwrap());
            let ready = pendings.front().is_some_and(Pending::is_ready);
            wait = if ready { pendings.pop_front() } else { None };
        }
    }
}

/// Memory and descriptors of the daemon over many frames and many streams.
fn flat(dir: &Path) -> [String; 2] {
    let daemon = Daemon::start(dir, "cpu");
    let small = StreamSpec::new(
        FrameSpec::new(PixelFormat::I420, Extent::new(320, 180)),
        Extent::new(160, 90),
    );
    let one_by_one = |stream: &Stream, frames: usize| {
        (0..frames).for_each(|_| drop(stream.loan().unwrap().submit().unwrap().wait().unwrap()));
    };
    let client = daemon.connect();
    // With what is held, and the bytes of rings: those are not the daemon's own memory.
    let size = || (daemon.size(), client.stats().unwrap().region_bytes);
    let stream = client.open(&small).unwrap();
    one_by_one(&stream, 1_000);
    let before = size();
    one_by_one(&stream, 10_000);
    let frames = report("10,000 frames", before, size());
    drop(stream);
    // First as many as it takes until the allocator of every thread has its arena.
    (0..500).for_each(|_| one_by_one(&client.open(&small).unwrap(), 1));
    let before = size();
    (0..200).for_each(|_| one_by_one(&client.open(&small).unwrap(), 1));
    [frames, report("200 streams opened and closed", before, size())]
}

fn report(what: &str, before: ((u64, usize), u64), after: ((u64, usize), u64)) -> String {
    let (((resident, descriptors), rings), ((resident_after, descriptors_after), rings_after)) =
        (before, after);
    println!(
        "{what}: resident {resident} -> {resident_after} KiB, descriptors {descriptors} -> \
         {descriptors_after}, rings {rings} -> {rings_after} bytes"
    );
    format!(
        r#"{{"figure":"{what}","resident_kib":[{resident},{resident_after}],"descriptors":[{descriptors},{descriptors_after}],"ring_bytes":[{rings},{rings_after}]}}"#
    )
}
