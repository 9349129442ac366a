//! Owns where a daemon is found: an address as text, or a search of the usual places.
//!
//! Knows nothing of what is said there.

use std::fmt;
use std::fs;
#[cfg(feature = "remote")]
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Uid;
use thiserror::Error;

/// Names the endpoint for programs that are not told one.
const VARIABLE: &str = "RESIZED_ENDPOINT";

/// The system service's socket.
const SYSTEM_SOCKET: &str = "/run/resized/resized.sock";

/// The socket of a user's own service, below `$XDG_RUNTIME_DIR`.
const USER_SOCKET: &str = "resized/resized.sock";

/// After so long a daemon that does not answer is taken for dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`: a Unix stream socket.
    Unix(PathBuf),
    /// `tcp://HOST:PORT` or `tls://HOST:PORT`: a bridge to a daemon on another machine. Frames are
    /// copied there and back. With the feature `nats` also `nats://HOST:PORT/stream`: one of the
    /// bridges with the most room that have joined the NATS service there.
    #[cfg(feature = "remote")]
    Remote(Remote),
}

/// Address of a bridge, or of who knows some.
#[cfg(feature = "remote")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Host and port: `camera-hub.example:7788`, `[::1]:7788`.
    pub(crate) address: String,
    pub(crate) scheme: Scheme,
}

#[cfg(feature = "remote")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Tcp,
    Tls,
    #[cfg(feature = "nats")]
    Nats,
}

#[cfg(feature = "remote")]
impl Remote {
    /// Whether the same bridge, or its like, is found there each time.
    ///
    /// For `resize-videos`.
    #[doc(hidden)]
    pub const fn is_fixed(&self) -> bool {
        matches!(self.scheme, Scheme::Tcp | Scheme::Tls)
    }

    // For the bridge.
    #[doc(hidden)]
    /// Whether it is a bridge, and who is sent there by others can keep what is said to themselves.
    pub fn can_be_offered(&self) -> bool {
        match self.scheme {
            Scheme::Tls => true,
            Scheme::Tcp => is_loopback(self.host()),
            #[cfg(feature = "nats")]
            Scheme::Nats => false,
        }
    }

    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, address) = match text.split_once("://")? {
            ("tcp", address) => (Scheme::Tcp, address),
            ("tls", address) => (Scheme::Tls, address),
            #[cfg(feature = "nats")]
            ("nats", address) => (Scheme::Nats, address.strip_suffix("/stream")?),
            _ => return None,
        };
        let (host, port) = address.rsplit_once(':')?;
        let named = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
        named.then(|| Self { address: address.to_owned(), scheme })
    }
}

/// Whether a host, without brackets, is this machine for whoever is on it, and no other.
#[cfg(feature = "remote")]
pub fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().is_loopback());
    address.unwrap_or_else(|_| host.eq_ignore_ascii_case("localhost"))
}

/// What an endpoint looks like.
const WANTED: &str = if cfg!(feature = "nats") {
    "unix:/path/to/socket, tcp://host:port, tls://host:port or nats://host:port/stream"
} else {
    "unix:/path/to/socket, tcp://host:port or tls://host:port"
};

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// The text is no endpoint.
    #[error("'{0}' is no endpoint: write {WANTED}")]
    Malformed(String),
    /// `$RESIZED_ENDPOINT` is no endpoint.
    #[error("${VARIABLE}: {0}")]
    Variable(Box<EndpointError>),
    /// No daemon answers in the usual places.
    #[error(
        "no resized daemon answers at {}: start one with 'resized', enable its service with \
         'systemctl enable --now resized.socket', or set {VARIABLE} to where one is",
        Paths(.0)
    )]
    NotFound(Vec<PathBuf>),
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " or " };
            write!(f, "{separator}{}", path.display())?;
        }
        Ok(())
    }
}

impl Endpoint {
    /// The endpoint in `$RESIZED_ENDPOINT`; where that is unset or empty, the first socket that
    /// answers of `$XDG_RUNTIME_DIR/resized/resized.sock`, if that folder is the user's own, and
    /// `/run/resized/resized.sock`.
    ///
    /// # Errors
    ///
    /// [`Variable`](EndpointError::Variable), [`NotFound`](EndpointError::NotFound).
    pub fn discover() -> Result<Self, EndpointError> {
        if let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            let parsed = value.to_string_lossy().parse();
            return parsed.map_err(|error| EndpointError::Variable(Box::new(error)));
        }
        let user = std::env::var_os("XDG_RUNTIME_DIR");
        let user = user.and_then(|folder| socket_of(Uid::effective(), Path::new(&folder)));
        Self::first_answering(user.into_iter().chain([PathBuf::from(SYSTEM_SOCKET)]).collect())
    }

    /// As [`discover`](Self::discover); `None` where no daemon runs, for who has one of their own then.
    ///
    /// # Errors
    ///
    /// [`Variable`](EndpointError::Variable).
    pub fn running() -> Result<Option<Self>, EndpointError> {
        Self::discover().map(Some).or_else(|error| match error {
            EndpointError::NotFound(_) => Ok(None),
            error => Err(error),
        })
    }

    /// A socket file may outlive its daemon, so only a socket that somebody listens at counts, be it
    /// one that does not let us in: connecting to it will say so. Where there can be none nobody listens.
    fn first_answering(paths: Vec<PathBuf>) -> Result<Self, EndpointError> {
        use Errno::{ECONNREFUSED, ENAMETOOLONG, ENOENT, ENOTDIR};
        let nobody = |errno| matches!(errno, ENOENT | ECONNREFUSED | ENOTDIR | ENAMETOOLONG);
        match paths.iter().find(|path| !dial(path, PATIENCE).is_err_and(nobody)) {
            Some(path) => Ok(Self::Unix(path.clone())),
            None => Err(EndpointError::NotFound(paths)),
        }
    }
}

/// The socket of a user's own service, below the folder for that. Another user's folder, in an environment
/// that was kept when the user changed, is none.
fn socket_of(user: Uid, folder: &Path) -> Option<PathBuf> {
    let is_anothers = fs::metadata(folder).is_ok_and(|folder| folder.uid() != user.as_raw());
    (folder.is_absolute() && !is_anothers).then(|| folder.join(USER_SOCKET))
}

/// Connects to the socket at `path`. Fails with `EAGAIN` where too many others have been waiting
/// for that, for so long.
pub(crate) fn dial(path: &Path, within: Duration) -> Result<UnixStream, Errno> {
    let begun = Instant::now();
    let address = UnixAddr::new(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    loop {
        // It is waited for as long as for sending. Zero is no limit.
        let left = within.saturating_sub(begun.elapsed()).as_millis();
        let left = i64::try_from(left).unwrap_or(i64::MAX).max(1);
        setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(left))?;
        match connect(socket.as_raw_fd(), &address) {
            // By a signal: with a limit the kernel does not begin again by itself.
            Err(Errno::EINTR) if begun.elapsed() < within => {}
            connected => return connected.map(|()| socket.into()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        #[cfg(feature = "remote")]
        if let Some(remote) = Remote::parse(text) {
            return Ok(Self::Remote(remote));
        }
        Err(EndpointError::Malformed(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "remote")]
            Self::Remote(Remote { address, scheme }) => match scheme {
                Scheme::Tcp => write!(f, "tcp://{address}"),
                Scheme::Tls => write!(f, "tls://{address}"),
                #[cfg(feature = "nats")]
                Scheme::Nats => write!(f, "nats://{address}/stream"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn text_round_trips() {
        let endpoint: Endpoint = "unix:/run/x.sock".parse().unwrap();
        assert_eq!(endpoint, Endpoint::Unix("/run/x.sock".into()));
        assert_eq!(endpoint.to_string(), "unix:/run/x.sock");
    }

    #[cfg(feature = "remote")]
    #[test]
    fn bridges_have_a_host_and_a_port() {
        for (text, host) in [("tcp://a.example:1", "a.example"), ("tls://[::1]:65535", "::1")] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert!(matches!(endpoint, Endpoint::Remote(remote) if remote.host() == host));
        }
    }

    #[cfg(feature = "remote")]
    #[test]
    fn loopback_is_told_from_other_machines() {
        for (host, is) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("LocalHost", true),
            ("0.0.0.0", false),
            ("203.0.113.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_loopback(host), is, "{host}");
        }
    }

    #[cfg(feature = "nats")]
    #[test]
    fn services_are_asked_for_streams() {
        let text = "nats://a.example:4222/stream";
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        assert!("nats://a.example:4222".parse::<Endpoint>().is_err());
    }

    #[test]
    fn other_text_is_refused_with_what_to_write() {
        for text in ["", "unix:", "/run/x.sock", "http://h:1", "tcp://h", "tls://:1", "tcp://h:0"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains("unix:/path"), "{error}");
        }
    }

    #[test]
    fn another_users_folder_is_no_place_to_look() {
        let dir = tempfile::tempdir().unwrap();
        let (user, other) = (Uid::effective(), Uid::from_raw(Uid::effective().as_raw() + 1));
        assert_eq!(socket_of(user, dir.path()), Some(dir.path().join(USER_SOCKET)));
        assert_eq!(socket_of(other, dir.path()), None);
        assert_eq!(socket_of(user, Path::new("relative")), None);
        assert!(socket_of(user, &dir.path().join("none yet")).is_some());
    }

    #[test]
    fn the_first_socket_that_answers_is_found_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [dead, live] = ["dead", "live"].map(|name| dir.path().join(name));
        drop(UnixListener::bind(&dead).unwrap());
        let _listener = UnixListener::bind(&live).unwrap();
        // Nor are a path below a file, and one that is too long for a socket.
        let nowhere = [dead.clone(), dead.join("below"), dir.path().join("long".repeat(50))];
        let found = Endpoint::first_answering(nowhere.into_iter().chain([live.clone()]).collect());
        assert_eq!(found, Ok(Endpoint::Unix(live)));
        let error = Endpoint::first_answering(vec![dead.clone()]).unwrap_err();
        assert!(error.to_string().contains(&dead.display().to_string()), "{error}");
    }
}
