//! Owns what is said of this machine: what the kernel tells of it.

use std::fs;
use std::thread;

/// A machine.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    pub(crate) kernel: String,
    /// Name of the distribution.
    pub(crate) system: String,
}

impl Machine {
    /// This one. What it does not tell is "unknown".
    pub(crate) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let known = |text: Option<&str>| text.unwrap_or("unknown").to_owned();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let (kernel, system) = (read("/proc/sys/kernel/osrelease"), read("/etc/os-release"));
        let name = value(&system, "PRETTY_NAME", '=').map(|name| name.trim_matches('"'));
        let kernel = Some(kernel.trim()).filter(|kernel| !kernel.is_empty());
        Self {
            // ARM's kernels name no model.
            cpu: known(value(&cpus, "model name", ':').or(Some(std::env::consts::ARCH))),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: value(&memory, "MemTotal", ':').and_then(kibibytes),
            kernel: known(kernel),
            system: known(name),
        }
    }
}

/// The value of the first line with this name.
fn value<'a>(lines: &'a str, name: &str, separator: char) -> Option<&'a str> {
    let mut pairs = lines.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let cpus =
            "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(value(cpus, "model name", ':'), Some("AMD EPYC"));
        assert_eq!(
            value("MemTotal:       24001 kB", "MemTotal", ':').and_then(kibibytes),
            Some(24001 * 1024)
        );
        assert_eq!(value("a=b", "c", '='), None);
        assert_eq!(kibibytes("many"), None);
        let this = Machine::this();
        assert!(
            this.cores > 0 && this.memory.is_some_and(|bytes| bytes > 1 << 20),
            "{:?}",
            this.memory
        );
        assert!(this.kernel.starts_with(|first: char| first.is_ascii_digit()), "{}", this.kernel);
    }
}
