//! Owns the exceptions: a class for each kind of the client's errors, all of them of `resized.Error`.
//!
//! What a caller does wrong here, before the client is asked, is Python's `ValueError`, `TypeError` or
//! `BufferError`.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use resized::ServerError;
use resized_client::{EndpointError as NoEndpoint, Error as ClientError};

create_exception!(resized, Error, PyException, "Why a call failed; base of all below.");
create_exception!(
    resized,
    EndpointError,
    Error,
    "What was given, or $RESIZED_ENDPOINT, is no endpoint."
);
create_exception!(resized, EmbeddedError, Error, "No daemon can be started in this process.");
create_exception!(resized, ConnectError, Error, "Nobody answers at the endpoint.");
create_exception!(
    resized,
    Silent,
    Error,
    "Something accepted the connection and does not say hello."
);
create_exception!(
    resized,
    Refused,
    Error,
    "The daemon did not grant the request; the client works on."
);
create_exception!(
    resized,
    LengthError,
    Error,
    "A frame is not as long as the stream's source frames."
);
create_exception!(
    resized,
    Unreadable,
    Error,
    "The frame was no JPEG, or not one of the stream's extent."
);
create_exception!(resized, Failed, Error, "The daemon's devices failed on this frame, twice.");
create_exception!(resized, Late, Error, "No device began this frame before the stream's deadline.");
create_exception!(resized, Goodbye, Error, "The daemon ended the connection and said why.");
create_exception!(resized, Disconnected, Error, "The daemon went away without a word.");
create_exception!(
    resized,
    GivenUp,
    Error,
    "The daemon went away, and none was found in its place in time."
);
create_exception!(resized, SocketError, Error, "The socket to the daemon failed.");
create_exception!(resized, RegionError, Error, "The stream's shared memory can't be mapped.");
create_exception!(resized, CodecError, Error, "The daemon's bytes are no message.");
create_exception!(
    resized,
    Unexpected,
    Error,
    "The daemon said something that it may not say here."
);

/// The client's error as an exception.
pub(crate) fn raised(error: ClientError) -> PyErr {
    let text = error.to_string();
    match error {
        ClientError::Connect { .. } => ConnectError::new_err(text),
        ClientError::Silent => Silent::new_err(text),
        ClientError::Refused(_) => Refused::new_err(text),
        ClientError::PackedLen { .. } | ClientError::JpegLen { .. } => LengthError::new_err(text),
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

/// Why there is no endpoint, as an exception.
pub(crate) fn nowhere(error: &NoEndpoint) -> PyErr {
    EndpointError::new_err(error.to_string())
}

/// Why there is no embedded daemon, as an exception.
pub(crate) fn not_embedded(error: &ServerError) -> PyErr {
    EmbeddedError::new_err(error.to_string())
}

/// Puts the classes into the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    for class in [
        py.get_type::<Error>(),
        py.get_type::<EndpointError>(),
        py.get_type::<EmbeddedError>(),
        py.get_type::<ConnectError>(),
        py.get_type::<Silent>(),
        py.get_type::<Refused>(),
        py.get_type::<LengthError>(),
        py.get_type::<Unreadable>(),
        py.get_type::<Failed>(),
        py.get_type::<Late>(),
        py.get_type::<Goodbye>(),
        py.get_type::<Disconnected>(),
        py.get_type::<GivenUp>(),
        py.get_type::<SocketError>(),
        py.get_type::<RegionError>(),
        py.get_type::<CodecError>(),
        py.get_type::<Unexpected>(),
    ] {
        module.add(class.name()?, class)?;
    }
    Ok(())
}
