//! Owns the limits of what users may take, and the accounts of what they have taken.
//!
//! Knows no clients: two of one user share an account, and so do the users that were [lent](owners) to one. Invariants: what is
//! limited is charged before it is allocated, and the charge goes with the allocation; a refusal says whose limit it was, what
//! was asked for and what is left; a [ring](lending) is charged until its client has let go of it. A slot is a frame that may
//! be in flight, and is charged as its stream opens: so frames in flight are limited, and submitting one is neither counted nor
//! refused. What a connection may have the daemon hold is charged with its place. What the machine has to give is told by
//! [`machine`]. The threads that make and free streams' memory are not limited but taken in turns: no user has more than half
//! of them. Memory of a device is refused to the device, which then passes on the stream: the client is told nothing.

mod lending;
mod machine;
mod owners;
mod pot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use resized_protocol::message::{Refusal, Resource, Whose};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::lock;
use machine::{Allocated, Machine, OnTheWay};
use pot::Pot;

pub(crate) use lending::Lending;
pub use machine::{default_ring_bytes, user_ring_bytes};
pub(crate) use owners::Owners;

/// Threads for what takes long, the making and freeing of streams' memory: each keeps a core busy.
pub(crate) const THREADS: usize = 4;

/// Threads of these on which one user has work at the same time; the rest of its work waits apart, so that
/// another's never stands behind it.
const TURNS: usize = THREADS / 2;

/// Bytes that the daemon, or the system in its name, may hold for a connection that says half of something and reads nothing:
/// 208 KiB are what a socket takes, the rest is in the session's inbox and outbox. They count as those of rings do.
const UNREAD: u64 = 320 << 10;

/// Connections at the same time that are let in though there is no memory for what they leave unread.
const OVERSEERS: u64 = 4;

/// What each user may have at the same time, over all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: u64,
    /// Open streams.
    pub streams: u64,
    /// Slots of all its streams: frames in flight.
    pub slots: u64,
    /// Bytes of its rings, of what is kept beside them, and of what its connections may leave unread, 320 KiB each.
    pub ring_bytes: u64,
}

impl Default for Limits {
    /// More than any honest user needs, but for memory, where the daemon's own limit stands alone.
    fn default() -> Self {
        Self { connections: 1024, streams: 4096, slots: 1 << 16, ring_bytes: u64::MAX }
    }
}

/// The daemon's own limits, and an account for each user.
#[derive(Debug)]
pub(crate) struct Accounts {
    connections: Pot,
    streams: Pot,
    ring_bytes: Pot,
    /// Connections that [`Accounts::admit`] charges with no memory.
    overseers: Pot,
    machine: Arc<Machine>,
    /// Bytes of each device, in the order of the scheduler's.
    devices: Vec<Pot>,
    users: Mutex<Users>,
    /// Held by who reads whose users are whose.
    reading: Mutex<()>,
    /// A client keeps a ring whose stream is over.
    keeping: Notify,
}

/// The users.
#[derive(Debug)]
struct Users {
    /// What each may have.
    each: Limits,
    /// Whose account is whose.
    owners: Owners,
    /// Accounts that hold something; gone with the last of it.
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
    /// Rings whose streams are over and which its clients still have. Each keeps the account.
    kept: Mutex<Vec<lending::Ring>>,
    /// Held by who asks whether they have let go.
    taking_back: Mutex<()>,
}

/// Taken from an account until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    what: What,
    amount: u64,
    /// Of memory that is not yet allocated.
    on_the_way: Option<OnTheWay>,
    /// Of a ring that is.
    ring: Option<Allocated>,
}

/// A connection's place, and what it may have the daemon hold, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// The user at the other end, who may not be the one to whom it is charged.
    uid: u32,
    connection: Charge,
    _unread: Charge,
}

/// Too little is left of what there is a limit to.
struct Short {
    whose: Whose,
    left: u64,
    limit: u64,
}

impl Short {
    const fn refusal(self, what: Resource, asked: u64) -> Refusal {
        let Self { whose, left, limit } = self;
        Refusal::Quota { whose, what, asked, left, limit }
    }
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
    /// A connection that is charged with no memory.
    Overseer,
    /// Bytes of the device of that number.
    Device(usize),
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
            streams: Pot::new(u64::MAX),
            ring_bytes: Pot::new(ring_bytes),
            overseers: Pot::new(OVERSEERS),
            machine: Arc::default(),
            devices: devices.into_iter().map(Pot::new).collect(),
            users: Mutex::new(Users { each, owners: Owners::default(), known: HashMap::new() }),
            reading: Mutex::default(),
            keeping: Notify::new(),
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

    /// Sets how many streams all users together may have.
    pub(crate) fn set_streams(&self, most: u64) {
        self.streams.set_limit(most);
    }

    /// Says whose the users are who come from now on.
    pub(crate) fn set_owners(&self, owners: Owners) {
        self.users().owners = owners;
    }

    /// The same, read meanwhile, which may take long: of two who do, the one that began last has the last word.
    pub(crate) fn read_owners(&self, read: impl FnOnce() -> Owners) {
        let _one_at_a_time = lock::wait(&self.reading);
        self.set_owners(read());
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        lock::wait(&self.users)
    }

    /// Bytes that rings have taken, and what is kept beside them.
    pub(crate) fn ring_bytes(&self) -> u64 {
        let charged = self.connections.taken().saturating_sub(self.overseers.taken());
        self.ring_bytes.taken().saturating_sub(UNREAD * charged)
    }

    /// A place for a connection of that user. For one who `sees_all` there is one also where memory is spent: somebody has to see
    /// who has it.
    pub(crate) fn admit(self: &Arc<Self>, uid: u32, sees_all: bool) -> Result<Place, Refusal> {
        let account = self.of(uid);
        let connection = account.charge(Resource::Connections, 1)?;
        let unread = account.take(What::Resource(Resource::RingBytes), UNREAD);
        let unread = unread.or_else(|short| match sees_all {
            true => account.take(What::Overseer, 1).map_err(|_| short),
            false => Err(short),
        });
        let unread = unread.map_err(|short| short.refusal(Resource::RingBytes, UNREAD))?;
        Ok(Place { uid, connection, _unread: unread })
    }

    /// The account of a user: its own or, if the user was lent to another, that one's.
    pub(crate) fn of(self: &Arc<Self>, uid: u32) -> Arc<Account> {
        let mut users = self.users();
        let uid = users.owners.of(uid);
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
            kept: Mutex::default(),
            taking_back: Mutex::default(),
        });
        users.known.insert(uid, Arc::downgrade(&account));
        account
    }

    /// What all users together have a limit of.
    fn pot(&self, what: What) -> Option<&Pot> {
        match what {
            What::Resource(Resource::Connections) => Some(&self.connections),
            What::Resource(Resource::RingBytes) => Some(&self.ring_bytes),
            What::Resource(Resource::Streams) => Some(&self.streams),
            What::Resource(Resource::Slots) => None,
            What::Overseer => Some(&self.overseers),
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

    /// What this user has a limit of.
    fn pot(&self, what: What) -> Option<&Pot> {
        match what {
            What::Resource(Resource::Connections) => Some(&self.connections),
            What::Resource(Resource::Streams) => Some(&self.streams),
            What::Resource(Resource::Slots) => Some(&self.slots),
            What::Resource(Resource::RingBytes) => Some(&self.ring_bytes),
            What::Overseer => None,
            What::Device(index) => self.devices.get(index),
        }
    }

    /// Takes so much, unless that is beyond this user's limit, the daemon's, or what the machine has to
    /// give: Linux would not refuse the pages of a ring, it would kill someone for them.
    pub(crate) fn charge(self: &Arc<Self>, what: Resource, asked: u64) -> Result<Charge, Refusal> {
        let refusal = |short: Short| short.refusal(what, asked);
        let mut charge = self.take(What::Resource(what), asked).map_err(refusal)?;
        // The machine last: what is found there is nobody else's from then on.
        if what == Resource::RingBytes {
            let found = self.daemon.machine.find(asked);
            let short = |left| refusal(Short { whose: Whose::Machine, left, limit: left });
            charge.on_the_way = found.map_err(short)?;
        }
        Ok(charge)
    }

    /// Takes so much of a device's memory, unless that is beyond this user's share of it or all
    /// there is.
    pub(crate) fn charge_device(self: &Arc<Self>, index: usize, asked: u64) -> Option<Charge> {
        // Of what there is no pot of, anything could be taken.
        self.devices.get(index)?;
        self.take(What::Device(index), asked).ok()
    }

    /// Takes so much of what this user may have and of what all together may, or of neither.
    fn take(self: &Arc<Self>, what: What, asked: u64) -> Result<Charge, Short> {
        let (own, all) = (self.pot(what), self.daemon.pot(what));
        if let Some(own) = own
            && let Err(left) = own.take(asked)
        {
            return Err(Short { whose: Whose::User, left, limit: own.limit() });
        }
        if let Some(all) = all
            && let Err(left) = all.take(asked)
        {
            own.iter().for_each(|own| own.give_back(asked));
            return Err(Short { whose: Whose::Daemon, left, limit: all.limit() });
        }
        Ok(Charge { account: Arc::clone(self), what, amount: asked, on_the_way: None, ring: None })
    }
}

impl Place {
    /// The user at the other end.
    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// To whom it is charged, and all that the connection is granted.
    pub(crate) const fn account(&self) -> &Arc<Account> {
        &self.connection.account
    }
}

impl Charge {
    /// The memory that was charged is allocated: the system counts it from now on.
    pub(crate) fn allocated(&mut self) {
        self.on_the_way = None;
    }

    /// The same, with a ring of so many bytes: it counts as long as this does, though its client may give pages back.
    pub(crate) fn allocated_with_ring(&mut self, bytes: u64) {
        self.ring = Some(self.account.daemon.machine.note(bytes));
        self.allocated();
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

#[cfg(test)]
mod tests;
