//! The daemon as processes meet it: the real binary, real Unix sockets, clients that are processes of
//! their own, and what the scalar kernel says every frame should be.
//!
//! Nothing here asserts a time; deadlines only keep a test from hanging.

mod clients;
mod embedded;
mod frames;
mod gpu;
mod greed;
mod hostile;
mod leaks;
mod lifecycle;
mod oracle;
mod refusals;
mod service;
mod support;
mod threads;
mod wire;
