//! The daemon as processes meet it: the real binary, real Unix sockets, clients that are processes of
//! their own, and what the scalar kernel says every frame should be.
//!
//! Nothing here asserts a time; deadlines only keep a test from hanging.

mod chaos;
mod clients;
mod cores;
mod embedded;
mod figures;
mod frames;
mod gpu;
mod greed;
mod hostile;
mod leaks;
mod lifecycle;
mod oracle;
#[path = "../../../bridge/tests/common/port.rs"]
mod port;
mod quotas;
mod refusals;
mod restarts;
mod service;
#[path = "../common/skip.rs"]
mod skip;
#[path = "../common/specs.rs"]
mod specs;
mod support;
mod threads;
mod timeouts;
#[path = "../common/until.rs"]
mod until;
mod wire;
