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
use tokio_rustls::rustls::{self, CertificateError, RootCertStore};

use super::Mismatch;
use crate::endpoint::Remote;

const CERTIFICATE: &str = "RESIZED_CERTIFICATE";
const KEY: &str = "RESIZED_KEY";

/// What a client shows a bridge, and whom it trusts. Paths of files, none of which is read before it is
/// needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A file with the bridge's token: the first, if there are several.
    pub token: Option<PathBuf>,
    /// Certificates (PEM) of authorities of which one must have signed the bridge's, and that of a NATS
    /// server which has one; in place of the system's.
    pub authorities: Option<PathBuf>,
    /// A NATS credentials file.
    pub nats: Option<PathBuf>,
    /// What the subjects begin with at which a NATS service's answers are awaited; `_INBOX` by default. With
    /// one of its own, and the right to no other, no client hears what others are answered.
    pub nats_inbox: Option<String>,
    /// A certificate of the client's own, with those up to its authority (PEM). It needs its
    /// [key](Self::key).
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    pub key: Option<PathBuf>,
}

/// What is wrong with them.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("can't read {path}: {error}")]
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
    /// No authorities are to be had from the file that names them.
    #[error("the authorities to trust ($RESIZED_CA): {0}")]
    Authorities(Box<Self>),
    /// No token is to be had from the file that is to hold it.
    #[error("the token for the bridge ($RESIZED_TOKEN_FILE): {0}")]
    Token(Box<Self>),
    /// Of a certificate and its key there is only one.
    #[error("${set} is set, and ${unset} is not: both are needed")]
    Half {
        /// The variable of the one that there is.
        set: &'static str,
        /// That of the other.
        unset: &'static str,
    },
    /// The token file is empty.
    #[error("{0} holds no token")]
    NoToken(PathBuf),
    /// The system has no authorities.
    #[error("the system trusts no authorities: name some by $RESIZED_CA")]
    NoAuthorities,
    /// A certificate of the client's own and a key that do not fit each other, or of an unknown kind.
    #[error("{} with the key {}: {error}", .certificate.display(), .key.display())]
    Identity {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong with them.
        error: rustls::Error,
    },
    /// An authority's certificate is of an unknown kind.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Credentials {
    /// From `$RESIZED_TOKEN_FILE`, `$RESIZED_CA`, `$RESIZED_CERTIFICATE` with `$RESIZED_KEY`, and
    /// `$RESIZED_NATS_CREDENTIALS`: paths of files; and `$RESIZED_NATS_INBOX`.
    pub fn from_env() -> Self {
        let path = |name| var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let inbox = var_os("RESIZED_NATS_INBOX").filter(|prefix| !prefix.is_empty());
        Self {
            token: path("RESIZED_TOKEN_FILE"),
            authorities: path("RESIZED_CA"),
            nats: path("RESIZED_NATS_CREDENTIALS"),
            nats_inbox: inbox.map(|prefix| prefix.to_string_lossy().into_owned()),
            certificate: path(CERTIFICATE),
            key: path(KEY),
        }
    }

    pub(super) fn token(&self) -> Result<Option<String>, CredentialsError> {
        let first = |path| Ok(read_tokens(path)?.swap_remove(0));
        let read = self.token.as_deref().map(first).transpose();
        read.map_err(|error| CredentialsError::Token(Box::new(error)))
    }

    /// The authorities that were named.
    pub(super) fn authorities(
        &self,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, CredentialsError> {
        let read = self.authorities.as_deref().map(certificates).transpose();
        read.map_err(|error| CredentialsError::Authorities(Box::new(error)))
    }

    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let mut roots = RootCertStore::empty();
        match self.authorities()? {
            Some(certificates) => {
                for certificate in certificates {
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
        Ok(Arc::new(match self.identity()? {
            Some((path, key)) => config
                .with_client_auth_cert(certificates(path)?, private_key(key)?)
                .map_err(|error| CredentialsError::Identity {
                    certificate: path.to_owned(),
                    key: key.to_owned(),
                    error,
                })?,
            None => config.with_no_client_auth(),
        }))
    }

    fn identity(&self) -> Result<Option<(&Path, &Path)>, CredentialsError> {
        let half = |set, unset| Err(CredentialsError::Half { set, unset });
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (Some(_), None) => half(CERTIFICATE, KEY),
            (None, Some(_)) => half(KEY, CERTIFICATE),
        }
    }

    /// Why TLS failed, with what is to be done where nobody trusted has signed the bridge's
    /// certificate, or where no TLS is spoken at that address.
    pub(super) fn explain(&self, error: io::Error, given: &Remote) -> io::Error {
        // The latter of an authority of the same name as one that is trusted.
        let is_strange = |cause: &rustls::Error| {
            use CertificateError::{BadSignature, UnknownIssuer};
            matches!(cause, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature))
        };
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) if given.is_fixed() => {
                return Mismatch::Plain.at(&given.address);
            }
            Some(cause) if is_strange(cause) => {}
            _ => return error,
        }
        let advice = match &self.authorities {
            None => "$RESIZED_CA names the authorities to trust".to_owned(),
            Some(path) => format!("none in {} signed it", path.display()),
        };
        io::Error::new(error.kind(), format!("{error}: {advice}"))
    }
}

/// The tokens in a file, one in each line; at least one.
pub fn read_tokens(path: &Path) -> Result<Vec<String>, CredentialsError> {
    let text = fs::read_to_string(path)
        .map_err(|error| CredentialsError::Unreadable { path: path.to_owned(), error })?;
    let lines = text.lines().map(str::trim);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if tokens.is_empty() { Err(CredentialsError::NoToken(path.to_owned())) } else { Ok(tokens) }
}

/// The certificates in a file (PEM).
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let broken = |error| broken(path, "certificate", error);
    let found = CertificateDer::pem_file_iter(path).map_err(broken)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    if found.is_empty() { Err(broken(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// The first private key in a file (PEM).
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| broken(path, "private key", error))
}

fn broken(path: &Path, what: &'static str, error: pem::Error) -> CredentialsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(error) => CredentialsError::Unreadable { path, error },
        error => CredentialsError::Pem { path, what, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_for_what_they_say() {
        let variables = [
            "RESIZED_TOKEN_FILE",
            "RESIZED_CA",
            "RESIZED_NATS_CREDENTIALS",
            "RESIZED_NATS_INBOX",
            CERTIFICATE,
            KEY,
        ];
        // They are a process's, and other tests are in this one. Who is started has each set to its name.
        if var_os(KEY).is_none_or(|key| key != KEY) {
            let test = "remote::credentials::tests::variables_are_for_what_they_say";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.args(["--exact", test]).envs(variables.map(|name| (name, name)));
            let output = alone.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let path = |name: &str| Some(PathBuf::from(name));
        let expected = Credentials {
            token: path("RESIZED_TOKEN_FILE"),
            authorities: path("RESIZED_CA"),
            nats: path("RESIZED_NATS_CREDENTIALS"),
            nats_inbox: Some("RESIZED_NATS_INBOX".to_owned()),
            certificate: path("RESIZED_CERTIFICATE"),
            key: path("RESIZED_KEY"),
        };
        assert_eq!(Credentials::from_env(), expected);
    }

    #[test]
    fn of_a_certificate_and_its_key_both_are_needed() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there.pem");
        for ((certificate, key), said) in [
            ((Some(there.clone()), None), "$RESIZED_CERTIFICATE is set, and $RESIZED_KEY is"),
            ((None, Some(there)), "$RESIZED_KEY is set, and $RESIZED_CERTIFICATE is not"),
        ] {
            let credentials = Credentials { certificate, key, ..Credentials::default() };
            let error = credentials.identity().unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_from_one_that_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [nowhere, empty] = ["nowhere.pem", "empty.pem"].map(|name| dir.path().join(name));
        fs::write(&empty, "").unwrap();
        for (path, said) in [(&nowhere, "can't read"), (&empty, "holds no certificate")] {
            let error = certificates(path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(path.to_str().unwrap()), "{error}");
            let authorities = Some(path.clone());
            let credentials = Credentials { authorities, ..Credentials::default() };
            let error = credentials.client().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("$RESIZED_CA"), "{error}");
        }
        assert!(private_key(&nowhere).unwrap_err().to_string().starts_with("can't read"));
        assert!(read_tokens(&nowhere).unwrap_err().to_string().starts_with("can't read"));
    }
}
