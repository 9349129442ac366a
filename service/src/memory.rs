//! Owns what there is of memory: the machine's, and what the control groups that this process is in
//! leave of it. Linux does not refuse memory that is not there, it kills somebody for it, in a
//! group with a limit this process first.
//!
//! Knows files, no accounts. See proc(5), and the kernel's cgroup-v2.rst and cgroup-v1/memory.rst.
//! What can't be read limits nothing.

use std::path::{Path, PathBuf};

use nix::sys::sysinfo::sysinfo;

/// Where the system says what there is.
struct Places<'a> {
    proc: &'a Path,
    groups: &'a Path,
}

impl Places<'static> {
    fn real() -> Self {
        Self { proc: Path::new("/proc"), groups: Path::new("/sys/fs/cgroup") }
    }
}

/// Bytes of memory that this process could have at the most.
pub fn total() -> Option<u64> {
    // Said also to services that see nothing of proc but processes.
    let machine = sysinfo().ok().map(|info| info.ram_total());
    Places::real().total().into_iter().chain(machine).min()
}

/// Bytes of memory that may be taken now.
pub fn available() -> Option<u64> {
    Places::real().available("self")
}

/// Bytes of memory that the process of that number may take now, as far as its control groups can
/// be seen; what a daemon refuses for want of memory is more than that.
pub fn available_memory(process: u32) -> Option<u64> {
    Places::real().available(&process.to_string())
}

/// Bytes of shared memory that this process has mapped and that are there: neither given back by whoever may, nor moved to
/// where the system swaps.
pub fn shared() -> Option<u64> {
    Places::real().shared()
}

/// Mappings of memory that a process may have.
pub fn mappings() -> Option<u64> {
    number(Path::new("/proc/sys/vm/max_map_count"))
}

/// A control group's memory: its limit, and what of it is in use and can't be had back by dropping
/// files.
struct Group {
    limit: u64,
    used: u64,
}

impl Places<'_> {
    fn total(&self) -> Option<u64> {
        let limits = self.groups("self").into_iter().map(|group| group.limit);
        limits.chain(self.figure("meminfo", "MemTotal:")).min()
    }

    fn available(&self, process: &str) -> Option<u64> {
        let left =
            self.groups(process).into_iter().map(|group| group.limit.saturating_sub(group.used));
        left.chain(self.figure("meminfo", "MemAvailable:")).min()
    }

    fn shared(&self) -> Option<u64> {
        self.figure("self/status", "RssShmem:")
    }

    /// One of the figures in a file of proc's, in bytes.
    fn figure(&self, file: &str, key: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.proc.join(file)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    }

    /// The groups that a process is in, from its own to the outermost that can be seen.
    fn groups(&self, process: &str) -> Vec<Group> {
        let file = self.proc.join(process).join("cgroup");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().flat_map(|line| self.groups_of(line)).collect()
    }

    /// A line of proc's `cgroup`: hierarchy, controllers, path.
    fn groups_of(&self, line: &str) -> Vec<Group> {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(controllers), Some(path)) => (controllers, path),
            _ => return Vec::new(),
        };
        let (root, read): (PathBuf, fn(&Path) -> Option<Group>) = match controllers {
            "" => (self.groups.to_owned(), Group::second),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (self.groups.join(controllers), Group::first)
            }
            _ => return Vec::new(),
        };
        // In a container the path may be the host's, and only its end, or nothing of it, be seen.
        let own = root.join(path.trim_start_matches('/'));
        let seen = own.ancestors().take_while(|place| place.starts_with(&root));
        seen.filter_map(read).collect()
    }
}

impl Group {
    /// Of the second version of control groups.
    fn second(place: &Path) -> Option<Self> {
        let used = number(&place.join("memory.current"))?;
        Some(Self::new(place, number(&place.join("memory.max"))?, used, "inactive_file"))
    }

    /// Of the first.
    fn first(place: &Path) -> Option<Self> {
        let used = number(&place.join("memory.usage_in_bytes"))?;
        let limit = number(&place.join("memory.limit_in_bytes"))?;
        Some(Self::new(place, limit, used, "total_inactive_file"))
    }

    fn new(place: &Path, limit: u64, used: u64, files: &str) -> Self {
        let stat = std::fs::read_to_string(place.join("memory.stat")).unwrap_or_default();
        let value = |line: &str| line.strip_prefix(files)?.trim().parse::<u64>().ok();
        let dropped = stat.lines().find_map(value).unwrap_or(0);
        Self { limit, used: used.saturating_sub(dropped) }
    }
}

/// A file's number; the word `max` is none.
fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system of these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn read(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let dir = system(files);
        let (proc, groups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let places = Places { proc: &proc, groups: &groups };
        (places.total(), places.available("self"))
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:  8000 kB\nMemFree: 9 kB\nMemAvailable:  5000 kB\n");

    #[test]
    fn without_groups_it_is_the_machines() {
        assert_eq!(read(&[]), (None, None));
        assert_eq!(read(&[MEMINFO]), (Some(8000 << 10), Some(5000 << 10)));
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("cgroup/a/memory.max", "max\n"),
            ("cgroup/a/memory.current", "4096\n"),
        ];
        assert_eq!(read(&unlimited), (Some(8000 << 10), Some(5000 << 10)));
    }

    #[test]
    fn what_a_process_shares_is_what_is_there_of_it() {
        let dir = system(&[("proc/self/status", "VmSize:\t 900 kB\nRssShmem:\t     32 kB\n")]);
        let (proc, groups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        assert_eq!(Places { proc: &proc, groups: &groups }.shared(), Some(32 << 10));
        assert_eq!(Places { proc: &groups, groups: &groups }.shared(), None);
        assert!(shared().is_some());
    }

    #[test]
    fn the_tightest_group_counts_and_files_can_be_dropped() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "1:name=systemd:/x\n0::/outer/inner\n"),
            ("cgroup/outer/memory.max", "2000000\n"),
            ("cgroup/outer/memory.current", "1900000\n"),
            ("cgroup/outer/inner/memory.max", "1000000\n"),
            ("cgroup/outer/inner/memory.current", "600000\n"),
            ("cgroup/outer/inner/memory.stat", "anon 5\ninactive_file 300000\n"),
        ];
        assert_eq!(read(&files), (Some(1_000_000), Some(100_000)));
    }

    #[test]
    fn another_process_has_groups_of_its_own() {
        let dir = system(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/7/cgroup", "0::/b\n"),
            ("cgroup/a/memory.max", "1000\n"),
            ("cgroup/a/memory.current", "100\n"),
            ("cgroup/b/memory.max", "2000\n"),
            ("cgroup/b/memory.current", "100\n"),
        ]);
        let (proc, groups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let places = Places { proc: &proc, groups: &groups };
        let available = ["self", "7", "8"].map(|process| places.available(process));
        assert_eq!(available, [Some(900), Some(1900), Some(5000 << 10)]);
    }

    #[test]
    fn the_first_version_and_what_a_container_sees_of_it() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpuset:/\n0::/\n"),
            ("cgroup/memory/memory.limit_in_bytes", "3000000\n"),
            ("cgroup/memory/memory.usage_in_bytes", "3500000\n"),
            ("cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 1000000\n"),
        ];
        assert_eq!(read(&files), (Some(3_000_000), Some(500_000)));
    }
}
