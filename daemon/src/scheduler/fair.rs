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

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::job::{Job, StreamId};
use crate::metrics::ClientId;

/// Pixels of a turn: about half a 1080p frame.
const QUANTUM: i64 = 1 << 20;

/// Among so many clients there is enough to do while one of them has nothing in flight.
const COMPANY: usize = 4;

/// So many who take turns are a crowd, whose turns may go on for a quantum more; each as many more
/// for another, up to some seven 1080p frames.
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
        let streams = self.users.entries.get(&user).map(|user| &user.line.turns);
        self.users.turns.len() >= COMPANY
            // Of the first ones: this is asked for each frame, and a client may have any number of
            // streams.
            || streams.is_some_and(|ids| are_company(ids.iter().take(CROWD).map(|id| id.client)))
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

    /// Takes back all jobs of a stream, and forgets it.
    pub(super) fn withdraw(&mut self, stream: StreamId) -> VecDeque<Job> {
        let Some(user) = self.users.entries.get_mut(&stream.user) else {
            return VecDeque::new();
        };
        let jobs = user.line.remove(stream).unwrap_or_default();
        self.users.waiting -= jobs.len();
        if user.line.entries.is_empty() {
            self.users.remove(stream.user);
        }
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
}

/// Those who take turns.
struct Round<K, L> {
    entries: HashMap<K, Entry<L>>,
    /// The active ones, the next one first.
    turns: VecDeque<K>,
    /// Whose turn has begun.
    current: Option<K>,
    /// Who goes ahead of its turn, the next one first.
    ahead: VecDeque<K>,
    /// Who went ahead last, and its pixels that others have not had since.
    owed: Option<(K, i64)>,
    waiting: usize,
}

/// One of them. Kept, for its memory, when it is not active.
struct Entry<L> {
    line: L,
    /// Pixels of a turn, in quanta.
    weight: i64,
    /// Pixels it may still have in its turn; below zero: had too many.
    left: i64,
    /// Has something waiting, or owes.
    active: bool,
    ahead: bool,
}

impl<L: Line> Entry<L> {
    /// Owes no more than its last frame and what it may borrow: that is as long as others can have
    /// waited for it.
    fn spend(&mut self, cost: i64, loan: i64) {
        self.left = (self.left - cost).max(-cost - loan);
    }

    fn rest(&mut self) {
        self.active = false;
        self.line.settle();
    }
}

impl<K, L> Default for Round<K, L> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            turns: VecDeque::new(),
            current: None,
            ahead: VecDeque::new(),
            owed: None,
            waiting: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, L: Line> Round<K, L> {
    /// The line in which `jobs` more will wait.
    fn enter(&mut self, key: K, weight: u32, jobs: usize) -> &mut L {
        self.waiting += jobs;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            line: L::default(),
            weight: i64::from(weight),
            left: 0,
            active: false,
            ahead: false,
        });
        if !entry.active {
            entry.active = true;
            entry.left = entry.weight * QUANTUM;
            self.turns.push_back(key);
        }
        if entry.line.waiting() == 0 && !entry.ahead {
            entry.ahead = true;
            self.ahead.push_back(key);
        }
        &mut entry.line
    }

    /// Forgets one, with what it owes.
    fn remove(&mut self, key: K) -> Option<L> {
        let entry = self.entries.remove(&key)?;
        self.turns.retain(|&other| other != key);
        self.ahead.retain(|&other| other != key);
        self.waiting -= entry.line.waiting();
        Some(entry.line)
    }

    /// Pixels by which a turn may go on beyond what is left for it, taken off the next ones. A
    /// crowd's turn comes rarely, so who has several frames waiting has them done in a row: that
    /// wakes a client once, not for each, and nobody gets more or waits longer in the end.
    fn loan(&self) -> i64 {
        (self.turns.len() / CROWD).min(MOST_LENT) as i64 * QUANTUM
    }

    /// The next job of who goes ahead, if that one may.
    fn take_ahead(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        let (mut place, loan) = (0, self.loan());
        while self.owed.is_none() {
            let key = *self.ahead.get(place)?;
            let Some(entry) = self.entries.get_mut(&key) else {
                self.ahead.remove(place);
                continue;
            };
            if entry.line.waiting() > 0 && !entry.line.offers(wanted) {
                place += 1;
                continue;
            }
            self.ahead.remove(place);
            entry.ahead = false;
            // Half for whoever has one frame at a time would be far more than anybody else's part.
            if entry.left <= 0 && loan > 0 {
                continue;
            }
            if let Some((job, cost)) = entry.line.take(wanted) {
                entry.spend(cost, loan);
                self.owed = Some((key, cost));
                self.waiting -= 1;
                if entry.line.waiting() == 0 && entry.left > 0 {
                    entry.rest();
                    self.turns.retain(|&other| other != key);
                }
                return Some((job, cost));
            }
        }
        None
    }

    /// After a round in which all saved up: does at once what as many more would as bring nobody a
    /// turn. Frames may cost a hundred thousand turns.
    fn pay_off(&mut self, wanted: &dyn Fn(&Job) -> bool) {
        let Self { entries, turns, .. } = self;
        let offering = turns.iter().filter_map(|key| entries.get(key));
        let offering = offering.filter(|entry| entry.line.waiting() > 0);
        let offering = offering.filter(|entry| entry.line.offers(wanted));
        let rounds = offering.map(|entry| (-entry.left).max(0) / (entry.weight * QUANTUM)).min();
        for key in turns.iter().filter(|_| rounds.is_some_and(|rounds| rounds > 0)) {
            let Some(entry) = entries.get_mut(key) else { continue };
            // Who was passed over saves nothing either.
            if entry.left <= 0 && (entry.line.waiting() == 0 || entry.line.offers(wanted)) {
                entry.left += rounds.unwrap_or(0) * entry.weight * QUANTUM;
            }
        }
    }

    /// The next job of whose turn it is.
    fn take_in_turn(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        let (mut place, mut saved, mut savings, mut looked) = (0, false, 0, false);
        let loan = self.loan();
        loop {
            let Some(&key) = self.turns.get(place) else {
                // All others were passed over; those who saved up may now have enough.
                if !std::mem::take(&mut saved) {
                    return None;
                }
                place = 0;
                continue;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                self.turns.remove(place);
                continue;
            };
            if entry.line.waiting() > 0 && !entry.line.offers(wanted) {
                place += 1;
                continue;
            }
            let goes_on = self.current == Some(key) && entry.line.waiting() > 0;
            let least = if goes_on { -loan } else { 0 };
            if entry.left <= least {
                // Where nobody has what is wanted, nobody's debt is less for that.
                if entry.line.waiting() == 0 && !std::mem::replace(&mut looked, true) {
                    match self.offers(wanted) {
                        true => continue,
                        false => return None,
                    }
                }
                self.current = None;
                entry.left += entry.weight * QUANTUM;
                self.turns.remove(place);
                self.turns.push_back(key);
                (saved, savings) = (true, savings + 1);
                if savings >= self.turns.len() {
                    savings = 0;
                    self.pay_off(wanted);
                }
                continue;
            }
            let taken = entry.line.take(wanted);
            if let Some((_, cost)) = taken {
                entry.spend(cost, loan);
                self.current = Some(key);
                self.waiting -= 1;
                if std::mem::take(&mut entry.ahead) {
                    self.ahead.retain(|&other| other != key);
                }
                let alone = self.turns.len() == 1;
                self.owed = self.owed.and_then(|owed| left_of(owed, key, cost, alone));
            }
            if entry.line.waiting() == 0 && entry.left > 0 {
                entry.rest();
                self.turns.remove(place);
            }
            if taken.is_some() {
                return taken;
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
        let mut next = self.ahead.iter().chain(&self.turns);
        next.find_map(|key| self.entries.get(key)?.line.first())
    }

    fn offers(&self, wanted: &dyn Fn(&Job) -> bool) -> bool {
        let mut lines = self.turns.iter().filter_map(|key| self.entries.get(key));
        lines.any(|entry| entry.line.offers(wanted))
    }

    fn take(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        if self.waiting == 0 {
            self.settle();
            return None;
        }
        self.take_ahead(wanted).or_else(|| self.take_in_turn(wanted))
    }

    fn settle(&mut self) {
        for key in self.turns.drain(..) {
            if let Some(entry) = self.entries.get_mut(&key) {
                (entry.active, entry.ahead) = (false, false);
                entry.line.settle();
            }
        }
        self.ahead.clear();
        self.owed = None;
    }
}

#[cfg(test)]
mod tests;
