//! What is said of what was measured: a table, each goal and whether it is met, and a record.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{TRANSFERS, in_flight, works};

/// What a GPU beyond a bus is to reach.
const BUS_GOAL: f64 = 0.8;
const SUM_GOAL: f64 = 0.95;
const LATENCY_GOAL: Duration = Duration::from_millis(1);

/// What all is measured on.
pub(crate) struct Setting {
    pub(crate) machine: String,
    /// The GPU's.
    pub(crate) name: String,
    pub(crate) driver: String,
    /// What is to be known of the record beside its numbers.
    pub(crate) note: String,
    /// Bytes a second that are copied to the GPU and back.
    pub(crate) copies: [f64; 2],
}

impl Setting {
    pub(crate) fn print(&self) {
        let Self { machine, name, driver, note, copies: [up, down] } = self;
        println!("{name}, {driver}{}{note}", if note.is_empty() { "" } else { "\n" });
        println!("{machine}");
        println!("copies: {:.1} GB/s up, {:.1} GB/s down", up / 1e9, down / 1e9);
    }
}

/// What was measured of a work, in a mode, with so many clients.
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) clients: usize,
    pub(crate) frames_per_second: f64,
    /// Parts of what copies alone were measured to do: to the GPU, back, and both at once.
    pub(crate) bus: [f64; 3],
    /// Frames that the GPU did, of all.
    pub(crate) share: f64,
    /// How frames reached it.
    pub(crate) reached: &'static str,
    /// What a frame takes a lane of the cores and one of a GPU, in microseconds.
    pub(crate) takes: [f64; 2],
    /// GPUs that took part, and frames at which one failed.
    pub(crate) gpus: usize,
    pub(crate) failed: u64,
}

impl Row {
    /// What the columns are.
    pub(crate) fn print_heads() {
        println!(
            "{:<28} {:<10} {:>8} {:>10} {:>6} {:>6} {:>6} {:>6} {:>7} {:>7}  reached",
            "", "", "clients", "frames/s", "up", "down", "both", "gpu", "cpu us", "gpu us"
        );
    }

    pub(crate) fn print(&self) {
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

/// Says of each goal whether it is met.
pub(crate) fn judge(rows: &[Row], clients: &[usize], latencies: &[Duration]) {
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

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// What one frame at a time takes by each way.
pub(crate) fn print_latencies(latencies: &[Duration]) {
    println!("one 1080p frame at a time, in turns, p50:");
    for (name, latency) in TRANSFERS.iter().zip(latencies) {
        println!("  {name:<8} {:>8.0} us", latency.as_secs_f64() * 1e6);
    }
    let [direct, .., staged] = latencies else { return };
    let part = staged.as_secs_f64() / direct.as_secs_f64();
    print!(
        "  staging takes {part:.3} times as long as using frames where they lie, goal more than 1: "
    );
    println!("{}", verdict(part > 1.0));
}

/// What it is measured on.
pub(crate) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("a CPU without a name", |(_, name)| name);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("{cpu}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// Writes all of it to a file to be committed.
pub(crate) fn write_record(setting: &Setting, latencies: &[Duration], rows: &[Row]) -> PathBuf {
    let Setting { machine, name, driver, note, copies: [up, down] } = setting;
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
