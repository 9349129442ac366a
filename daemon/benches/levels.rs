//! Milliseconds a frame takes one core, at every level that this CPU has: `cargo bench -p resized
//! --bench levels`.
//!
//! Each work has two rows: a frame that lies in the caches, the same again and again; and one of so
//! many that they do not fit there, as those of many clients do not. Levels take turns within a
//! row, so that a noisy machine is noisy for all of them; figures are medians over the turns, and
//! the last column says how far the best level is from copying the source once. A second table has
//! what it takes to prepare a crop, as is done for each frame that comes with another one. Prints
//! both and writes `target/bench/levels.json`. An argument is part of the works' names that are
//! wanted.

use std::path::PathBuf;
use std::time::Instant;

use resized::device::cpu::{Cpu, Level};
use resized::device::{Band, Device, Resizer, Scratch};
use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Alpha, Filter, MAX_SLOTS, StreamSpec};
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::shm::{Region, RingLayout, SlotMemory, leases};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Tensor};

const TURNS: usize = 41;

/// Bytes of frames that no cache holds.
const BEYOND_CACHES: usize = 256 << 20;

fn main() {
    let works = [
        (PixelFormat::I420, (1920, 1080), (640, 360)),
        (PixelFormat::I420, (1280, 720), (640, 360)),
        (PixelFormat::I420, (3840, 2160), (1920, 1080)),
        (PixelFormat::I420, (1920, 1080), (1280, 720)),
        (PixelFormat::I420, (1280, 720), (1920, 1080)),
        (PixelFormat::I420, (768, 432), (640, 360)),
        (PixelFormat::Nv12, (1920, 1080), (640, 360)),
        (PixelFormat::Rgb24, (1920, 1080), (640, 360)),
        (PixelFormat::Rgba, (1920, 1080), (640, 360)),
    ];
    let levels: String = Level::ALL.iter().map(|level| format!(" {:>8}", level.name())).collect();
    println!("{:<42} {:<9} {:<6}{levels}  x copying the source", "work", "filter", "from");
    let mut rows = Vec::new();
    for (format, from, to) in works {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            row(&spec(format, from, to, filter), &mut rows);
        }
    }
    for (from, to, framing) in conversions() {
        let size = if framing == Framing::Stretch { (640, 360) } else { (640, 640) };
        let mut spec = spec(from, (1920, 1080), size, Filter::Bicubic);
        (spec.destination.format, spec.framing) = (to, framing);
        row(&spec, &mut rows);
    }
    for (format, alpha) in [
        (PixelFormat::I420, Alpha::Apart),
        (PixelFormat::I420P10, Alpha::Apart),
        (PixelFormat::Rgba, Alpha::Apart),
        (PixelFormat::Rgba, Alpha::Weighs),
    ] {
        // Thumbnails: the vertical pass is the first one there.
        let thumbnail = spec(format, (3840, 2160), (160, 90), Filter::Bicubic);
        row(&StreamSpec { alpha, ..thumbnail }, &mut rows);
    }
    for size in [(640, 360), (1280, 720)] {
        let weighed = spec(PixelFormat::Rgba, (1920, 1080), size, Filter::Bicubic);
        row(&StreamSpec { alpha: Alpha::Weighs, ..weighed }, &mut rows);
    }
    println!("\n{:<42} {:<9}{levels}", "preparing a crop", "filter");
    for (format, from, to) in [
        (PixelFormat::I420, (1920, 1080), (640, 360)),
        (PixelFormat::Rgb24, (1920, 1080), (640, 360)),
        (PixelFormat::I420, (1920, 1080), (1280, 720)),
        (PixelFormat::I420, (16_384, 16_384), (640, 360)),
        (PixelFormat::I420, (16_384, 16_384), (4096, 4096)),
        (PixelFormat::Rgb24, (16_384, 2160), (16_000, 2000)),
    ] {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            preparing(&spec(format, from, to, filter), &mut rows);
        }
    }
    for to in [PixelFormat::Rgb24, conversions()[5].1] {
        let mut spec = spec(PixelFormat::I420, (1920, 1080), (224, 224), Filter::Bicubic);
        spec.destination.format = to;
        preparing(&spec, &mut rows);
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&target).expect("target/bench");
    std::fs::write(target.join("levels.json"), format!("[{}]\n", rows.join(",\n ")))
        .expect("target/bench/levels.json");
}

fn spec(format: PixelFormat, from: (u32, u32), to: (u32, u32), filter: Filter) -> StreamSpec {
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    StreamSpec { filter, slots: 1, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
}

/// Where planes are mixed: the format changes on the way, or has ten bits.
fn conversions() -> Vec<(PixelFormat, PixelFormat, Framing)> {
    use PixelFormat::{Bgra, I420, I420P10, Nv12, P010, Rgb24};
    let tensor = |element, arrangement| {
        PixelFormat::Tensor(Tensor { element, arrangement, order: ChannelOrder::Rgb })
    };
    let letterbox = Framing::Fit { align: Align::Centre, pad: [114; 3] };
    vec![
        (I420, Rgb24, Framing::Stretch),
        (Nv12, Bgra, Framing::Stretch),
        (Rgb24, I420, Framing::Stretch),
        (I420P10, I420P10, Framing::Stretch),
        (P010, Nv12, Framing::Stretch),
        (I420, tensor(Element::F32, Arrangement::Planar), letterbox),
        (Nv12, tensor(Element::F16, Arrangement::Planar), letterbox),
        (I420, tensor(Element::I8, Arrangement::Interleaved), letterbox),
        (Rgb24, tensor(Element::F32, Arrangement::Interleaved), letterbox),
    ]
}

/// Whether it is asked for. Cargo adds flags of its own.
fn is_wanted(title: &str) -> bool {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    wanted.is_none_or(|wanted| title.contains(&wanted))
}

fn row(spec: &StreamSpec, rows: &mut Vec<String>) {
    if !is_wanted(&name(spec)) {
        return;
    }
    let frame = RingLayout::new(spec).expect("a ring").len().get();
    let many = u32::try_from(BEYOND_CACHES / frame).unwrap_or(MAX_SLOTS).min(MAX_SLOTS);
    for (from, slots) in [("caches", 1), ("memory", many)] {
        row_from(from, &StreamSpec { slots, ..*spec }, rows);
    }
}

fn row_from(from: &str, spec: &StreamSpec, rows: &mut Vec<String>) {
    let ring = RingLayout::new(spec).expect("a ring");
    let (region, descriptor) = Region::create(ring.len()).expect("a region");
    // The client's side of it, to fill the frames with noise and to copy them.
    let client = Region::open(descriptor, ring.len()).expect("the same region");
    let mut leases = leases(client, &ring.clone().into()).expect("leases");
    let mut noise = 0x2545_f491_u32;
    leases.iter_mut().flat_map(|lease| lease.input_mut()).for_each(|byte| {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        *byte = noise as u8;
    });
    let mut copy = vec![0; ring.input().len()];
    let mut slots = (0..spec.slots).cycle();
    let mut next = || slots.next().expect("there is one at least");
    let mut scratch = Scratch::default();
    let resizer = |cpu: Cpu| cpu.open(spec, &ring).expect("a stream");
    let resizers: Vec<Option<Box<dyn Resizer>>> =
        Level::ALL.iter().map(|&level| Cpu::with_level(1, level).map(resizer)).collect();
    let mut times = vec![Vec::with_capacity(TURNS); Level::ALL.len() + 1];
    for turn in 0..=TURNS {
        for (resizer, times) in resizers.iter().zip(&mut times) {
            let Some(resizer) = resizer else { continue };
            let slot = SlotMemory::new(&region, &ring, next()).expect("a slot of the ring");
            let begun = Instant::now();
            resizer.resize(slot, Band::WHOLE, &mut scratch).expect("a frame");
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let lease = &leases[next() as usize];
        let begun = Instant::now();
        copy.copy_from_slice(lease.input());
        times[Level::ALL.len()].push(begun.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(&copy);
        if turn == 0 {
            times.iter_mut().for_each(Vec::clear);
        }
    }
    let medians: Vec<Option<f64>> = times.into_iter().map(median).collect();
    let work = name(spec);
    let copying = medians[Level::ALL.len()].unwrap_or(f64::NAN);
    let best = medians[..Level::ALL.len()].iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let figures: String =
        medians[..Level::ALL.len()].iter().map(|ms| format!(" {}", shown(ms))).collect();
    let filter = format!("{:?}", spec.filter);
    println!("{work:<42} {filter:<9} {from:<6}{figures}  {:.1}", best / copying);
    for (level, ms) in Level::ALL.iter().zip(&medians) {
        if let Some(ms) = ms {
            let level = level.name();
            rows.push(format!(
                r#"{{"work":"{work}","filter":"{:?}","from":"{from}","level":"{level}","ours_ms":{ms:.4},"copy_ms":{copying:.4}}}"#,
                spec.filter
            ));
        }
    }
}

/// Of a crop that is nearly the whole frame, so that no two windows are alike.
fn preparing(spec: &StreamSpec, rows: &mut Vec<String>) {
    if !is_wanted(&format!("preparing {}", name(spec))) {
        return;
    }
    let Extent { width, height } = spec.source.extent;
    let (width, height) = (f64::from(width) - 9.7, f64::from(height) - 7.3);
    let spec = StreamSpec { crop: Some(Crop { left: 3.1, top: 2.6, width, height }), ..*spec };
    let ring = RingLayout::new(&spec).expect("a ring");
    let cpus = || Level::ALL.iter().map(|&level| Cpu::with_level(1, level));
    let mut times = vec![Vec::with_capacity(TURNS); Level::ALL.len()];
    for _ in 0..TURNS {
        for (cpu, times) in cpus().zip(&mut times) {
            let Some(cpu) = cpu else { continue };
            let begun = Instant::now();
            let resizer = cpu.open(&spec, &ring).expect("a stream");
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            drop(resizer);
        }
    }
    let medians: Vec<Option<f64>> = times.into_iter().map(median).collect();
    let figures: String = medians.iter().map(|ms| format!(" {}", shown(ms))).collect();
    let (work, filter) = (name(&spec), format!("{:?}", spec.filter));
    println!("{work:<42} {filter:<9}{figures}");
    for (level, ms) in Level::ALL.iter().zip(&medians) {
        if let Some(ms) = ms {
            let level = level.name();
            rows.push(format!(
                r#"{{"prepare":"{work}","filter":"{filter}","level":"{level}","ours_ms":{ms:.4}}}"#
            ));
        }
    }
}

fn name(spec: &StreamSpec) -> String {
    let (source, destination) = (&spec.source, &spec.destination);
    let to = match destination.format {
        format if format == source.format => String::new(),
        PixelFormat::Tensor(Tensor { element, arrangement, .. }) => {
            format!("{element:?} {arrangement:?} ")
        }
        format => format!("{format:?} "),
    };
    let weighed = if spec.alpha == Alpha::Weighs { " weighed" } else { "" };
    format!("{:?}{weighed} {} -> {to}{}", source.format, source.extent, destination.extent)
}

fn shown(ms: &Option<f64>) -> String {
    ms.map_or("       -".into(), |ms| format!("{ms:8.3}"))
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
