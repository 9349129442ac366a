//! Owns the order in which waiting jobs are taken: fair in pixels, at what those cost, over users, and over each user's
//! streams.
//!
//! Knows no devices: who takes a job says which jobs it takes, and looks at the first of each stream; those
//! that are passed over keep their places. Surplus round robin, a deficit round robin that spends before it saves (Shreedhar
//! and Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995): whoever's turn it
//! is goes on until it has had more than its part, and what it had too much of is taken off its next
//! turns. Who had nothing waiting goes ahead of the others with one frame, much as in FQ-CoDel (RFC
//! 8290), and owes it too: so one frame at a time comes through quickly whatever else waits. Of a crowd those go ahead who
//! owe nothing; and a turn goes on beyond its part, on loan, so that a client's frames are done in a row.
//!
//! Invariants: a job pushed is taken or withdrawn once, those of one stream in their order; while all of
//! them have jobs waiting no two of a round are further apart than a turn, its loan and their largest frame; those
//! who go ahead get half of all pixels at the most, and one frame.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::job::{Job, StreamId};

/// Pixels of a turn: about half a 1080p frame.
const QUANTUM: i64 = 1 << 20;

/// So many who take turns are a crowd, whose turns may go on for a quantum more; each as many more for another,
/// up to some seven 1080p frames.
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

    /// Whether a crowd waits: of users, or of this one's streams.
    pub(super) fn is_crowded(&self, user: u32) -> bool {
        let streams = self.users.entries.get(&user).map(|user| &user.line);
        self.users.loan() > 0 || streams.is_some_and(|streams| streams.loan() > 0)
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
    /// Those that go ahead of their turn.
    ahead: VecDeque<K>,
    /// Pixels of those who went ahead that others have not had since.
    owed: i64,
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
    /// Owes no more than its last frame and what it may borrow: that is as long as others can have waited for it.
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
            owed: 0,
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

    /// Pixels by which a turn may go on beyond what is left for it, taken off the next ones. A crowd's turn comes
    /// rarely, so who has several frames waiting has them done in a row: that wakes a client once, not for each, and
    /// nobody gets more or waits longer in the end.
    fn loan(&self) -> i64 {
        (self.turns.len() / CROWD).min(MOST_LENT) as i64 * QUANTUM
    }

    /// The next job of who goes ahead, if that one may.
    fn take_ahead(&mut self, wanted: &dyn Fn(&Job) -> bool) -> Option<(Job, i64)> {
        let (mut place, loan) = (0, self.loan());
        while self.owed == 0 {
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
                self.owed = cost;
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

    /// After a round in which all saved up: does at once what as many more would as bring nobody a turn. Frames
    /// may cost a hundred thousand turns.
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
        let (mut place, mut saved, mut savings) = (0, false, 0);
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
                self.owed = (self.owed - cost).max(0);
                self.waiting -= 1;
                if std::mem::take(&mut entry.ahead) {
                    self.ahead.retain(|&other| other != key);
                }
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
        self.owed = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::{Completion, StreamSpec};

    use super::*;
    use crate::device::Device;
    use crate::device::null::Null;
    use crate::job::{Pressure, Sink, Stream};
    use crate::metrics::{Gauge, Metrics};
    use crate::quota::{Accounts, Limits};

    struct Nowhere;

    impl Sink for Nowhere {
        fn completed(&self, _: Completion, _: Pressure, _: &AtomicBool) {}
    }

    /// A stream whose frames cost as many pixels, and as many jobs of it as are wanted.
    struct Source {
        stream: Arc<Stream>,
        cost: u64,
    }

    impl Source {
        fn new(user: u32, number: u32, extent: (u32, u32)) -> Self {
            Self::with(user, number, extent, |_| {})
        }

        fn with(user: u32, number: u32, extent: (u32, u32), change: fn(&mut StreamSpec)) -> Self {
            let frame = FrameSpec::new(PixelFormat::Gray8, Extent::new(extent.0, extent.1));
            let mut spec = StreamSpec { slots: 1, ..StreamSpec::new(frame, Extent::new(1, 1)) };
            change(&mut spec);
            let devices: [Box<dyn Device>; 1] = [Box::new(Null)];
            let id = StreamId { user, client: number.into(), number };
            let client = Metrics::default().connect(id.client, user);
            let account = Accounts::new(Limits::default(), 1, u64::MAX, []).of(user);
            let counted = Gauge::default().count();
            let opened = Stream::open(id, &spec, false, &devices, &account, &client, counted);
            let (stream, _) = opened.unwrap_or_else(|refusal| panic!("{refusal}"));
            let (width, height) = (u64::from(extent.0), u64::from(extent.1));
            let cost = width * height + 1 + width.max(height);
            Self { stream: Arc::new(stream), cost }
        }

        fn push(&self, fair: &mut Fair, count: u32) {
            self.push_at(fair, count, Instant::now());
        }

        fn push_at(&self, fair: &mut Fair, count: u32, submitted: Instant) {
            let job =
                |slot| Job::new(Arc::clone(&self.stream), slot, None, submitted, Arc::new(Nowhere));
            fair.push(self.stream.id(), (0..count).map(job));
        }
    }

    fn next(fair: &mut Fair) -> Option<Job> {
        fair.next(&|_| true)
    }

    fn number(job: &Job) -> usize {
        job.stream().number as usize
    }

    /// Takes so many jobs; pixels of each stream. Every source always has some waiting.
    fn flood(fair: &mut Fair, sources: &[Source], taken: usize) -> Vec<u64> {
        let mut pixels = vec![0; sources.len()];
        sources.iter().for_each(|source| source.push(fair, 4));
        for _ in 0..taken {
            let next = number(&fair.next(&|_| true).unwrap());
            pixels[next] += sources[next].cost;
            sources[next].push(fair, 1);
        }
        pixels
    }

    /// (sum x)^2 / (n sum x^2): Jain, Chiu and Hawe 1984.
    fn jain(shares: &[u64]) -> f64 {
        let sum: f64 = shares.iter().map(|&share| share as f64).sum();
        let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
        sum * sum / (shares.len() as f64 * squares)
    }

    #[test]
    fn streams_of_a_user_share_pixels_evenly_whatever_their_frames_sizes() {
        let sizes = [(2000, 1000), (200, 100), (3000, 1), (1024, 1024), (4000, 3000)];
        let sources: Vec<_> = (0..).zip(sizes).map(|(n, size)| Source::new(0, n, size)).collect();
        let mut fair = Fair::default();
        let pixels = flood(&mut fair, &sources, 200_000);
        assert!(jain(&pixels) > 0.999, "{pixels:?}");
        let (most, least) = (pixels.iter().max().unwrap(), pixels.iter().min().unwrap());
        assert!(most - least <= 2 * (4000 * 3000 + QUANTUM as u64), "{pixels:?}");
    }

    #[test]
    fn users_share_evenly_however_many_streams_they_have() {
        let mut sources = vec![Source::new(1, 0, (1000, 1000))];
        sources.extend((1..10).map(|n| Source::new(2, n, (500, 500))));
        let pixels = flood(&mut Fair::default(), &sources, 20_000);
        let shares = [pixels[0], pixels[1..].iter().sum()];
        assert!(jain(&shares) > 0.999, "{shares:?}");
        assert!(jain(&pixels[1..]) > 0.999, "{pixels:?}");
    }

    #[test]
    fn a_stream_has_as_much_as_its_weight_says() {
        let sources =
            [Source::new(0, 0, (700, 700)), Source::with(0, 1, (700, 700), |spec| spec.weight = 3)];
        let pixels = flood(&mut Fair::default(), &sources, 20_000);
        let ratio = pixels[1] as f64 / pixels[0] as f64;
        assert!((ratio - 3.0).abs() < 0.02, "{ratio}");
    }

    /// Streams 1 to 8 flood, of as many users as is said; stream 0 has one frame at a time. How many
    /// frames of others pass before each of its own.
    fn passed_by(users: u32, modest: (u32, u32), others: (u32, u32)) -> Vec<usize> {
        let user = |n| if users == 1 { 0 } else { n };
        let modest = Source::new(user(0), 0, modest);
        let floods: Vec<_> = (1..9).map(|n| Source::new(user(n), n, others)).collect();
        let mut fair = Fair::default();
        floods.iter().for_each(|source| source.push(&mut fair, 4));
        for _ in 0..100 {
            let next = number(&next(&mut fair).unwrap());
            floods[next - 1].push(&mut fair, 1);
        }
        let mut passed = Vec::new();
        for _ in 0..200 {
            // Some are taken while it is idle, as lanes do meanwhile.
            for _ in 0..2 {
                let next = number(&next(&mut fair).unwrap());
                floods[next - 1].push(&mut fair, 1);
            }
            modest.push(&mut fair, 1);
            let others = std::iter::from_fn(|| Some(number(&next(&mut fair).unwrap())));
            let others: Vec<_> = others.take_while(|&next| next != 0).collect();
            others.iter().for_each(|&next| floods[next - 1].push(&mut fair, 1));
            passed.push(others.len());
        }
        passed
    }

    #[test]
    fn one_frame_at_a_time_is_passed_by_one_at_the_most() {
        for users in [1, 9] {
            for size in [(64, 64), (1920, 1080), (8000, 4000)] {
                let passed = passed_by(users, size, size);
                assert!(passed.iter().all(|&passed| passed <= 1), "{passed:?}");
            }
        }
    }

    #[test]
    fn who_goes_ahead_gets_half_at_the_most() {
        let modest = Source::new(0, 0, (8000, 8000));
        let flooding = Source::new(0, 1, (100, 100));
        let mut fair = Fair::default();
        let mut pixels = [0, 0];
        flooding.push(&mut fair, 4);
        modest.push(&mut fair, 1);
        for _ in 0..100_000 {
            let next = number(&next(&mut fair).unwrap());
            let source = [&modest, &flooding][next];
            pixels[next] += source.cost;
            source.push(&mut fair, 1);
        }
        assert!(pixels[0] <= pixels[1] + 2 * modest.cost, "{pixels:?}");
    }

    #[test]
    fn those_with_one_frame_at_a_time_are_equal() {
        let sources: Vec<_> = (0..64).map(|n| Source::new(0, n, (1920, 1080))).collect();
        let mut fair = Fair::default();
        let mut frames = vec![0; 64];
        sources.iter().for_each(|source| source.push(&mut fair, 1));
        let mut worked = VecDeque::new();
        for _ in 0..64_000 {
            // Two are worked on while the others wait.
            worked.push_back(number(&next(&mut fair).unwrap()));
            if worked.len() == 2 {
                let done = worked.pop_front().unwrap();
                frames[done] += 1;
                sources[done].push(&mut fair, 1);
            }
        }
        assert!(jain(&frames) > 0.999, "{frames:?}");
    }

    #[test]
    fn a_crowds_frames_are_done_in_rows_and_who_has_few_gets_as_much() {
        let sources: Vec<_> = (0..256).map(|n| Source::new(0, n, (1920, 1080))).collect();
        let mut fair = Fair::default();
        let (mut frames, mut rows) = (vec![0; 256], 0);
        for (source, in_flight) in sources.iter().zip([2, 8].into_iter().cycle()) {
            source.push(&mut fair, in_flight);
        }
        let mut worked = VecDeque::from([None, None]);
        for _ in 0..256_000 {
            let taken = number(&next(&mut fair).unwrap());
            rows += usize::from(worked.back() != Some(&Some(taken)));
            worked.push_back(Some(taken));
            if let Some(done) = worked.pop_front().flatten() {
                frames[done] += 1;
                sources[done].push(&mut fair, 1);
            }
        }
        assert!(jain(&frames) > 0.999, "{frames:?}");
        assert!(rows < 256_000 / 3, "{rows}");
    }

    #[test]
    fn who_wants_less_than_a_share_of_a_crowd_goes_ahead_and_who_wants_more_gets_the_share() {
        let sources: Vec<_> = (0..64).map(|n| Source::new(0, n, (1920, 1080))).collect();
        let mut fair = Fair::default();
        let mut frames = vec![0; 64];
        sources[2..].iter().for_each(|source| source.push(&mut fair, 4));
        sources[1].push(&mut fair, 1);
        let mut pushed = 0;
        for taken in 1..64_000 {
            // One frame at a time: stream 0 once in a while, stream 1 as soon as its last one is done.
            if taken % 640 == 0 {
                sources[0].push(&mut fair, 1);
                pushed = taken;
            }
            let next = number(&next(&mut fair).unwrap());
            frames[next] += 1;
            if next == 0 {
                assert!(taken <= pushed + 1, "{taken} {pushed}");
            } else {
                sources[next].push(&mut fair, 1);
            }
        }
        assert_eq!(frames[0], 99);
        assert!(jain(&frames[1..]) > 0.999, "{frames:?}");
    }

    #[test]
    fn a_streams_jobs_keep_their_order_and_none_is_lost() {
        let mut fair = Fair::default();
        let sources = [(0, 0), (0, 1), (1, 2)].map(|(user, n)| Source::new(user, n, (900, 900)));
        for _ in 0..3 {
            sources.iter().for_each(|source| source.push(&mut fair, 5));
        }
        assert_eq!(fair.waiting(), 45);
        let mut slots = [vec![], vec![], vec![]];
        while let Some(job) = next(&mut fair) {
            slots[number(&job)].push(job.slot());
        }
        let wanted: Vec<_> = (0..5).cycle().take(15).collect();
        assert!(slots.iter().all(|slots| *slots == wanted), "{slots:?}");
        assert_eq!(fair.waiting(), 0);
    }

    #[test]
    fn exactly_what_is_withdrawn_is_gone() {
        let mut fair = Fair::default();
        let sources = [(0, 0), (0, 1), (1, 2)].map(|(user, n)| Source::new(user, n, (900, 900)));
        sources.iter().for_each(|source| source.push(&mut fair, 4));
        assert_eq!(fair.withdraw(sources[0].stream.id()).len(), 4);
        assert_eq!(fair.withdraw(sources[0].stream.id()).len(), 0);
        assert_eq!(fair.withdraw(sources[2].stream.id()).len(), 4);
        assert_eq!((fair.waiting(), fair.users.entries.len()), (4, 1));
        assert!(std::iter::from_fn(|| next(&mut fair)).all(|job| number(&job) == 1));
        sources[0].push(&mut fair, 1);
        assert_eq!(number(&next(&mut fair).unwrap()), 0);
        sources.iter().for_each(|source| drop(fair.withdraw(source.stream.id())));
        assert!(fair.users.entries.is_empty() && fair.users.turns.is_empty());
    }

    #[test]
    fn what_is_owed_is_forgotten_when_nothing_waits() {
        let mut fair = Fair::default();
        let source = Source::new(0, 0, (3000, 3000));
        for _ in 0..3 {
            source.push(&mut fair, 2);
            next(&mut fair).unwrap();
            next(&mut fair).unwrap();
            assert!(next(&mut fair).is_none());
            let user = &fair.users.entries[&0];
            assert!(!user.active && user.line.turns.is_empty() && user.line.owed == 0);
        }
    }

    #[test]
    fn a_debt_is_paid_off_at_once_and_in_the_order_of_debts() {
        let sources: Vec<_> = (0..4).map(|n| Source::new(n, n, (9, 9))).collect();
        let mut fair = Fair::default();
        sources.iter().for_each(|source| source.push(&mut fair, 2));
        assert_eq!(fair.users.entries.len(), 4);
        fair.users.ahead.clear();
        for (key, entry) in &mut fair.users.entries {
            // More turns than a test has time for.
            entry.left = -(1 << 50) - i64::from((key + 2) % 4) * 10 * QUANTUM;
            entry.ahead = false;
        }
        let order: Vec<_> =
            std::iter::from_fn(|| next(&mut fair)).map(|job| number(&job)).collect();
        assert_eq!(order, [2, 2, 3, 3, 0, 0, 1, 1]);
    }

    #[test]
    fn frames_that_come_late_cost_their_stream_nothing() {
        let late = |spec: &mut StreamSpec| spec.deadline = Some(Duration::from_secs(1));
        let source = Source::with(0, 0, (3000, 3000), late);
        let mut fair = Fair::default();
        let before = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        source.push_at(&mut fair, 3, before);
        source.push(&mut fair, 1);
        let charges: Vec<_> =
            std::iter::from_fn(|| fair.users.take(&|_| true)).map(|(_, cost)| cost).collect();
        assert_eq!(charges, [0, 0, 0, source.cost as i64]);
    }

    #[test]
    fn those_that_are_passed_over_keep_their_places() {
        let sources: Vec<_> = (0..4).map(|n| Source::new(n % 2, n, (3000, 3000))).collect();
        let mut fair = Fair::default();
        sources.iter().for_each(|source| source.push(&mut fair, 3));
        // Whoever takes streams 2 and 3 alone gets all of them, in turns,
        let late: Vec<_> = std::iter::from_fn(|| fair.next(&|job| number(job) >= 2))
            .map(|job| number(&job))
            .collect();
        let count = |wanted| late.iter().filter(|&&number| number == wanted).count();
        assert_eq!((count(2), count(3)), (3, 3));
        assert!(fair.next(&|job| number(job) >= 2).is_none());
        // and leaves the others as they were.
        assert!(fair.first().is_some_and(|job| number(job) < 2));
        let rest: Vec<_> = std::iter::from_fn(|| next(&mut fair)).map(|job| number(&job)).collect();
        assert_eq!(rest.len(), 6);
        assert!(rest.windows(3).all(|three| three.contains(&0) && three.contains(&1)), "{rest:?}");
    }
}
