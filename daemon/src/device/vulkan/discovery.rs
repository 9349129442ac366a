//! Owns the search for GPUs: each physical device that Vulkan names, opened, or the reason why it
//! is not used.
//!
//! Knows no streams. Invariants: nothing that is missing or broken is an error: it is a reason;
//! with a program to ask, nothing of Vulkan runs in this process before a GPU has passed in
//! another; no card is opened twice, however many drivers name it.

mod card;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;
use vulkano::device::physical::{PhysicalDevice, PhysicalDeviceType};
use vulkano::instance::debug::{
    DebugUtilsMessageSeverity, DebugUtilsMessageType, DebugUtilsMessengerCallback,
    DebugUtilsMessengerCreateInfo, ValidationFeatureEnable,
};
use vulkano::instance::{Instance, InstanceCreateInfo, InstanceExtensions};
use vulkano::{LoadingError, Version, VulkanError, VulkanLibrary};

use self::card::Card;
use super::probe::{self, ProbeError, Report};
use super::{Settings, Vulkan, Wanted, gpu, plain};
use crate::device::Fault;
use crate::lock;

/// What stands for all GPUs where Vulkan itself is missing.
const LIBRARY: &str = "vulkan";

/// The layer that looks on.
const VALIDATION: &str = "VK_LAYER_KHRONOS_validation";

/// Whether the validation layer looks on.
static VALIDATING: AtomicBool = AtomicBool::new(false);

/// Messages of the validation layer since the process began.
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A physical device, and what became of it.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Open, or not used.
    pub outcome: Result<Vulkan, Unused>,
}

/// Why a GPU, or all of Vulkan, is not used.
#[derive(Debug, Error)]
pub enum Unused {
    /// There is no loader.
    #[error("this machine has no Vulkan: {0}")]
    Library(#[from] LoadingError),
    /// There is no instance.
    #[error("Vulkan can't be set up: {0}")]
    Instance(#[source] VulkanError),
    /// The loader knows no driver.
    #[error("there is no GPU with a Vulkan driver")]
    None,
    /// It is wanted by no name.
    #[error("it was not asked for")]
    NotNamed,
    /// A CPU implementation.
    #[error("it is a CPU in disguise")]
    Cpu,
    /// An old driver.
    #[error("its driver has Vulkan {0}, 1.3 is needed")]
    Version(Version),
    /// A driver that lacks what is needed.
    #[error("its driver lacks timeline semaphores or synchronization2")]
    Features,
    /// No queue computes.
    #[error("it can't compute")]
    Queue,
    /// Another driver, or the same once more, makes the card usable already.
    #[error("it is the same GPU as {name}, which is used with the driver {driver}")]
    Twin {
        /// What that is called.
        name: String,
        /// What its driver is called.
        driver: String,
    },
    /// As the process said that was asked for GPUs.
    #[error("{0}")]
    Reported(String),
    /// It did not pass its self-test.
    #[error("{0}")]
    Probe(#[source] ProbeError),
    /// Not even GPUs could be listed: all drivers are loaded for that.
    #[error("{0}, and that may be any of the drivers: VK_DRIVER_FILES names those to load")]
    Drivers(#[source] ProbeError),
    /// It could not be opened.
    #[error("it could not be opened: {0}")]
    Open(Fault),
}

/// Finds all GPUs and opens those that are wanted. With the daemon's own `program` each of them is
/// tested in a process of its own first.
pub fn discover(wanted: &Wanted, settings: &Settings, program: Option<&Path>) -> Vec<Found> {
    let Some(program) = program else {
        return open_all(enumerate(wanted, settings.validation), settings);
    };
    let tested = match probe_all(program, wanted, probe::PATIENCE) {
        Ok(tested) => tested,
        Err(error) => {
            let unused = match error {
                ProbeError::Start(_) => Unused::Probe(error),
                error => Unused::Drivers(error),
            };
            return vec![Found { name: LIBRARY.to_owned(), outcome: Err(unused) }];
        }
    };
    let mut there = match tested.iter().any(|(_, outcome)| outcome.is_ok()) {
        true => enumerate(wanted, settings.validation),
        false => Vec::new(),
    };
    let passed = |(name, outcome): Tested| {
        let here = there.iter().position(|(other, _)| *other == name);
        let here = here.map(|index| there.swap_remove(index).1);
        let outcome = outcome.and_then(|()| here.unwrap_or(Err(Unused::None)));
        (name, outcome)
    };
    open_all(tested.into_iter().map(passed).collect(), settings)
}

fn open_all(found: Vec<Enumerated>, settings: &Settings) -> Vec<Found> {
    let open = |name: &str, physical| {
        Vulkan::open(name.to_owned(), physical, settings).map_err(Unused::Open)
    };
    let opened = card::open_each(found, |physical| Card::of(physical), open).into_iter();
    opened.map(|(name, outcome)| Found { name, outcome }).collect()
}

/// What a process of its own found of a GPU.
type Tested = (String, Result<(), Unused>);

/// Finds all GPUs and tests those that may be used, in other processes, within that time.
fn probe_all(program: &Path, wanted: &Wanted, within: Duration) -> Result<Vec<Tested>, ProbeError> {
    let until = Instant::now() + within;
    Ok(test_all(program, probe::list(program, wanted, until)?, until))
}

/// Has each GPU tested that may be used; all at once, as each that hangs takes long to be given up.
fn test_all(program: &Path, reports: Vec<Report>, until: Instant) -> Vec<Tested> {
    let test = |Report { name, unused }: Report| {
        let test = || probe::self_test(program, &name, until).map_err(Unused::Probe);
        let outcome = unused.map_or_else(test, |reason| Err(Unused::Reported(reason)));
        (name, outcome)
    };
    thread::scope(|scope| {
        let begin = |report: Report| {
            let name = report.name.clone();
            let thread = thread::Builder::new().name("probe".into());
            (name, thread.spawn_scoped(scope, || test(report)))
        };
        let begun: Vec<_> = reports.into_iter().map(begin).collect();
        let end = |(name, thread): (String, io::Result<ScopedJoinHandle<'_, _>>)| {
            let tested = thread.and_then(|thread| {
                thread.join().map_err(|_| io::Error::other("the thread that tested it panicked"))
            });
            tested.unwrap_or_else(|error| (name, Err(Unused::Probe(ProbeError::Start(error)))))
        };
        begun.into_iter().map(end).collect()
    })
}

/// A physical device, and why it is not used if it is not.
pub(super) type Enumerated = (String, Result<Arc<PhysicalDevice>, Unused>);

/// Finds all GPUs, in this process.
pub(super) fn enumerate(wanted: &Wanted, validation: bool) -> Vec<Enumerated> {
    let devices = match physical_devices(validation) {
        Ok(devices) => devices,
        Err(unused) => return vec![(LIBRARY.to_owned(), Err(unused))],
    };
    let model =
        |physical: &Arc<PhysicalDevice>| probe::one_line(&physical.properties().device_name);
    let models: Vec<String> = devices.iter().map(model).collect();
    let names = card::names(models.iter().map(String::as_str));
    let meant = match wanted {
        Wanted::Named(part) => card::meant(part, &models, &names),
        Wanted::All | Wanted::Real => vec![true; names.len()],
    };
    let enumerated = |((name, physical), meant): ((String, Arc<PhysicalDevice>), bool)| {
        let outcome = match meant {
            true => usable(&physical, wanted).map(|()| physical),
            false => Err(Unused::NotNamed),
        };
        (name, outcome)
    };
    names.into_iter().zip(devices).zip(meant).map(enumerated).collect()
}

/// What the validation layer has said so far, in this process.
pub fn validation_messages() -> Vec<String> {
    lock::wait(&MESSAGES).clone()
}

/// Whether it looks on.
pub fn is_validating() -> bool {
    VALIDATING.load(Ordering::Relaxed)
}

fn usable(physical: &PhysicalDevice, wanted: &Wanted) -> Result<(), Unused> {
    let is_cpu = physical.properties().device_type == PhysicalDeviceType::Cpu;
    if is_cpu && matches!(wanted, Wanted::Real) {
        return Err(Unused::Cpu);
    }
    if physical.api_version() < Version::V1_3 {
        return Err(Unused::Version(physical.api_version()));
    }
    if !physical.supported_features().contains(&gpu::features()) {
        return Err(Unused::Features);
    }
    gpu::queue_family(physical).map(|_| ()).ok_or(Unused::Queue)
}

fn physical_devices(validation: bool) -> Result<Vec<Arc<PhysicalDevice>>, Unused> {
    let library = VulkanLibrary::new()?;
    let there =
        || library.layer_properties().is_ok_and(|mut all| all.any(|l| l.name() == VALIDATION));
    let validating = validation && there();
    let info = if validating { looked_on() } else { InstanceCreateInfo::default() };
    VALIDATING.fetch_or(validating, Ordering::Relaxed);
    match (validation, validating) {
        (true, true) => tracing::info!("the validation layer looks on"),
        (true, false) => tracing::warn!("there is no validation layer"),
        (false, _) => {}
    }
    let info = InstanceCreateInfo { max_api_version: Some(Version::V1_3), ..info };
    let instance = Instance::new(library, info).map_err(|error| Unused::Instance(plain(error)))?;
    let devices = instance.enumerate_physical_devices();
    let devices: Vec<_> = devices.map_err(Unused::Instance)?.collect();
    if devices.is_empty() { Err(Unused::None) } else { Ok(devices) }
}

/// An instance that the validation layer looks on.
fn looked_on() -> InstanceCreateInfo {
    let note = |severity: DebugUtilsMessageSeverity, _: DebugUtilsMessageType, message: &str| {
        tracing::error!(?severity, message, "validation");
        lock::wait(&MESSAGES).push(message.to_owned());
    };
    // SAFETY: it calls nothing of Vulkan.
    let callback = unsafe {
        DebugUtilsMessengerCallback::new(move |severity, kind, data| {
            note(severity, kind, data.message);
        })
    };
    let messenger = DebugUtilsMessengerCreateInfo {
        message_severity: DebugUtilsMessageSeverity::ERROR | DebugUtilsMessageSeverity::WARNING,
        message_type: DebugUtilsMessageType::VALIDATION | DebugUtilsMessageType::PERFORMANCE,
        ..DebugUtilsMessengerCreateInfo::user_callback(callback)
    };
    InstanceCreateInfo {
        enabled_layers: vec![VALIDATION.to_owned()],
        enabled_extensions: InstanceExtensions {
            ext_debug_utils: true,
            ext_validation_features: true,
            ..InstanceExtensions::empty()
        },
        debug_utils_messengers: vec![messenger],
        enabled_validation_features: vec![ValidationFeatureEnable::SynchronizationValidation],
        ..InstanceCreateInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A daemon's program that is asked about GPUs.
    fn program(dir: &TempDir, text: &str) -> PathBuf {
        let program = dir.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn a_driver_that_is_slow_to_list_has_less_time_for_its_test() {
        let dir = tempfile::tempdir().unwrap();
        let text = "sleep 2\n[ \"$2\" = list ] && printf 'GPU\\t\\n' || echo passed";
        let program = program(&dir, text);
        // Long enough for either.
        let probed = probe_all(&program, &Wanted::All, Duration::from_secs(3));
        let is_hung = match &probed {
            Ok(tested) => matches!(&tested[..], [(_, Err(Unused::Probe(ProbeError::Hung)))]),
            Err(error) => matches!(error, ProbeError::Hung),
        };
        assert!(is_hung, "{probed:?}");
    }

    #[test]
    fn a_driver_that_crashes_as_gpus_are_listed_is_one_that_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let crashing = program(&dir, "kill -SEGV $$");
        let found = discover(&Wanted::All, &Settings::default(), Some(&crashing));
        let [Found { name, outcome: Err(unused) }] = &found[..] else { panic!("{found:?}") };
        let reason = unused.to_string();
        assert!(name == LIBRARY && reason.contains("VK_DRIVER_FILES"), "{reason}");
    }
}
