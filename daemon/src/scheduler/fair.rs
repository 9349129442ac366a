//! Owns the order in which waiting jobs are taken: fair in pixels, at what those cost, over users,
//! and over each user's streams.
//!
//! Knows no devices: whoever takes a job says which jobs it takes, and looks at the first of each
//! stream; those that are passed over keep their places. Surplus round robin, a deficit round robin
//! that spends before it saves (Shreedhar and Varghese, "Efficient Fair Queueing using Deficit
//! Round Robin", SIGCOMM 1995): a turn goes on until its owner has had more than its part, and the
//! surplus is taken off its next turns. Whoever had nothing waiting goes ahead of the others with
//! one frame, much as in FQ-CoDel (RFC 8290), and owes it too: so one frame at a time comes through
//! quickly whatever else waits. In a crowd only those go ahead who owe nothing; and a turn goes on
//! beyond its part, on loan, so that a client's frames are done in a row.
//!
//! Invariants: a job pushed is taken or withdrawn once, those of one stream in their order; while
//! all of them have jobs waiting no two of a round are further apart than a turn, its loan and
//! their largest frame; those who go ahead get half of all pixels at the most, and one
//! frame; beside a single other up to two thirds, since their own turns come round as often.

mod row;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;

use crate::job::{Job, StreamId};
use crate::metrics::ClientId;
use row::{Row, Walk};

/// Pixels of a turn: about half a 1080p frame.
const QUANTUM: i64 = 1 << 20;

/// Among so many users, or clients of the only one, there is enough to do while one of them has nothing in flight.
const COMPANY: usize = 4;

/// So many users, or streams of one user, are a crowd, whose turns may go on for a quantum more; each as many
/// more for another, up to some seven 1080p frames.
const CROWD: usize = 16;
const MOST_LENT: usize = 16;

/// All waiting jobs.
#[derive(Default)]
pub(super) struct Fair {
    users: Round<u32, Round<StreamId, VecDeque<Job>>>,
}

impl Fair {
    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.users.waiting()
    }

    /// Whether one of this user's clients may be told of its frames when all are done, as several
    /// take turns: other users, or clients of this one.
    pub(super) fn is_in_company(&self, user: u32) -> bool {
        let streams = self.users.get(user);
        self.users.turns.len() >= COMPANY
            // Of the first ones: this is asked for each frame, and a client may have any number of
            // streams.
            || streams.is_some_and(|user| {
                let ids = user.turns.iter().take(CROWD).map(|number| user.entries[number].key);
                are_company(ids.map(|id| id.client))
            })
    }

    /// Adds jobs of one stream.
    pub(super) fn push(&mut self, stream: StreamId, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut jobs = jobs.peekable();
        let Some(weight) = jobs.peek().map(Job::weight) else { return };
        let count = jobs.len();
        let streams = self.users.enter(stream.user, 1, count);
        streams.enter(stream, weight, count).extend(jobs);
    }

    /// Takes the next job of those that are `wanted`.
    pub(super) fn next(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<Job> {
        self.users.take(wanted).map(|(job, _)| job)
    }

    /// The job whose turn it is.
    pub(super) fn first(&self) -> Option<&Job> {
        self.users.first()
    }

    /// Takes back all jobs of a stream, and forgets it; not what its user owes, or the next stream would
    /// go ahead again.
    pub(super) fn withdraw(&mut self, stream: StreamId) -> VecDeque<Job> {
        let Some(&user) = self.users.numbers.get(&stream.user) else { return VecDeque::new() };
        let jobs = self.users.entries[user].line.remove(stream).unwrap_or_default();
        self.users.waiting -= jobs.len();
        self.users.rest(user);
        jobs
    }
}

/// Whether so many are different.
fn are_company(clients: impl Iterator<Item = ClientId>) -> bool {
    let mut seen = [None; COMPANY];
    for client in clients {
        let place = seen.iter_mut().find(|seen| seen.is_none_or(|seen| seen == client));
        place.into_iter().for_each(|place| *place = Some(client));
        if seen[COMPANY - 1].is_some() {
            return true;
        }
    }
    false
}

/// What takes turns: jobs in a row, or those who have such.
trait Line: Default {
    fn waiting(&self) -> usize;

    /// The job whose turn it is.
    fn first(&self) -> Option<&Job>;

    /// Whether a job is wanted of those that may be next.
    fn offers(&self, wanted: &dyn Fn(&Job) -> bool) -> bool;

    /// The next job of those that are wanted, and the pixels it costs.
    fn take(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)>;

    /// Nothing waits: nobody owes anybody.
    fn settle(&mut self);

    /// Whether it has nobody left whose jobs may wait.
    fn is_over(&self) -> bool;
}

impl Line for VecDeque<Job> {
    fn waiting(&self) -> usize {
        self.len()
    }

    fn first(&self) -> Option<&Job> {
        self.front()
    }

    fn offers(&self, wanted: &dyn Fn(&Job) -> bool) -> bool {
        self.front().is_some_and(wanted)
    }

    fn take(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        let job = if self.offers(wanted) { self.pop_front()? } else { return None };
        let cost = job.charge();
        Some((job, i64::try_from(cost).unwrap_or(i64::MAX)))
    }

    fn settle(&mut self) {}

    /// Streams are forgotten as they are withdrawn.
    fn is_over(&self) -> bool {
        false
    }
}

/// Those who take turns.
struct Round<K, L> {
    /// Where each is among the entries.
    numbers: HashMap<K, usize>,
    entries: Vec<Entry<K, L>>,
    /// Entries that are nobody's.
    vacant: Vec<usize>,
    /// The active ones, who have something waiting or owe, the next one first.
    turns: Row,
    /// Whose turn has begun.
    current: Option<K>,
    /// Who goes ahead of its turn, the next one first.
    ahead: Row,
    /// Who went ahead last, and its pixels that others have not had since.
    owed: Option<(K, i64)>,
    waiting: usize,
}

/// One of them. Kept, for its memory, when it is not active.
struct Entry<K, L> {
    key: K,
    line: L,
    /// Pixels of a turn.
    part: i64,
    /// Pixels it may still have in its turn; below zero: had too many. All of them while it is not active.
    left: i64,
}

impl<K, L> Entry<K, L> {
    /// Owes no more than its last frame and what it may borrow: that is as long as others can have
    /// waited for it.
    fn spend(&mut self, cost: i64, loan: i64) {
        self.left = (self.left - cost).max(-cost - loan);
    }
}

impl<K, L> Default for Round<K, L> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            entries: Vec::new(),
            vacant: Vec::new(),
            turns: Row::default(),
            current: None,
            ahead: Row::default(),
            owed: None,
            waiting: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, L: Line> Round<K, L> {
    fn get(&self, key: K) -> Option<&L> {
        self.numbers.get(&key).map(|&number| &self.entries[number].line)
    }

    /// The line in which `jobs` more will wait.
    fn enter(&mut self, key: K, weight: u32, jobs: usize) -> &mut L {
        self.waiting += jobs;
        let Self { numbers, entries, vacant, .. } = self;
        let number = *numbers.entry(key).or_insert_with(|| {
            let part = i64::from(weight) * QUANTUM;
            let entry = Entry { key, line: L::default(), part, left: part };
            match vacant.pop() {
                Some(number) => {
                    entries[number] = entry;
                    number
                }
                None => {
                    entries.push(entry);
                    entries.len() - 1
                }
            }
        });
        self.turns.push(number);
        let entry = &mut entries[number];
        if entry.line.waiting() == 0 {
            self.ahead.push(number);
        }
        &mut entry.line
    }

    /// Forgets one, with what it owes.
    fn remove(&mut self, key: K) -> Option<L> {
        let number = self.numbers.remove(&key)?;
        self.turns.remove(number);
        self.ahead.remove(number);
        self.vacant.push(number);
        let line = mem::take(&mut self.entries[number].line);
        self.waiting -= line.waiting();
        Some(line)
    }

    /// Pixels by which a turn may go on beyond what is left for it, taken off the next ones. A
    /// crowd's turn comes rarely, so who has several frames waiting has them done in a row: that
    /// wakes a client once, not for each, and nobody gets more or waits longer in the end.
    fn loan(&self) -> i64 {
        (self.turns.len() / CROWD).min(MOST_LENT) as i64 * QUANTUM
    }

    /// The next job of who goes ahead, if that one may.
    fn take_ahead(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        if self.owed.is_some() {
            return None;
        }
        let (mut walk, loan) = (self.ahead.walk(), self.loan());
        while let Some(number) = self.ahead.step(&mut walk) {
            let entry = &mut self.entries[number];
            // Half for whoever has one frame at a time would be far more than anybody else's part.
            if entry.left <= 0 && loan > 0 {
                if entry.line.waiting() == 0 || entry.line.offers(wanted) {
                    self.ahead.remove(number);
                }
            } else if let Some((job, cost)) = entry.line.take(wanted) {
                entry.spend(cost, loan);
                self.owed = Some((entry.key, cost));
                self.waiting -= 1;
                self.ahead.remove(number);
                self.rest(number);
                return Some((job, cost));
            } else if entry.line.waiting() == 0 {
                self.ahead.remove(number);
            }
        }
        None
    }

    /// One that has nothing waiting, and owes nothing, takes no turns.
    fn rest(&mut self, number: usize) {
        let entry = &self.entries[number];
        if entry.line.waiting() == 0 && entry.left > 0 {
            self.leave(number);
        }
    }

    /// Takes no turns any more, and owes nothing; is forgotten if it was kept for what it owed alone.
    fn leave(&mut self, number: usize) {
        self.turns.remove(number);
        let Entry { key, line, part, left } = &mut self.entries[number];
        line.settle();
        *left = *part;
        if line.is_over() {
            let key = *key;
            self.remove(key);
        }
    }

    /// The next job of whose turn it is.
    fn take_in_turn(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        let (mut walk, loan, mut looked) = (self.turns.walk(), self.loan(), false);
        loop {
            let (mut savers, mut lacking) = (None, None);
            while let Some(number) = self.turns.step(&mut walk) {
                let entry = &mut self.entries[number];
                let waits = entry.line.waiting() > 0;
                let goes_on = waits && self.current == Some(entry.key);
                let has_turn = entry.left > if goes_on { -loan } else { 0 };
                if has_turn && let Some((job, cost)) = entry.line.take(wanted) {
                    entry.spend(cost, loan);
                    let key = entry.key;
                    self.current = Some(key);
                    self.waiting -= 1;
                    self.ahead.remove(number);
                    let alone = self.turns.len() == 1;
                    self.owed = self.owed.and_then(|owed| left_of(owed, key, cost, alone));
                    self.rest(number);
                    return Some((job, cost));
                }
                if waits && (has_turn || !entry.line.offers(wanted)) {
                    // Passed over.
                    continue;
                }
                if has_turn {
                    self.rest(number);
                    continue;
                }
                // Where nobody has what is wanted, nobody's debt is less for that.
                if !waits && !mem::replace(&mut looked, true) && !self.offers(wanted) {
                    return None;
                }
                let lacks = self.save(number);
                savers.get_or_insert(number);
                if waits {
                    lacking = Some(lacking.map_or(lacks, |fewest: i64| fewest.min(lacks)));
                }
            }
            // All others were passed over. Those who saved up, the last ones now, may have enough.
            walk = self.turns.walk_from(savers?);
            self.pay_off(lacking.unwrap_or(0), walk);
        }
    }

    /// Gives one whose turn is over its part of the next, which comes after all others'. The parts
    /// that it lacks beside.
    fn save(&mut self, number: usize) -> i64 {
        self.current = None;
        self.turns.remove(number);
        self.turns.push(number);
        let entry = &mut self.entries[number];
        entry.left += entry.part;
        (-entry.left).max(0) / entry.part
    }

    /// After a round in which nobody had a turn: does at once, for those who saved up, what as many
    /// `rounds` more would, none of which brings anybody one. Frames may cost a hundred thousand
    /// turns.
    fn pay_off(&mut self, rounds: i64, mut savers: Walk) {
        while let Some(number) = self.turns.step(&mut savers) {
            let entry = &mut self.entries[number];
            if entry.left <= 0 {
                entry.left += rounds * entry.part;
            }
        }
    }
}

/// What is left of what one who went ahead owes, when `key` has had `cost` in its turn. What others have
/// had is owed to them no more; what the ower has had changes nothing, unless it is `alone`, with
/// nobody to owe it to.
fn left_of<K: Eq>((ower, owed): (K, i64), key: K, cost: i64, alone: bool) -> Option<(K, i64)> {
    let owed = match ower == key {
        false => owed - cost,
        true if alone => 0,
        true => owed,
    };
    (owed > 0).then_some((ower, owed))
}

impl<K: Copy + Eq + Hash, L: Line> Line for Round<K, L> {
    fn waiting(&self) -> usize {
        self.waiting
    }

    fn first(&self) -> Option<&Job> {
        if self.waiting == 0 {
            return None;
        }
        let mut next = self.ahead.iter().chain(self.turns.iter());
        next.find_map(|number| self.entries[number].line.first())
    }

    fn offers(&self, wanted: &dyn Fn(&Job) -> bool) -> bool {
        self.turns.iter().any(|number| self.entries[number].line.offers(wanted))
    }

    fn take(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        if self.waiting == 0 {
            self.settle();
            return None;
        }
        self.take_ahead(wanted).or_else(|| self.take_in_turn(wanted))
    }

    fn settle(&mut self) {
        while let Some(number) = self.turns.pop() {
            self.leave(number);
        }
        while self.ahead.pop().is_some() {}
        self.owed = None;
    }

    fn is_over(&self) -> bool {
        self.numbers.is_empty()
    }
}

#[cfg(test)]
mod tests;
