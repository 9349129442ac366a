//! A GStreamer plugin with one element, `resizedscale`: what `videoscale` does, done by the
//! `resized` daemon, so by every core and GPU, for many pipelines at once and fairly between them.
//!
//! A buffer walks through these files in this order: `caps` says what sizes it may become and which
//! it does, `scale` is the element that takes it, `work` has it resized in a slot and makes the next
//! buffer of that. `formats` and `picture` know what frames are.
//!
//! Knows nothing of how frames are resized or travel: that is `resized-client`'s, and who resizes them is
//! for `resized-anywhere` to find. `docs/gstreamer.md` is the guide.

mod caps;
mod formats;
mod picture;
mod plugin;
mod scale;
mod work;

pub use plugin::plugin_register_static;
