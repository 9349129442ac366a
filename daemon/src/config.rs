//! Owns the command line.

use std::path::PathBuf;

use clap::Parser;
use resized::{Devices, Options, Peers};

/// A daemon that resizes video frames and images in shared memory for every process of this machine.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Config {
    /// Socket to listen at, unless a service manager passes one
    /// [default: $XDG_RUNTIME_DIR/resized/resized.sock, or /run/resized/resized.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// What resizes: auto (the cores and the GPUs), cpu, vulkan (the GPUs; the cores only what those
    /// can't), vulkan:NAME (those with that in their names), or null (nothing, to measure the rest)
    #[arg(long, value_name = "DEVICES", default_value_t = Devices::Auto)]
    pub(crate) devices: Devices,

    /// Say what of this machine would be used, and what not, and why; and end
    #[arg(long)]
    pub(crate) explain: bool,

    /// What this program asks itself when it tries a GPU
    #[arg(long, hide = true, value_name = "QUESTION")]
    pub(crate) probe_vulkan: Option<String>,

    /// Who may connect: the daemon's own user and root, or anyone the socket's permissions let in
    #[arg(long, value_enum, default_value_t)]
    peers: Peers,

    /// MiB of shared memory for all rings together [default: half the machine's memory]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,

    /// Also offer rings as named segments, to clients of the daemon's own user. Such a ring has no
    /// seals, and any process of that user can attach to it: one that truncates it kills the daemon
    #[arg(long)]
    allow_named_segments: bool,
}

impl Config {
    pub(crate) fn options(&self) -> Options {
        let memory = self.memory.map(|mebibytes| mebibytes.saturating_mul(1024 * 1024));
        Options {
            devices: self.devices.clone(),
            peers: self.peers,
            allow_named_segments: self.allow_named_segments,
            memory,
            program: program(),
        }
    }

    /// Where to listen if nobody passes a socket.
    pub(crate) fn socket(&self) -> PathBuf {
        let folder = || std::env::var_os("XDG_RUNTIME_DIR").map_or("/run".into(), PathBuf::from);
        self.socket.clone().unwrap_or_else(|| folder().join("resized/resized.sock"))
    }
}

/// This program, which knows how to try a GPU.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}
