//! Owns the order of those who take turns: numbers in a row, and how one walks along it who passes
//! over what is for others.
//!
//! Knows nothing of who they are. Invariants: a number is in a row once at the most, and is put in
//! and taken out at the same cost however long the row is; a walk passes over so many at the most,
//! and the next one goes on where it stopped, so that nobody is missed for ever.

use std::{iter, mem};

/// So many are passed over at the beginning of a row, and so many again where the walk before
/// stopped. A user may have thousands of streams that a device leaves to others, and whoever looks
/// at them holds the queue.
pub(super) const LOOKS: usize = 16;

/// Number `n` is at place `n + 1`. The ends of the row are linked to this one.
const ENDS: usize = 0;

/// Numbers in a row.
pub(super) struct Row {
    /// Of each place. One that is linked to itself is not in the row.
    links: Vec<Link>,
    len: usize,
    /// The place where a walk goes on that has passed over the first ones; `ENDS`: right behind those.
    next: usize,
}

#[derive(Clone, Copy)]
struct Link {
    before: usize,
    after: usize,
}

/// A walk along a row, from its first number to what was the last as it began.
pub(super) struct Walk {
    place: usize,
    last: usize,
    passed: usize,
}

impl Default for Row {
    fn default() -> Self {
        Self { links: vec![Link { before: ENDS, after: ENDS }], len: 0, next: ENDS }
    }
}

impl Row {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The numbers, the first one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.along(|link| link.after)
    }

    /// The last one first.
    pub(super) fn backwards(&self) -> impl Iterator<Item = usize> {
        self.along(|link| link.before)
    }

    fn along(&self, way: impl Fn(&Link) -> usize) -> impl Iterator<Item = usize> {
        let mut place = ENDS;
        iter::from_fn(move || {
            place = way(self.links.get(place)?);
            place.checked_sub(1)
        })
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
        if self.next == place {
            self.next = after;
        }
    }

    /// Takes the first number out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let first = self.iter().next()?;
        self.remove(first);
        Some(first)
    }

    pub(super) fn walk(&self) -> Walk {
        let Link { before, after } = self.links[ENDS];
        Walk { place: after, last: before, passed: 0 }
    }

    /// The number that a walk comes to next. That one may be taken out or put at the end before the
    /// next step.
    pub(super) fn step(&self, walk: &mut Walk) -> Option<usize> {
        let number = walk.place.checked_sub(1)?;
        walk.place = if walk.place == walk.last { ENDS } else { self.links[walk.place].after };
        Some(number)
    }

    /// Notes that a walk passed over the number it came to. Whether it leaves others out from there.
    pub(super) fn pass(&mut self, walk: &mut Walk) -> bool {
        walk.passed += 1;
        if walk.place == ENDS {
            if walk.passed > LOOKS {
                self.next = ENDS;
            }
            return false;
        }
        if walk.passed == LOOKS && self.next != ENDS {
            walk.place = self.next;
            return true;
        }
        if walk.passed == 2 * LOOKS {
            self.next = mem::replace(&mut walk.place, ENDS);
            return true;
        }
        false
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
        let mut backwards: Vec<_> = row.backwards().collect();
        backwards.reverse();
        assert_eq!((numbers.len(), &numbers), (row.len(), &backwards));
        numbers
    }

    /// Passes over all that a walk comes to. Whether it left others out.
    fn passed(row: &mut Row) -> (Vec<usize>, bool) {
        let (mut walk, mut passed, mut short) = (row.walk(), Vec::new(), false);
        while let Some(number) = row.step(&mut walk) {
            passed.push(number);
            short |= row.pass(&mut walk);
        }
        (passed, short)
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
    fn a_walk_passes_over_few_and_the_next_goes_on_where_it_stopped() {
        let mut row = row(0..5 * LOOKS);
        let part = |from: usize| (0..LOOKS).chain(from..from + LOOKS).collect::<Vec<_>>();
        assert_eq!(passed(&mut row), (part(LOOKS), true));
        assert_eq!(passed(&mut row), (part(2 * LOOKS), true));
        // Where it stopped is taken out, or goes to the end.
        row.remove(3 * LOOKS);
        assert_eq!(passed(&mut row), (part(3 * LOOKS + 1), true));
        row.remove(4 * LOOKS + 1);
        assert!(row.push(4 * LOOKS + 1));
        let rest = (0..LOOKS).chain(4 * LOOKS + 2..5 * LOOKS).chain([4 * LOOKS + 1]);
        assert_eq!(passed(&mut row), (rest.collect(), true));
        // From the beginning again.
        assert_eq!(passed(&mut row), (part(LOOKS), true));
    }

    #[test]
    fn few_are_all_seen() {
        for len in [0, 1, LOOKS, 2 * LOOKS] {
            let mut row = row(0..len);
            (0..3).for_each(|_| assert_eq!(passed(&mut row), ((0..len).collect(), false)));
        }
    }
}
