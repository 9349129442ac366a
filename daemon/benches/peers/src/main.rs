//! Our CPU kernels beside the resizers that people use today, one thread each: `make bench-kernels`.
//!
//! Owns the table: which work is done by whom, what is aimed at, and what is printed. In a row we and
//! one peer take turns, each from and into memory of its own, so that a noisy machine is noisy for
//! both; the ratio is the median of the turns' ratios. Set-up is done before. A peer whose result is
//! further from ours than [`Peer::tolerance`] is measuring something else: that ends the run.
//!
//! An argument is part of the works' names that are wanted, `F32` or `-> Rgb24`; without one all are.
//! Prints a table, and writes `bench/kernels.json` in the repository's target folder. Peers that this
//! machine lacks are named in the table, and are not in the file.

mod frame;
mod ours;
mod peer;
mod turn;

use std::path::{Path, PathBuf};

use resized::device::cpu::{Cpu, Level};
use resized_protocol::frame::{Extent, FrameSpec, Matrix, PixelFormat, Siting};
use resized_protocol::message::{Filter, StreamSpec};
use resized_protocol::placement::{Align, Framing};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};

use crate::ours::Ours;
use crate::peer::{Interpolation, Peer, Way};
use crate::turn::{Contender, Difference};

const TURNS: usize = 101;

const UHD: Extent = Extent::new(3840, 2160);
const FULL_HD: Extent = Extent::new(1920, 1080);
const HD: Extent = Extent::new(1280, 720);
const NHD: Extent = Extent::new(640, 360);
const SQUARE: Extent = Extent::new(640, 640);

fn main() {
    let there = |level: &Level| Cpu::with_level(1, *level).is_some();
    let best = Level::ALL.iter().copied().rfind(there).unwrap_or(Level::Scalar);
    heading(best);
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let rows: Vec<Row> = table(best)
        .into_iter()
        .filter(|(work, ..)| name(work).contains(&wanted))
        .filter_map(|(work, level, peer)| Row::measure(work, level, peer))
        .collect();
    let json: Vec<String> = rows.iter().map(Row::json).collect();
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    std::fs::write(folder.join("kernels.json"), format!("[{}]\n", json.join(",\n ")))
        .expect("target/bench/kernels.json");
}

/// Who does what, at which level of ours, beside whom.
fn table(best: Level) -> Vec<(StreamSpec, Level, Peer)> {
    use Filter::{Bicubic, Bilinear, Lanczos3};
    use Interpolation::{Area, Cubic, Linear};
    use Peer::*;
    use PixelFormat::{I420, Nv12, Rgb24, Rgba};

    let second = (best == Level::Avx512).then_some(Level::Avx2);
    let levels = || [Some(best), second].into_iter().flatten();
    let mut table = Vec::new();
    let mut with = |work: StreamSpec, level: Level, peers: &[Peer]| {
        table.extend(peers.iter().map(|&peer| (work, level, peer)));
    };
    for (from, to, filters) in [
        (FULL_HD, NHD, &[Bicubic, Lanczos3, Bilinear][..]),
        (HD, NHD, &[Bicubic, Lanczos3]),
        (UHD, FULL_HD, &[Bicubic, Lanczos3]),
        (FULL_HD, HD, &[Bicubic, Lanczos3]),
        (HD, FULL_HD, &[Bicubic, Lanczos3]),
    ] {
        for &filter in filters {
            let work = work(I420, from, to, filter);
            with(work, best, &[Zimg, Swscale, FastImageResize, PicScale, Floor]);
            if let Some(level) = second {
                with(work, level, &[ZimgAvx2]);
            }
        }
    }
    with(work(Nv12, FULL_HD, NHD, Bicubic), best, &[Swscale, Floor]);
    for format in [Rgb24, Rgba] {
        let peers = [FastImageResize, PicScale, OpenCv(Cubic), OpenCv(Area), Pillow, Floor];
        with(work(format, FULL_HD, NHD, Bicubic), best, &peers);
    }
    for (from, to) in [(I420, Rgb24), (Nv12, Rgb24), (Rgb24, I420)] {
        let work = conversion(from, to);
        with(work, best, &[Swscale, SwscaleFullChroma, Floor]);
        if let Some(level) = second {
            with(work, level, &[Swscale]);
        }
    }
    for (filter, interpolations) in [(Bilinear, &[Linear][..]), (Bicubic, &[Cubic, Area])] {
        let work = tensor(I420, Element::F32, filter);
        for level in levels() {
            for &interpolation in interpolations {
                let ways = [Way::Numpy, Way::Blob, Way::Tuned];
                with(work, level, &ways.map(|way| OpenCvTensor(interpolation, way)));
            }
            with(work, level, &[Floor]);
        }
        for level in levels() {
            with(tensor(Nv12, Element::F16, filter), level, &[Floor]);
        }
    }
    table
}

/// Chroma is centred, as swscale and whoever resizes plane by plane take it.
fn work(format: PixelFormat, from: Extent, to: Extent, filter: Filter) -> StreamSpec {
    let source = FrameSpec { siting: Siting::Centre, ..FrameSpec::new(format, from) };
    StreamSpec { filter, slots: 1, ..StreamSpec::new(source, to) }
}

/// Into another format, by BT.601: what swscale takes unless told otherwise, and all that OpenCV knows.
fn conversion(from: PixelFormat, to: PixelFormat) -> StreamSpec {
    let colour = |format, extent| {
        let (siting, matrix) = (Siting::Centre, Matrix::Bt601);
        FrameSpec { siting, matrix, ..FrameSpec::new(format, extent) }
    };
    let destination = colour(to, NHD);
    StreamSpec { destination, slots: 1, ..StreamSpec::new(colour(from, FULL_HD), NHD) }
}

/// What a network takes: a letterboxed square of planes, normalised as ImageNet's are.
fn tensor(from: PixelFormat, element: Element, filter: Filter) -> StreamSpec {
    let (arrangement, order) = (Arrangement::Planar, ChannelOrder::Rgb);
    let tensor = PixelFormat::Tensor(Tensor { element, arrangement, order });
    StreamSpec {
        destination: FrameSpec::new(tensor, SQUARE),
        framing: Framing::Fit { align: Align::Centre, pad: [114; 3] },
        normalisation: Normalisation {
            mean: [123.675, 116.28, 103.53],
            scale: [1.0 / 58.395, 1.0 / 57.12, 1.0 / 57.375],
        },
        filter,
        ..conversion(from, PixelFormat::Rgb24)
    }
}

/// How many times the peer's speed is aimed at.
fn goal(work: &StreamSpec, level: Level, peer: Peer) -> Option<f64> {
    let (from, to) = (work.source.extent, work.destination.extent);
    if let Peer::OpenCvTensor(..) = peer {
        return Some(5.0);
    }
    if work.source.format != work.destination.format || work.filter == Filter::Bilinear {
        return None;
    }
    if from == HD && to == FULL_HD {
        return (peer == Peer::Zimg && level == Level::Avx512).then_some(3.0);
    }
    let easy = work.filter == Filter::Bicubic && (from, to) != (FULL_HD, HD);
    match (work.source.format, peer, level) {
        (PixelFormat::I420, Peer::Zimg, Level::Avx512) => Some(if easy { 3.0 } else { 2.6 }),
        (PixelFormat::I420, Peer::Swscale, Level::Avx512) => Some(if easy { 4.5 } else { 4.0 }),
        (PixelFormat::I420, Peer::Zimg | Peer::ZimgAvx2, Level::Avx2) => Some(2.2),
        (PixelFormat::Rgb24 | PixelFormat::Rgba, Peer::FastImageResize, _) => Some(3.0),
        (PixelFormat::Rgb24 | PixelFormat::Rgba, Peer::PicScale, _) => Some(2.0),
        (PixelFormat::Rgb24 | PixelFormat::Rgba, Peer::OpenCv(Interpolation::Cubic), _) => {
            Some(1.0)
        }
        _ => None,
    }
}

/// One work, done by us and by one peer.
struct Row {
    work: StreamSpec,
    level: Level,
    peer: Peer,
    ours_ms: f64,
    peer_ms: f64,
    ratio: f64,
}

impl Row {
    /// Takes the turns and prints the row; `None` where there is no such peer.
    fn measure(work: StreamSpec, level: Level, peer: Peer) -> Option<Self> {
        let mut ours = Ours::open(&work, level).expect("a level that this CPU has");
        let mut theirs = match peer.open(&work) {
            Ok(theirs) => theirs,
            Err(absent) => {
                println!("{} {:<26} absent: {}", title(&work, level), peer.name(), absent.0);
                return None;
            }
        };
        // Not counted: it brings the pages in and the weights up, and is what is compared.
        ours.turn();
        theirs.turn();
        let made = ours.made().zip(theirs.made());
        let difference = made.map(|(ours, theirs)| Difference::between(&ours, &theirs));
        check(&work, peer, difference);
        let turns: Vec<(f64, f64)> = (0..TURNS).map(|_| (ours.turn(), theirs.turn())).collect();
        let row = Self {
            work,
            level,
            peer,
            ours_ms: median(turns.iter().map(|turn| turn.0)),
            peer_ms: median(turns.iter().map(|turn| turn.1)),
            ratio: median(turns.iter().map(|(ours, theirs)| theirs / ours)),
        };
        row.print(difference);
        Some(row)
    }

    fn print(&self, difference: Option<Difference>) {
        let goal = goal(&self.work, self.level, self.peer).map_or("-".into(), |goal| {
            format!("{goal:.1} {}", if self.ratio >= goal { "met" } else { "missed" })
        });
        let note = match self.peer {
            Peer::Floor => format!("ours takes {:.1} times as long", 1.0 / self.ratio),
            peer => peer.note(&self.work),
        };
        println!(
            "{} {:<26} {:>8.3} {:>8.3} {:>6.2}  {goal:<10} {}  {note}",
            title(&self.work, self.level),
            self.peer.name(),
            self.ours_ms,
            self.peer_ms,
            self.ratio,
            difference.map_or("    -     -".into(), |it| it.to_string()),
        );
    }

    fn json(&self) -> String {
        format!(
            r#"{{"work":"{}","filter":"{:?}","level":"{}","ours_ms":{:.4},"peer":"{}","peer_ms":{:.4},"ratio":{:.3}}}"#,
            name(&self.work),
            self.work.filter,
            self.level.name(),
            self.ours_ms,
            self.peer.name(),
            self.peer_ms,
            self.ratio
        )
    }
}

fn check(work: &StreamSpec, peer: Peer, difference: Option<Difference>) {
    let allowed = peer.tolerance(work);
    assert!(
        difference.is_none_or(|found| found.within(allowed)),
        "{}, {}: {:?} from ours, where {allowed:?} is allowed: is the call right?",
        name(work),
        peer.name(),
        difference,
    );
}

fn heading(best: Level) {
    println!("One thread, {} at best; {TURNS} turns; {}.", best.name(), peer::versions());
    println!("ratio: the peer's time by ours. mean, max: how far its samples are from ours.");
    println!(
        "Formats that change are compared on waves, not on noise: peers convert every other chroma"
    );
    println!(
        "sample, or do not antialias. A tensor's samples: those that its numbers are made of."
    );
    println!("floor: copying half the bytes of both frames, which moves as many as they have.\n");
    println!(
        "{:<33} {:<8} {:<6} {:<26} {:>8} {:>8} {:>6}  {:<10} {:>5} {:>5}",
        "work", "filter", "ours", "peer", "ours ms", "peer ms", "ratio", "goal", "mean", "max"
    );
}

fn title(work: &StreamSpec, level: Level) -> String {
    format!("{:<33} {:<8} {:<6}", name(work), format!("{:?}", work.filter), level.name())
}

fn name(work: &StreamSpec) -> String {
    let format = match work.destination.format {
        PixelFormat::Tensor(tensor) => format!("{:?} ", tensor.element),
        format if format == work.source.format => String::new(),
        format => format!("{format:?} "),
    };
    let (source, destination) = (work.source, work.destination.extent);
    format!("{:?} {} -> {format}{destination}", source.format, source.extent)
}

/// Where cargo builds, as the Makefile has it.
fn target() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(usual, PathBuf::from)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
