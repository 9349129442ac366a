//! Owns what so many streams of a size need, and whether this machine and the daemon's defaults
//! have it.
//!
//! Descriptors: a connection is some in the daemon, those of its rings among them, and one in its
//! client. Memory: a ring is there as long as its stream is open, mapped once in the daemon and once
//! in the client.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use resized::{CONNECTION_DESCRIPTORS, Limits, OTHER_DESCRIPTORS, user_ring_bytes};
use resized_client::StreamSpec;
use resized_protocol::shm::RingLayout;

use super::{Finding, Place};
use crate::watch::bytes;

/// Looks at each limit, for `streams` streams of that spec, each with a connection of its own.
pub(super) fn examine(spec: &StreamSpec, streams: u64, place: Place) -> Vec<Finding> {
    let ring = match RingLayout::new(spec) {
        Ok(ring) => ring.len().get() as u64,
        Err(error) => {
            return vec![Finding::bad("streams", error.to_string(), "choose other sizes")];
        }
    };
    let need = Need { streams, ring, slots: streams * u64::from(spec.slots) };
    let (from, to) = (spec.source.extent, spec.destination.extent);
    let what = format!(
        "{streams} of {from} to {to}, {} slots each: {} a ring, {} in all",
        spec.slots,
        bytes(ring),
        bytes(need.bytes())
    );
    let mut findings = vec![Finding::good("streams", what)];
    // Of a daemon that can't be seen neither can its control groups; nobody has the number 0.
    let (daemon, takes) = match place {
        Place::Inside => (None, std::process::id()),
        Place::Here(pid) => {
            let found = "this daemon does not say what it allows: memory and quotas are what one allows by default";
            let advice = "compare its settings: its flags, else its environment, else its file, /etc/resized/resized.toml for the \
                          service";
            findings.push(Finding::note("limits", found, advice));
            (pid, pid.unwrap_or(0))
        }
        Place::Far => {
            let found =
                "whether the bridge's machine and its daemon have that can't be seen from here";
            findings.push(Finding::note("limits", found, "run 'resizectl doctor' there"));
            return findings;
        }
    };
    let available = resized::available_memory(takes);
    findings.push(need.memory(available, resized::default_ring_bytes()));
    findings.extend(need.quotas(&Limits::default()));
    findings.push(need.descriptors(daemon.and_then(|pid| limit_of(pid, "Max open files"))));
    findings.push(need.mappings(number_in("/proc/sys/vm/max_map_count")));
    findings.push(need.locked(daemon.and_then(|pid| limit_of(pid, "Max locked memory"))));
    findings
}

struct Need {
    streams: u64,
    /// Bytes of one.
    ring: u64,
    slots: u64,
}

impl Need {
    const fn bytes(&self) -> u64 {
        self.ring.saturating_mul(self.streams)
    }

    /// `all` is what the service gives all users together for rings.
    fn memory(&self, available: Option<u64>, all: u64) -> Finding {
        let (need, most) = (self.bytes(), user_ring_bytes(all));
        let fit = |memory: u64| memory / self.ring.max(1);
        match available {
            Some(available) if need > available => Finding::bad(
                "memory",
                format!(
                    "{} are available now: enough for {} such streams",
                    bytes(available),
                    fit(available)
                ),
                "close what uses memory, or use fewer streams, slots or smaller frames",
            ),
            _ if need > most => {
                let found = format!(
                    "by default a service for several users gives each {} for rings: enough for {}",
                    bytes(most),
                    fit(most)
                );
                let advice = "raise 'memory' and 'user-memory', unless they were, in /etc/resized/resized.toml, and systemctl \
                              reload resized";
                // A daemon for one user gives it all.
                let level = if need > all { Finding::bad } else { Finding::note };
                level("memory", found, advice)
            }
            available => Finding::good(
                "memory",
                format!(
                    "{} available, of which by default the service gives a user at most {} for rings",
                    available.map_or("unknown".to_owned(), bytes),
                    bytes(most)
                ),
            ),
        }
    }

    /// What each user may have.
    fn quotas(&self, limits: &Limits) -> Vec<Finding> {
        let one = |need: u64, limit: u64, what: &str, key: &str| {
            let found = format!("{need} {what}; by default a user may have {limit}");
            if need <= limit {
                return Finding::good("quota", found);
            }
            let advice = format!(
                "raise '{key}', unless it was, in /etc/resized/resized.toml, and systemctl reload resized"
            );
            Finding::bad("quota", found, advice)
        };
        vec![
            one(self.streams, limits.connections, "connections", "user-connections"),
            one(self.streams, limits.streams, "streams", "user-streams"),
            one(self.slots, limits.slots, "slots", "user-slots"),
        ]
    }

    /// `daemon` is its hard limit, to which it raises the other.
    fn descriptors(&self, daemon: Option<u64>) -> Finding {
        let need = CONNECTION_DESCRIPTORS * self.streams + OTHER_DESCRIPTORS;
        let own = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        match daemon {
            Some(limit) if need > limit => Finding::bad(
                "descriptors",
                format!("{need} in the daemon, which may have {limit}"),
                "sudo systemctl edit resized, and set LimitNOFILE= to more",
            ),
            _ if self.streams + OTHER_DESCRIPTORS > own => Finding::note(
                "descriptors",
                format!(
                    "{} in a client that has all the connections, and {own} are allowed here",
                    self.streams
                ),
                "ulimit -n more, or open several streams over one connection",
            ),
            limit => {
                let limit = limit
                    .map_or("a number that can't be seen".to_owned(), |limit| limit.to_string());
                Finding::good(
                    "descriptors",
                    format!(
                        "{need} in the daemon, which may have {limit}; one a connection in clients, here at most {own}"
                    ),
                )
            }
        }
    }

    fn mappings(&self, most: Option<u64>) -> Finding {
        // A ring is one; a thousand are for all else.
        let need = self.streams + 1024;
        match most {
            Some(most) if need > most => Finding::bad(
                "mappings",
                format!("{need} in the daemon, and a process may have {most}"),
                "sudo sysctl vm.max_map_count=262144",
            ),
            most => {
                let most =
                    most.map_or("a number that can't be seen".to_owned(), |most| most.to_string());
                Finding::good(
                    "mappings",
                    format!("one a ring, {need} in all, and a process may have {most}"),
                )
            }
        }
    }

    fn locked(&self, daemon: Option<u64>) -> Finding {
        let need = bytes(self.bytes());
        match daemon {
            Some(limit) if limit < self.bytes() => Finding::note(
                "memlock",
                format!(
                    "rings are not locked by the daemon, but may be by a GPU's driver that imports them: {need}, and \
                     {} are allowed",
                    bytes(limit)
                ),
                "only if streams are refused or GPUs 'staged': sudo systemctl edit resized, LimitMEMLOCK=infinity",
            ),
            _ => Finding::good(
                "memlock",
                format!(
                    "rings are not locked by the daemon; a GPU's driver may lock those that it imports, {need}"
                ),
            ),
        }
    }
}

fn number_in(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The hard limit of a process, see proc_pid_limits(5).
fn limit_of(pid: u32, name: &str) -> Option<u64> {
    hard(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?, name)
}

fn hard(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         8388608              unlimited            bytes     \n";
        assert_eq!(hard(text, "Max open files"), Some(524_288));
        assert_eq!(hard(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard(text, "Max cats"), None);
        assert!(limit_of(std::process::id(), "Max open files").is_some());
    }

    #[test]
    fn what_does_not_fit_is_bad_and_says_what_would() {
        let need = Need { streams: 100, ring: 1 << 30, slots: 400 };
        let scarce = need.memory(Some(10 << 30), u64::MAX);
        assert!(
            scarce.level == Level::Bad && scarce.found.contains("enough for 10 such"),
            "{scarce}"
        );
        let capped = need.memory(Some(u64::MAX), 50 << 30);
        assert!(capped.level == Level::Bad && capped.found.contains("enough for 37"), "{capped}");
        // One user alone gets it all.
        let shared = need.memory(Some(u64::MAX), 120 << 30);
        assert!(shared.level == Level::Note && shared.found.contains("enough for 90"), "{shared}");
        assert!(need.memory(Some(200 << 30), 200 << 30).level == Level::Good);
        assert!(need.descriptors(Some(631)).level == Level::Bad);
        assert!(need.descriptors(Some(632)).level != Level::Bad);
        assert!(need.mappings(Some(1000)).level == Level::Bad);
        assert!(need.mappings(Some(65_530)).level == Level::Good);
        assert!(need.locked(Some(1 << 20)).level == Level::Note);
        let limits = Limits { connections: 100, streams: 99, slots: 400, ring_bytes: u64::MAX };
        let levels = need
            .quotas(&limits)
            .iter()
            .map(|finding| finding.level == Level::Bad)
            .collect::<Vec<_>>();
        assert_eq!(levels, [false, true, false]);
    }
}
