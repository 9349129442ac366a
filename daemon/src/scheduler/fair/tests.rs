//! The fair queue without lanes: jobs of streams whose costs are known, taken one after the other.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::{Completion, StreamSpec};

use super::*;
use crate::device::fleet::Fleet;
use crate::device::null::Null;
use crate::job::{Owner, PER_FRAME, Pressure, Sink, Stream};
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
        let devices = Arc::new(Fleet::new(vec![Box::new(Null)]));
        let id = StreamId { user, client: number.into(), number };
        let client = Metrics::default().connect(id.client, user);
        let account = Accounts::new(Limits::default(), 1, u64::MAX, []).of(user);
        let counted = Gauge::default().count();
        let owner = Owner { account: &account, client: &client, counted };
        let opened = Stream::open(id, &spec, false, &devices, owner);
        let (stream, _) = opened.unwrap_or_else(|refusal| panic!("{refusal}"));
        let (width, height) = (u64::from(extent.0), u64::from(extent.1));
        let cost = width * height + 1 + width.max(height) + PER_FRAME;
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
fn who_floods_with_tiny_frames_gets_its_part_by_what_they_cost_beside_their_pixels() {
    let sources = [Source::new(0, 0, (2, 2)), Source::new(1, 1, (1920, 1080))];
    let mut fair = Fair::default();
    sources.iter().for_each(|source| source.push(&mut fair, 4));
    let mut frames = [0_u64; 2];
    for _ in 0..20_000 {
        let next = number(&next(&mut fair).unwrap());
        frames[next] += 1;
        sources[next].push(&mut fair, 1);
    }
    // A large one for as many as take about its time, of some 1.6 us each.
    let each = 1920 * 1080 / PER_FRAME;
    assert!((each - 2..=each + 2).contains(&(frames[0] / frames[1])), "{frames:?}");
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
    for size in [(8000, 8000), (1920, 1080), (1000, 900), (800, 600), (500, 500)] {
        for (floods, of) in [(1, (100, 100)), (1, (1920, 1080)), (3, (1000, 1000)), (8, (100, 100))]
        {
            let mut sources = vec![Source::new(0, 0, size)];
            sources.extend((1..=floods).map(|n| Source::new(0, n, of)));
            let mut fair = Fair::default();
            sources[1..].iter().for_each(|source| source.push(&mut fair, 4));
            sources[0].push(&mut fair, 1);
            let (mut ahead, mut others) = (0, 0);
            while ahead < 60 * sources[0].cost {
                let next = number(&next(&mut fair).unwrap());
                match next {
                    0 => ahead += sources[0].cost,
                    _ => others += sources[next].cost,
                }
                sources[next].push(&mut fair, 1);
            }
            // Beside a single other its own turns count.
            let others = if floods == 1 { 2 * others } else { others };
            assert!(ahead <= others + 2 * sources[0].cost, "{size:?} {of:?}: {ahead} {others}");
        }
    }
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
fn who_closes_its_stream_after_each_frame_owes_it_all_the_same() {
    let sources: Vec<_> = (0..18).map(|n| Source::new(n, n, (1920, 1080))).collect();
    let mut fair = Fair::default();
    sources[1..].iter().for_each(|source| source.push(&mut fair, 4));
    sources[0].push(&mut fair, 1);
    let mut frames = vec![0; 18];
    for _ in 0..18_000 {
        let next = number(&next(&mut fair).unwrap());
        frames[next] += 1;
        if next == 0 {
            // And opens it anew.
            assert!(fair.withdraw(sources[0].stream.id()).is_empty());
        }
        sources[next].push(&mut fair, 1);
    }
    assert!(jain(&frames) > 0.999, "{frames:?}");
    // Who does not come back is forgotten once that is paid off.
    while number(&next(&mut fair).unwrap()) != 0 {}
    fair.withdraw(sources[0].stream.id());
    assert_eq!(fair.users.numbers.len(), 18);
    for _ in 0..200 {
        let next = number(&next(&mut fair).unwrap());
        sources[next].push(&mut fair, 1);
    }
    assert_eq!(fair.users.numbers.len(), 17);
}

#[test]
fn who_is_one_of_four_is_in_company() {
    for (users, streams) in [(1, 4), (4, 1)] {
        let numbers = (0..users).flat_map(|user| (0..streams).map(move |n| (user, 4 * user + n)));
        let sources: Vec<_> =
            numbers.map(|(user, number)| Source::new(user, number, (9, 9))).collect();
        let mut fair = Fair::default();
        for (others, source) in sources.iter().enumerate() {
            assert!(!fair.is_in_company(0), "{others}");
            source.push(&mut fair, 2);
        }
        assert!(fair.is_in_company(0));
        while next(&mut fair).is_some() {}
        assert!(!fair.is_in_company(0));
    }
    // Not of its own streams.
    assert!(!are_company([1, 1, 2, 1, 3, 3, 2].into_iter()));
    assert!(are_company([1, 1, 2, 1, 3, 3, 2, 4].into_iter()));
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
    assert_eq!((fair.waiting(), fair.users.numbers.len()), (4, 1));
    assert!(std::iter::from_fn(|| next(&mut fair)).all(|job| number(&job) == 1));
    sources[0].push(&mut fair, 1);
    assert_eq!(number(&next(&mut fair).unwrap()), 0);
    sources.iter().for_each(|source| drop(fair.withdraw(source.stream.id())));
    assert!(fair.users.numbers.is_empty() && fair.users.turns.len() == 0);
    // Whoever comes has the places of those who left.
    let places = fair.users.entries.len();
    sources.iter().for_each(|source| source.push(&mut fair, 1));
    assert_eq!(fair.users.entries.len(), places);
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
        let user = fair.users.get(0).unwrap();
        assert!(fair.users.turns.len() == 0 && user.turns.len() == 0 && user.owed.is_none());
    }
}

#[test]
fn a_debt_is_paid_off_at_once_and_in_the_order_of_debts() {
    let sources: Vec<_> = (0..4).map(|n| Source::new(n, n, (9, 9))).collect();
    let mut fair = Fair::default();
    sources.iter().for_each(|source| source.push(&mut fair, 2));
    fair.users.ahead = Row::default();
    for entry in &mut fair.users.entries {
        // More turns than a test has time for.
        entry.left = -(1 << 50) - i64::from((entry.key + 2) % 4) * 10 * QUANTUM;
    }
    let order: Vec<_> = std::iter::from_fn(|| next(&mut fair)).map(|job| number(&job)).collect();
    assert_eq!(order, [2, 2, 3, 3, 0, 0, 1, 1]);
}

#[test]
fn who_finds_nothing_it_wants_looks_once_and_pays_off_nobodys_debt() {
    let (large, small) = (Source::new(0, 0, (8000, 8000)), Source::new(1, 1, (9, 9)));
    let mut fair = Fair::default();
    large.push(&mut fair, 1);
    small.push(&mut fair, 8);
    assert_eq!(number(&fair.next(&|job| number(job) == 0).unwrap()), 0);
    let owes = fair.users.entries[0].left;
    assert!(owes < 0, "{owes}");
    let looks = Cell::new(0);
    let none = fair.next(&|_| {
        looks.set(looks.get() + 1);
        false
    });
    assert!(none.is_none() && looks.get() <= 3, "{} looks", looks.get());
    assert_eq!(fair.users.entries[0].left, owes);
}

#[test]
fn frames_that_come_late_cost_their_stream_little() {
    let late = |spec: &mut StreamSpec| spec.deadline = Some(Duration::from_secs(1));
    let source = Source::with(0, 0, (3000, 3000), late);
    let mut fair = Fair::default();
    let before = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
    source.push_at(&mut fair, 3, before);
    source.push(&mut fair, 1);
    let charges: Vec<_> =
        std::iter::from_fn(|| fair.users.take(&|_| true)).map(|(_, cost)| cost).collect();
    let little = PER_FRAME as i64;
    assert_eq!(charges, [little, little, little, source.cost as i64]);
}

#[test]
fn who_has_late_frames_without_end_does_not_go_on_without_end() {
    let late = |spec: &mut StreamSpec| spec.deadline = Some(Duration::from_secs(1));
    let (greedy, other) = (Source::with(0, 0, (30, 30), late), Source::new(1, 1, (30, 30)));
    let mut fair = Fair::default();
    let before = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
    other.push(&mut fair, 3);
    greedy.push_at(&mut fair, 3, before);
    let others = (0..10_000).filter(|_| {
        let number = number(&next(&mut fair).unwrap());
        let (source, at) = if number == 0 { (&greedy, before) } else { (&other, Instant::now()) };
        source.push_at(&mut fair, 1, at);
        number == 1
    });
    assert!(others.count() > 1000);
}

#[test]
fn those_that_are_passed_over_keep_their_places() {
    let sources: Vec<_> = (0..4).map(|n| Source::new(n % 2, n, (3000, 3000))).collect();
    let mut fair = Fair::default();
    sources.iter().for_each(|source| source.push(&mut fair, 3));
    // Whoever takes streams 2 and 3 alone gets all of them, in turns,
    let late: Vec<_> =
        std::iter::from_fn(|| fair.next(&|job| number(job) >= 2)).map(|job| number(&job)).collect();
    let count = |wanted| late.iter().filter(|&&number| number == wanted).count();
    assert_eq!((count(2), count(3)), (3, 3));
    assert!(fair.next(&|job| number(job) >= 2).is_none());
    // and leaves the others as they were.
    assert!(fair.first().is_some_and(|job| number(job) < 2));
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut fair)).map(|job| number(&job)).collect();
    assert_eq!(rest.len(), 6);
    assert!(rest.windows(3).all(|three| three.contains(&0) && three.contains(&1)), "{rest:?}");
}

#[test]
fn a_job_is_found_behind_any_number_that_are_not_wanted_whatever_it_owes() {
    let sources: Vec<_> = (0..300).map(|n| Source::new(n % 3 + 6, n, (9, 9))).collect();
    // More than its part at a time.
    let wanted = Source::new(7, 300, (2000, 2000));
    let mut fair = Fair::default();
    sources.iter().for_each(|source| source.push(&mut fair, 1));
    for _ in 0..20 {
        wanted.push(&mut fair, 1);
        assert_eq!(fair.next(&|job| number(job) == 300).map(|job| number(&job)), Some(300));
        assert!(fair.next(&|job| number(job) == 300).is_none());
        // Others' turns go on between.
        let other = next(&mut fair).unwrap();
        sources[number(&other)].push(&mut fair, 1);
    }
    assert_eq!(std::iter::from_fn(|| next(&mut fair)).count(), 300);
}

/// A number that counts how often such are compared.
#[derive(Clone, Copy, Eq)]
struct Counting(u32);

impl Hash for Counting {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

thread_local!(static COMPARED: Cell<usize> = const { Cell::new(0) });

impl PartialEq for Counting {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

#[test]
fn a_stream_that_has_nothing_more_goes_without_a_look_at_the_others() {
    let streams = 1000;
    let source = Source::new(0, 0, (9, 9));
    let mut round = Round::<Counting, VecDeque<Job>>::default();
    let job =
        |slot| Job::new(Arc::clone(&source.stream), slot, None, Instant::now(), Arc::new(Nowhere));
    let enter = |round: &mut Round<_, VecDeque<Job>>| {
        (0..streams).for_each(|n| round.enter(Counting(n), 1, 1).push_back(job(n)));
    };
    enter(&mut round);
    COMPARED.set(0);
    while round.take(&|_| true).is_some() {}
    assert!(COMPARED.get() <= 8 * streams as usize, "{} taken", COMPARED.get());
    enter(&mut round);
    COMPARED.set(0);
    let withdrawn = (0..streams).filter_map(|n| round.remove(Counting(n)));
    assert_eq!(withdrawn.map(|jobs| jobs.len()).sum::<usize>(), streams as usize);
    assert!(COMPARED.get() <= 8 * streams as usize, "{} withdrawn", COMPARED.get());
}
