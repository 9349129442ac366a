//! Owns the functions about streams.
#![allow(unsafe_code)]

use std::ptr;

use resized_client::Stream;

use crate::abi::StreamSpec;
use crate::cell::Cell;
use crate::client::{CLIENTS, ClientHandle};
use crate::handles::Table;
use crate::memory::Out;
use crate::slot::{SLOTS, SlotHandle};
use crate::spec;
use crate::status::{Ended, Status, call};

/// A stream of frames that are all resized alike.
pub struct StreamHandle(());

static STREAMS: Table<StreamHandle, Stream> = Table::new("stream");

/// Opens a stream: the daemon makes memory for its slots, which is mapped into this process. The
/// stream outlives the client's handle.
/// *stream is what resized_stream_close takes; NULL unless the status is RESIZED_STATUS_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_open(
    client: *mut ClientHandle,
    spec: *const StreamSpec,
    stream: *mut *mut StreamHandle,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(stream, "stream") }?;
        out.put(ptr::null_mut());
        // SAFETY: likewise.
        let spec = unsafe { spec::read(spec) }?;
        let client = CLIENTS.find(client)?;
        out.put(STREAMS.open(client.kept.open(&spec)?));
        Ok(())
    })
}

/// Ends a stream's handle. Its slots stay as they are; the stream is closed with the last of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_close(stream: *mut StreamHandle) -> Status {
    call(|| STREAMS.close(stream).map(drop))
}

/// Loans a free slot, waiting for one timeout_ms milliseconds at the most; 0: not at all; negative:
/// for ever. A stream has as many slots as its spec says, and a thread that holds all of them itself
/// would wait in vain. RESIZED_STATUS_TIMEOUT: there is none.
/// *slot is what resized_slot_release takes, once for each loan, whatever happens to the slot in
/// between; NULL unless the status is RESIZED_STATUS_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_loan(
    stream: *mut StreamHandle,
    timeout_ms: i32,
    slot: *mut *mut SlotHandle,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let out = unsafe { Out::new(slot, "slot") }?;
        out.put(ptr::null_mut());
        let stream = STREAMS.find(stream)?;
        let slot = match spec::timeout(timeout_ms) {
            None => Some(stream.loan()?),
            Some(timeout) => stream.loan_timeout(timeout)?,
        };
        let loaned = slot.is_some();
        slot.into_iter().for_each(|slot| out.put(SLOTS.open(Cell::new(slot))));
        Ok(Ended::InTime(loaned))
    })
}
