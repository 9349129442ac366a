//! The GPUs that the tests run on, and when what they make is right.
//!
//! Every test has the validation layer look on, where there is one, synchronization within each
//! command buffer included. It is not asked to look across them: it knows no timelines (as of
//! 1.3.239), and takes every command buffer that is submitted again for a hazard. That layer keeps
//! what it knows of all devices in one table that it locks nowhere (issue 4391 of
//! KhronosGroup/Vulkan-ValidationLayers), and crashes where one thread opens or closes a
//! device while another uses one. So whoever has the GPUs that stay open holds [`LAYER`] for reading,
//! and whoever has one of its own, which comes and goes, for writing: it is part of what is handed out.

use std::collections::BTreeSet;
use std::io::{Write, stderr};
use std::ops::Deref;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use resized::device::cpu::Level;
use resized::device::vulkan::{
    Settings, Transfer, Vulkan, Wanted, discover, is_validating, validation_messages,
};
use resized_protocol::frame::PixelFormat;
use resized_protocol::message::{Alpha, StreamSpec};
use resized_protocol::tensor::{Element, Tensor};

use crate::frames::{Ring, either, numbers};
use crate::skip::skip;

/// The ways that frames may reach a GPU, and whether copies go to a queue of their own.
pub(crate) const TRANSFERS: [(Transfer, bool); 7] = [
    (Transfer::Direct, false),
    (Transfer::Copied, false),
    (Transfer::Copied, true),
    (Transfer::BothWays, false),
    (Transfer::BothWays, true),
    (Transfer::Staged, false),
    (Transfer::Staged, true),
];

/// Keeps those who open and close GPUs from those who use them.
static LAYER: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    LAYER.write().unwrap_or_else(PoisonError::into_inner)
}

/// GPUs that stay open, while nobody opens or closes others. To be asked for once at a time: who
/// waits for its turn to open one keeps all from it who ask after that.
pub(crate) struct Open {
    gpus: &'static [Vulkan],
    _used: RwLockReadGuard<'static, ()>,
}

impl Deref for Open {
    type Target = [Vulkan];

    fn deref(&self) -> &[Vulkan] {
        self.gpus
    }
}

/// A GPU that is opened and closed by who has it, while nobody uses any other.
pub(crate) struct Own {
    // First: it goes while nobody uses another.
    gpu: Vulkan,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Own {
    /// The first there is. It is to be made before what is opened on it, so that it goes last.
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        let settings = Settings { validation: true, ..settings.clone() };
        let alone = alone();
        let found = discover(&Wanted::All, &settings, None);
        let gpu = found.into_iter().find_map(|found| found.outcome.ok());
        if gpu.is_none() {
            skip("vulkan", "there is no GPU");
        }
        gpu.map(|gpu| Self { gpu, _alone: alone })
    }
}

impl Deref for Own {
    type Target = Vulkan;

    fn deref(&self) -> &Vulkan {
        &self.gpu
    }
}

/// Every GPU of this machine, whatever it is, once for each way that frames may reach it.
pub(crate) fn all() -> Open {
    static GPUS: OnceLock<Vec<Vulkan>> = OnceLock::new();
    let gpus = GPUS.get_or_init(|| {
        let _alone = alone();
        let opened = TRANSFERS.into_iter().flat_map(|(transfer, copies_apart)| {
            let settings = Settings {
                transfer: Some(transfer),
                validation: true,
                copies_apart,
                ..Settings::default()
            };
            let found = discover(&Wanted::All, &settings, None).into_iter();
            let used = found.filter_map(|found| {
                let name = found.name;
                let say = |unused| writeln!(stderr(), "SKIPPED: {name}: {unused}");
                found.outcome.map_err(say).ok()
            });
            let used: Vec<_> = used.collect();
            let is_staged = |gpu: &Vulkan| gpu.transfer().contains("staged");
            match &used[..] {
                [] => skip("vulkan", "there is no GPU"),
                _ if !is_validating() => skip("validation", "there is no validation layer"),
                all if transfer != Transfer::Staged && all.iter().all(is_staged) => {
                    skip("import", "no GPU imports rings");
                }
                _ => {}
            }
            used
        });
        opened.collect()
    });
    Open { gpus, _used: LAYER.read().unwrap_or_else(PoisonError::into_inner) }
}

/// Fails if the validation layer has found anything so far.
#[track_caller]
pub(crate) fn assert_valid() {
    let messages = validation_messages();
    assert!(messages.is_empty(), "{}", messages.join("\n"));
}

/// Whether what a GPU made is what the oracle made: the same, but for numbers that are mixed, where
/// a GPU may not fuse what it adds. Then they are within a step or a last place, and few.
pub(crate) fn is_alike(spec: &StreamSpec, oracle: &[u8], found: &[u8]) -> bool {
    if !is_mixed(spec) {
        return oracle == found;
    }
    let format = spec.destination.format;
    let (oracle, found) = (numbers(format, oracle), numbers(format, found));
    let close = oracle.iter().zip(&found).all(|(o, f)| (o - f).abs() <= step(spec, *o));
    close && oracle.len() == found.len() && (is_float(format) || are_few(spec, &oracle, &found))
}

/// Whether a frame goes through arithmetic that devices may round each in their way.
fn is_mixed(spec: &StreamSpec) -> bool {
    let (from, to) = (&spec.source, &spec.destination);
    let recoloured = (from.format, from.matrix) != (to.format, to.matrix);
    from.format != to.format
        || is_weighed(spec)
        || PixelFormat::TEN_BIT.contains(&from.format)
        || recoloured && from.format.is_subsampled()
}

pub(crate) fn is_weighed(spec: &StreamSpec) -> bool {
    spec.source.format.has_alpha() && spec.alpha == Alpha::Weighs
}

const fn is_float(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Tensor(Tensor { element: Element::F32 | Element::F16, .. }))
}

/// How far a number may be from this one of the oracle's.
fn step(spec: &StreamSpec, number: f64) -> f64 {
    // Dividing by a small opacity makes more of it.
    let more = if is_weighed(spec) { 500.0 } else { 1.0 };
    match spec.destination.format {
        PixelFormat::Tensor(Tensor { element: Element::F32, .. }) => {
            let span = spec.normalisation.scale.iter().fold(0.0_f32, |most, s| most.max(s.abs()));
            f64::from(span) * 255.0 * 1e-6 * more + number.abs() * 1e-6
        }
        PixelFormat::Tensor(Tensor { element: Element::F16, .. }) => number.abs() / 1000.0 + 1e-4,
        _ => 1.0,
    }
}

/// Whether no more whole numbers differ than happen to lie amid two steps.
fn are_few(spec: &StreamSpec, oracle: &[f64], found: &[f64]) -> bool {
    let others = || oracle.iter().zip(found).filter(|(o, f)| o != f);
    // Where pixels are repeated, so is what differs.
    let seen = spec
        .placement()
        .map_or(1.0, |placement| placement.source.width.ceil() * placement.source.height.ceil());
    let repeated = (spec.destination.extent.pixels() as f64 / seen).max(1.0);
    let most = (2 + oracle.len() / 50) as f64 * repeated;
    // And where a frame has few colours one that lies amid two steps, as yellow's Cb of full range
    // does, may be all over it.
    let amid: BTreeSet<u64> = others().map(|(o, _)| o.to_bits()).collect();
    others().count() as f64 <= most || amid.len() <= 2
}

/// In every way that frames may reach them.
#[track_caller]
pub(crate) fn assert_gpus_agree(spec: StreamSpec, seed: u32) {
    assert_agree(&all(), spec, seed);
    assert_agree(&all(), spec, seed + 1);
}

/// In one of the ways.
#[track_caller]
pub(crate) fn assert_a_gpu_agrees(spec: StreamSpec, seed: u32) {
    let gpus = all();
    let one = gpus.chunks(1).nth(seed as usize % gpus.len().max(1));
    assert_agree(one.unwrap_or_default(), spec, seed);
}

#[track_caller]
fn assert_agree(gpus: &[Vulkan], spec: StreamSpec, seed: u32) {
    let oracle = Ring::new(spec).resized(Level::Scalar, 1, either(seed));
    for gpu in gpus {
        let found = Ring::new(spec).resized_on(gpu, 1, either(seed));
        assert!(is_alike(&spec, &oracle, &found), "{} differs: {spec:?} {seed}", gpu.transfer());
    }
    assert_valid();
}
