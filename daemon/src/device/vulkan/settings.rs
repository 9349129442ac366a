//! Owns which GPUs are used, and how, as flags, the environment and tests say.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::device::Fault;

/// Environment variable that says how frames reach a GPU: `direct`, `copied`, `both-ways` or
/// `staged`. Anything else is warned of, and leaves it to the device.
const TRANSFER_VARIABLE: &str = "RESIZED_VULKAN_TRANSFER";

/// Environment variable that turns the validation layer on, if it is there, synchronization
/// included: its messages go to the log.
const VALIDATION_VARIABLE: &str = "RESIZED_VULKAN_VALIDATION";

/// Environment variable for tests: `lost:N`, `timed-out:N` or `memory:N`. After every N frames a GPU reports
/// this.
const FAULT_VARIABLE: &str = "RESIZED_VULKAN_FAULT";

/// Environment variable for tests: a CPU that poses as a GPU is used beside the cores, as a GPU would be.
const POSING_VARIABLE: &str = "RESIZED_VULKAN_POSING";

/// Which GPUs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All, CPU implementations too.
    All,
    /// Those that are no CPU.
    Real,
    /// Those whose names hold this, whatever they are.
    Named(String),
}

/// How frames reach a GPU, and results the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// Shaders read and write the ring itself.
    Direct,
    /// The ring is imported. The copy engine brings a frame to the GPU's own memory, each byte
    /// once; shaders write the result into the ring, each byte once too.
    Copied,
    /// As [`Copied`](Self::Copied), but shaders write the result to the GPU's own memory, and the
    /// copy engine brings it back.
    BothWays,
    /// The ring can't be imported: a core copies frames to memory that both reach, and results back.
    Staged,
}

/// No way by which frames reach a GPU.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("'{0}' is none of: direct, copied, both-ways, staged")]
pub struct UnknownTransfer(String);

impl FromStr for Transfer {
    type Err = UnknownTransfer;

    fn from_str(name: &str) -> Result<Self, UnknownTransfer> {
        match name {
            "direct" => Ok(Self::Direct),
            "copied" => Ok(Self::Copied),
            "both-ways" => Ok(Self::BothWays),
            "staged" => Ok(Self::Staged),
            _ => Err(UnknownTransfer(name.to_owned())),
        }
    }
}

/// How GPUs are used, beside which.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How frames reach them; measured, where that may differ, if not given.
    pub transfer: Option<Transfer>,
    /// Have the validation layer look on.
    pub validation: bool,
    /// For tests: take a CPU that poses as a GPU for a real one.
    pub posing: bool,
    /// For tests: submit copies apart from shaders, as where the copy engine has a queue of its own.
    pub copies_apart: bool,
    /// For tests: leave out the extension by which rings are imported, as where a driver has none.
    pub imports_nothing: bool,
    /// For tests: how long a frame may take before it is taken for lost.
    pub patience: Option<Duration>,
    /// For tests: measure the ways that frames may reach it, as on a GPU beyond a bus.
    pub measure: bool,
    /// For tests: after so many frames it reports this, and again after as many more.
    pub fault_every: Option<(Fault, u64)>,
}

impl Settings {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let transfer = std::env::var_os(TRANSFER_VARIABLE).filter(|name| !name.is_empty());
        let transfer = transfer.and_then(|name| match name.to_string_lossy().parse() {
            Ok(transfer) => Some(transfer),
            Err(error) => {
                tracing::warn!(%error, "${TRANSFER_VARIABLE} changes nothing");
                None
            }
        });
        let is_on = |variable| std::env::var_os(variable).is_some_and(|value| value != "0");
        let fault = std::env::var(FAULT_VARIABLE).ok();
        Self {
            transfer,
            validation: is_on(VALIDATION_VARIABLE),
            posing: is_on(POSING_VARIABLE),
            fault_every: fault.as_deref().and_then(fault_every),
            ..Self::default()
        }
    }
}

/// A fault, and after how many frames it comes.
fn fault_every(text: &str) -> Option<(Fault, u64)> {
    let (fault, every) = text.split_once(':')?;
    let fault = match fault {
        "lost" => Fault::Lost,
        "timed-out" => Fault::TimedOut,
        "memory" => Fault::Memory,
        _ => return None,
    };
    Some((fault, every.parse().ok().filter(|&every| every > 0)?))
}
