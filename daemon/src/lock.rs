//! Owns how locks are taken: those that all threads want and none keeps for long, and all others.
//!
//! Knows nothing of what they guard, which is as it was left, even by a thread that panicked. To
//! sleep until a lock is free and be woken takes tens of microseconds, far longer than one of the
//! first kind is held. So a thread that finds such a one held looks again, for about as long as
//! sleeping would take. With common locks, the lanes of sixteen cores and a GPU slept for the
//! queue's nearly four times as often as for want of frames. Its holder may have lost its core: then
//! all sleep after that while. A thread that sleeps has to take its chance among those that look, as
//! with any lock that can be taken out of turn. Where there is one core nobody looks again: the
//! holder could not let go meanwhile.

use std::hint::spin_loop;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::available_parallelism;

/// How often it is looked. After each look there are twice as many pauses as before, up to two to
/// the power of this.
static LOOKS: LazyLock<u32> = LazyLock::new(|| match available_parallelism() {
    Ok(cores) if cores.get() > 1 => 32,
    _ => 1,
});
const MOST_DOUBLED: u32 = 6;

/// Counts the cores. To be called before threads are bound to one of them, which would see no others.
pub(crate) fn count_cores() {
    LazyLock::force(&LOOKS);
}

/// Takes a lock that nobody keeps for long.
pub(crate) fn take<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for look in 0..*LOOKS {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        (0..1 << look.min(MOST_DOUBLED)).for_each(|_| spin_loop());
    }
    wait(mutex)
}

/// Takes a lock that may be kept for long, or that few want: sleeps until it is free.
pub(crate) fn wait<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
