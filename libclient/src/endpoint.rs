//! Owns where a daemon is found: an address as text, or a search of the usual places.
//!
//! Knows nothing of what is said there.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// Names the endpoint for programs that are not told one.
const VARIABLE: &str = "RESIZED_ENDPOINT";

/// The system service's socket.
const SYSTEM_SOCKET: &str = "/run/resized/resized.sock";

/// The socket of a user's own service, below `$XDG_RUNTIME_DIR`.
const USER_SOCKET: &str = "resized/resized.sock";

/// Address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`: a Unix stream socket.
    Unix(PathBuf),
}

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// The text is no endpoint.
    #[error("'{0}' is no endpoint: write unix:/path/to/socket")]
    Malformed(String),
    /// `$RESIZED_ENDPOINT` is no endpoint.
    #[error("${VARIABLE}: {0}")]
    Variable(Box<EndpointError>),
    /// No daemon answers in the usual places.
    #[error(
        "no resized daemon answers at {}: start one with 'resized --socket PATH' and set \
         {VARIABLE}=unix:PATH, or enable its service with 'systemctl enable --now resized.socket'",
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
    /// The endpoint in `$RESIZED_ENDPOINT`; without one, the first socket that answers of
    /// `$XDG_RUNTIME_DIR/resized/resized.sock` and `/run/resized/resized.sock`.
    pub fn discover() -> Result<Self, EndpointError> {
        if let Some(value) = std::env::var_os(VARIABLE) {
            let parsed = value.to_string_lossy().parse();
            return parsed.map_err(|error| EndpointError::Variable(Box::new(error)));
        }
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join(USER_SOCKET));
        let user = user.filter(|path| path.is_absolute());
        Self::first_answering(user.into_iter().chain([PathBuf::from(SYSTEM_SOCKET)]).collect())
    }

    /// A socket file may outlive its daemon, so only a socket that somebody listens at counts, be it
    /// one that does not let us in: connecting to it will say so.
    fn first_answering(paths: Vec<PathBuf>) -> Result<Self, EndpointError> {
        let nobody = |error: io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        };
        match paths.iter().find(|path| !UnixStream::connect(path).is_err_and(nobody)) {
            Some(path) => Ok(Self::Unix(path.clone())),
            None => Err(EndpointError::NotFound(paths)),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(EndpointError::Malformed(text.to_owned())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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

    #[test]
    fn other_text_is_refused_with_what_to_write() {
        for text in ["", "unix:", "/run/x.sock", "tcp://host:1"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains("unix:/path"), "{error}");
        }
    }

    #[test]
    fn the_first_socket_that_answers_is_found_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [dead, live] = ["dead", "live"].map(|name| dir.path().join(name));
        drop(UnixListener::bind(&dead).unwrap());
        let _listener = UnixListener::bind(&live).unwrap();
        let found = Endpoint::first_answering(vec![dead.clone(), live.clone()]);
        assert_eq!(found, Ok(Endpoint::Unix(live)));
        let error = Endpoint::first_answering(vec![dead.clone()]).unwrap_err();
        assert!(error.to_string().contains(&dead.display().to_string()), "{error}");
    }
}
