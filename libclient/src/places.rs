//! Owns which places of a service were tried in one search for a daemon.
//!
//! Knows nothing of how they are asked for. Invariant: a place that was tried is not given again while one
//! that was not is offered.

#[cfg(feature = "nats")]
use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::lock::lock;

/// Most that are remembered: whoever answers there may do so without end.
#[cfg(feature = "nats")]
const MOST: usize = 1024;

/// Places of a service, by where they are. A bridge that is always the same is none.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    #[cfg(feature = "nats")]
    tried: BTreeSet<String>,
    others: bool,
}

impl Places {
    /// Whether, beside the place that was given last, there are others that were not tried.
    pub(crate) fn has_others(&self) -> bool {
        lock(&self.0).others
    }
}

#[cfg(feature = "nats")]
impl Places {
    /// Nothing is known of what there is now.
    pub(crate) fn forget_others(&self) {
        lock(&self.0).others = false;
    }

    /// Gives what is chosen of those offers that are at places that were not tried; of all, if there are
    /// none such.
    pub(crate) fn give<T>(
        &self,
        mut offers: Vec<T>,
        at: impl Fn(&T) -> &str,
        choice: impl FnOnce(Vec<T>) -> Option<T>,
    ) -> Option<T> {
        let mut given = lock(&self.0);
        if given.tried.len() == MOST {
            given.tried.clear();
        }
        let untried = offers.iter().map(&at).filter(|place| !given.tried.contains(*place));
        let untried: BTreeSet<_> = untried.map(str::to_owned).collect();
        if untried.is_empty() {
            given.tried.clear();
        } else {
            offers.retain(|offer| untried.contains(at(offer)));
        }
        given.others = untried.len() > 1;
        let chosen = choice(offers)?;
        given.tried.insert(at(&chosen).to_owned());
        Some(chosen)
    }
}

#[cfg(all(test, feature = "nats"))]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_tried_before_any_is_tried_again() {
        let places = Places::default();
        let next = |offers: &[&'static str]| {
            let given = places.give(offers.to_vec(), |offer| offer, |mut offers| offers.pop());
            (given, places.has_others())
        };
        let all = ["a", "b", "b", "c"];
        assert_eq!(next(&all), (Some("c"), true));
        assert_eq!(next(&all), (Some("b"), true));
        assert_eq!(next(&["b", "c"]), (Some("c"), false));
        assert_eq!(next(&["b", "c", "a"]), (Some("a"), true));
        places.forget_others();
        assert!(!places.has_others());
        assert_eq!(next(&[]), (None, false));
    }
}
