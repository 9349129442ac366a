//! Owns the exceptions: a class for each kind of the client's errors, all of them of `resized.Error`.
//!
//! What a caller does wrong here, before the client is asked, is Python's `ValueError`, `TypeError` or
//! `BufferError`.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use resized_anywhere::NoDaemon;
use resized_client::Error as ClientError;

/// Makes the classes, each of a base, with what it says of itself; and what puts them into the module.
macro_rules! classes {
    ($($class:ident, $base:ident, $words:literal;)+) => {
        $(create_exception!(resized, $class, $base, $words);)+

        /// Puts the classes into the module.
        pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
            let py = module.py();
            for class in [$(py.get_type::<$class>()),+] {
                module.add(class.name()?, class)?;
            }
            Ok(())
        }
    };
}

classes! {
    Error, PyException, "Why a call failed; base of all below.";
    EndpointError, Error, "What was given, or $RESIZED_ENDPOINT, is no endpoint.";
    EmbeddedError, Error, "No daemon can be started in this process.";
    ConnectError, Error, "Nobody answers at the endpoint, or says welcome, or nobody whom the client understands and trusts.";
    Silent, Error, "Who is at the other end does not say the rest of a message.";
    Refused, Error, "The daemon did not grant the request; the client works on.";
    LengthError, Error, "A frame is not as long as the stream's source frames, or a JPEG is longer than these may be.";
    Unreadable, Error, "The frame was no JPEG of the stream's source size, or of a kind that is not read; the stream goes on.";
    Failed, Error, "All devices that can do it failed at this frame, or the only one twice.";
    Late, Error, "No device began this frame before the stream's deadline.";
    Goodbye, Error, "The daemon ended the connection and said why.";
    Disconnected, Error, "The daemon went away without a word.";
    GivenUp, Error, "The daemon went away, and none was found in its place in time.";
    SocketError, Error, "The socket to the daemon failed.";
    RegionError, Error, "The stream's shared memory can't be mapped.";
    CodecError, Error, "The daemon's bytes are no message.";
    Unexpected, Error, "The daemon said something that it may not say here.";
}

/// The client's error as an exception.
pub(crate) fn raised(error: ClientError) -> PyErr {
    let text = error.to_string();
    match error {
        ClientError::Endpoint(_) => EndpointError::new_err(text),
        ClientError::Connect { .. } => ConnectError::new_err(text),
        ClientError::Silent => Silent::new_err(text),
        ClientError::Refused(_) => Refused::new_err(text),
        ClientError::PackedLen { .. }
        | ClientError::JpegLen { .. }
        | ClientError::Stride { .. }
        | ClientError::PlaneLen { .. } => LengthError::new_err(text),
        ClientError::Unreadable => Unreadable::new_err(text),
        ClientError::Failed => Failed::new_err(text),
        ClientError::Late => Late::new_err(text),
        ClientError::Goodbye(_) => Goodbye::new_err(text),
        ClientError::Disconnected => Disconnected::new_err(text),
        ClientError::GivenUp { .. } => GivenUp::new_err(text),
        ClientError::Socket(_) => SocketError::new_err(text),
        ClientError::Region(_) => RegionError::new_err(text),
        ClientError::Codec(_) => CodecError::new_err(text),
        ClientError::Unexpected(_) => Unexpected::new_err(text),
    }
}

/// Why there is no daemon, as an exception.
pub(crate) fn no_daemon(error: &NoDaemon) -> PyErr {
    let text = error.to_string();
    match error {
        NoDaemon::Variable(_) | NoDaemon::Name(_) => EndpointError::new_err(text),
        NoDaemon::Embedded(_) => EmbeddedError::new_err(text),
    }
}
