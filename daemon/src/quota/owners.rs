//! Owns whose the ids are that a user may take at will: those that /etc/subuid, see subuid(5), lends it for containers and
//! other user namespaces. Whoever has such ids could be 65,536 users, and is one.
//!
//! Knows no accounts. Invariants: an id that nobody was lent is its own; of lines that say different things about an id the
//! first counts; a line that says nothing that can be is passed over. What root was lent goes to those for whom it runs
//! containers, not to itself: each container's worth of it, [`CONTAINER`] ids, is one user.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use nix::unistd::User;

const FILE: &str = "/etc/subuid";

/// Ids of a container: as many as there are of 16 bits. Root has such ranges handed out one after the other (LXD, Incus).
const CONTAINER: u32 = 1 << 16;

/// Whose lent ids are.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    lent: Vec<(RangeInclusive<u32>, u32)>,
}

impl Owners {
    /// As the system says now. What can't be read lends nothing.
    pub(crate) fn read() -> Self {
        // The names in it may have been written by anything.
        let text = std::fs::read(FILE).unwrap_or_default();
        let account =
            |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        let owners = Self::parse(&String::from_utf8_lossy(&text), account);
        tracing::debug!(ranges = owners.lent.len(), "read {FILE}");
        owners
    }

    /// `account` has the numbers of those who have a name.
    fn parse(text: &str, account: impl Fn(&str) -> Option<u32>) -> Self {
        let mut known = HashMap::new();
        let lent = |line| {
            let (name, ids) = range(line)?;
            // A name may also be a number.
            let owner = known.entry(name).or_insert_with(|| account(name).or(name.parse().ok()));
            Some((ids, (*owner)?))
        };
        Self { lent: text.lines().filter_map(lent).collect() }
    }

    /// As those lines say, in which names are numbers.
    #[cfg(test)]
    pub(super) fn of_lines(text: &str) -> Self {
        Self::parse(text, |_| None)
    }

    /// The user to whom this one was lent, or itself. Of root's, the first of the same container.
    pub(super) fn of(&self, uid: u32) -> u32 {
        match self.lent.iter().find(|(ids, _)| ids.contains(&uid)) {
            Some((ids, 0)) => uid - (uid - ids.start()) % CONTAINER,
            Some((_, owner)) => *owner,
            None => uid,
        }
    }
}

/// A line: name, first id, number of ids.
fn range(line: &str) -> Option<(&str, RangeInclusive<u32>)> {
    let mut parts = line.trim().split(':');
    let (name, first, count) = (parts.next()?, parts.next()?, parts.next()?);
    if name.is_empty() || parts.next().is_some() {
        return None;
    }
    let (first, count): (u32, u64) = (first.parse().ok()?, count.parse().ok()?);
    // As far as there are ids.
    let last = u64::from(first).saturating_add(count.checked_sub(1)?);
    Some((name, first..=u32::try_from(last).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(text: &str) -> Owners {
        Owners::parse(text, |name| match name {
            "alice" => Some(1000),
            "bob" => Some(1001),
            "7" => Some(1007),
            _ => None,
        })
    }

    #[test]
    fn an_id_is_its_owners_or_its_own() {
        let owners = owners("alice:100000:65536\nbob:165536:65536\n1002:300000:1\n7:400000:2");
        let whose = |ids: &[u32]| ids.iter().map(|&id| owners.of(id)).collect::<Vec<_>>();
        assert_eq!(whose(&[100_000, 165_535, 1000]), [1000; 3]);
        assert_eq!(whose(&[165_536, 231_071]), [1001; 2]);
        assert_eq!(whose(&[300_000, 400_001]), [1002, 1007]);
        for own in [0, 99_999, 231_072, 299_999, 300_001, u32::MAX] {
            assert_eq!(owners.of(own), own);
        }
        assert_eq!(Owners::default().of(100_000), 100_000);
    }

    #[test]
    fn what_root_was_lent_is_a_user_for_each_container() {
        let owners = Owners::of_lines("0:1000000:1000000000");
        let whose = [1_000_000, 1_065_535, 1_065_536, 1_131_072].map(|id| owners.of(id));
        assert_eq!(whose, [1_000_000, 1_000_000, 1_065_536, 1_131_072]);
        assert_eq!([0, 999_999].map(|id| owners.of(id)), [0, 999_999]);
    }

    #[test]
    fn lines_that_can_not_be_lend_nothing_and_spoil_no_others() {
        let bad = [
            "",
            ":",
            "::",
            "alice",
            "alice:5",
            "alice:5:",
            "alice::5",
            ":5:5",
            "alice:5:0",
            "alice:-1:9",
            "alice:5:-1",
            "alice:4294967296:1",
            "alice:x:y",
            "alice:5:5:5",
            "nobody-known:5:5",
            "# alice:5:5",
            "alice:5:99999999999999999999",
            "\u{fffd}\u{0}:5:5",
            "alice:0x5:5",
        ];
        let text = bad.join("\n") + "\n\n  alice:100000:10\t\r\n" + "bob:100005:10";
        let owners = owners(&text);
        assert_eq!(owners.lent.len(), 2);
        assert_eq!(owners.of(5), 5);
        // The first counts where two say something.
        assert_eq!([99_999, 100_009, 100_014].map(|id| owners.of(id)), [99_999, 1000, 1001]);
    }

    #[test]
    fn a_range_ends_where_ids_do() {
        for count in ["5", "4294967295", "18446744073709551615"] {
            let owners = owners(&format!("alice:4294967290:{count}"));
            assert_eq!([4_294_967_290, 4_294_967_294].map(|id| owners.of(id)), [1000; 2]);
            assert_eq!(owners.of(4_294_967_289), 4_294_967_289);
        }
    }

    #[test]
    fn what_this_system_says_is_read() {
        let owners = Owners::read();
        assert_eq!(owners.of(0), 0, "{owners:?}");
    }
}
