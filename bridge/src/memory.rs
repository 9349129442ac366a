//! Owns what there is of memory: the machine's, or what the control groups that this process is in
//! have as their limit (cgroup-v2.rst). What can't be read limits nothing.

use std::path::Path;

use nix::sys::sysinfo::sysinfo;

/// Bytes that this process could have at the most, if that is known.
pub(crate) fn total() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = sysinfo().ok().map(|info| info.ram_total());
    limit(Path::new("/sys/fs/cgroup"), &own).into_iter().chain(machine).min()
}

/// The least of the group's that a process says it is in, and of those around it.
fn limit(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = root.join(path);
    let seen = group.ancestors().take_while(|place| place.starts_with(root));
    let limit = |place: &Path| std::fs::read_to_string(place.join("memory.max")).ok();
    // The word `max` is none.
    seen.filter_map(|place| limit(place)?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("outer/inner");
        std::fs::create_dir_all(&group).unwrap();
        let own = "1:cpu:/elsewhere\n0::/outer/inner\n";
        assert_eq!(limit(root.path(), own), None);
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(root.path(), own), None);
        std::fs::write(root.path().join("outer/memory.max"), "4096\n").unwrap();
        assert_eq!(limit(root.path(), own), Some(4096));
        std::fs::write(group.join("memory.max"), "8192\n").unwrap();
        assert_eq!(limit(root.path(), own), Some(4096));
        assert_eq!(limit(root.path(), ""), None);
        assert!(total().is_some());
    }
}
