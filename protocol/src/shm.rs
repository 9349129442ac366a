//! Shared memory: the [`Region`] both ends map, the [`RingLayout`] that divides it into slots, and the
//! [`Lease`] by which a client owns a slot.

mod region;
mod ring;

pub use region::{NamedRegion, Region, RegionError};
pub use ring::{Lease, RingLayout, SlotMemory, leases, mapped};
