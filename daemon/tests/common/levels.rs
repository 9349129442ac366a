//! Owns what becomes of tests of a level that this machine's CPU lacks: that is said once, or fails where
//! the level has to be there, by the kernel's word (the Makefile): ours is what is tested.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::skip::skip;

/// What was made for the level of this name, unless the CPU lacks that.
#[track_caller]
pub(crate) fn if_there<T>(level: &'static str, made: Option<T>) -> Option<T> {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if made.is_none() {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains(level) {
            skip(level, &format!("this CPU has no {level}"));
            said.insert(level);
        }
    }
    made
}
