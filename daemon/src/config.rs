//! Owns the daemon's settings: from the command line, else the environment, else a file, else a
//! default.
//!
//! Invariants: a key or value that is not known is refused, in a file with its line; a setting that
//! is given nowhere is `None` until [`Settings::options`] decides, so that it suits the machine.

// As seen from `examples/resized-pages.rs` too, which reads the flags here.
#[path = "config/folders.rs"]
mod folders;
#[path = "config/values.rs"]
mod values;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use resized::device::vulkan::probe::Question;
use resized::{
    Devices, Exporter, ExporterAddress, Limits, Options, Peers, ServerError, default_ring_bytes,
    user_ring_bytes,
};
use resized_protocol::VERSIONS;
use resized_service::log::NoFilter;
use resized_service::may_pass;
use serde::Deserialize;
use thiserror::Error;

use folders::Folders;
use values::{choice, count, mebibytes, seconds, text, written_mebibytes};

/// Seconds that a daemon may take to stop. A client whose frames are done waits for the next daemon meanwhile, 30
/// seconds in all unless it is told another time, and that one has to start.
const LONGEST_DRAIN: u64 = 25;

/// What an ordinary user is told who has no folder for sockets.
const NO_SESSION: &str = "$XDG_RUNTIME_DIR is no folder of this user's: set it, or give --socket \
                          PATH, and RESIZED_ENDPOINT=unix:PATH to clients";

/// Why there are no settings.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {error}", path = .path.display())]
    Read { path: PathBuf, error: std::io::Error },
    /// The file says something that is not understood; where, is part of the error.
    #[error("{path}: {error}", path = .path.display())]
    Parse { path: PathBuf, error: Box<toml::de::Error> },
    /// Nobody could do anything with such a daemon.
    #[error("'{0}' is 0: nothing could be resized")]
    Nothing(&'static str),
    /// Nothing that was submitted could be completed, or clients would give the daemon up.
    #[error(
        "'drain' is {0}: a daemon that stops needs 1 second at the least, and may take {LONGEST_DRAIN}, since clients \
         wait 30 for the next"
    )]
    Drain(u64),
    /// The socket's path is none.
    #[error("'{}' is no path of a socket: write one such as /run/resized/resized.sock", .0.display())]
    Socket(PathBuf),
    #[error(transparent)]
    Log(#[from] NoFilter),
    /// Figures can't be given where that is said.
    #[error("metrics: {0}")]
    Metrics(ServerError),
}

/// A daemon that resizes video frames and images in shared memory for every process of this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "resized", version, long_version = VERSIONS.as_str(), about, after_help = AFTER)]
pub(crate) struct Arguments {
    /// File of settings. It has the long names of the flags below as keys
    /// [default, if there: /etc/resized/resized.toml; in a session, where $XDG_RUNTIME_DIR is a
    /// folder of the user's, $XDG_CONFIG_HOME/resized/resized.toml]
    #[arg(long, value_name = "PATH", env = "RESIZED_CONFIG")]
    config: Option<PathBuf>,

    /// Read the settings, say whether they are good, and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Say which devices of this machine would be used, which not, and why; and exit
    #[arg(long)]
    pub(crate) explain: bool,

    /// What this program asks itself when it tests a GPU
    #[arg(long, hide = true, value_name = "QUESTION")]
    pub(crate) probe_vulkan: Option<Question>,

    #[command(flatten)]
    settings: Settings,
}

const AFTER: &str = "\
Flags go before the environment, where an empty variable counts as not set, and that before the \
file. SIGHUP has the file read again, and /etc/subuid: limits and log then change, all else at the \
next start. SIGTERM and SIGINT complete what was submitted and end the daemon; a second one ends it \
at once.

$RESIZED_CPU caps the instructions that are used: scalar, avx2 or avx512; on aarch64 scalar or neon. \
$RESIZED_VULKAN_TRANSFER says how frames reach GPUs: direct, copied, both-ways or staged; if it is not \
set, the fastest way is kept.

Exit status: 0 when it was told to stop and all was completed; 1 when it was not, or could not \
start; 2 when flags or the environment are not understood; 78 when settings can't be used, and to \
try again would not help.";

/// What can be set.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Socket to listen at, unless a service manager passes one
    /// [default: $XDG_RUNTIME_DIR/resized/resized.sock, or /run/resized/resized.sock]
    #[arg(long, value_name = "PATH", env = "RESIZED_SOCKET")]
    socket: Option<PathBuf>,

    /// What resizes: auto (the cores and the GPUs), cpu, vulkan (the GPUs; the cores only what those
    /// can't), vulkan:NAME (those with that in their names), or null (nothing, to measure the rest)
    /// [default: auto]
    #[arg(long, value_name = "DEVICES", env = "RESIZED_DEVICES")]
    #[serde(deserialize_with = "text")]
    devices: Option<Devices>,

    /// Who may connect: the daemon's own user and root, or anyone the socket's permissions let in
    /// [default: owner]
    #[arg(long, value_enum, env = "RESIZED_PEERS")]
    #[serde(deserialize_with = "choice")]
    peers: Option<Peers>,

    /// MiB of memory for all rings together, what is kept beside them, and what frames pass through on
    /// their way to a GPU that can't use rings [default: half of the machine's memory, or of the
    /// control group's limit if that is less]
    #[arg(long, value_name = "MIB", env = "RESIZED_MEMORY", value_parser = written_mebibytes)]
    #[serde(deserialize_with = "mebibytes")]
    memory: Option<u64>,

    /// MiB of the same for one user, whose connections count as 320 KiB each
    /// [default: three quarters of what there is; with peers = owner all of it]
    #[arg(long, value_name = "MIB", env = "RESIZED_USER_MEMORY", value_parser = written_mebibytes)]
    #[serde(deserialize_with = "mebibytes")]
    user_memory: Option<u64>,

    /// Connections of one user at the same time [default: 1024]
    #[arg(long, value_name = "COUNT", env = "RESIZED_USER_CONNECTIONS")]
    #[serde(deserialize_with = "count")]
    user_connections: Option<u64>,

    /// Open streams of one user [default: 4096]
    #[arg(long, value_name = "COUNT", env = "RESIZED_USER_STREAMS")]
    #[serde(deserialize_with = "count")]
    user_streams: Option<u64>,

    /// Slots of all streams of one user: its frames in flight [default: 65536]
    #[arg(long, value_name = "COUNT", env = "RESIZED_USER_SLOTS")]
    #[serde(deserialize_with = "count")]
    user_slots: Option<u64>,

    /// Also offer rings as named segments, to clients of the daemon's own user. Such a ring has no
    /// seals, and any process of that user can attach to it: one that truncates it ends its
    /// stream: all frames of that fail [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[arg(env = "RESIZED_ALLOW_NAMED_SEGMENTS")]
    allow_named_segments: Option<bool>,

    /// Seconds that a daemon which stops gives what was submitted to complete, from 1 to 25
    /// [default: 20]
    #[arg(long, value_name = "SECONDS", env = "RESIZED_DRAIN")]
    #[serde(deserialize_with = "seconds")]
    drain: Option<u64>,

    /// Where figures are given to Prometheus, at /metrics, with /live and /ready beside them:
    /// unix:PATH, or 127.0.0.1:PORT [default: nowhere]
    #[arg(long, value_name = "ADDRESS", env = "RESIZED_METRICS")]
    #[serde(deserialize_with = "text")]
    metrics: Option<ExporterAddress>,

    /// What is logged to stderr: error, warn, info, debug, or directives of tracing's EnvFilter
    /// [default: info]
    #[arg(long, value_name = "FILTER", env = "RESIZED_LOG")]
    log: Option<String>,
}

impl Arguments {
    /// The settings, and the file that had a part in them.
    pub(crate) fn load(&self) -> Result<(Settings, Option<PathBuf>), ConfigError> {
        let (path, must_be) = match &self.config {
            Some(path) => (Some(path.clone()), true),
            None => (Folders::of_environment().file(), false),
        };
        let file = path.as_deref().map_or_else(|| Ok(Settings::default()), Settings::read);
        let (settings, path) = match file {
            // One that is there and can't be read is an error: it may say what matters.
            Err(ConfigError::Read { error, .. }) if !must_be && is_absent(&error) => {
                (self.settings.clone(), None)
            }
            file => (self.settings.clone().or(file?), path),
        };
        settings.check()?;
        Ok((settings, path))
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Settings {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })
    }

    /// Whether somebody could use the daemon that they make.
    fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("memory", self.memory),
            ("user-memory", self.user_memory),
            ("user-connections", self.user_connections),
            ("user-streams", self.user_streams),
            ("user-slots", self.user_slots),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return Err(ConfigError::Nothing(key));
        }
        if let Some(drain) = self.drain.filter(|seconds| !(1..=LONGEST_DRAIN).contains(seconds)) {
            return Err(ConfigError::Drain(drain));
        }
        // An address as clients write it, say.
        let is_path = |path: &PathBuf| {
            !path.as_os_str().is_empty() && !path.to_string_lossy().starts_with("unix:")
        };
        match self.socket.as_ref().filter(|path| !is_path(path)) {
            Some(path) => Err(ConfigError::Socket(path.clone())),
            None => Ok(()),
        }
    }

    /// These, and the others where these say nothing.
    fn or(self, other: Self) -> Self {
        Self {
            socket: self.socket.or(other.socket),
            devices: self.devices.or(other.devices),
            peers: self.peers.or(other.peers),
            memory: self.memory.or(other.memory),
            user_memory: self.user_memory.or(other.user_memory),
            user_connections: self.user_connections.or(other.user_connections),
            user_streams: self.user_streams.or(other.user_streams),
            user_slots: self.user_slots.or(other.user_slots),
            allow_named_segments: self.allow_named_segments.or(other.allow_named_segments),
            drain: self.drain.or(other.drain),
            metrics: self.metrics.or(other.metrics),
            log: self.log.or(other.log),
        }
    }

    /// These, with who may connect as it was decided: that does not change while a daemon runs.
    pub(crate) fn for_peers(self, peers: Peers) -> Self {
        Self { peers: Some(peers), ..self }
    }

    pub(crate) fn options(&self) -> Options {
        let bytes = |mebibytes: u64| mebibytes.saturating_mul(1024 * 1024);
        let memory = self.memory.map_or_else(default_ring_bytes, bytes);
        let peers = self.peers.unwrap_or_default();
        let ring_bytes = match (self.user_memory, peers) {
            (Some(mebibytes), _) => bytes(mebibytes),
            (None, Peers::Owner) => memory,
            (None, Peers::Anyone) => user_ring_bytes(memory),
        };
        let usual = Limits::default();
        Options {
            devices: self.devices.clone().unwrap_or(Devices::Auto),
            peers,
            allow_named_segments: self.allow_named_segments.unwrap_or_default(),
            memory: Some(memory),
            limits: Limits {
                connections: self.user_connections.unwrap_or(usual.connections),
                streams: self.user_streams.unwrap_or(usual.streams),
                slots: self.user_slots.unwrap_or(usual.slots),
                ring_bytes,
            },
            // It knows how to try a GPU.
            program: std::env::current_exe().ok(),
        }
    }

    /// Where to listen if nobody passes a socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| Folders::of_environment().socket())
    }

    /// Why nobody can listen there; and what to do about it, where nobody chose the place.
    pub(crate) fn advise(&self, error: ServerError) -> anyhow::Error {
        let of_the_system = matches!(
            &error,
            ServerError::Listen { path, error }
                if path.starts_with("/run/resized/") && error.kind() == ErrorKind::PermissionDenied
        );
        match self.socket {
            None if of_the_system => anyhow::anyhow!("{error}; {NO_SESSION}"),
            _ => error.into(),
        }
    }

    /// How long a daemon that stops may take.
    pub(crate) fn drain(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.drain.unwrap_or(20))
    }

    /// Where figures are given, listening.
    pub(crate) fn exporter(&self, peers: Peers) -> anyhow::Result<Option<Exporter>> {
        let bound = self.metrics.as_ref().map(|address| Exporter::bind(address, peers));
        bound.transpose().map_err(|error| match error {
            // The other daemon may be about to go.
            ServerError::Taken(_) => error.into(),
            ServerError::Listen { error: ref why, .. }
                if why.kind() == ErrorKind::AddrInUse || may_pass(why) =>
            {
                error.into()
            }
            error => ConfigError::Metrics(error).into(),
        })
    }

    /// What is logged.
    pub(crate) fn log(&self) -> &str {
        self.log.as_deref().unwrap_or("info")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use resized_protocol::VERSION;

    use super::*;

    #[test]
    fn the_long_version_says_the_protocols() {
        let said = Arguments::command().render_long_version();
        assert!(said.ends_with(&format!(" (protocol {VERSION})\n")), "{said}");
    }

    fn parsed(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_first_counts() {
        let file = parsed("memory = 5\nuser-slots = 6\npeers = \"anyone\"").unwrap();
        let flags = Settings { memory: Some(7), ..Settings::default() };
        let merged = flags.or(file);
        let options = merged.options();
        assert_eq!((merged.memory, options.limits.slots), (Some(7), 6));
        assert_eq!(options.peers, Peers::Anyone);
        assert_eq!(options.limits.ring_bytes, 7 * 1024 * 1024 / 4 * 3);
        assert_eq!(options.limits.streams, Limits::default().streams);
        // All that follows from who may connect follows from who may now.
        let memory = 7 * 1024 * 1024;
        assert_eq!(merged.for_peers(Peers::Owner).options().limits.ring_bytes, memory);
    }

    #[test]
    fn a_daemon_that_nobody_could_use_is_refused() {
        for key in ["memory", "user-memory", "user-connections", "user-streams", "user-slots"] {
            let error = parsed(&format!("{key} = 0")).unwrap().check().unwrap_err();
            assert!(matches!(error, ConfigError::Nothing(named) if named == key), "{key}: {error}");
        }
        for drain in [0, LONGEST_DRAIN + 1] {
            let error = parsed(&format!("drain = {drain}")).unwrap().check().unwrap_err();
            assert!(matches!(error, ConfigError::Drain(seconds) if seconds == drain), "{error}");
        }
        for socket in ["", "unix:/run/resized.sock"] {
            let error = parsed(&format!("socket = \"{socket}\"")).unwrap().check().unwrap_err();
            assert!(matches!(&error, ConfigError::Socket(path) if path == socket), "{error}");
        }
        assert!(parsed("drain = 1\nsocket = \"/run/resized.sock\"").unwrap().check().is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line) in [
            ("memory = 5\nmemroy = 6\n", "line 2"),
            ("\n\npeers = \"everyone\"\n", "line 3"),
            ("memory = -1", "line 1"),
            ("memory = \"much\"", "line 1"),
            ("[section]\n", "line 1"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(line), "{text:?}: {error}");
        }
    }

    #[test]
    fn who_may_not_listen_where_nobody_chose_to_is_told_where() {
        let refused = |path: &str, kind: ErrorKind| ServerError::Listen {
            path: path.to_owned(),
            error: kind.into(),
        };
        let lock = "/run/resized/resized.sock.lock";
        let advice = |settings: &Settings, error| settings.advise(error).to_string();
        let (plain, chosen) = (Settings::default(), parsed("socket = \"/run/resized/a\"").unwrap());
        let denied = || refused(lock, ErrorKind::PermissionDenied);
        assert!(
            advice(&plain, denied())
                .contains("$XDG_RUNTIME_DIR is no folder of this user's: set it, or give")
        );
        assert!(!advice(&chosen, denied()).contains("XDG"));
        assert!(!advice(&plain, refused(lock, ErrorKind::NotFound)).contains("XDG"));
        assert!(!advice(&plain, refused("/tmp/a", ErrorKind::PermissionDenied)).contains("XDG"));
    }

    #[test]
    fn the_file_that_is_installed_has_every_setting_as_a_comment() {
        let text = include_str!("../../systemd/resized.toml");
        assert_eq!(parsed(text).unwrap(), Settings::default());
        let said: String = text.lines().filter_map(|line| line.strip_prefix("#")).fold(
            String::new(),
            |said, line| if line.contains(" = ") { said + line + "\n" } else { said },
        );
        let all = parsed(&said).unwrap();
        let Settings {
            socket: Some(_),
            devices: Some(_),
            peers: Some(_),
            memory: Some(_),
            user_memory: Some(_),
            user_connections: Some(_),
            user_streams: Some(_),
            user_slots: Some(_),
            allow_named_segments: Some(_),
            drain: Some(_),
            metrics: Some(_),
            log: Some(_),
        } = all
        else {
            panic!("{all:?}")
        };
    }
}
