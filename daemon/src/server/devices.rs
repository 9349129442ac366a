//! Owns the choice of devices: what was asked for, what there is, and why each is used or not.
//!
//! Knows devices by their kinds; nothing of sessions. Invariant: with [`Devices::Auto`] nothing that is
//! missing or broken about a GPU keeps the daemon from starting.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::thread;

use thiserror::Error;

use crate::device::Device;
use crate::device::cpu::Cpu;
use crate::device::fleet::MAX_DEVICES;
use crate::device::null::Null;
use crate::device::vulkan::{Found, Settings, Wanted, discover};

/// What resizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// Every core.
    #[default]
    Cpu,
    /// Every core and every GPU, but no CPU that poses as one.
    Auto,
    /// Every GPU, or those whose names hold this; the cores do what no GPU can. It is an error if
    /// there is none.
    Vulkan(Option<String>),
    /// Nothing: frames complete untouched. For measuring the rest.
    Null,
}

/// Something that is no choice of devices.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is none of: auto, cpu, vulkan, vulkan:NAME, null")]
pub struct UnknownDevices(String);

impl FromStr for Devices {
    type Err = UnknownDevices;

    fn from_str(text: &str) -> Result<Self, UnknownDevices> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "vulkan" => Ok(Self::Vulkan(None)),
            None if text == "null" => Ok(Self::Null),
            Some(("vulkan", name)) if !name.is_empty() => Ok(Self::Vulkan(Some(name.to_owned()))),
            _ => Err(UnknownDevices(text.to_owned())),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Vulkan(None) => f.write_str("vulkan"),
            Self::Vulkan(Some(name)) => write!(f, "vulkan:{name}"),
            Self::Null => f.write_str("null"),
        }
    }
}

/// A device, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// Whether it is used.
    pub used: bool,
    /// How, or why not.
    pub reason: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = if self.used { "used" } else { "not used" };
        write!(f, "{}: {used}: {}", self.name, self.reason)
    }
}

/// Devices as they were chosen.
pub(super) struct Chosen {
    pub(super) devices: Vec<Box<dyn Device>>,
    /// The number of the one that takes only what no other can.
    pub(super) reserve: Option<usize>,
    pub(super) explained: Vec<Explained>,
}

/// Finds and opens devices. `program` is the daemon's own, to test GPUs in; without it only those
/// are used that are asked for: a program that embeds the daemon would go down with a driver.
pub(super) fn choose(wanted: &Devices, program: Option<&Path>) -> Chosen {
    let mut chosen = Chosen { devices: Vec::new(), reserve: None, explained: Vec::new() };
    let settings = Settings::from_environment();
    let real = if settings.posing { Wanted::All } else { Wanted::Real };
    match wanted {
        Devices::Null => chosen.add(Box::new(Null), "frames complete untouched".to_owned()),
        Devices::Cpu => chosen.add_cores(""),
        Devices::Auto => {
            chosen.add_cores("");
            if program.is_some() {
                chosen.add_gpus(&real, &settings, program);
            } else {
                let reason = "an embedded daemon has no process to test them in".to_owned();
                chosen.explained.push(Explained { name: "GPUs".into(), used: false, reason });
            }
        }
        Devices::Vulkan(name) => {
            chosen.add_cores(", for what no GPU can do");
            chosen.reserve = Some(0);
            let wanted = name.clone().map_or(real, Wanted::Named);
            chosen.add_gpus(&wanted, &settings, program);
        }
    }
    chosen
}

impl Chosen {
    fn add(&mut self, device: Box<dyn Device>, reason: String) {
        let (name, used) = (device.name().to_owned(), self.devices.len() < MAX_DEVICES);
        if used {
            self.explained.push(Explained { name, used, reason });
            self.devices.push(device);
        } else {
            let reason = format!("there are {MAX_DEVICES} devices already");
            self.explained.push(Explained { name, used, reason });
        }
    }

    fn add_cores(&mut self, purpose: &str) {
        let cpu = Cpu::new(thread::available_parallelism().map_or(1, usize::from));
        let reason = format!("{} lanes, {:?}{purpose}", cpu.lanes(), cpu.level());
        self.add(Box::new(cpu), reason);
    }

    fn add_gpus(&mut self, wanted: &Wanted, settings: &Settings, program: Option<&Path>) {
        for Found { name, outcome } in discover(wanted, settings, program) {
            match outcome {
                Ok(gpu) => {
                    let room = gpu.memory().unwrap_or(0) >> 20;
                    let (lanes, transfer) = (gpu.lanes(), gpu.transfer());
                    let reason =
                        format!("{lanes} frames at once; {room} MiB for streams; {transfer}");
                    self.add(Box::new(gpu), reason);
                }
                Err(unused) => {
                    let reason = unused.to_string();
                    self.explained.push(Explained { name, used: false, reason });
                }
            }
        }
    }

    /// Whether there is no GPU beside the cores in reserve.
    pub(super) fn lacks_gpus(&self) -> bool {
        self.reserve.is_some() && self.devices.len() < 2
    }
}

/// What a daemon with these devices would use, and what not, and why.
pub fn explain(wanted: &Devices, program: Option<&Path>) -> Vec<Explained> {
    choose(wanted, program).explained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_written_as_they_are_read() {
        let named = Devices::Vulkan(Some("RTX 4090: a: b".into()));
        for devices in [Devices::Cpu, Devices::Auto, Devices::Vulkan(None), named, Devices::Null] {
            assert_eq!(devices.to_string().parse(), Ok(devices));
        }
        for text in ["", "gpu", "vulkan:", "Auto", "cpu:1", "null:"] {
            assert!(text.parse::<Devices>().is_err(), "{text}");
        }
    }

    #[test]
    fn devices_beyond_the_most_there_may_be_are_not_used() {
        let mut chosen = Chosen { devices: Vec::new(), reserve: None, explained: Vec::new() };
        (0..=MAX_DEVICES).for_each(|_| chosen.add(Box::new(Null), String::new()));
        assert_eq!(chosen.devices.len(), MAX_DEVICES);
        let (last, others) = chosen.explained.split_last().unwrap();
        assert!(others.iter().all(|device| device.used) && !last.used, "{last}");
    }

    #[test]
    fn an_embedded_daemon_leaves_gpus_alone_unless_told() {
        let explained = explain(&Devices::Auto, None);
        assert_eq!(explained.iter().map(|device| device.used).collect::<Vec<_>>(), [true, false]);
    }
}
