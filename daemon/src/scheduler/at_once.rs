//! Owns which frames are resized by the thread that brings them, instead of waking a lane.
//!
//! Knows what frames of a stream were measured to take. Tiny ones are done wherever they are: they
//! take less than to queue them. A short one is if it comes alone, nothing waits, and no more than one
//! lane is awake, which may have given the frame before back just now. So nobody is passed, and there
//! is nothing to pay for: where nothing waits nobody owes anybody. Whoever brings jobs reads
//! everybody's messages: so a frame comes alone if it is the first that was found since the thread
//! looked for messages, and if at most one was when it looked before. What others bring meanwhile goes
//! to lanes, and so does everything as long as more comes than one at a time: floods use all cores.
//! What lanes bring in its place counts too; they look when they have enough to do, which is no look.
//!
//! Invariant: the thread is at frames of one push for no longer than [`AT_ONCE`], and the last of
//! them, as far as frames take what they took before. One that took longer, because its pages had to
//! be made, or because the thread lost its core, has lanes do the next dozen.

use std::iter::Peekable;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Scheduler;
use super::frame::Started;
use crate::device::Scratch;
use crate::job::Job;
use crate::lock;

/// How long the thread that brings jobs does tiny ones itself: for what is left lanes have woken
/// by then.
const AT_ONCE: Duration = Duration::from_micros(100);

/// What a short frame takes at the most: about as long as a lane takes to wake whose core is idle, and
/// virtual. On a core that runs that takes 4 us; but where all lanes sleep, few cores run.
const SHORT: Duration = Duration::from_micros(30);

/// Frames that the thread that brings jobs finds each time it looks for messages.
#[derive(Default)]
pub(super) struct Found {
    now: AtomicUsize,
    before: AtomicUsize,
}

impl Found {
    /// So many more. Returns whether it is one that comes alone.
    fn note(&self, frames: usize) -> bool {
        let is_first = self.now.fetch_add(frames, Ordering::Relaxed) == 0;
        is_first && frames == 1 && self.before.load(Ordering::Relaxed) <= 1
    }

    pub(super) fn note_look(&self) {
        self.before.store(self.now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Scheduler {
    /// Does the first of these jobs here and now, as far as no lane is worth waking for them.
    pub(super) fn resize_at_once(&self, jobs: &mut Peekable<impl ExactSizeIterator<Item = Job>>) {
        let is_alone = self.found.note(jobs.len());
        let Some(first) = jobs.peek() else { return };
        if let Some(device) = self.tiny_for(first) {
            let begun = first.submitted();
            self.resize_tiny(jobs, device, begun);
        } else if is_alone && let Some(device) = self.short_for(first) {
            self.resize_short(jobs, device);
        }
    }

    /// Does the first of these jobs, as far as they are too small for a lane.
    fn resize_tiny(
        &self,
        jobs: &mut Peekable<impl ExactSizeIterator<Item = Job>>,
        device: usize,
        begun: Instant,
    ) {
        if self.waiting() > 0 {
            return;
        }
        let mut scratch = lock::wait(&self.scratch);
        while let Some(job) = jobs.next_if(|job| self.tiny_for(job) == Some(device)) {
            self.resize_here(job, device, &mut scratch);
            if jobs.len() == 0 || begun.elapsed() > AT_ONCE {
                break;
            }
        }
    }

    /// Does a short frame if lanes sleep.
    fn resize_short(&self, jobs: &mut impl Iterator<Item = Job>, device: usize) {
        if self.is_quiet(device)
            && let Some(job) = jobs.next()
        {
            let mut scratch = lock::wait(&self.scratch);
            self.resize_here(job, device, &mut scratch);
        }
    }

    fn resize_here(&self, job: Job, device: usize, scratch: &mut Scratch) {
        self.work_alone(Started::new(job, device), scratch);
    }

    /// Whether nothing waits, and all lanes of the device sleep but one.
    fn is_quiet(&self, device: usize) -> bool {
        let queue = self.queue.hold();
        let awake = self.devices[device].lanes() - queue.lanes[device].idle.len();
        queue.waiting() == 0 && awake <= 1
    }

    /// A device for which the job is not worth waking a lane at all.
    fn tiny_for(&self, job: &Job) -> Option<usize> {
        self.devices_for(job).find(|&device| job.worth(device) == 0)
    }

    /// A device that anybody may resize the job by, which is known to take little time over it.
    fn short_for(&self, job: &Job) -> Option<usize> {
        let mut devices = self.devices_for(job);
        devices.find(|&device| {
            self.devices[device].is_anybodys()
                && job.worth(device) == 1
                && job.took(device).is_some_and(|took| took <= SHORT)
        })
    }

    fn devices_for(&self, job: &Job) -> impl Iterator<Item = usize> {
        let devices = 0..self.devices.len();
        devices.filter(|&device| job.fits(device) && self.reserve != Some(device))
    }
}

#[cfg(test)]
impl Scheduler {
    /// A frame is found. Returns whether it comes alone.
    pub(crate) fn find(&self) -> bool {
        self.found.note(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resized_protocol::message::Filter;

    use super::super::fakes::{Ledger, SMALL, Timed, cropped, id, jobs, stream};
    use super::*;
    use crate::device::null::Null;
    use crate::job::Stream;

    /// A device of two lanes, which sleep, and what is brought to it.
    struct Bringing {
        scheduler: Arc<Scheduler>,
        stream: Arc<Stream>,
        ledger: Arc<Ledger>,
        jobs: Vec<Job>,
    }

    impl Bringing {
        fn new(device: Timed, count: u32) -> Self {
            let scheduler = Scheduler::new(vec![Box::new(device)], None);
            let mut queue = scheduler.queue.hold();
            (0..2).for_each(|lane| queue.lanes[0].idle.sleep(lane));
            drop(queue);
            scheduler.note_look();
            let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
            let ledger = Arc::default();
            Self { jobs: jobs(&stream, &ledger, count), scheduler, stream, ledger }
        }

        /// One that takes so long, as is known.
        fn known(takes: Duration, count: u32) -> Self {
            let bringing = Self::new(anybodys(), count);
            bringing.note(takes);
            bringing
        }

        /// A frame took so long.
        fn note(&self, took: Duration) {
            jobs(&self.stream, &self.ledger, 1)[0].note_pace(0, took, Instant::now());
        }

        /// How many jobs are done by who brings them, all together.
        fn done_at_once(self) -> usize {
            let Self { scheduler, ledger, jobs, .. } = self;
            let count = jobs.len();
            let waited = scheduler.waiting();
            scheduler.push(id(0), jobs.into_iter());
            let done = ledger.completed().len();
            assert_eq!(scheduler.waiting() - waited, count - done);
            done
        }
    }

    fn anybodys() -> Timed {
        Timed { anybodys: true, ..Timed::new("cores", Duration::ZERO) }
    }

    #[test]
    fn who_brings_jobs_does_the_tiny_ones_alone() {
        let scheduler = Scheduler::new(vec![Box::new(Null)], None);
        let stream = Arc::new(stream(scheduler.devices(), 0, Filter::Area, SMALL));
        let ledger = Arc::<Ledger>::default();
        // The third is tiny again, but not before the second.
        let mut all = jobs(&stream, &ledger, 3);
        all[1] = cropped(&stream, &ledger);
        scheduler.push(id(0), all.into_iter());
        assert_eq!((ledger.await_completions(1).len(), scheduler.waiting()), (1, 2));
    }

    #[test]
    fn a_short_frame_is_done_by_who_brings_it_if_it_is_known_to_be_short() {
        assert_eq!(Bringing::known(SHORT / 2, 1).done_at_once(), 1);
        assert_eq!(Bringing::known(2 * SHORT, 1).done_at_once(), 0);
        assert_eq!(Bringing::new(anybodys(), 1).done_at_once(), 0);
    }

    #[test]
    fn a_frame_that_took_long_once_has_lanes_do_the_next() {
        let bringing = Bringing::known(SHORT / 6, 1);
        bringing.note(Duration::from_millis(100));
        (0..20).for_each(|_| bringing.note(SHORT / 6));
        assert_eq!(bringing.done_at_once(), 0);
    }

    #[test]
    fn frames_that_bring_a_crop_say_nothing_of_others() {
        let bringing = Bringing::known(2 * SHORT, 1);
        let cropped_job = |bringing: &Bringing| cropped(&bringing.stream, &bringing.ledger);
        (0..100).for_each(|_| cropped_job(&bringing).note_pace(0, SHORT / 100, Instant::now()));
        assert_eq!(bringing.done_at_once(), 0);
        // Nor others of them.
        let mut bringing = Bringing::known(SHORT / 6, 0);
        bringing.jobs.push(cropped_job(&bringing));
        assert_eq!(bringing.done_at_once(), 0);
    }

    #[test]
    fn a_frame_that_only_lanes_may_do_or_several_share_is_theirs() {
        for device in [Timed { anybodys: false, ..anybodys() }, Timed { worth: 2, ..anybodys() }] {
            let bringing = Bringing::new(device, 1);
            bringing.note(SHORT / 2);
            assert_eq!(bringing.done_at_once(), 0);
        }
    }

    #[test]
    fn several_short_frames_go_to_lanes() {
        assert_eq!(Bringing::known(SHORT / 2, 2).done_at_once(), 0);
    }

    #[test]
    fn a_short_frame_goes_to_a_lane_while_several_are_awake() {
        for (awake, done) in [(1, 1), (2, 0)] {
            let bringing = Bringing::known(SHORT / 2, 1);
            let mut queue = bringing.scheduler.queue.hold();
            assert_eq!(queue.call(0, awake), awake);
            drop(queue);
            assert_eq!(bringing.done_at_once(), done, "{awake} awake");
        }
    }

    #[test]
    fn a_short_frame_passes_none_that_waits() {
        let mut bringing = Bringing::known(SHORT / 2, 2);
        let first = bringing.jobs.remove(0);
        bringing.scheduler.queue.hold().fair.push(id(0), [first].into_iter());
        assert_eq!(bringing.done_at_once(), 0);
    }

    #[test]
    fn of_short_frames_that_are_found_together_one_is_done_by_who_brings_them() {
        let mut bringing = Bringing::known(SHORT / 2, 2);
        for job in std::mem::take(&mut bringing.jobs) {
            // Whatever the frame before took this machine.
            (0..50).for_each(|_| bringing.note(SHORT / 100));
            bringing.scheduler.push(id(0), [job].into_iter());
            assert_eq!(bringing.ledger.completed().len(), 1);
        }
    }

    #[test]
    fn a_frame_comes_alone_if_it_is_the_first_and_at_most_one_came_the_time_before() {
        let found = Found::default();
        assert!(found.note(1));
        assert!(!found.note(1));
        found.note_look();
        assert!(!found.note(1));
        found.note_look();
        assert!(found.note(1));
        found.note_look();
        assert!(!found.note(2));
    }
}
