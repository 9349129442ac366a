//! Owns how a lock is taken that all threads want and none keeps for long.
//!
//! Knows nothing of what it guards. To sleep until a lock is free and be woken takes tens of microseconds, where the machine is a
//! virtual one fifty and more; a scheduler's queue is held for one or two, an outbox for ten. So who finds one held looks
//! again for about as long as sleeping would take. With locks as they commonly are the lanes of sixteen cores and a GPU
//! slept for the queue's nearly four times as often as for want of frames. Whoever holds it may have lost its core:
//! then all sleep after that while.

use std::hint::spin_loop;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How often it is looked, and the most pauses between two looks. A pause takes 20 to 45 ns.
const LOOKS: u32 = 32;
const PAUSES: u32 = 64;

/// Takes a lock. What it guards is as it was left, also by who panicked.
pub(crate) fn take<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for look in 0..LOOKS {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        let pauses = 1_u32.checked_shl(look).unwrap_or(PAUSES).min(PAUSES);
        (0..pauses).for_each(|_| spin_loop());
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_at_a_time_has_it_however_long_it_is_held() {
        let count = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..200 {
                        let mut count = take(&count);
                        let before = *count;
                        if turn % 50 == 0 {
                            thread::sleep(Duration::from_millis(1));
                        }
                        *count = before + 1;
                    }
                });
            }
        });
        assert_eq!(*take(&count), 800);
    }

    #[test]
    fn what_a_panic_left_is_there() {
        let mutex = Mutex::new(1);
        let panics = || {
            *take(&mutex) = 2;
            let _held = take_again(&mutex);
        };
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(*take(&mutex), 2);
    }

    fn take_again(mutex: &Mutex<i32>) -> MutexGuard<'_, i32> {
        let guard = take(mutex);
        assert_eq!(*guard, 1, "meant to");
        guard
    }
}
