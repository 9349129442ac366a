//! What a GPU does through the daemon: `make bench-gpu`. What was measured is said by [`report`].
//!
//! `make bench-gpu WORKS=4K` measures those that have this in their names. Every row is a daemon of
//! its own and as many clients, each a connection with as many frames in flight as keep all lanes
//! busy. Beside the frames a second stands the part of the bus that they take: bytes that must
//! cross it, over what the copy engine was measured to bring in that direction alone, of each GPU
//! that took part; and frames over what copy engines brought there and back at once, 64 MiB at a
//! time, with nothing resized between (a daemon that keeps more under way may bring more). How
//! frames reached the GPU is what the daemon says that it copied, whatever was asked for. Prints a
//! table, then each goal and whether it is met, and writes `target/bench/gpu.json`: a record to be
//! committed, with the machine's name. A CPU that poses as a GPU is measured too, and the record
//! then says that nothing was measured on a GPU.

mod report;

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use resized::device::vulkan::{CopyRates, Settings, Vulkan, Wanted, discover};
use resized_client::{
    Align, Arrangement, ChannelOrder, Client, DeviceStats, Element, Endpoint, Extent, FrameLayout,
    FrameSpec, Framing, PixelFormat, StreamSpec, Tensor,
};
use resized_protocol::message::MAX_SLOTS;

use report::{Row, Setting, judge, machine, print_latencies, write_record};

/// What a row is measured for, once all is warm.
const DURATION: Duration = Duration::from_millis(1500);
/// Until every slot has been on every lane, and the faster way is known.
const WARM_UP: Duration = Duration::from_secs(1);
const CLIENTS: [usize; 3] = [1, 4, 16];
/// On a CPU that poses as a GPU more clients only take longer.
const FEW: [usize; 2] = [1, 4];
/// Frames that each client keeps in flight, and those of all clients together for each core, at the
/// least: with six alone one client leaves lanes of sixteen cores without a frame, whoever resizes.
const IN_FLIGHT: u32 = 6;
const FOR_EACH_CORE: u32 = 3;

/// The ways that frames may reach a GPU.
const TRANSFERS: [&str; 4] = ["direct", "copied", "both-ways", "staged"];

/// A way to run the daemon.
struct Mode {
    name: &'static str,
    devices: String,
    transfer: &'static str,
}

fn main() {
    assert!(!works().is_empty(), "no work has that in its name");
    let Some((name, gpu, is_real)) = first_gpu() else {
        println!("There is no GPU with a Vulkan driver: nothing to measure.");
        return;
    };
    let rates = gpu.copy_rates().expect("copies");
    let yardsticks: Vec<_> =
        works().iter().map(|(_, spec)| yardstick(&gpu, &rates, spec)).collect();
    let mut setting = Setting {
        machine: machine(),
        driver: gpu.driver(),
        name,
        note: String::new(),
        copies: [rates.up, rates.down],
    };
    drop(gpu);
    if !is_real {
        setting.note.push_str("not yet measured on a GPU: this is a CPU that poses as one. ");
    }
    if works().len() < all_works().len() {
        setting.note.push_str("Some works only.");
    }
    setting.print();
    for ((work, _), [_, _, frames]) in works().iter().zip(&yardsticks) {
        println!("copies of {work}, there and back at once: {frames:.0} frames/s");
    }
    let modes = modes(&setting.name, is_real);
    let clients: &[usize] = if is_real { &CLIENTS } else { &FEW };
    let mut rows = Vec::new();
    Row::print_heads();
    for ((work, spec), yardstick) in works().into_iter().zip(yardsticks) {
        for &clients in clients {
            for mode in &modes {
                let row = measure(work, &spec, clients, mode, yardstick);
                row.print();
                rows.push(row);
            }
        }
    }
    let latencies = latencies(&modes[..TRANSFERS.len()]);
    print_latencies(&latencies);
    if is_real {
        judge(&rows, clients, &latencies);
    }
    let path = write_record(&setting, &latencies, &rows);
    println!("written to {}; to be committed in daemon/benches/records", path.display());
}

/// The first GPU there is, or else a CPU that poses as one; and which of both.
fn first_gpu() -> Option<(String, Vulkan, bool)> {
    let first = |wanted| {
        let found = discover(wanted, &Settings::default(), None);
        found.into_iter().find_map(|found| Some((found.name, found.outcome.ok()?)))
    };
    let real = first(&Wanted::Real).map(|(name, gpu)| (name, gpu, true));
    real.or_else(|| first(&Wanted::All).map(|(name, gpu)| (name, gpu, false)))
}

/// What copies alone would do of such frames a second: to the GPU, back, and both at once.
fn yardstick(gpu: &Vulkan, rates: &CopyRates, spec: &StreamSpec) -> [f64; 3] {
    let [input, output] = crossing(spec);
    let both = gpu.frame_rate(input as u64, output as u64).expect("copies");
    [rates.up / input, rates.down / output, both]
}

/// The GPU by each way, in the order of [`TRANSFERS`]; the cores; and both.
fn modes(gpu: &str, is_real: bool) -> Vec<Mode> {
    let alone = |transfer| Mode { name: transfer, devices: format!("vulkan:{gpu}"), transfer };
    let mut modes: Vec<_> = TRANSFERS.into_iter().map(alone).collect();
    modes.push(Mode { name: "cpu", devices: "cpu".into(), transfer: "" });
    if is_real {
        modes.push(Mode { name: "cpu + gpu", devices: "auto".into(), transfer: "" });
    }
    modes
}

/// Those that were asked for by a part of their names, or all.
fn works() -> Vec<(&'static str, StreamSpec)> {
    let asked = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let is_asked = |name: &str| asked.as_ref().is_none_or(|part| name.contains(&**part));
    all_works().into_iter().filter(|(name, _)| is_asked(name)).collect()
}

fn all_works() -> Vec<(&'static str, StreamSpec)> {
    let i420 = |from: (u32, u32), to: (u32, u32)| {
        let source = FrameSpec::new(PixelFormat::I420, Extent::new(from.0, from.1));
        StreamSpec { slots: IN_FLIGHT, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
    };
    let mut tensor = i420((1920, 1080), (640, 640));
    tensor.destination.format = PixelFormat::Tensor(Tensor {
        element: Element::F32,
        arrangement: Arrangement::Planar,
        order: ChannelOrder::Rgb,
    });
    tensor.framing = Framing::Fit { align: Align::Centre, pad: [114; 3] };
    vec![
        ("1080p to 640x360", i420((1920, 1080), (640, 360))),
        ("4K to 1080p", i420((3840, 2160), (1920, 1080))),
        ("1080p to 640x640 F32 tensor", tensor),
    ]
}

/// Bytes of a frame that must get to a GPU, and of its result that must get back.
fn crossing(spec: &StreamSpec) -> [f64; 2] {
    let bytes = |frame: &FrameSpec| {
        FrameLayout::new(frame.format, frame.extent).unwrap().packed_len() as f64
    };
    [bytes(&spec.source), bytes(&spec.destination)]
}

/// A daemon as a process of its own.
struct Daemon {
    process: Child,
    endpoint: Endpoint,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start(mode: &Mode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("resized.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_resized"));
        command.args(["--devices", &mode.devices, "--socket"]).arg(&socket);
        command.env("RESIZED_LOG", "warn").env("RESIZED_VULKAN_TRANSFER", mode.transfer);
        let process = command.spawn().unwrap();
        while UnixStream::connect(&socket).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { process, endpoint: Endpoint::Unix(socket), _dir: dir }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What each of so many clients keeps in flight.
fn in_flight(clients: usize) -> u32 {
    let all = thread::available_parallelism().map_or(1, usize::from) as u32 * FOR_EACH_CORE;
    all.div_ceil(clients as u32).clamp(IN_FLIGHT, MAX_SLOTS)
}

/// Keeps as many frames in flight as there are slots, until the time is over; gives how many ended
/// in it.
fn client(endpoint: &Endpoint, spec: &StreamSpec, start: &Barrier) -> u64 {
    let client = Client::connect(endpoint).unwrap();
    let stream = client.open(spec).unwrap();
    let mut pendings = VecDeque::new();
    // With as many in flight as may be, waits for the oldest; gives how many it waited for.
    let turn = |pendings: &mut VecDeque<resized_client::Pending>| {
        let full = pendings.len() == spec.slots as usize;
        if full {
            drop(pendings.pop_front().unwrap().wait().unwrap());
        }
        pendings.push_back(stream.loan().unwrap().submit().unwrap());
        u64::from(full)
    };
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        turn(&mut pendings);
    }
    start.wait();
    let begun = Instant::now();
    let mut frames = 0;
    while begun.elapsed() < DURATION {
        frames += turn(&mut pendings);
    }
    pendings.into_iter().for_each(|pending| drop(pending.wait()));
    frames
}

fn measure(
    work: &'static str,
    spec: &StreamSpec,
    clients: usize,
    mode: &Mode,
    yardstick: [f64; 3],
) -> Row {
    let daemon = Daemon::start(mode);
    let spec = &StreamSpec { slots: in_flight(clients), ..*spec };
    let start = Barrier::new(clients);
    let frames: u64 = thread::scope(|scope| {
        let run = || scope.spawn(|| client(&daemon.endpoint, spec, &start));
        let running: Vec<_> = (0..clients).map(|_| run()).collect();
        running.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let frames_per_second = frames as f64 / DURATION.as_secs_f64();
    let stats = Client::connect(&daemon.endpoint).unwrap().stats().unwrap();
    let all: u64 = stats.devices.iter().map(|device| device.frames).sum();
    let gpus: Vec<_> = stats.devices.iter().skip(1).filter(|device| device.frames > 0).collect();
    let on_gpu: u64 = gpus.iter().map(|device| device.frames).sum();
    let share = on_gpu as f64 / all as f64;
    let [input, output] = crossing(spec);
    let each = gpus.len().max(1) as f64;
    let bus = yardstick.map(|most| frames_per_second * share / each / most);
    let copied = gpus.iter().map(|device| device.copied_bytes).sum::<u64>() as f64 / on_gpu as f64;
    let reached = if on_gpu == 0 { "" } else { way(copied, [input, output]) };
    let failed = gpus.iter().map(|device| device.failed).sum();
    let takes = |devices: &[&DeviceStats]| {
        let sum =
            |of: fn(&DeviceStats) -> u64| devices.iter().map(|device| of(device)).sum::<u64>();
        sum(|device| device.busy_ns) as f64 / 1e3 / sum(|device| device.frames).max(1) as f64
    };
    let takes = [takes(&stats.devices.iter().take(1).collect::<Vec<_>>()), takes(&gpus)];
    let (mode, gpus) = (mode.name, gpus.len());
    Row { work, mode, clients, frames_per_second, bus, share, reached, takes, gpus, failed }
}

/// The way by which frames reached a GPU, by the bytes that were copied for each.
fn way(copied: f64, [input, output]: [f64; 2]) -> &'static str {
    let near = |wanted: f64| (copied - wanted).abs() < 0.01 * input;
    match copied {
        _ if near(0.0) => "direct",
        _ if near(input) => "copied",
        _ if near(input + output) => "both ways",
        _ if near(2.0 * input + output) => "staged",
        // The one while it was measured, then the other.
        _ if copied < input / 2.0 => "mostly direct",
        _ if copied < input + output / 2.0 => "mostly copied",
        _ => "mostly both ways",
    }
}

/// The median of one 1080p frame at a time, for each mode, in turns.
fn latencies(modes: &[Mode]) -> Vec<Duration> {
    let daemons: Vec<_> = modes.iter().map(Daemon::start).collect();
    let clients = daemons.iter().map(|daemon| Client::connect(&daemon.endpoint).unwrap());
    let clients: Vec<_> = clients.collect();
    let spec = all_works()[0].1;
    let streams: Vec<_> = clients.iter().map(|client| client.open(&spec).unwrap()).collect();
    let mut times = vec![Vec::new(); modes.len()];
    for turn in 0..80 {
        for (stream, times) in streams.iter().zip(&mut times) {
            let begun = Instant::now();
            drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
            // Each slot on each lane first.
            if turn >= 20 {
                times.push(begun.elapsed());
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    times.iter_mut().map(median).collect()
}
