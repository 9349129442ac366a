//! Owns the limits of what users may take, and the accounts of what they have taken.
//!
//! Knows no clients: two of one user share an account. Invariants: what is limited is charged
//! before it is allocated, and the charge goes with the allocation; a refusal says whose limit it
//! was, what was asked for and what is left. A slot is a frame that may be in flight, and is
//! charged as its stream opens: so frames in flight are limited, and submitting one is neither
//! counted nor refused. The threads that make and free streams' memory are not limited but taken in
//! turns: no user has more than half of them. Memory of a device is refused to the device, which
//! then passes on the stream: the client is told nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use resized_protocol::message::{Refusal, Resource, Whose};
use resized_service::memory;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of memory that no ring is made of: what the daemon, and all else, take beside rings. Less
/// where there is little.
const SPARED: u64 = 256 << 20;

/// Threads for what takes long, the making and freeing of streams' memory: each keeps a core busy.
pub(crate) const THREADS: usize = 4;

/// Those of them that one user has work on at the same time; the rest of its work waits apart, so that
/// another's never stands behind it.
const TURNS: usize = THREADS / 2;

/// What each user may have at the same time, over all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: u64,
    /// Open streams.
    pub streams: u64,
    /// Slots of all its streams: frames in flight.
    pub slots: u64,
    /// Bytes of shared memory for its rings.
    pub ring_bytes: u64,
}

impl Default for Limits {
    /// More than any honest user needs, but for memory, where the daemon's own limit stands alone.
    fn default() -> Self {
        Self { connections: 1024, streams: 4096, slots: 1 << 16, ring_bytes: u64::MAX }
    }
}

/// Bytes of shared memory for the rings of a daemon that is not told how many: half of the
/// machine's, or of what the daemon's control group may have.
pub fn default_ring_bytes() -> u64 {
    memory::total().map_or(1 << 30, |total| total / 2)
}

/// See [`SPARED`].
fn spared() -> u64 {
    memory::total().map_or(0, |total| (total / 16).min(SPARED))
}

/// The daemon's own limits, and an account for each user.
#[derive(Debug)]
pub(crate) struct Accounts {
    connections: Pot,
    ring_bytes: Pot,
    /// Bytes that were granted and are not yet allocated: what there is of memory still counts them.
    on_the_way: AtomicU64,
    /// Bytes of each device, in the order of the scheduler's.
    devices: Vec<Pot>,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    /// What each may have.
    each: Limits,
    /// Those that hold something; gone with the last of it.
    known: HashMap<u32, Weak<Account>>,
}

/// What one user has taken.
#[derive(Debug)]
pub(crate) struct Account {
    uid: u32,
    daemon: Arc<Accounts>,
    connections: Pot,
    streams: Pot,
    slots: Pot,
    ring_bytes: Pot,
    turns: Arc<Semaphore>,
    devices: Vec<Pot>,
}

/// Taken from an account until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    what: What,
    amount: u64,
    /// Of memory that is not yet allocated.
    on_the_way: Option<OnTheWay>,
}

/// Bytes that are about to be allocated, until this is dropped.
#[derive(Debug)]
struct OnTheWay {
    daemon: Arc<Accounts>,
    bytes: u64,
}

/// A turn, until this is dropped.
pub(crate) struct Turn {
    /// None if turns were abolished, which nobody does.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What there are pots of.
#[derive(Clone, Copy, Debug)]
enum What {
    Resource(Resource),
    /// Bytes of the device of that number.
    Device(usize),
}

/// So much, of which some is taken.
#[derive(Debug)]
struct Pot {
    limit: AtomicU64,
    taken: AtomicU64,
}

impl Pot {
    const fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), taken: AtomicU64::new(0) }
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Below what is taken: then nothing more is, until enough has come back.
    fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// `Err`: what is left instead.
    fn take(&self, amount: u64) -> Result<(), u64> {
        let limit = self.limit();
        let more = |taken: u64| taken.checked_add(amount).filter(|&taken| taken <= limit);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|taken| limit.saturating_sub(taken))
    }

    fn give_back(&self, amount: u64) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Accounts {
    /// `connections`, `ring_bytes` and the bytes of each of `devices` are for all users together.
    pub(crate) fn new(
        each: Limits,
        connections: u64,
        ring_bytes: u64,
        devices: impl IntoIterator<Item = u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connections: Pot::new(connections),
            ring_bytes: Pot::new(ring_bytes),
            on_the_way: AtomicU64::new(0),
            devices: devices.into_iter().map(Pot::new).collect(),
            users: Mutex::new(Users { each, known: HashMap::new() }),
        })
    }

    /// Changes the limits of each user, and of all together.
    pub(crate) fn set_limits(&self, each: Limits, ring_bytes: u64) {
        self.ring_bytes.set_limit(ring_bytes);
        let mut users = self.users();
        users.each = each;
        for account in users.known.values().filter_map(Weak::upgrade) {
            account.connections.set_limit(each.connections);
            account.streams.set_limit(each.streams);
            account.slots.set_limit(each.slots);
            account.ring_bytes.set_limit(each.ring_bytes);
        }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that rings have taken.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.ring_bytes.taken()
    }

    /// The account of a user.
    pub(crate) fn of(self: &Arc<Self>, uid: u32) -> Arc<Account> {
        let mut users = self.users();
        if let Some(account) = users.known.get(&uid).and_then(Weak::upgrade) {
            return account;
        }
        users.known.retain(|_, account| account.strong_count() > 0);
        let each = users.each;
        let account = Arc::new(Account {
            uid,
            daemon: Arc::clone(self),
            connections: Pot::new(each.connections),
            streams: Pot::new(each.streams),
            slots: Pot::new(each.slots),
            ring_bytes: Pot::new(each.ring_bytes),
            turns: Arc::new(Semaphore::new(TURNS)),
            // So that another finds room too.
            devices: self.devices.iter().map(|all| Pot::new(all.limit() / 4 * 3)).collect(),
        });
        users.known.insert(uid, Arc::downgrade(&account));
        account
    }

    /// Reserves so many bytes of what the machine has, until they are allocated. `Err`: what is left.
    fn find_memory(self: &Arc<Self>, asked: u64) -> Result<Option<OnTheWay>, u64> {
        let Some(available) = memory::available() else { return Ok(None) };
        self.reserve(asked, available.saturating_sub(spared())).map(Some)
    }

    fn reserve(self: &Arc<Self>, asked: u64, available: u64) -> Result<OnTheWay, u64> {
        let more = |before: u64| before.checked_add(asked).filter(|&sum| sum <= available);
        let taken = self.on_the_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|before| available.saturating_sub(before))?;
        Ok(OnTheWay { daemon: Arc::clone(self), bytes: asked })
    }

    /// What all users together have a limit of.
    fn pot(&self, what: What) -> Option<&Pot> {
        match what {
            What::Resource(Resource::Connections) => Some(&self.connections),
            What::Resource(Resource::RingBytes) => Some(&self.ring_bytes),
            What::Resource(Resource::Streams | Resource::Slots) => None,
            What::Device(index) => self.devices.get(index),
        }
    }
}

impl Account {
    /// The user.
    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Waits for this user's turn on one of the [`THREADS`], those who asked first first.
    pub(crate) async fn turn(&self) -> Turn {
        Turn { _permit: Arc::clone(&self.turns).acquire_owned().await.ok() }
    }

    fn pot(&self, what: What) -> Option<&Pot> {
        match what {
            What::Resource(what) => Some(self.resource(what)),
            What::Device(index) => self.devices.get(index),
        }
    }

    const fn resource(&self, what: Resource) -> &Pot {
        match what {
            Resource::Connections => &self.connections,
            Resource::Streams => &self.streams,
            Resource::Slots => &self.slots,
            Resource::RingBytes => &self.ring_bytes,
        }
    }

    /// Takes so much, unless that is beyond this user's limit, the daemon's, or what the machine has to
    /// give: Linux would not refuse the pages of a ring, it would kill someone for them.
    pub(crate) fn charge(self: &Arc<Self>, what: Resource, asked: u64) -> Result<Charge, Refusal> {
        let refusal = |whose, left, limit| Refusal::Quota { whose, what, asked, left, limit };
        let (own, resource) = (self.resource(what), What::Resource(what));
        own.take(asked).map_err(|left| refusal(Whose::User, left, own.limit()))?;
        if let Some(all) = self.daemon.pot(resource)
            && let Err(left) = all.take(asked)
        {
            own.give_back(asked);
            return Err(refusal(Whose::Daemon, left, all.limit()));
        }
        // From here on both go back with the charge. The machine last: what is found there is nobody
        // else's from then on.
        let account = Arc::clone(self);
        let mut charge = Charge { account, what: resource, amount: asked, on_the_way: None };
        if what == Resource::RingBytes {
            let found = self.daemon.find_memory(asked);
            charge.on_the_way = found.map_err(|left| refusal(Whose::Machine, left, left))?;
        }
        Ok(charge)
    }

    /// Takes so much of a device's memory, unless that is beyond this user's share of it or all
    /// there is.
    pub(crate) fn charge_device(self: &Arc<Self>, index: usize, asked: u64) -> Option<Charge> {
        let (own, all) = (self.devices.get(index)?, self.daemon.devices.get(index)?);
        own.take(asked).ok()?;
        // From here on it goes back with the charge.
        let charge = |()| {
            let (account, what) = (Arc::clone(self), What::Device(index));
            Charge { account, what, amount: asked, on_the_way: None }
        };
        all.take(asked).map(charge).inspect_err(|_| own.give_back(asked)).ok()
    }
}

impl Charge {
    /// Whose it is.
    pub(crate) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The memory that was charged is allocated: the system counts it from now on.
    pub(crate) fn allocated(&mut self) {
        self.on_the_way = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Self { account, what, amount, .. } = self;
        for pot in [account.pot(*what), account.daemon.pot(*what)].into_iter().flatten() {
            pot.give_back(*amount);
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.daemon.on_the_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { connections: 2, streams: 3, slots: 10, ring_bytes: 100 }
    }

    fn refused(whose: Whose, what: Resource, asked: u64, left: u64, limit: u64) -> Refusal {
        Refusal::Quota { whose, what, asked, left, limit }
    }

    #[test]
    fn a_users_charges_add_up_over_its_connections_and_come_back() {
        let accounts = Accounts::new(limits(), 10, 1000, []);
        let (one, same) = (accounts.of(7), accounts.of(7));
        for (what, limit) in [
            (Resource::Connections, 2),
            (Resource::Streams, 3),
            (Resource::Slots, 10),
            (Resource::RingBytes, 100),
        ] {
            let first = one.charge(what, limit - 1).unwrap();
            let refusal = same.charge(what, 2).unwrap_err();
            assert_eq!(refusal, refused(Whose::User, what, 2, 1, limit));
            // Another user has all of its own.
            let other = accounts.of(8).charge(what, limit).unwrap();
            let second = same.charge(what, 1).unwrap();
            drop((first, second, other));
            drop(one.charge(what, limit).unwrap());
        }
        assert_eq!(accounts.ring_bytes(), 0);
    }

    #[test]
    fn all_users_together_have_a_limit_too() {
        let accounts = Accounts::new(limits(), 3, 150, []);
        let first = accounts.of(1).charge(Resource::RingBytes, 100).unwrap();
        let refusal = accounts.of(2).charge(Resource::RingBytes, 51).unwrap_err();
        assert_eq!(refusal, refused(Whose::Daemon, Resource::RingBytes, 51, 50, 150));
        // What was refused is charged to nobody.
        drop(first);
        drop(accounts.of(2).charge(Resource::RingBytes, 100).unwrap());
        let connections = [1, 1, 2].map(|uid| accounts.of(uid).charge(Resource::Connections, 1));
        let refusal = accounts.of(2).charge(Resource::Connections, 1).unwrap_err();
        assert_eq!(refusal, refused(Whose::Daemon, Resource::Connections, 1, 0, 3));
        drop(connections);
    }

    #[test]
    fn memory_of_a_device_is_shared_by_users() {
        let accounts = Accounts::new(limits(), 10, 1000, [0, 400]);
        let (one, other) = (accounts.of(1), accounts.of(2));
        // No user gets all of it, though it comes back.
        assert!(one.charge_device(1, 301).is_none());
        drop(one.charge_device(1, 300).unwrap());
        let most = one.charge_device(1, 300).unwrap();
        assert!(one.charge_device(1, 1).is_none());
        assert!(other.charge_device(1, 101).is_none());
        let rest = other.charge_device(1, 100).unwrap();
        drop(most);
        assert!(other.charge_device(1, 201).is_none());
        drop((rest, other.charge_device(1, 200).unwrap()));
        assert_eq!(accounts.devices[1].taken(), 0);
        // One that has none, and one that there is not.
        assert!(one.charge_device(0, 1).is_none() && one.charge_device(2, 0).is_none());
    }

    #[test]
    fn an_account_lives_as_long_as_what_was_taken_from_it() {
        let accounts = Accounts::new(limits(), 10, 1000, []);
        let charge = accounts.of(1).charge(Resource::Slots, 10).unwrap();
        assert!(accounts.of(1).charge(Resource::Slots, 1).is_err());
        drop(charge);
        drop(accounts.of(2));
        assert_eq!(accounts.users().known.len(), 1);
    }

    #[test]
    fn limits_may_change_under_those_who_hold_something() {
        let accounts = Accounts::new(limits(), 10, 1000, []);
        let account = accounts.of(1);
        let charge = account.charge(Resource::Slots, 8).unwrap();
        accounts.set_limits(Limits { slots: 5, ..limits() }, 1000);
        let refusal = account.charge(Resource::Slots, 1).unwrap_err();
        assert_eq!(refusal, refused(Whose::User, Resource::Slots, 1, 0, 5));
        assert!(accounts.of(2).charge(Resource::Slots, 6).is_err());
        drop(charge);
        assert!(account.charge(Resource::Slots, 5).is_ok());
    }

    #[test]
    fn more_than_the_machine_has_is_refused_whatever_the_limits() {
        let each = Limits { ring_bytes: u64::MAX, ..limits() };
        let accounts = Accounts::new(each, 10, u64::MAX, []);
        for asked in [1 << 60, u64::MAX] {
            let refusal = accounts.of(1).charge(Resource::RingBytes, asked).unwrap_err();
            assert!(matches!(refusal, Refusal::Quota { whose: Whose::Machine, .. }));
        }
        assert_eq!(accounts.ring_bytes(), 0);
    }

    #[test]
    fn those_who_ask_at_once_do_not_get_the_same_memory() {
        let accounts = Accounts::new(limits(), 10, 1000, []);
        let first = accounts.reserve(60, 100).unwrap();
        assert_eq!(accounts.reserve(41, 100).unwrap_err(), 40);
        let second = accounts.reserve(40, 100).unwrap();
        assert!(accounts.reserve(u64::MAX, 100).is_err());
        drop(first);
        assert_eq!(accounts.reserve(61, 100).unwrap_err(), 60);
        drop(second);
        let mut charge = accounts.of(1).charge(Resource::RingBytes, 50).unwrap();
        charge.allocated();
        assert_eq!(accounts.on_the_way.load(Ordering::Relaxed), 0);
        drop(accounts.of(1).charge(Resource::RingBytes, 50).unwrap());
        assert_eq!(accounts.on_the_way.load(Ordering::Relaxed), 0);
        // What a limit refuses is not on its way either.
        assert!(accounts.of(1).charge(Resource::RingBytes, 51).is_err());
        assert_eq!(accounts.on_the_way.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_user_has_half_of_the_turns_at_the_most() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let accounts = Accounts::new(limits(), 10, 1000, []);
            let (one, other) = (accounts.of(1), accounts.of(2));
            let mut held = Vec::new();
            for _ in 0..TURNS {
                held.push(one.turn().await);
            }
            tokio::select! {
                biased;
                _ = one.turn() => panic!("one more than half"),
                turn = other.turn() => drop(turn),
            }
            held.pop();
            drop(accounts.of(1).turn().await);
        });
    }
}
