//! Owns what a client shows a bridge, and what it asks a bridge to show: a token, a certificate,
//! and the authorities that it trusts.
//!
//! Files are read anew for each connection, so that they can be replaced.

use std::env::var_os;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::client::ClientConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

/// What a client shows a bridge, and whom it trusts. Paths of files, none of which is read before it is
/// needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A file with the bridge's token in its first line.
    pub token: Option<PathBuf>,
    /// Certificates (PEM) of authorities of which one must have signed the bridge's; in place of the
    /// system's.
    pub authorities: Option<PathBuf>,
    /// A NATS credentials file.
    pub nats: Option<PathBuf>,
    /// A certificate of the client's own, with those up to its authority (PEM), and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with them.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The token's file can't be read.
    #[error("can't read the token in {path}: {error}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file holds nothing that is needed.
    #[error("{path} holds no {what}: {error}")]
    Pem {
        /// Its path.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// The token file is empty.
    #[error("{0} holds no token")]
    NoToken(PathBuf),
    /// The system has no authorities.
    #[error("the system trusts no authorities: name some by $RESIZED_CA")]
    NoAuthorities,
    /// Certificate and key do not fit each other, or are of an unknown kind.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Credentials {
    /// From `$RESIZED_TOKEN_FILE`, `$RESIZED_CA`, `$RESIZED_CERTIFICATE` with `$RESIZED_KEY`, and
    /// `$RESIZED_NATS_CREDENTIALS`: paths of files.
    pub fn from_env() -> Self {
        let path = |name| var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self {
            token: path("RESIZED_TOKEN_FILE"),
            authorities: path("RESIZED_CA"),
            nats: path("RESIZED_NATS_CREDENTIALS"),
            identity: match (path("RESIZED_CERTIFICATE"), path("RESIZED_KEY")) {
                (None, None) => None,
                // One alone is a mistake, which reading the other will tell.
                (certificate, key) => Some((
                    certificate.unwrap_or_else(|| "$RESIZED_CERTIFICATE".into()),
                    key.unwrap_or_else(|| "$RESIZED_KEY".into()),
                )),
            },
        }
    }

    pub(super) fn token(&self) -> Result<Option<String>, CredentialsError> {
        self.token.as_deref().map(read_token).transpose()
    }

    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate)?;
                }
            }
            None => {
                let (_added, _ignored) =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(CredentialsError::NoAuthorities);
                }
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(Arc::new(match &self.identity {
            Some((path, key)) => {
                config.with_client_auth_cert(certificates(path)?, private_key(key)?)?
            }
            None => config.with_no_client_auth(),
        }))
    }
}

/// The token in a file's first line.
pub fn read_token(path: &Path) -> Result<String, CredentialsError> {
    let text = fs::read_to_string(path)
        .map_err(|error| CredentialsError::Unreadable { path: path.to_owned(), error })?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => Err(CredentialsError::NoToken(path.to_owned())),
    }
}

/// The certificates in a file (PEM).
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let what = "certificate";
    let broken = |error| CredentialsError::Pem { path: path.to_owned(), what, error };
    let found = CertificateDer::pem_file_iter(path).map_err(broken)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    if found.is_empty() { Err(broken(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// The first private key in a file (PEM).
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let what = "private key";
    PrivateKeyDer::from_pem_file(path).map_err(|error| CredentialsError::Pem {
        path: path.to_owned(),
        what,
        error,
    })
}
