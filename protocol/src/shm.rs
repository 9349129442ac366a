//! Shared memory: the [`Region`] both ends map, the [`RingLayout`] that divides it into slots, and the
//! [`Lease`] by which a client owns a slot, and a daemon's [guard](guard_regions) against regions' loss.

mod guard;
mod region;
mod ring;

pub use guard::{GUARDED, guard_regions};
pub use region::{NamedRegion, Region, RegionError};
pub use ring::{Lease, RingLayout, SlotMemory, leases, mapped};
