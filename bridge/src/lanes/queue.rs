//! Owns the order in which works are begun, fair over clients in what their works cost: lanes, for
//! the time that those were taken.
//!
//! Knows no threads and no clock: it is told the time. The client that has had the least is next,
//! and the others wait until its work fits, so that small works don't keep a large one out for
//! ever; lanes that are idle for that are its own as it begins, and not before, or others would pass it.
//! A client that comes, or has had nothing waiting, starts no lower than what each of those
//! who are there could have had by now in equal parts: nobody saves up for a burst, and no client
//! that waits is passed for ever by others that come and go.
//! Invariants: of a client's works the first to come begins first; those at work have no more lanes
//! than there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub(super) struct Queue<W> {
    clients: BTreeMap<u64, Client<W>>,
    /// Those whose works wait, the one to wait for the longest first: next among equals.
    waiting: VecDeque<u64>,
    /// What a client has had that has been here all the time and has had its equal part, until `since`.
    level: Duration,
    since: Instant,
    /// The next client's, and the next work's.
    number: u64,
    lanes: u32,
    /// Those whose turns are not taken.
    left: u32,
    /// The client whose work the others wait for, and lanes times time that were idle for it, until `since`.
    waited_for: Option<(u64, Duration)>,
}

struct Client<W> {
    /// In the order of their numbers.
    works: VecDeque<Work<W>>,
    /// Lanes times time, until `since`.
    had: Duration,
    /// Lanes that it has since then.
    lanes: u32,
    since: Instant,
}

struct Work<W> {
    number: u64,
    share: u32,
    work: W,
}

/// A work whose turn it is, for `done` when it is that.
pub(super) struct Begun<W> {
    pub(super) work: W,
    pub(super) client: u64,
    /// How many lanes' turns it takes.
    pub(super) share: u32,
}

impl<W> Client<W> {
    fn had(&self, now: Instant) -> Duration {
        self.had + self.lanes * now.saturating_duration_since(self.since)
    }

    fn has(&mut self, lanes: u32, now: Instant) {
        (self.had, self.since, self.lanes) = (self.had(now), now, lanes);
    }
}

impl<W> Queue<W> {
    /// For so many lanes.
    pub(super) fn new(lanes: u32, now: Instant) -> Self {
        let (clients, waiting) = (BTreeMap::new(), VecDeque::new());
        let (level, since, number) = (Duration::ZERO, now, 0);
        Self { clients, waiting, level, since, number, lanes, left: lanes, waited_for: None }
    }

    /// Before anything changes: what lanes did until now, or waited, was for those who were there.
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let mut taken = self.lanes - self.left;
        if let Some((_, idle)) = &mut self.waited_for {
            *idle += self.left * elapsed;
            taken = self.lanes;
        }
        let is_there = |client: &&Client<W>| client.lanes > 0 || !client.works.is_empty();
        if let Ok(count @ 1..) = u32::try_from(self.clients.values().filter(is_there).count()) {
            self.level += taken * (elapsed / count);
        }
        self.since = now;
    }

    /// Nobody waits for that client any more, which pays for it.
    fn waited(&mut self) {
        if let Some((client, idle)) = self.waited_for.take()
            && let Some(client) = self.clients.get_mut(&client)
        {
            client.had += idle;
        }
    }

    /// Another client.
    pub(super) fn enter(&mut self, now: Instant) -> u64 {
        let client = self.take_number();
        let (works, had) = (VecDeque::new(), Duration::ZERO);
        self.clients.insert(client, Client { works, had, lanes: 0, since: now });
        client
    }

    /// Forgets a client; what waits of it is to be dropped elsewhere.
    pub(super) fn leave(&mut self, client: u64, now: Instant) -> impl Sized + use<W> {
        self.advance(now);
        self.waiting.retain(|&waits| waits != client);
        self.waited_for.take_if(|(waited_for, _)| *waited_for == client);
        self.clients.remove(&client)
    }

    /// A work of a client's, for so many lanes' turns. Its number is there for `take_back`.
    pub(super) fn push(&mut self, client: u64, share: u32, work: W, now: Instant) -> u64 {
        self.advance(now);
        let (number, level) = (self.take_number(), self.level);
        if let Some(client_of) = self.clients.get_mut(&client) {
            if client_of.works.is_empty() {
                self.waiting.push_back(client);
                client_of.has(client_of.lanes, now);
                client_of.had = client_of.had.max(level);
            }
            client_of.works.push_back(Work { number, share, work });
        }
        number
    }

    /// The first work of the client who has had the least, if there are lanes for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Begun<W>> {
        self.advance(now);
        let had = |place: &usize| Some(self.clients.get(&self.waiting[*place])?.had(now));
        let place = (0..self.waiting.len()).min_by_key(had)?;
        let id = self.waiting[place];
        if self.waited_for.is_some_and(|(client, _)| client != id) {
            self.waited();
        }
        let client = self.clients.get_mut(&id)?;
        if client.works.front()?.share > self.left {
            self.waited_for.get_or_insert((id, Duration::ZERO));
            return None;
        }
        self.waited();
        let client = self.clients.get_mut(&id)?;
        let Work { share, work, .. } = client.works.pop_front()?;
        client.has(client.lanes + share, now);
        self.left -= share;
        self.waiting.remove(place);
        if !client.works.is_empty() {
            self.waiting.push_back(id);
        }
        Some(Begun { work, client: id, share })
    }

    /// A work is done, or failed.
    pub(super) fn done(&mut self, client: u64, share: u32, now: Instant) {
        self.advance(now);
        self.left += share;
        if let Some(client) = self.clients.get_mut(&client) {
            client.has(client.lanes - share, now);
        }
    }

    /// Whether another lane may find a work to begin.
    pub(super) fn has_more(&self) -> bool {
        self.left > 0 && !self.waiting.is_empty()
    }

    /// Whether it may become the turn of a client whose work fits, though nothing else changes: what
    /// others have had grows while their works are under way.
    pub(super) fn turns_with_time(&self) -> bool {
        self.left > 0 && self.waiting.len() > 1
    }

    /// A work that has not begun.
    pub(super) fn take_back(
        &mut self,
        client: u64,
        number: u64,
        now: Instant,
    ) -> Option<impl Sized + use<W>> {
        self.advance(now);
        let works = &mut self.clients.get_mut(&client)?.works;
        let place = works.binary_search_by_key(&number, |work| work.number).ok()?;
        let work = works.remove(place);
        if works.is_empty() {
            self.waiting.retain(|&waits| waits != client);
        }
        if self.waited_for.is_some_and(|(waited_for, _)| waited_for == client) {
            self.waited();
        }
        work
    }

    fn take_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue, and a clock that is put forward by hand.
    struct Scene {
        queue: Queue<&'static str>,
        now: Instant,
    }

    impl Scene {
        fn new(lanes: u32) -> Self {
            let now = Instant::now();
            Self { queue: Queue::new(lanes, now), now }
        }

        fn enter(&mut self) -> u64 {
            self.queue.enter(self.now)
        }

        fn push(&mut self, client: u64, share: u32, name: &'static str) -> u64 {
            self.queue.push(client, share, name, self.now)
        }

        fn push_some(&mut self, count: u32, client: u64, share: u32, name: &'static str) {
            for _ in 0..count {
                self.push(client, share, name);
            }
        }

        fn next(&mut self) -> Option<Begun<&'static str>> {
            self.queue.next(self.now)
        }

        fn done(&mut self, Begun { client, share, .. }: Begun<&'static str>) {
            self.queue.done(client, share, self.now);
        }

        fn after(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
        }

        /// Does the next so many, each of which takes so long, and says which those were.
        fn work(&mut self, times: usize, cost: impl Fn(&str) -> u64) -> Vec<&'static str> {
            let one = |_| {
                let begun = self.next().unwrap();
                let name = begun.work;
                self.after(cost(name));
                self.done(begun);
                name
            };
            (0..times).map(one).collect()
        }
    }

    #[test]
    fn clients_of_equal_works_take_turns() {
        let mut scene = Scene::new(1);
        let (greedy, modest, third) = (scene.enter(), scene.enter(), scene.enter());
        scene.push_some(4, greedy, 1, "greedy");
        let taken_back = scene.push(third, 1, "third");
        scene.push_some(2, modest, 1, "modest");
        assert!(scene.queue.take_back(third, taken_back, scene.now).is_some());
        assert!(scene.queue.take_back(third, taken_back, scene.now).is_none());
        let order = ["greedy", "modest", "greedy", "modest", "greedy", "greedy"];
        assert_eq!(scene.work(6, |_| 5), order);
        assert!(scene.next().is_none());
    }

    #[test]
    fn who_has_long_works_has_as_many_fewer_of_them() {
        let mut scene = Scene::new(4);
        let (slow, quick) = (scene.enter(), scene.enter());
        scene.push_some(40, slow, 4, "slow");
        scene.push_some(400, quick, 1, "quick");
        // Four lanes for ten, and one for one.
        let done = scene.work(410, |name| if name == "slow" { 10 } else { 1 });
        let slow = done.iter().filter(|&&name| name == "slow").count();
        assert!((10..=11).contains(&slow), "{slow}");
        // Nor all at once.
        assert!(done[..50].contains(&"slow") && done[360..].contains(&"slow"));
    }

    #[test]
    fn what_is_at_work_counts_before_it_is_done() {
        let mut scene = Scene::new(3);
        let (slow, quick) = (scene.enter(), scene.enter());
        scene.push_some(3, slow, 1, "slow");
        let first = scene.next().unwrap();
        scene.push_some(2, quick, 1, "quick");
        scene.after(1);
        let both = [scene.next().unwrap(), scene.next().unwrap()];
        assert_eq!(both.map(|begun| begun.work), ["quick"; 2]);
        assert_eq!(first.work, "slow");
        assert!(scene.next().is_none());
    }

    #[test]
    fn others_wait_until_a_large_work_fits() {
        let mut scene = Scene::new(2);
        let (large, small) = (scene.enter(), scene.enter());
        scene.push(small, 1, "small");
        let first = scene.next().unwrap();
        scene.after(1);
        scene.push(large, 2, "large");
        scene.push(small, 1, "small");
        assert!(scene.next().is_none());
        scene.done(first);
        let large = scene.next().unwrap();
        assert_eq!(large.work, "large");
        assert!(scene.next().is_none());
        scene.done(large);
        assert_eq!(scene.next().unwrap().work, "small");
    }

    #[test]
    fn lanes_that_are_idle_for_a_large_work_are_its_own() {
        let mut scene = Scene::new(4);
        let [large, slow, quick] = [(); 3].map(|()| scene.enter());
        scene.push_some(3000, large, 4, "large");
        scene.push_some(30, slow, 1, "slow");
        scene.push_some(5000, quick, 1, "quick");
        // What is at work, and for how long still.
        let mut at_work: Vec<(u64, Begun<_>)> = Vec::new();
        let (mut large, mut quick) = (0, 0);
        for _ in 0..10_000 {
            while let Some(begun) = scene.next() {
                let cost = match begun.work {
                    // No JPEG, as is found at once.
                    "large" => 1,
                    "slow" => 1000,
                    _ => 10,
                };
                at_work.push((cost, begun));
            }
            scene.after(1);
            at_work.iter_mut().for_each(|(left, _)| *left -= 1);
            for (_, done) in at_work.extract_if(.., |(left, _)| *left == 0) {
                large += u32::from(done.work == "large");
                quick += u32::from(done.work == "quick");
                scene.done(done);
            }
        }
        // Lanes that are idle for the large one count as much as a client.
        assert!(quick * 10 >= 40_000 / 4, "{quick} of 4000");
        assert!(large >= 3, "{large}");
    }

    #[test]
    fn who_was_away_has_saved_nothing_and_who_leaves_leaves_nothing() {
        let mut scene = Scene::new(1);
        let (early, busy) = (scene.enter(), scene.enter());
        scene.push_some(10, busy, 1, "busy");
        scene.work(6, |_| 100);
        scene.push_some(3, early, 1, "early");
        let order = ["busy", "early", "busy", "early", "busy", "early"];
        assert_eq!(scene.work(6, |_| 100), order);
        drop(scene.queue.leave(busy, scene.now));
        assert!(scene.next().is_none());
    }

    #[test]
    fn who_is_never_idle_saves_nothing_either() {
        let mut scene = Scene::new(4);
        let (steady, busy) = (scene.enter(), scene.enter());
        scene.push_some(1000, busy, 1, "busy");
        // One at a time of the one, while the other has all lanes that are left.
        let mut steadily = None;
        for _ in 0..100 {
            scene.push(steady, 1, "steady");
            let mut begun: Vec<_> = (0..4).map_while(|_| scene.next()).collect();
            scene.after(10);
            begun.extend(steadily.take());
            let kept = begun.iter().position(|begun| begun.work == "steady").unwrap();
            steadily = Some(begun.swap_remove(kept));
            begun.into_iter().for_each(|begun| scene.done(begun));
        }
        scene.done(steadily.unwrap());
        scene.push_some(100, steady, 1, "steady");
        let newcomer = scene.enter();
        scene.push(newcomer, 1, "newcomer");
        assert!(scene.work(5, |_| 10).contains(&"newcomer"));
    }

    #[test]
    fn who_stays_is_not_passed_for_ever_by_those_who_come_and_go() {
        let mut scene = Scene::new(1);
        let stays = scene.enter();
        scene.push_some(50, stays, 1, "stays");
        scene.work(10, |_| 10);
        let mut done = Vec::new();
        for _ in 0..100 {
            // Always two of them wait.
            while scene.queue.waiting.len() < 3 {
                let visitor = scene.enter();
                scene.push(visitor, 1, "visitor");
            }
            let begun = scene.next().unwrap();
            scene.after(10);
            done.push(begun.work);
            let client = begun.client;
            scene.done(begun);
            if client != stays {
                drop(scene.queue.leave(client, scene.now));
            }
        }
        let stayed = done.iter().filter(|&&name| name == "stays").count();
        assert!((25..=40).contains(&stayed), "{stayed} of 100");
    }
}
