//! Owns the order of those who take turns: numbers in a row, and how one walks along it who changes
//! it on the way.
//!
//! Knows nothing of who they are. Invariants: a number is in a row once at the most, and is put in
//! and taken out at the same cost however long the row is, since a user may have thousands of
//! streams; a walk comes to all that were in the row as it began.

use std::{iter, mem};

/// Number `n` is at place `n + 1`. The ends of the row are linked to this one.
const ENDS: usize = 0;

/// Numbers in a row.
pub(super) struct Row {
    /// Of each place. One that is linked to itself is not in the row.
    links: Vec<Link>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Link {
    before: usize,
    after: usize,
}

/// A walk along a row, to what was its last number as the walk began.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    place: usize,
    last: usize,
}

impl Default for Row {
    fn default() -> Self {
        Self { links: vec![Link { before: ENDS, after: ENDS }], len: 0 }
    }
}

impl Row {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The numbers, the first one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let mut walk = self.walk();
        iter::from_fn(move || self.step(&mut walk))
    }

    /// Puts a number at the end. Whether it was not in the row.
    pub(super) fn push(&mut self, number: usize) -> bool {
        let place = number + 1;
        let alone = |place| Link { before: place, after: place };
        self.links.extend((self.links.len()..=place).map(alone));
        if self.links[place].after != place {
            return false;
        }
        let last = mem::replace(&mut self.links[ENDS].before, place);
        self.links[last].after = place;
        self.links[place] = Link { before: last, after: ENDS };
        self.len += 1;
        true
    }

    /// Takes a number out, if it is in the row.
    pub(super) fn remove(&mut self, number: usize) {
        let place = number + 1;
        let Some(&Link { before, after }) = self.links.get(place) else { return };
        if after == place {
            return;
        }
        self.links[before].after = after;
        self.links[after].before = before;
        self.links[place] = Link { before: place, after: place };
        self.len -= 1;
    }

    /// Takes the first number out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let first = self.iter().next()?;
        self.remove(first);
        Some(first)
    }

    /// From the first number on.
    pub(super) fn walk(&self) -> Walk {
        let Link { before, after } = self.links[ENDS];
        Walk { place: after, last: before }
    }

    /// From a number in the row on.
    pub(super) fn walk_from(&self, number: usize) -> Walk {
        Walk { place: number + 1, ..self.walk() }
    }

    /// The number that a walk comes to next. That one may be taken out or put at the end before the
    /// next step.
    pub(super) fn step(&self, walk: &mut Walk) -> Option<usize> {
        let number = walk.place.checked_sub(1)?;
        walk.place = if walk.place == walk.last { ENDS } else { self.links[walk.place].after };
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(numbers: impl IntoIterator<Item = usize>) -> Row {
        let mut row = Row::default();
        assert!(numbers.into_iter().all(|number| row.push(number)));
        row
    }

    fn numbers(row: &Row) -> Vec<usize> {
        let numbers: Vec<_> = row.iter().collect();
        assert_eq!(numbers.len(), row.len());
        numbers
    }

    #[test]
    fn numbers_go_in_once_at_the_end_and_out_anywhere() {
        let mut row = row([4, 0, 2, 7]);
        assert!(!row.push(2));
        assert_eq!(numbers(&row), [4, 0, 2, 7]);
        [2, 4, 3, 99].into_iter().for_each(|number| row.remove(number));
        assert_eq!(numbers(&row), [0, 7]);
        assert!(row.push(2) && row.push(3));
        assert_eq!((row.pop(), row.pop(), numbers(&row)), (Some(0), Some(7), vec![2, 3]));
        assert_eq!((row.pop(), row.pop(), row.pop(), row.len()), (Some(2), Some(3), None, 0));
    }

    #[test]
    fn a_walk_ends_at_what_was_the_last_whatever_is_put_behind_it() {
        let mut row = row(0..4);
        let (mut walk, mut seen) = (row.walk(), Vec::new());
        while let Some(number) = row.step(&mut walk) {
            seen.push(number);
            row.remove(number);
            assert!(number == 2 || row.push(number));
        }
        assert_eq!((seen, numbers(&row)), (vec![0, 1, 2, 3], vec![0, 1, 3]));
        assert!(Row::default().step(&mut Row::default().walk()).is_none());
    }

    #[test]
    fn a_walk_begins_anywhere() {
        let row = row(0..5);
        let mut walk = row.walk_from(3);
        let seen: Vec<_> = iter::from_fn(|| row.step(&mut walk)).collect();
        assert_eq!(seen, [3, 4]);
    }
}
