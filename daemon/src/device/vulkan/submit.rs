//! Owns a GPU's queues: command buffers go in, and whoever put one in waits for its end, on a
//! timeline of its own.
//!
//! Knows no streams. Lanes that submit to a queue at the same time are served by one call: each
//! notes its command buffer, and whoever then holds the queue submits all that are noted. A command
//! buffer may begin only after one of another queue, by the same timeline: nobody waits between the
//! two. Nobody shares a timeline either: drivers may have whoever waits for one keep others from
//! it. Invariants: the values of a timeline rise in the order in which its command buffers are
//! submitted; a value is given to who waits only for commands that the queue took; they are under
//! way until it was reached or the device is lost, whatever else the driver says; nothing is
//! allocated for a frame.

use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ash::vk;
use vulkano::command_buffer::CommandBuffer;
use vulkano::device::{Device, DeviceOwned, Queue};
use vulkano::sync::semaphore::{Semaphore, SemaphoreCreateInfo, SemaphoreType, SemaphoreWaitInfo};
use vulkano::{Validated, VulkanError, VulkanObject};

use crate::device::Fault;
use crate::lock;

/// Most command buffers in one call.
const BATCH: usize = 8;

/// How long a driver that has no memory for a question is left alone.
const PAUSE: Duration = Duration::from_millis(10);

/// How long it is waited at once for commands that are overdue.
const OVERDUE: Duration = Duration::from_secs(1);

/// A queue of a device.
pub(super) struct Submitter {
    queue: Arc<Queue>,
    noted: Mutex<Noted>,
    batch: Mutex<Batch>,
    #[cfg(test)]
    calls: AtomicU64,
}

/// Tells one lane how far its command buffers have come.
pub(super) struct Timeline {
    semaphore: Semaphore,
    /// The last value that a command buffer was to bring it to.
    last: AtomicU64,
    /// After this a frame is taken for lost.
    patience: Duration,
}

/// A command buffer to be submitted.
#[derive(Clone, Copy)]
struct Entry {
    commands: vk::CommandBuffer,
    timeline: vk::Semaphore,
    /// What the timeline must be before it begins.
    after: Option<u64>,
    /// What the timeline is to be when it is done.
    value: u64,
}

#[derive(Default)]
struct Noted {
    /// How many have been noted.
    count: u64,
    waiting: Vec<Entry>,
}

/// What whoever holds the queue submits.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    /// How many of those that were noted the queue took.
    taken: u64,
    /// It has refused one: it takes no more, so that what it took is told by a single number.
    refused: bool,
}

impl Submitter {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            noted: Mutex::default(),
            batch: Mutex::default(),
            #[cfg(test)]
            calls: AtomicU64::default(),
        }
    }

    /// The same queue, but what is refused here is not refused there.
    pub(super) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.queue))
    }

    pub(super) fn family(&self) -> u32 {
        self.queue.queue_family_index()
    }

    /// Submits a command buffer, to begin after a value of its timeline, if one is given; gives the value that says
    /// that it is done. An error: it was not submitted.
    ///
    /// # Safety
    ///
    /// Until it was [waited](Timeline::wait) for the command buffer must not be submitted again, and it and all
    /// that it uses must live. Nobody else may use the timeline meanwhile.
    pub(super) unsafe fn submit(
        &self,
        commands: &CommandBuffer,
        timeline: &Timeline,
        after: Option<u64>,
    ) -> Result<u64, Fault> {
        let value = timeline.last.fetch_add(1, Ordering::Relaxed) + 1;
        let place = {
            let mut noted = lock::wait(&self.noted);
            noted.count += 1;
            let (commands, timeline) = (commands.handle(), timeline.semaphore.handle());
            noted.waiting.push(Entry { commands, timeline, after, value });
            noted.count
        };
        let taken = self.queue.with(|_held| {
            let mut batch = lock::wait(&self.batch);
            let Batch { entries, taken, refused } = &mut *batch;
            std::mem::swap(entries, &mut lock::wait(&self.noted).waiting);
            for some in entries.chunks(BATCH) {
                if *refused {
                    break;
                }
                // SAFETY: by the contract of those who noted them; the queue is held.
                let submitted = unsafe { self.submit_all(some) };
                if let Err(error) = submitted {
                    tracing::error!(%error, "a GPU takes no work");
                    *refused = true;
                }
                // One that is lost may be at them all the same, until it says so to who waits
                // (Vulkan 1.3, 5.2.3); any other error leaves everything as it was.
                if matches!(submitted, Ok(()) | Err(VulkanError::DeviceLost)) {
                    *taken += some.len() as u64;
                }
            }
            entries.clear();
            *taken
        });
        // By now the queue has taken or refused it, for us or for who held it before.
        if place <= taken { Ok(value) } else { Err(Fault::Lost) }
    }

    /// # Safety
    ///
    /// As for [`Self::submit`], and the queue must be held.
    unsafe fn submit_all(&self, batch: &[Entry]) -> Result<(), VulkanError> {
        #[cfg(test)]
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut commands = [vk::CommandBufferSubmitInfo::default(); BATCH];
        let mut signals = [vk::SemaphoreSubmitInfo::default(); BATCH];
        let mut waits = [vk::SemaphoreSubmitInfo::default(); BATCH];
        let mut submits = [vk::SubmitInfo2::default(); BATCH];
        let semaphore = |semaphore: vk::Semaphore, value: u64| {
            let all = vk::PipelineStageFlags2::ALL_COMMANDS;
            vk::SemaphoreSubmitInfo::default().semaphore(semaphore).value(value).stage_mask(all)
        };
        for (i, entry) in batch.iter().enumerate() {
            commands[i] = commands[i].command_buffer(entry.commands);
            signals[i] = semaphore(entry.timeline, entry.value);
            waits[i] = semaphore(entry.timeline, entry.after.unwrap_or_default());
        }
        for (i, (submit, entry)) in submits.iter_mut().zip(batch).enumerate() {
            let waits = if entry.after.is_some() { slice::from_ref(&waits[i]) } else { &[] };
            *submit = submit
                .command_buffer_infos(slice::from_ref(&commands[i]))
                .wait_semaphore_infos(waits)
                .signal_semaphore_infos(slice::from_ref(&signals[i]));
        }
        let submit = self.queue.device().fns().v1_3.queue_submit2;
        let count = batch.len() as u32;
        // SAFETY: the device has Vulkan 1.3 with `synchronization2`; what is pointed to lives; the
        // rest is the caller's contract.
        let result =
            unsafe { submit(self.queue.handle(), count, submits.as_ptr(), vk::Fence::null()) };
        result.result().map_err(VulkanError::from)
    }

    /// Has `begin` start threads that submit, and the queue wait until so many command buffers are
    /// noted.
    #[cfg(test)]
    pub(super) fn together<T>(&self, count: usize, begin: impl FnOnce() -> T) -> T {
        let _held = lock::wait(&self.batch);
        let begun = begin();
        while lock::wait(&self.noted).waiting.len() < count {
            thread::sleep(Duration::from_micros(100));
        }
        begun
    }

    /// How often the queue was called.
    #[cfg(test)]
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// As if the queue had refused something.
    #[cfg(test)]
    pub(super) fn refuse(&self) {
        lock::wait(&self.batch).refused = true;
    }
}

impl Timeline {
    pub(super) fn new(
        device: &Arc<Device>,
        patience: Duration,
    ) -> Result<Self, Validated<VulkanError>> {
        let info =
            SemaphoreCreateInfo { semaphore_type: SemaphoreType::Timeline, ..Default::default() };
        let semaphore = Semaphore::new(Arc::clone(device), info)?;
        Ok(Self { semaphore, last: AtomicU64::new(0), patience })
    }

    /// Waits until the commands of that value are over, as long as patience lasts.
    /// [`Fault::TimedOut`]: they may still be under way. Any other outcome: they are not.
    pub(super) fn wait(&self, value: u64) -> Result<(), Fault> {
        let until = Instant::now() + self.patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::TimedOut);
            }
            if let Some(outcome) = self.outcome(value, left) {
                return outcome;
            }
        }
    }

    /// Whether they are over by now.
    pub(super) fn is_over(&self, value: u64) -> bool {
        self.outcome(value, Duration::ZERO).is_some()
    }

    /// Waits until they are over, however long that takes.
    pub(super) fn settle(&self, value: u64) {
        while self.outcome(value, OVERDUE).is_none() {}
    }

    /// How the commands of that value ended; `None`: not within that time, as far as one knows.
    fn outcome(&self, value: u64, within: Duration) -> Option<Result<(), Fault>> {
        let wait = SemaphoreWaitInfo { value, ..Default::default() };
        match self.semaphore.wait(wait, Some(within)) {
            Ok(()) => Some(Ok(())),
            // It uses nothing any more (Vulkan 1.3, 5.2.3).
            Err(Validated::Error(VulkanError::DeviceLost)) => Some(Err(Fault::Lost)),
            Err(Validated::Error(VulkanError::Timeout)) => None,
            // The question had no answer, such as for lack of memory: that says nothing about the
            // commands.
            Err(error) => {
                tracing::debug!(%error, "a GPU can't be waited for");
                thread::sleep(PAUSE.min(within));
                None
            }
        }
    }
}
