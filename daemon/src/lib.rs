//! The `resized` daemon as a library: what its binary runs as a process of its own, and what other
//! programs may embed.
//!
//! One frame walks through these files in this order: [`server`] accepts a client, whose `session`
//! checks each submitted slot and makes a `job` of it; the `scheduler` queues jobs fairly over
//! users and their streams; a lane of a [`device`] takes the job, resizes the frame where it lies
//! by the taps of `filter`, and writes the completion to the client's socket itself.

pub mod device;
pub mod server;

mod cores;
mod filter;
mod job;
mod lock;
mod metrics;
mod quota;
mod scheduler;
mod session;

#[cfg(test)]
#[path = "../tests/common/levels.rs"]
mod levels;

#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

#[cfg(test)]
#[path = "../tests/common/specs.rs"]
mod specs;

#[cfg(test)]
#[path = "../tests/common/until.rs"]
mod until;

pub use quota::{Limits, default_ring_bytes, user_ring_bytes};
pub use resized_service::memory::available_memory;
pub use server::{
    CONNECTION_DESCRIPTORS, Controls, Daemon, Devices, Explained, Exporter, ExporterAddress,
    ExporterAddressError, Listener, OTHER_DESCRIPTORS, Options, Peers, Server, ServerError,
    UnknownDevices, explain,
};
