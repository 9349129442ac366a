//! What a GPU does through the daemon: `make bench-gpu`.
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

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use resized::device::vulkan::{CopyRates, Settings, Wanted, survey};
use resized_client::{
    Align, Arrangement, ChannelOrder, Client, DeviceStats, Element, Endpoint, Extent, FrameLayout,
    FrameSpec, Framing, PixelFormat, StreamSpec, Tensor,
};
use resized_protocol::message::MAX_SLOTS;

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

struct Row {
    work: &'static str,
    mode: &'static str,
    clients: usize,
    frames_per_second: f64,
    /// Parts of what copies alone were measured to do: to the GPU, back, and both at once.
    bus: [f64; 3],
    /// Frames that the GPU did, of all.
    share: f64,
    /// How frames reached it.
    reached: &'static str,
    /// What a frame takes a lane of the cores and one of a GPU, in microseconds.
    takes: [f64; 2],
    /// GPUs that took part, and frames at which one failed.
    gpus: usize,
    failed: u64,
}

impl Row {
    fn print(&self) {
        let [up, down, both] = self.bus.map(|part| 100.0 * part);
        let (share, [cpu, gpu]) = (100.0 * self.share, self.takes);
        print!("{:<28} {:<10} {:>8} ", self.work, self.mode, self.clients);
        print!("{:>10.1} {up:>5.0}% {down:>5.0}% {both:>5.0}% ", self.frames_per_second);
        print!("{share:>5.0}% {cpu:>7.0} {gpu:>7.0}  {}", self.reached);
        println!(
            "{}",
            if self.failed > 0 { format!(", {} FAILED", self.failed) } else { String::new() }
        );
    }
}

/// What a GPU beyond a bus is to reach.
const BUS_GOAL: f64 = 0.8;
const SUM_GOAL: f64 = 0.95;
const LATENCY_GOAL: Duration = Duration::from_millis(1);

fn main() {
    assert!(!works().is_empty(), "no work has that in its name");
    let settings = Settings::default();
    let mut found = survey(&Wanted::Real, &settings, None);
    let is_real = found.iter().any(|found| found.outcome.is_ok());
    if !is_real {
        found = survey(&Wanted::All, &settings, None);
    }
    let Some((name, gpu)) =
        found.into_iter().find_map(|found| Some((found.name, found.outcome.ok()?)))
    else {
        println!("There is no GPU with a Vulkan driver: nothing to measure.");
        return;
    };
    let CopyRates { up, down } = gpu.copy_rates().expect("copies");
    let yardstick = |(_, spec): &(&str, StreamSpec)| {
        let [input, output] = crossing(spec);
        let frames = gpu.frame_rate(input as u64, output as u64).expect("copies");
        [up / input, down / output, frames]
    };
    let yardsticks: Vec<_> = works().iter().map(yardstick).collect();
    let driver = gpu.driver();
    drop(gpu);
    let mut note = String::new();
    if !is_real {
        note.push_str("not yet measured on a GPU: this is a CPU that poses as one. ");
    }
    if works().len() < all_works().len() {
        note.push_str("Some works only.");
    }
    let machine = machine();
    println!("{name}, {driver}{}{note}", if is_real { "" } else { "\n" });
    println!("{machine}");
    println!("copies: {:.1} GB/s up, {:.1} GB/s down", up / 1e9, down / 1e9);
    for ((work, _), [_, _, frames]) in works().iter().zip(&yardsticks) {
        println!("copies of {work}, there and back at once: {frames:.0} frames/s");
    }
    let gpu_alone = |transfer| Mode { name: transfer, devices: format!("vulkan:{name}"), transfer };
    let mut modes: Vec<_> = TRANSFERS.into_iter().map(gpu_alone).collect();
    modes.push(Mode { name: "cpu", devices: "cpu".into(), transfer: "" });
    if is_real {
        modes.push(Mode { name: "cpu + gpu", devices: "auto".into(), transfer: "" });
    }
    println!(
        "{:<28} {:<10} {:>8} {:>10} {:>6} {:>6} {:>6} {:>6} {:>7} {:>7}  reached",
        "", "", "clients", "frames/s", "up", "down", "both", "gpu", "cpu us", "gpu us"
    );
    let clients: &[usize] = if is_real { &CLIENTS } else { &FEW };
    let mut rows = Vec::new();
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
    println!("one 1080p frame at a time, in turns, p50:");
    for (mode, latency) in modes.iter().zip(&latencies) {
        println!("  {:<8} {:>8.0} us", mode.name, latency.as_secs_f64() * 1e6);
    }
    let [direct, .., staged] = latencies[..] else { return };
    let part = staged.as_secs_f64() / direct.as_secs_f64();
    println!("  staging takes {part:.3} times as long as using frames where they lie");
    if is_real {
        judge(&rows, clients, &latencies);
    }
    let path = write_record(&[&machine, &name, &driver, &note], [up, down], &latencies, &rows);
    println!("written to {}; to be committed in daemon/benches/records", path.display());
}

/// Says of each goal whether it is met.
fn judge(rows: &[Row], clients: &[usize], latencies: &[Duration]) {
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    for (work, _) in works() {
        for &clients in clients {
            let of = |mode: &'static str| {
                rows.iter().find(move |r| (r.work, r.mode, r.clients) == (work, mode, clients))
            };
            let alone = TRANSFERS.into_iter().filter_map(of);
            let best = alone.max_by(|a, b| a.frames_per_second.total_cmp(&b.frames_per_second));
            let Some(best) = best else { continue };
            let [up, down, both] = best.bus;
            let one = up.max(down);
            print!("{work}, {clients} clients, {}: {:.0}% of what ", best.reached, 100.0 * one);
            print!("one direction of the bus allows, goal {:.0}%: ", 100.0 * BUS_GOAL);
            print!(
                "{}; {:.0}% of copies both ways at once",
                verdict(one >= BUS_GOAL),
                100.0 * both
            );
            if let (Some(both), Some(cpu)) = (of("cpu + gpu"), of("cpu")) {
                let sum = cpu.frames_per_second + best.frames_per_second;
                let part = both.frames_per_second / sum;
                print!("; CPU + GPU {:.0}% of the sum of both alone, ", 100.0 * part);
                print!("goal {:.0}%: {}", 100.0 * SUM_GOAL, verdict(part >= SUM_GOAL));
            }
            println!();
        }
    }
    if let Some(least) = latencies.iter().min() {
        let us = least.as_secs_f64() * 1e6;
        println!("one 1080p frame, p50 {us:.0} us, goal 1000: {}", verdict(*least < LATENCY_GOAL));
    }
}

/// What it is measured on.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("a CPU without a name", |(_, name)| name);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("{cpu}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
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
            pendings.pop_front().unwrap().wait().unwrap();
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
    let near = |wanted: f64| (copied - wanted).abs() < 0.01 * input;
    let reached = match on_gpu {
        0 => "",
        _ if near(0.0) => "direct",
        _ if near(input) => "copied",
        _ if near(input + output) => "both ways",
        _ if near(2.0 * input + output) => "staged",
        // The one while it was on trial, then the other.
        _ if copied < input / 2.0 => "mostly direct",
        _ if copied < input + output / 2.0 => "mostly copied",
        _ => "mostly both ways",
    };
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

fn write_record(
    [machine, name, driver, note]: &[&str; 4],
    [up, down]: [f64; 2],
    latencies: &[Duration],
    rows: &[Row],
) -> PathBuf {
    let mut record = String::new();
    let latency = |(name, latency): (&str, &Duration)| {
        format!("{name:?}: {:.0}", latency.as_secs_f64() * 1e6)
    };
    let latencies: Vec<_> = TRANSFERS.into_iter().zip(latencies).map(latency).collect();
    writeln!(record, "{{\"machine\": {machine:?}, \"gpu\": {name:?}, \"driver\": {driver:?},")
        .unwrap();
    writeln!(record, " \"note\": {note:?},").unwrap();
    writeln!(record, " \"up_bytes_per_second\": {up:.0}, \"down_bytes_per_second\": {down:.0},")
        .unwrap();
    writeln!(record, " \"latency_1080p_p50_us\": {{{}}}, \"rows\": [", latencies.join(", "))
        .unwrap();
    for (i, row) in rows.iter().enumerate() {
        let Row { work, mode, clients, frames_per_second, bus: [up, down, both], share, .. } = row;
        let Row { reached, takes: [cpu, gpu], gpus, failed, .. } = row;
        let comma = if i + 1 < rows.len() { "," } else { "" };
        writeln!(
            record,
            "  {{\"work\": {work:?}, \"mode\": {mode:?}, \"clients\": {clients}, \"in_flight\": {}, \
             \"frames_per_second\": {frames_per_second:.1}, \"bus_up\": {up:.3}, \
             \"bus_down\": {down:.3}, \"bus_both\": {both:.3}, \"gpu_share\": {share:.3}, \"reached\": {reached:?}, \
             \"cpu_frame_us\": {cpu:.0}, \"gpu_frame_us\": {gpu:.0}, \
             \"gpus\": {gpus}, \"failed\": {failed}}}{comma}",
            in_flight(*clients)
        )
        .unwrap();
    }
    record.push_str(" ]}\n");
    let target: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bench");
    std::fs::create_dir_all(&target).unwrap();
    let path = target.join("gpu.json");
    std::fs::write(&path, record).unwrap();
    path
}
