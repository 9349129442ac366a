//! Owns a GPU's queue: command buffers go in, and whoever put one in waits for its end.
//!
//! Knows no streams. Lanes that submit at the same time are served by one call: each notes its command
//! buffer, and whoever then holds the queue submits all that are noted. A command buffer may begin only after
//! one of another queue, by a semaphore: nobody waits between the two. Invariants: the values of the timeline
//! rise in the order in which command buffers are submitted; nothing is allocated for a frame.

use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ash::vk;
use vulkano::command_buffer::CommandBuffer;
use vulkano::device::{Device, DeviceOwned, Queue};
use vulkano::sync::semaphore::{Semaphore, SemaphoreCreateInfo, SemaphoreType, SemaphoreWaitInfo};
use vulkano::{Validated, VulkanError, VulkanObject};

use super::{fault, lock};
use crate::device::Fault;

/// Most command buffers in one call.
const BATCH: usize = 8;

/// The queue of a device.
pub(super) struct Submitter {
    queue: Arc<Queue>,
    timeline: Semaphore,
    /// After this a frame is taken for lost.
    patience: Duration,
    noted: Mutex<Noted>,
    /// Those that whoever holds the queue submits.
    batch: Mutex<Vec<Entry>>,
    failed: AtomicBool,
}

/// A command buffer to be submitted.
#[derive(Clone, Copy)]
struct Entry {
    commands: vk::CommandBuffer,
    /// What the timeline is to be when it is done.
    value: u64,
    /// A semaphore and what it must be before it begins.
    after: Option<(vk::Semaphore, u64)>,
}

#[derive(Default)]
struct Noted {
    /// The last value given to one.
    value: u64,
    waiting: Vec<Entry>,
}

impl Submitter {
    pub(super) fn new(
        device: &Arc<Device>,
        queue: Arc<Queue>,
        patience: Duration,
    ) -> Result<Self, Validated<VulkanError>> {
        let timeline =
            SemaphoreCreateInfo { semaphore_type: SemaphoreType::Timeline, ..Default::default() };
        Ok(Self {
            queue,
            timeline: Semaphore::new(Arc::clone(device), timeline)?,
            patience,
            noted: Mutex::default(),
            batch: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    pub(super) fn family(&self) -> u32 {
        self.queue.queue_family_index()
    }

    /// Submits a command buffer, to begin after a value of another queue's timeline; gives the value of this
    /// one that says that it is done.
    ///
    /// # Safety
    ///
    /// Until then the command buffer must not be submitted again, and it and all that it uses must live.
    pub(super) unsafe fn submit(
        &self,
        commands: &CommandBuffer,
        after: Option<(&Self, u64)>,
    ) -> Result<u64, Fault> {
        let value = {
            let mut noted = lock(&self.noted);
            noted.value += 1;
            let value = noted.value;
            let after = after.map(|(other, value)| (other.timeline.handle(), value));
            noted.waiting.push(Entry { commands: commands.handle(), value, after });
            value
        };
        self.queue.with(|_held| {
            let mut batch = lock(&self.batch);
            std::mem::swap(&mut *batch, &mut lock(&self.noted).waiting);
            for some in batch.chunks(BATCH) {
                // SAFETY: by the contract of those who noted them; the queue is held.
                if let Err(error) = unsafe { self.submit_all(some) } {
                    tracing::error!(%error, "a GPU takes no work");
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            batch.clear();
        });
        // By now it has been submitted, by us or by who held the queue before.
        match self.failed.load(Ordering::Relaxed) {
            true => Err(Fault::Lost),
            false => Ok(value),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::submit`], and the queue must be held.
    unsafe fn submit_all(&self, batch: &[Entry]) -> Result<(), VulkanError> {
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
            signals[i] = semaphore(self.timeline.handle(), entry.value);
            if let Some((after, value)) = entry.after {
                waits[i] = semaphore(after, value);
            }
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
        // SAFETY: the device has Vulkan 1.3 with `synchronization2`; what is pointed to lives; the rest is
        // the caller's contract.
        let result =
            unsafe { submit(self.queue.handle(), count, submits.as_ptr(), vk::Fence::null()) };
        result.result().map_err(VulkanError::from)
    }

    /// Waits until the timeline has that value.
    pub(super) fn wait(&self, value: u64) -> Result<(), Fault> {
        let wait = SemaphoreWaitInfo { value, ..Default::default() };
        let waited = self.timeline.wait(wait, Some(self.patience));
        match waited {
            // A lost device ends every wait.
            Ok(()) if self.failed.load(Ordering::Relaxed) => Err(Fault::Lost),
            Ok(()) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Whether all that was ever submitted is over.
    pub(super) fn is_idle(&self) -> bool {
        let value = lock(&self.noted).value;
        // A lost device does nothing any more.
        let lost = self.failed.load(Ordering::Relaxed);
        lost || self.timeline.counter_value().map_or(true, |reached| reached >= value)
    }
}
