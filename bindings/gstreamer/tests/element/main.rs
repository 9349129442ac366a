//! The element as users meet it, with a daemon at a socket: in pipelines of gst-launch, beside
//! `videoscale`, fed by hand, and with daemons that go away.

mod frames;
mod launch;
mod life;
mod negotiation;
mod studio;
