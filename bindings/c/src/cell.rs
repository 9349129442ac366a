//! Owns a slot's life in C: loaned, submitted, resized, released.
//!
//! Invariants: a slot is in one stage, and a call that may block takes it out of its stage, so that
//! no other thread can use or release it meanwhile; no lock is held while a call blocks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resized_client::{Frame, Pending, Slot};

use crate::status::Failure;

/// A slot from its loan to its release.
pub(crate) struct Cell(Mutex<Stage>);

enum Stage {
    Loaned(Slot),
    Submitted(Pending),
    Resized(Frame),
    /// A thread is submitting it or waiting for it.
    InUse,
    /// It failed: all that is left to do is to release it.
    Over,
}

impl Stage {
    const fn name(&self) -> &'static str {
        match self {
            Self::Loaned(_) => "loaned",
            Self::Submitted(_) => "submitted",
            Self::Resized(_) => "resized",
            Self::InUse => "in another thread's call",
            Self::Over => "over, its frame failed",
        }
    }

    const fn is_not(&self, wanted: &'static str) -> Failure {
        Failure::State { wanted, found: self.name() }
    }
}

/// A stage that was taken out, and puts another in its place at the end, however that comes about.
struct Taken<'a> {
    cell: &'a Cell,
    next: Stage,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.cell.stage() = std::mem::replace(&mut self.next, Stage::Over);
    }
}

impl Cell {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self(Mutex::new(Stage::Loaned(slot)))
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn while_loaned<T>(
        &self,
        body: impl FnOnce(&mut Slot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &mut *self.stage() {
            Stage::Loaned(slot) => body(slot),
            other => Err(other.is_not("loaned")),
        }
    }

    pub(crate) fn once_resized<T>(
        &self,
        body: impl FnOnce(&Frame) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &*self.stage() {
            Stage::Resized(frame) => body(frame),
            other => Err(other.is_not("resized")),
        }
    }

    pub(crate) fn submit(&self) -> Result<(), Failure> {
        let (slot, mut taken) = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, Stage::InUse) {
                Stage::Loaned(slot) => (slot, Taken { cell: self, next: Stage::Over }),
                other => {
                    let failure = other.is_not("loaned");
                    *stage = other;
                    return Err(failure);
                }
            }
        };
        taken.next = Stage::Submitted(slot.submit()?);
        Ok(())
    }

    /// Whether it is resized in time. `None`: for ever.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool, Failure> {
        let (pending, mut taken) = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, Stage::InUse) {
                Stage::Submitted(pending) => (pending, Taken { cell: self, next: Stage::Over }),
                other => {
                    let resized = match &other {
                        Stage::Resized(_) => Ok(true),
                        other => Err(other.is_not("submitted")),
                    };
                    *stage = other;
                    return resized;
                }
            }
        };
        let waited = match timeout {
            None => Ok(pending.wait()?),
            Some(timeout) => pending.wait_timeout(timeout)?,
        };
        let in_time = waited.is_ok();
        taken.next = waited.map_or_else(Stage::Submitted, Stage::Resized);
        Ok(in_time)
    }

    /// Ends the slot, unless a thread is at it. `close` may find that another was faster.
    pub(crate) fn release(
        &self,
        close: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let last = {
            let mut stage = self.stage();
            if matches!(*stage, Stage::InUse) {
                return Err(stage.is_not("at rest"));
            }
            close()?;
            std::mem::replace(&mut *stage, Stage::Over)
        };
        // Without the lock: to cancel a frame is to send a message.
        drop(last);
        Ok(())
    }
}
