//! Owns the functions about a connection to a daemon, and what hangs on one: the streams that
//! [`resized_resize`](crate::resized_resize) keeps.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ptr;
use std::time::Duration;

use resized_client::{Client, Endpoint, EndpointError, KeptStreams, Reconnect};

use crate::handles::Table;
use crate::memory::{self, Out};
use crate::status::{Failure, Status, call};

/// A connection to a daemon.
pub struct ClientHandle(());

pub(crate) static CLIENTS: Table<ClientHandle, Connected> = Table::new("client");

/// Streams that a client keeps: programs resize pictures of a kind or two in one call.
const STREAMS: usize = 4;

/// What a client's handle stands for.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) kept: KeptStreams,
}

/// Connects to a daemon: at an endpoint, "unix:/path/to/socket", "tcp://host:port",
/// "tls://host:port" or "nats://host:port/stream"; or, if endpoint is NULL, at $RESIZED_ENDPOINT,
/// else at the socket of the user's own service or of the system's. A daemon that goes away later
/// is looked for at the same place for half a minute; calls wait meanwhile, and no frame is lost,
/// unless the next daemon speaks another version of the protocol.
///
/// Credentials for a bridge come from $RESIZED_TOKEN_FILE, $RESIZED_CA, $RESIZED_CERTIFICATE and
/// $RESIZED_KEY, and for a service of many of them from $RESIZED_NATS_CREDENTIALS, whose answers
/// come to $RESIZED_NATS_INBOX, if that is set.
/// *client is what resized_disconnect takes; NULL unless the status is RESIZED_STATUS_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_connect(
    endpoint: *const c_char,
    client: *mut *mut ClientHandle,
) -> Status {
    // SAFETY: the caller's promise, see the crate's page.
    unsafe { resized_connect_with(endpoint, -1, client) }
}

/// As resized_connect. A daemon that goes away is looked for reconnect_ms milliseconds; 0: not at
/// all; negative: the usual, half a minute.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_connect_with(
    endpoint: *const c_char,
    reconnect_ms: i32,
    client: *mut *mut ClientHandle,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let (out, endpoint) =
            unsafe { (Out::new(client, "client")?, memory::text(endpoint, "endpoint")) };
        out.put(ptr::null_mut());
        let endpoint = match endpoint? {
            Some(text) => text.parse::<Endpoint>().map_err(|error: EndpointError| error)?,
            None => Endpoint::discover()?,
        };
        let reconnect = match u64::try_from(reconnect_ms) {
            Err(_) => Reconnect::default(),
            Ok(0) => Reconnect::NEVER,
            Ok(ms) => Reconnect { within: Duration::from_millis(ms), ..Reconnect::default() },
        };
        let client = Client::connect_with(&endpoint, reconnect).map_err(Failure::Connecting)?;
        let kept = KeptStreams::new(client.clone(), STREAMS);
        out.put(CLIENTS.open(Connected { client, kept }));
        Ok(())
    })
}

/// Ends a client's handle. Streams that are open, and their slots, stay as they are; the connection
/// is closed with the last of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_disconnect(client: *mut ClientHandle) -> Status {
    call(|| CLIENTS.close(client).map(drop))
}

/// Writes the name of one of the daemon's devices, such as a receipt speaks of, and a zero, into a
/// buffer of so many bytes. Names are seldom longer than 100 bytes. They are those of the daemon
/// that is there now: of a frame that an earlier one resized this may name another device.
/// RESIZED_STATUS_ARGUMENT: there is no such device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_device_name(
    client: *mut ClientHandle,
    device: u32,
    buffer: *mut c_char,
    buffer_len: usize,
) -> Status {
    call(|| {
        let devices = CLIENTS.find(client)?.client.devices();
        let name = devices.get(device as usize);
        let name = name.ok_or(Failure::Value { name: "device", value: device.into() })?;
        // SAFETY: the caller's promise, see the crate's page.
        unsafe { memory::put_text(name, buffer, buffer_len, "buffer") }
    })
}
