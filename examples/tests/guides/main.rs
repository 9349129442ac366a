//! That the short programs do what they say.

mod programs;
#[path = "../common/service.rs"]
mod service;
