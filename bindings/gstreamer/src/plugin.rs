//! Owns the plugin's description, which GStreamer reads out of the library.

// What the macro exports: C finds it by its name.
#![allow(unsafe_code, missing_docs)]

use gst::glib;

fn init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    crate::scale::register(plugin)
}

gst::plugin_define!(
    resized,
    env!("CARGO_PKG_DESCRIPTION"),
    init,
    env!("CARGO_PKG_VERSION"),
    "MIT/X11",
    "resized",
    "resized",
    "resized",
    "2026-11-27"
);
