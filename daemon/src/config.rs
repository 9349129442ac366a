//! Owns the command line.

use std::path::PathBuf;

use clap::Parser;
use resized::{Devices, Limits, Options, Peers, default_ring_bytes};

/// A daemon that resizes video frames and images in shared memory for every process of this machine.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Config {
    /// Socket to listen at, unless a service manager passes one
    /// [default: $XDG_RUNTIME_DIR/resized/resized.sock, or /run/resized/resized.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// What resizes
    #[arg(long, value_enum, default_value_t)]
    devices: Devices,

    /// Who may connect: the daemon's own user and root, or anyone the socket's permissions let in
    #[arg(long, value_enum, default_value_t)]
    peers: Peers,

    /// MiB of shared memory for all rings together [default: half the machine's memory]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,

    /// MiB of shared memory for the rings of one user
    /// [default: three quarters of what there is; with --peers owner all of it]
    #[arg(long, value_name = "MIB")]
    user_memory: Option<u64>,

    /// Connections of one user at the same time
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    user_connections: u64,

    /// Open streams of one user
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().streams)]
    user_streams: u64,

    /// Slots of all streams of one user: its frames in flight
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().slots)]
    user_slots: u64,

    /// Also offer rings as named segments, to clients of the daemon's own user. Such a ring has no
    /// seals, and any process of that user can attach to it: one that truncates it kills the daemon
    #[arg(long)]
    allow_named_segments: bool,
}

impl Config {
    pub(crate) fn options(&self) -> Options {
        let bytes = |mebibytes: u64| mebibytes.saturating_mul(1024 * 1024);
        let memory = self.memory.map_or_else(default_ring_bytes, bytes);
        let ring_bytes = match (self.user_memory, self.peers) {
            (Some(mebibytes), _) => bytes(mebibytes),
            (None, Peers::Owner) => memory,
            (None, Peers::Anyone) => memory / 4 * 3,
        };
        Options {
            devices: self.devices,
            peers: self.peers,
            allow_named_segments: self.allow_named_segments,
            memory: Some(memory),
            limits: Limits {
                connections: self.user_connections,
                streams: self.user_streams,
                slots: self.user_slots,
                ring_bytes,
            },
        }
    }

    /// Where to listen if nobody passes a socket.
    pub(crate) fn socket(&self) -> PathBuf {
        let folder = || std::env::var_os("XDG_RUNTIME_DIR").map_or("/run".into(), PathBuf::from);
        self.socket.clone().unwrap_or_else(|| folder().join("resized/resized.sock"))
    }
}
