//! Shared memory: the [`Region`] both ends map, the [`RingLayout`] that divides it into slots, and the
//! [`Lease`] by which a client owns a slot, a daemon's [guard](guard_regions) against regions' loss, and what it has [`Lent`].

mod guard;
mod lent;
mod region;
mod ring;

pub use guard::{GUARDED, guard_regions};
pub use lent::Lent;
pub use region::{NamedRegion, Region, RegionError};
pub use ring::{Lease, RingLayout, SlotMemory, leases, mapped};
