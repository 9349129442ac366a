//! Owns what is charged for a ring until its client has let go of it: its stream may be over, but a client keeps a ring mapped
//! for as long as it likes.
//!
//! Knows no streams. Invariants: a ring's pages are taken back only from who can no longer reach them ([`Lent`]); until then the
//! user whose client has it pays for it, as for a stream that is open.

use std::mem;
use std::sync::{Arc, Weak};

use resized_protocol::shm::Lent;

use super::{Account, Accounts, Charge};
use crate::lock;

/// A ring that a client has, and what it takes of its user's account. Dropped when the daemon has let go of it.
#[derive(Debug)]
pub(crate) struct Lending(Option<Ring>);

/// The ring, and after its stream what is kept of it.
#[derive(Debug)]
pub(super) struct Ring {
    file: Lent,
    memory: Charge,
    _stream: Charge,
}

impl Lending {
    pub(crate) const fn new(file: Lent, memory: Charge, stream: Charge) -> Self {
        Self(Some(Ring { file, memory, _stream: stream }))
    }

    /// The ring is about to leave what this process shares: it is looked for there no longer.
    pub(crate) fn unmap(&mut self) {
        self.0.iter_mut().for_each(|ring| ring.memory.ring = None);
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        if let Some(ring) = self.0.take()
            && !ring.file.take_back()
        {
            let account = Arc::clone(&ring.memory.account);
            lock::wait(&account.kept).push(ring);
            account.daemon.keeping.notify_one();
        }
    }
}

impl Account {
    /// Takes back what rings this user's clients have let go of since they were asked for last.
    pub(crate) fn take_back(&self) {
        // Who asks for room waits for what another is freeing.
        let _one_at_a_time = lock::wait(&self.taking_back);
        let kept = mem::take(&mut *lock::wait(&self.kept));
        let (free, kept): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|ring| ring.file.take_back());
        lock::wait(&self.kept).extend(kept);
        drop(free);
    }

    fn keeps_any(&self) -> bool {
        // What somebody takes back may be kept after all.
        self.taking_back.try_lock().is_err() || !lock::wait(&self.kept).is_empty()
    }
}

impl Accounts {
    /// Waits until some client keeps a ring whose stream is over.
    pub(crate) async fn keeping(&self) {
        self.keeping.notified().await;
    }

    /// The accounts that are charged for such rings.
    pub(crate) fn that_keep_rings(&self) -> Vec<Arc<Account>> {
        let users = self.users();
        let accounts = users.known.values().filter_map(Weak::upgrade);
        accounts.filter(|account| account.keeps_any()).collect()
    }

    /// Takes no ring back any more: the memory goes with who has it. For the daemon's end; what is charged keeps its account.
    pub(crate) fn forget_rings(&self) {
        for account in self.that_keep_rings() {
            drop(mem::take(&mut *lock::wait(&account.kept)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use resized_protocol::message::{Refusal, Resource};
    use resized_protocol::shm::Region;

    use super::*;
    use crate::quota::Limits;

    #[test]
    fn a_ring_is_paid_for_until_its_client_lets_go_of_it() {
        let limits = Limits { streams: 1, ring_bytes: 10_000, ..Limits::default() };
        let accounts = Accounts::new(limits, 1, u64::MAX, []);
        let account = accounts.of(7);
        let len = NonZeroUsize::new(10_000).unwrap();
        let lend = || -> Result<_, Refusal> {
            let mut memory = account.charge(Resource::RingBytes, 10_000)?;
            memory.allocated_with_ring(10_000);
            let stream = account.charge(Resource::Streams, 1)?;
            let (_region, file) = Region::create(len).unwrap();
            let file = Lent::new(file, len).unwrap();
            let theirs = file.open().unwrap();
            Ok((Lending::new(file, memory, stream), theirs))
        };
        let taken = || (accounts.ring_bytes(), accounts.that_keep_rings().len());
        let owed = || accounts.machine.owed(Some(0));
        let (mut ring, theirs) = lend().unwrap();
        assert_eq!(owed(), 10_000);
        ring.unmap();
        assert_eq!(owed(), 0);
        drop(ring);
        account.take_back();
        assert_eq!(taken(), (10_000, 1));
        assert!(lend().is_err());
        drop(theirs);
        account.take_back();
        assert_eq!(taken(), (0, 0));
        // Who has let go before is not even looked after.
        let (ring, theirs) = lend().unwrap();
        drop(theirs);
        drop(ring);
        assert_eq!(taken(), (0, 0));
        // Nor is anybody at the end.
        let (ring, _theirs) = lend().unwrap();
        drop(ring);
        accounts.forget_rings();
        assert_eq!(taken(), (0, 0));
        assert_eq!(Arc::strong_count(&account), 1);
    }
}
