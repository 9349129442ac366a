//! What it costs to be on another machine: `cargo bench -p resized-bridge --bench remote`, or `...
//! -- jpegs` for the rows with that in their names.
//!
//! Over loopback, so without what a network adds. Daemon, bridge and yardstick are processes of
//! their own; each figure stands beside its yardstick, taken in turns with it, and ratios are
//! medians over the turns. Prints a table and writes `target/bench/remote.json`.

mod bridges;
#[path = "../../tests/common/broker.rs"]
mod broker;
mod cluster;
mod jpegs;
mod nodes;
mod sharp;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use resized::device::cpu::Cpu;
use resized::device::{Band, Device, Resizer, Scratch};
use resized::{Daemon, Devices, Listener, Options, Peers};
use resized_client::{
    Client, Endpoint, Extent, Filter, FrameSpec, Pending, PixelFormat, Stream, StreamSpec,
};
use resized_protocol::VERSION;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::message::{Features, Message, Reply, Request};
use resized_protocol::remote::Call;
use resized_protocol::shm::{Lease, Region, RingLayout, SlotMemory, leases};

const TURNS: usize = 15;
const CONNECTIONS: usize = 4;
/// Frames of each connection in a turn, and on their way at the same time.
const FRAMES: usize = 60;
const IN_FLIGHT: usize = 4;
const ROUNDS: usize = 2_000;
const SLOW: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("daemon") => daemon(Path::new(&arguments[2])),
        Some("yardstick") => yardstick(&film(1)),
        Some("small yardstick") => yardstick(&small()),
        // cargo itself adds --bench.
        Some(wanted) if !wanted.starts_with('-') => bench(wanted),
        _ => bench(""),
    }
}

/// Where a row is measured.
struct Place<'a> {
    folder: &'a Path,
    /// A daemon.
    near: Endpoint,
}

impl Place<'_> {
    /// A bridge to it.
    fn bridge(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resized-bridge"));
        command.args(["--listen", "127.0.0.1:0", "--daemon", &self.near.to_string()]);
        Process::start(command.args(["--connections", "300"]).stderr(Stdio::piped()))
    }
}

/// Prints its figures, and returns them as JSON.
type Row = (&'static str, fn(&Place<'_>) -> String);

const ROWS: [Row; 7] = [
    ("throughput", |place| throughput(&place.bridge())),
    ("jpegs", |place| jpegs::jpegs(&place.bridge())),
    ("jpegs beside sharp", |place| sharp::beside_sharp(&place.bridge())),
    ("latency", |place| latency(&place.near, &place.bridge())),
    ("memory", |place| memory(&place.bridge())),
    ("bridges", |place| bridges::bridges(place.folder)),
    ("lost node", |place| cluster::lost_node(place.folder)),
];

fn bench(wanted: &str) {
    let names = ROWS.map(|(name, _)| name);
    assert!(names.iter().any(|name| name.contains(wanted)), "no row is {wanted}, but {names:?}");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("resized.sock");
    let _daemon = Process::start(this().arg("daemon").arg(&socket).stderr(Stdio::piped()));
    let near = format!("unix:{}", socket.display()).parse().unwrap();
    let place = Place { folder: dir.path(), near };
    let asked = ROWS.iter().filter(|(name, _)| name.contains(wanted));
    let rows: Vec<_> = asked.map(|(_, row)| row(&place)).collect();
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("remote.json"), format!("[{}]\n", rows.join(",\n "))).unwrap();
}

fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// A process that says where it listens, and is killed when this is dropped.
struct Process {
    child: Child,
    address: Option<SocketAddr>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let child = command.env("NO_COLOR", "1").spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        for line in lines.by_ref() {
            let line = line.unwrap();
            let word = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
            address = word.map(|word| word.parse().unwrap());
            if address.is_some() || line.contains("ready") {
                break;
            }
        }
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn endpoint(&self) -> Endpoint {
        format!("tcp://{}", self.address.unwrap()).parse().unwrap()
    }

    /// KiB of memory of its own.
    fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn daemon(socket: &Path) {
    let options = Options { devices: Devices::Cpu, ..Options::default() };
    let listener = Listener::bind(socket, Peers::Owner).unwrap();
    let daemon = Daemon::new(options).unwrap();
    eprintln!("ready");
    daemon.run(listener, std::future::pending()).unwrap();
}

fn film(slots: usize) -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(1920, 1080));
    let spec = StreamSpec::new(source, Extent::new(640, 360));
    StreamSpec { slots: slots as u32, filter: Filter::Bicubic, ..spec }
}

fn small() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(320, 180));
    StreamSpec { slots: 1, ..StreamSpec::new(source, Extent::new(160, 90)) }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Frames a second of several connections, beside the same bytes over bare sockets with the same
/// kernels between them.
fn throughput(bridge: &Process) -> String {
    let bare = Process::start(this().arg("yardstick").stderr(Stdio::piped()));
    let streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| Client::connect(&bridge.endpoint()).unwrap().open(&film(IN_FLIGHT)).unwrap())
        .collect();
    let sockets: Vec<_> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(bare.address.unwrap()).unwrap()).collect();
    let bare = || {
        per_second(FRAMES * CONNECTIONS, || {
            thread::scope(|scope| {
                sockets.iter().for_each(|socket| drop(scope.spawn(|| exchange(socket))));
            });
        })
    };
    let ours = || {
        per_second(FRAMES * CONNECTIONS, || {
            thread::scope(|scope| {
                streams.iter().for_each(|stream| drop(scope.spawn(|| resize(stream, &[]))));
            });
        })
    };
    let (ours, bare, ratio) = in_turns(ours, bare);
    println!(
        "1080p -> 640x360 I420 raw over TCP, {CONNECTIONS} connections: {ours:.0} frames/s, bare sockets \
         and the kernel {bare:.0}: {:.1} % (goal 80 %)",
        ratio * 100.0
    );
    format!(
        r#"{{"figure":"throughput","ours_fps":{ours:.1},"bare_fps":{bare:.1},"ratio":{ratio:.4}}}"#
    )
}

/// Medians of both speeds, and of their ratio, over turns of which each has both.
fn in_turns(ours: impl Fn() -> f64, mut bare: impl FnMut() -> f64) -> (f64, f64, f64) {
    // The first brings pages and caches.
    let turns: Vec<_> = (0..=TURNS).map(|_| (bare(), ours())).skip(1).collect();
    (
        median(turns.iter().map(|turn| turn.1)),
        median(turns.iter().map(|turn| turn.0)),
        median(turns.iter().map(|(bare, ours)| ours / bare)),
    )
}

/// As they lie in the slots, or one JPEG over and over.
fn resize(stream: &Stream, jpeg: &[u8]) {
    let mut pendings = std::collections::VecDeque::<Pending>::new();
    for _ in 0..FRAMES {
        if pendings.len() == IN_FLIGHT {
            drop(pendings.pop_front().unwrap().wait().unwrap());
        }
        let mut slot = stream.loan().unwrap();
        if !jpeg.is_empty() {
            slot.write_jpeg(jpeg).unwrap();
        }
        pendings.push_back(slot.submit().unwrap());
    }
    pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}

/// The client's side of the yardstick: as many frames on their way as the sockets take.
fn exchange(socket: &TcpStream) {
    let ring = RingLayout::new(&film(1)).unwrap();
    thread::scope(|scope| {
        let mut writer = socket;
        let input = vec![0; ring.input().rows_len()];
        scope.spawn(move || (0..FRAMES).for_each(|_| writer.write_all(&input).unwrap()));
        let mut reader = socket;
        let mut output = vec![0; ring.output().rows_len()];
        (0..FRAMES).for_each(|_| reader.read_exact(&mut output).unwrap());
    });
}

/// The other side: reads a frame, resizes it, writes it; a thread for each connection.
fn yardstick(spec: &StreamSpec) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    for socket in listener.incoming() {
        let spec = *spec;
        thread::spawn(move || {
            let mut socket = socket.unwrap();
            socket.set_nodelay(true).unwrap();
            let mut bare = InProcess::new(&spec);
            let (input, output) = (bare.ring.input().rows_len(), bare.ring.output().rows_len());
            while socket.read_exact(&mut bare.lease.input_mut()[..input]).is_ok() {
                bare.resize();
                socket.write_all(&bare.lease.output()[..output]).unwrap();
            }
        });
    }
}

/// A slot and the kernels, with nobody between them.
struct InProcess {
    ring: Arc<RingLayout>,
    lease: Lease,
    region: Region,
    resizer: Box<dyn Resizer>,
    scratch: Scratch,
}

impl InProcess {
    fn new(spec: &StreamSpec) -> Self {
        let ring = Arc::new(RingLayout::new(spec).unwrap());
        let (region, descriptor) = Region::create(ring.len()).unwrap();
        let mapping = Region::open(descriptor, ring.len()).unwrap();
        let lease = leases(mapping, &ring).unwrap().remove(0);
        let resizer = Cpu::new(1).open(spec, &ring).unwrap();
        Self { ring, lease, region, resizer, scratch: Scratch::default() }
    }

    fn resize(&mut self) {
        let slot = SlotMemory::new(&self.region, &self.ring, 0).unwrap();
        self.resizer.resize(slot, Band::WHOLE, &mut self.scratch).unwrap();
    }
}

/// Frames a second of a turn that has so many.
fn per_second(frames: usize, turn: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    turn();
    frames as f64 / begun.elapsed().as_secs_f64()
}

/// One small image at a time, through the bridge, on the local socket, and over a bare socket with
/// the kernels at its end.
fn latency(near: &Endpoint, bridge: &Process) -> String {
    let spec = small();
    let [near, far] = [near, &bridge.endpoint()]
        .map(|endpoint| Client::connect(endpoint).unwrap().open(&spec).unwrap());
    let yardstick = Process::start(this().arg("small yardstick").stderr(Stdio::piped()));
    let mut bare = TcpStream::connect(yardstick.address.unwrap()).unwrap();
    bare.set_nodelay(true).unwrap();
    let ring = RingLayout::new(&spec).unwrap();
    let input = vec![0; ring.input().rows_len()];
    let mut output = vec![0; ring.output().rows_len()];
    let p50 = |round: &mut dyn FnMut()| {
        median((0..ROUNDS).map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed().as_secs_f64() * 1e6
        }))
    };
    let through = |stream: &Stream| drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
    let turns = (0..TURNS).map(|_| {
        let (near, far) = (p50(&mut || through(&near)), p50(&mut || through(&far)));
        let bare = p50(&mut || {
            bare.write_all(&input).unwrap();
            bare.read_exact(&mut output).unwrap();
        });
        [near, far, bare]
    });
    let turns: Vec<_> = turns.collect();
    let [near, far, bare] = [0, 1, 2].map(|which| median(turns.iter().map(|turn| turn[which])));
    let more = median(turns.iter().map(|[near, far, _]| far - near));
    println!(
        "one 320x180 image at a time: p50 {far:.1} us by TCP, {near:.1} us near: {more:.1} us more (goal 60); a bare socket \
         and the kernel {bare:.1} us"
    );
    format!(
        r#"{{"figure":"latency","far_us":{far:.2},"near_us":{near:.2},"more_us":{more:.2},"bare_us":{bare:.2}}}"#
    )
}

/// Memory of a bridge with clients that submit and do not read.
fn memory(bridge: &Process) -> String {
    let before = bridge.resident();
    let source = FrameSpec::new(PixelFormat::Rgb24, Extent::new(64, 36));
    let spec = StreamSpec { slots: 4, ..StreamSpec::new(source, Extent::new(1280, 720)) };
    let frame = vec![0; RingLayout::new(&spec).unwrap().input().rows_len()];
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut socket = TcpStream::connect(bridge.address.unwrap()).unwrap();
            let (mut bytes, name) = (Vec::new(), String::new());
            let hello = Request::Hello { version: VERSION, features: Features::default(), name };
            encode(&Call::Knock { version: VERSION, token: String::new() }, &mut bytes).unwrap();
            encode(&Call::Request(hello), &mut bytes).unwrap();
            let open = Request::Open { stream: 0, spec, named: false };
            encode(&Call::Request(open), &mut bytes).unwrap();
            socket.write_all(&bytes).unwrap();
            // Welcome, and a stream.
            let mut inbox = Inbox::new();
            let mut hear = || loop {
                if let Some(message) = inbox.pop::<Message>().unwrap() {
                    break message;
                }
                inbox.fill(|room| socket.read(room)).unwrap();
            };
            let (_, opened) = (hear(), hear());
            assert!(matches!(opened, Message::Reply(Reply::Opened { .. })), "{opened:?}");
            for slot in 0..4 {
                bytes.clear();
                let submit = Request::Submit { stream: 0, slots: vec![slot] };
                encode(&Call::Request(submit), &mut bytes).unwrap();
                bytes.extend(&frame);
                socket.write_all(&bytes).unwrap();
            }
            socket
        })
        .collect();
    let sizes: Vec<_> = (0..4)
        .map(|_| {
            thread::sleep(Duration::from_secs(3));
            bridge.resident()
        })
        .collect();
    drop(slow);
    let each = (sizes[3].saturating_sub(before)) as f64 / SLOW as f64;
    let flat = if sizes[3] <= sizes[0] + sizes[0] / 50 { "flat" } else { "NOT flat" };
    println!(
        "{SLOW} clients that do not read 11 MiB: the bridge's own memory {before} -> {sizes:?} KiB: {each:.1} KiB each, {flat}"
    );
    format!(r#"{{"figure":"memory","before_kib":{before},"kib":{sizes:?},"each_kib":{each:.2}}}"#)
}
