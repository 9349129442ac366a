//! A bridge as a process, real sockets, real certificates: remote clients get the frames that local
//! ones get, and nobody gets anything else.

mod away;
mod balancer;
#[path = "../common/broker.rs"]
mod broker;
mod caller;
mod cluster;
mod frames;
mod hostile;
mod jpeg;
mod network;
mod offers;
mod peer;
mod pictures;
#[path = "../common/port.rs"]
mod port;
mod requests;
mod restarts;
mod rights;
#[path = "../../../daemon/tests/common/skip.rs"]
mod skip;
mod support;
mod turns;
#[path = "../../../daemon/tests/common/until.rs"]
mod until;
mod vanished;
mod ways_in;
mod wire;
